"""`docs/duel.md`: every arm of a study beside its first, from the records alone.

For studies that ask which of many arms does best, rather than whether one claim holds: a table of how each
arm stands, its differences to the first arm, paired by seed and question, and the numbers of every seed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from acereason.errors import DataError
from acereason.study.effects import Estimate, estimate, interval
from acereason.study.plan import Ground, Plan, seeds
from acereason.study.records import Record, Results
from acereason.study.spec import Effect, Study, digest, expand
from acereason.study.tables import Arms, column, outcome_of
from acereason.study.verdicts import arms_of, failures

PAGES = ("duel",)  # studies that have a page of their own, by name
Many = Sequence[Record]

HEAD = """# {title}

Written by `acereason study report`; do not edit. {note} The arms and their settings stand in
[`studies/{name}.toml`](../studies/{name}.toml) (stated beforehand: `{stated}`), the ground in
[`studies/lab.toml`](../studies/lab.toml). {model}, so this compares the rules *there*,
not the recipes at their own scale. Size {size}, {split} questions, seeds {seeds}.

Numbers in brackets are 95 % intervals of a two-level bootstrap over seeds and, in each, over questions. Each
interval stands for itself: with {others} differences, one in twenty misses 0 by chance. Processor seconds are
of the whole arm, evaluation included; wall time is that of the training steps, beside whatever else ran.
"""
LAB = "The model has 0.8M parameters and the problems are procedural"
OWN = "The model is `{}` (weights `{}`) and its problems are those that were given with it"


def pages(studies: Sequence[Study], planned: Plan, ground: Ground, results: Results) -> dict[str, str]:
    """The page of each study that has one, by the name of its file."""
    wanted = [study for study in studies if study.name in PAGES]
    return {f"{study.name}.md": page(study, planned, ground, results) for study in wanted}


def page(study: Study, planned: Plan, ground: Ground, results: Results) -> str:
    """The whole page; what has not been run yet, or failed, is named."""
    arms, domain = arms_of(study.name, planned, results), study.effect[0].domain
    wanted, taken = list(expand(study.arm)), seeds(study, ground)
    there = {name: [arms[name, s] for s in taken if (name, s) in arms] for name in (*study.use, *wanted)}
    parts = [_head(study, ground, taken, len(wanted) - 1), _missing(there, len(taken))]
    failed = failures(planned.arms[study.name], planned, results)
    parts += [f"**Failed**: {name}: {why}" for name, why in failed.items()]
    if any(there.values()):
        parts += [_standing(there, domain), _differences(wanted, arms, taken, domain)]
        parts.append(_raw(there, domain))
    return "\n\n".join(part for part in parts if part) + "\n"


def _head(study: Study, ground: Ground, taken: Sequence[int], others: int) -> str:
    told = {"title": study.title, "note": study.note, "name": study.name, "stated": digest(study)}
    at = {"size": ground.size, "split": ground.split, "seeds": ", ".join(map(str, taken))}
    return HEAD.format(**told, **at, others=others, model=where(ground)).strip()


def where(ground: Ground) -> str:
    """Which model and problems it is that everything was tried on."""
    return OWN.format(ground.own.model.name, ground.own.address) if ground.own else LAB


def _missing(there: dict[str, list[Record]], seeds_: int) -> str:
    short = [
        f"{name} ({len(records)} of {seeds_})" for name, records in there.items() if len(records) < seeds_
    ]
    return f"**Not all is run yet**: seeds there are of {', '.join(short)}." if short else ""


def _table(title: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rows)]
    return "\n".join([f"## {title}", "", *lines])


# ---------------------------------------------------------------- how each arm stands


def _standing(there: dict[str, list[Record]], domain: str) -> str:
    k = outcome_of(next(records[0] for records in there.values() if records), domain).k
    head = ("arm", "seeds", f"avg@{k}, %", f"pass@{k}, %", "H_T", "H_T at the end", *COSTS)
    rows = [
        (name, str(len(records)), *_accuracies(records, domain, k), *_curves(records), *_costs(records))
        for name, records in there.items()
        if records
    ]
    return _table("How each arm stands", head, rows)


def _accuracies(records: Many, domain: str, k: int) -> list[str]:
    told = (interval([column(r, measure, domain) for r in records]) for measure in ("accuracy", f"pass@{k}"))
    return [f"{value:.1f} ({low:.1f} to {high:.1f})" for value, low, high in told]


def _curves(records: Many) -> list[str]:
    return [_mean(records, partial(_number, measure=m), ".3f") for m in ("entropy", "entropy:end")]


def _costs(records: Many) -> list[str]:
    return [
        _mean(records, _tokens, ".2f"),
        _mean(records, lambda r: r.seconds, ".0f"),
        _mean(records, lambda r: r.wall or None, ".0f"),
    ]


COSTS = ("sampled tokens, M", "processor, s", "wall, s")


def _mean(records: Many, of: Callable[[Record], float | None], form: str) -> str:
    values = [value for value in map(of, records) if value is not None]
    return format(float(np.mean(values)), form) if values else "–"


def _number(record: Record, measure: str) -> float | None:
    """One number of how an arm trained; None where it did not."""
    try:
        return float(column(record, measure, "").values[0])
    except DataError:
        return None


def _tokens(record: Record) -> float | None:
    """Millions of sampled tokens; None where it did not train."""
    return sum(t.tokens for t in record.training.values()) / 1e6 if record.training else None


# ---------------------------------------------------------------- against the first arm


def _differences(wanted: Sequence[str], arms: Arms, taken: Sequence[int], domain: str) -> str:
    first, *others = wanted
    k = next(outcome_of(record, domain).k for record in arms.values())
    measures = ("accuracy", f"pass@{k}")
    rows = [
        (name, str(len(both)), *(_said(_paired(first, name, m, arms, both, domain)) for m in measures))
        for name in others
        if (both := [s for s in taken if (first, s) in arms and (name, s) in arms])
    ]
    head = (f"arm minus {first}", "seeds", f"avg@{k}, points", f"pass@{k}, points")
    return _table(f"Against {first}", head, rows) if rows else ""


def _paired(first: str, name: str, measure: str, arms: Arms, both: Sequence[int], domain: str) -> Estimate:
    effect = Effect(name, "contrast", measure=measure, domain=domain, terms={name: 1.0, first: -1.0})
    return estimate(effect, arms, both)


def _said(effect: Estimate) -> str:
    text = f"{effect.value:+.1f} ({effect.low:+.1f} to {effect.high:+.1f})"
    return f"**{text}**" if effect.low > 0 or effect.high < 0 else text


# ---------------------------------------------------------------- every seed


def _raw(there: dict[str, list[Record]], domain: str) -> str:
    k = outcome_of(next(records[0] for records in there.values() if records), domain).k
    head = ("arm", "seed", f"avg@{k}, %", f"pass@{k}, %", "H_T", "H_T at the end", "steps", *COSTS, "record")
    rows = [_of_seed(record, domain, k) for records in there.values() for record in records]
    return _table("Every seed", head, rows)


def _of_seed(record: Record, domain: str, k: int) -> list[str]:
    values = [float(column(record, m, domain).values.mean()) for m in ("accuracy", f"pass@{k}")]
    steps = sum(training.steps for training in record.training.values())
    told = [record.name, str(record.seed), *(f"{v:.2f}" for v in values), *_curves([record])]
    return [*told, str(steps or "–"), *_costs([record]), f"`{record.address}`"]
