"""`docs/findings.md`, `findings.json`, a figure for each study, and the page of one that compares many arms
(`comparison`), from the records alone."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import msgspec

from acereason.errors import DataError
from acereason.files import write_atomic
from acereason.study import comparison
from acereason.study.figures import draw, intervals
from acereason.study.plan import Ground, Plan, plan, seeds
from acereason.study.records import Record, Results
from acereason.study.spec import Study
from acereason.study.tables import decomposed
from acereason.study.verdicts import Told, Verdict, arms_of, verdict, with_holm

HEAD = """# What the paper found, tried again

Written by `acereason study report`; do not edit. The lab, the claims and their rules stand in
[`studies/`](../studies/lab.toml): each file names, before any result, the smallest effect δ that matters,
the seeds and the rule (*supported* when every deciding 95 % interval lies above its δ, *contradicted* when
one lies below it, else *undecided*); its hash stands with the result. Intervals are of a two-level bootstrap,
over seeds and in each seed over questions, paired where questions are shared. {model}: a verdict is about the
claim *on this model*, not about the paper's. Points are percent; how to run it again, on a model of one's own
too: [studies.md](studies.md).
"""
MIXED = (
    "**Copies of a start**: it was made again on another machine, and is not the same model there to the "
    "last digit. Differences between these arms hold the copies' too, as noise between seeds: {}."
)
LINK = re.compile(r"(?<!!)\[([^\]\n]+)\]\(([^)\s#:]+)\)")


def decide(studies: Sequence[Study], ground: Ground, results: Results) -> tuple[Plan, list[Verdict]]:
    """Every study's verdict from the records that there are."""
    planned = plan(studies, ground)
    return planned, with_holm([verdict(study, planned, ground, results) for study in studies])


def write(studies: Sequence[Study], ground: Ground, results: Results, folder: Path) -> list[Verdict]:
    """Write findings.md, findings.json, the figures and duel.md into a folder; returns the verdicts."""
    planned, verdicts = decide(studies, ground, results)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "findings").mkdir(exist_ok=True)
    drawn = {}
    for study, told in zip(studies, verdicts, strict=True):
        path = folder / "findings" / f"{study.name}.svg"
        picture = _picture(study, told, planned, ground, results)
        path.unlink(missing_ok=True)
        if picture:
            write_atomic(path, picture.encode())
            drawn[study.name] = f"findings/{path.name}"
    data = msgspec.json.format(msgspec.json.encode(verdicts), indent=1)
    write_atomic(folder / "findings.json", data + b"\n")
    head = HEAD.format(model=comparison.where(ground))
    text = markdown(head, verdicts, drawn, spent(planned, results), _lab(planned, results))
    own = comparison.pages(studies, planned, ground, results)
    for name, content in {"findings.md": text, **own}.items():
        write_atomic(folder / name, linked(content, folder, {"findings.md", *own}).encode())
    return verdicts


def linked(text: str, folder: Path, made: Collection[str]) -> str:
    """Links as they go from this folder, where the project's documents lie beside it or a level above; else
    their text. `made` are pages that will lie beside it."""

    def seen(link: re.Match[str]) -> str:
        label, target = link.groups()
        places = (
            up + target for up in ("", "../") if up + target in made or (folder / up / target).is_file()
        )
        return next((f"[{label}]({place})" for place in places), label)

    return LINK.sub(seen, text)


def spent(planned: Plan, results: Results) -> str:
    """How many of the arms are there and what they took, each counted once, whichever studies use it."""
    records = [record for address in planned.jobs if (record := results.get(address))]
    hours = sum(record.seconds for record in records) / 3600
    return f"{len(records)} of {len(planned.jobs)} arms; {hours:.1f} processor hours, each arm counted once"


def markdown(head: str, verdicts: Sequence[Verdict], drawn: Mapping[str, str], cost: str, lab: str) -> str:
    """The whole document."""
    parts = [head, _summary(verdicts, cost), table(verdicts), lab]
    parts += [_section(v, drawn.get(v.study)) for v in verdicts]
    return "\n".join(part for part in parts if part)


def table(verdicts: Sequence[Verdict]) -> str:
    """One line a claim."""
    lines = ["| claim | verdict | effect (95 %) | δ | seeds | after Holm |", "|---|---|---|---|---|---|"]
    for v in verdicts:
        first = next((e for e in v.effects if e.decides), None)
        shown = f"{first.name}: {number(first)}" if first else f"{v.done} of {v.arms} arms"
        delta = f"{first.delta:g}" if first else "–"
        lines.append(
            f"| {v.study} {v.title} | **{v.verdict}** | {shown} | {delta} | {len(v.seeds)} | {_holm(v)} |"
        )
    return "\n".join(lines) + "\n"


def number(effect: Told) -> str:
    """A value with its interval and unit."""
    form = ".3f" if effect.unit in ("nats", "") else ".1f"
    if math.isnan(effect.value):
        return "none inside the range"
    text = f"{effect.value:+{form}} ({effect.low:+{form}} to {effect.high:+{form}})"
    return f"{text} {effect.unit}".strip()


def _summary(verdicts: Sequence[Verdict], cost: str) -> str:
    counts = Counter(v.verdict for v in verdicts)
    told = ", ".join(f"{count} {word}" for word, count in sorted(counts.items()))
    where = f"size {verdicts[0].size}, {verdicts[0].split} questions" if verdicts else ""
    failed = sum(len(v.failed) for v in verdicts)
    trouble = f" **{failed} arms failed; they are named below.**" if failed else ""
    return (
        f"{told} ({where}; {cost}).{trouble}\n"
        "Holm: whether a verdict stands at 5 % when all claims that were run, the undecided too, "
        "are taken together.\n"
    )


def _holm(verdict: Verdict) -> str:
    return "–" if verdict.holm is None else "stands" if verdict.holm else "does not stand"


def _section(v: Verdict, figure: str | None) -> str:
    lines = [f"## {v.study} {v.title}: {v.verdict}", "", f"*Claim*: {v.claim}.", f"*Paper*: {v.paper}.", ""]
    if v.effects:
        lines += ["| effect | value (95 %) | δ | each seed |", "|---|---|---|---|"]
        lines += [_row(e) for e in v.effects]
        lines.append("")
    if v.why:
        lines.append(f"Not run yet: {v.done} of {v.arms} arms are there ({v.why}).")
    if v.seeds_needed:
        more = "more than 100" if v.seeds_needed >= 100 else f"about {v.seeds_needed}"
        lines.append(f"If the estimates stay where they are, {more} seeds would decide.")
    lines += [f"**Failed**: {name}: {why}" for name, why in v.failed.items()]
    lines += [text for text in (v.note, f"Not there yet: {v.needs}." if v.needs else "") if text]
    if v.mixed:
        lines.append(MIXED.format("; ".join(v.mixed)))
    if figure:
        lines.append(f"\n![{v.title}]({figure})")
    lines.append(f"\nSeeds {', '.join(map(str, v.seeds))}; stated beforehand: `{v.stated}`.\n")
    return "\n".join(lines)


def _row(e: Told) -> str:
    form = ".3f" if e.unit in ("nats", "") else ".1f"
    seeds_ = ", ".join(f"{value:{form}}" for value in e.by_seed)
    return f"| {e.name} | {number(e)} | {f'{e.delta:g}' if e.decides else 'told only'} | {seeds_} |"


def _picture(study: Study, told: Verdict, planned: Plan, ground: Ground, results: Results) -> str:
    """The study's own figure, or its effects where it has none; "" while arms are missing."""
    if told.verdict == "not run yet":
        return ""
    if study.figure is None:
        return intervals(told.effects, f"{study.name}: {study.title}")
    try:
        return draw(study, arms_of(study.name, planned, results), seeds(study, ground))
    except (DataError, KeyError):
        return ""


def _lab(planned: Plan, results: Results) -> str:
    """How the lab's own arms stand: accuracies, and the main gain within and between ways of answering."""
    arms = arms_of("L1", planned, results) if "L1" in planned.arms else {}
    if not arms:
        return ""
    head = ("| arm | seeds | math | pass@8 | code | processor s |", "|---|---|---|---|---|---|")
    names = dict.fromkeys(name for name, _ in arms)
    rows = [_arm_row(name, [r for (n, _), r in arms.items() if n == name]) for name in names]
    lines = ["## The lab's arms", "", *head, *rows]
    gains = [
        (seed, *decomposed(arms["sft", seed], record, "math"))
        for (name, seed), record in arms.items()
        if name == "rl" and ("sft", seed) in arms
    ]
    if gains:
        told = "; ".join(f"seed {s}: {w:+.1f} within, {b:+.1f} by shifting" for s, w, b in gains)
        lines += ["", f"RL's gain in math, inside ways of answering and between them, points: {told}."]
    return "\n".join([*lines, ""])


def _arm_row(name: str, records: Sequence[Record]) -> str:
    def mean(domain: str, any_right: bool = False) -> str:
        outcomes = [list(r.outcomes.values())[-1].get(domain) for r in records if r.outcomes]
        values = [
            sum(min(c, 1) if any_right else c / o.k for c in o.right) / len(o.right) for o in outcomes if o
        ]
        return f"{100 * sum(values) / len(values):.1f}" if values else "–"

    seconds = sum(r.seconds for r in records) / len(records)
    cells = (name, len(records), mean("math"), mean("math", True), mean("code"), f"{seconds:.0f}")
    return f"| {' | '.join(map(str, cells))} |"
