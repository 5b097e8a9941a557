"""What a curation gives away: the sets, the reports, a manifest with hashes, and a data set
card."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import msgspec

from acereason.curate.attach import Counted, mean_tokens, read_counted
from acereason.curate.funnel import Funnel, table
from acereason.curate.mix import mix
from acereason.curate.select import StageSelection, length_balance, stage_set
from acereason.curate.settings import Curation, MixSettings
from acereason.curate.steps import Finished, file_key, key_of
from acereason.curate.tables import write_table
from acereason.errors import DataError
from acereason.files import read_jsonl, replacing, write_atomic
from acereason.problems import Problem, Response

Record = TypeVar("Record", Problem, Response)
FIELDS = (
    "Problems hold `id, domain, question, answer, tests, …`, responses `problem_id, sample, text, "
    "finish, …`: the records of `acereason.problems`."
)


class File(msgspec.Struct, frozen=True):
    """A published file: rows, bytes, and a hash of its content."""

    rows: int
    bytes: int
    hash: str


class Origin(msgspec.Struct, frozen=True):
    """What a source or a benchmark was read from: the commit at the hub, and the files' hashes."""

    name: str
    commit: str | None
    files: dict[str, str]


def publish(
    settings: Curation,
    out: Path,
    clean: Finished,
    answers: Finished,
    chosen: Finished,
    reports: Sequence[Finished],
    funnels: list[Funnel],
    origins: Sequence[Origin],
) -> list[Funnel]:
    """Write everything unless it stands there; returns the funnel with stages and mixes added."""
    key = key_of(settings_for_hash(settings), [done.key for done in (clean, answers, chosen, *reports)])
    if (there := _published(out, key)) is not None:
        return there
    counted = read_counted(answers / "counted.jsonl")
    lengths = mean_tokens(counted)
    writer = _Writer(settings.format, out)
    funnels = list(funnels)
    for stage in settings.rl.stages or ([] if settings.sft.mixes else [StageSelection("all")]):
        funnels.append(_stage(settings, stage, chosen / "problems.jsonl", lengths, writer))
    if settings.sft.mixes:
        usable, lines = _usable(settings, clean / "problems.jsonl", counted, lengths)
        funnels += lines
        for wanted in settings.sft.mixes:
            funnels.append(_mix(settings, wanted, clean, answers, usable, writer))
    gathered, decontaminated = reports
    writer.copy(gathered / "rejected.jsonl", "reports/rejected.jsonl")
    writer.copy(decontaminated / "contamination.jsonl", "reports/contamination.jsonl")
    writer.text("reports/funnel.txt", table(funnels) + "\n")
    writer.text("README.md", card(settings, funnels, writer.files, origins))
    manifest = {
        "key": key,
        "seed": settings.seed,
        "origins": origins,
        "files": writer.files,
        "mixes": writer.mixes,
        "funnel": funnels,
    }
    write_atomic(out / "manifest.json", msgspec.json.format(msgspec.json.encode(manifest)) + b"\n")
    return funnels


class PublishedState(msgspec.Struct, frozen=True):
    """What of an existing manifest says whether it still holds."""

    key: str
    files: dict[str, File]
    funnel: list[Funnel]


def _published(out: Path, key: str) -> list[Funnel] | None:
    """The funnel of what is published already, if it was made from the same and is all there."""
    try:
        before = msgspec.json.decode((out / "manifest.json").read_bytes(), type=PublishedState)
    except (OSError, msgspec.DecodeError):
        return None
    if before.key != key or not (out / "README.md").exists():
        return None
    for name, file in before.files.items():
        path = out / name
        if not path.exists() or path.stat().st_size != file.bytes:
            return None
    return before.funnel


def settings_for_hash(settings: Curation) -> Curation:
    """The settings without what changes no byte: workers, and how the teacher is asked."""
    return msgspec.structs.replace(settings, workers=1, teacher=None)


class _Writer:
    """Writes files under one folder and remembers what they hold."""

    def __init__(self, format: str, out: Path) -> None:
        self.format, self.out = format, out
        self.files: dict[str, File] = {}
        self.mixes: dict[str, object] = {}

    def records(self, name: str, records: Iterable[Record], kind: type[Record]) -> None:
        name = f"{name}.{self.format}"
        path = self._path(name)
        if self.format == "parquet":
            rows = write_table(path, records, kind)
        else:
            rows = 0
            with replacing(path) as out:
                for record in records:
                    out.write(msgspec.json.encode(record) + b"\n")
                    rows += 1
        self._note(name, path, rows)

    def copy(self, source: Path, name: str) -> None:
        rows = 0
        with replacing(self._path(name)) as out, source.open("rb") as file:
            for line in file:
                out.write(line)
                rows += 1
        self._note(name, self._path(name), rows)

    def text(self, name: str, text: str) -> None:
        write_atomic(self._path(name), text.encode())

    def _path(self, name: str) -> Path:
        path = self.out / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def _note(self, name: str, path: Path, rows: int) -> None:
        self.files[name] = File(rows, path.stat().st_size, file_key(path))


def _reasons(funnel: Funnel) -> str:
    """Why nothing is left, in words."""
    said = ", ".join(f"{count:,} {reason}" for reason, count in funnel.reasons.items())
    return said or f"{funnel.before:,} came in"


def _light(path: Path) -> Iterator[Problem]:
    """Problems without what is heavy: enough to choose by."""
    for p in read_jsonl(path, Problem):
        yield msgspec.structs.replace(p, question="", tests=(), starter_code=None, meta={})


def _stage(
    settings: Curation, stage: StageSelection, path: Path, lengths: Mapping[str, float], writer: _Writer
) -> Funnel:
    kept, funnel = stage_set(_light(path), stage, lengths, settings.seed)
    if not kept:
        raise DataError(f"RL stage {stage.name!r} has no prompts: {_reasons(funnel)}")
    ids = {problem.id for problem in kept}
    problems = (p for p in read_jsonl(path, Problem) if p.id in ids)
    writer.records(f"rl/{stage.name}", problems, Problem)
    return funnel


def _usable(
    settings: Curation,
    path: Path,
    counted: Mapping[str, Sequence[Counted]],
    lengths: Mapping[str, float],
) -> tuple[dict[str, list[Response]], list[Funnel]]:
    """What mixes choose from: responses without text, of the problems that length balance keeps."""
    sft = settings.sft
    kept, balance = length_balance(_light(path), lengths, sft.lengths, settings.seed)
    reasons = {"not finished": 0, "not correct": 0}
    out: dict[str, list[Response]] = {}
    before = 0
    for problem in kept:
        for row in counted.get(problem.id, ()):
            before += 1
            correct = row.verdict is not None and row.verdict.outcome == "correct"
            if sft.finished and not row.finished:
                reasons["not finished"] += 1
            elif sft.correct_only and not correct:
                reasons["not correct"] += 1
            else:
                out.setdefault(problem.id, []).append(Response(problem.id, row.sample, ""))
    after = before - sum(reasons.values())
    line = Funnel("sft responses", before, after, {k: v for k, v in reasons.items() if v})
    return out, [msgspec.structs.replace(balance, name="sft length balance"), line]


def _mix(
    settings: Curation,
    wanted: MixSettings,
    clean: Finished,
    answers: Finished,
    usable: Mapping[str, list[Response]],
    writer: _Writer,
) -> Funnel:
    thin = [Problem(name, "", "") for name in usable]
    rows, manifest = mix(thin, usable, wanted.prompts, wanted.per_prompt, settings.seed)
    if not rows:
        raise DataError(
            f"mix {wanted.name!r} has no responses: none of the sources' or the teacher's is left"
        )
    chosen = {(row.problem_id, row.sample) for row in rows}
    ids = set(manifest.ids)
    problems = (p for p in read_jsonl(clean / "problems.jsonl", Problem) if p.id in ids)
    writer.records(f"sft/{wanted.name}.problems", problems, Problem)
    responses = (
        r for r in read_jsonl(answers / "responses.jsonl", Response) if (r.problem_id, r.sample) in chosen
    )
    writer.records(f"sft/{wanted.name}.responses", responses, Response)
    writer.mixes[wanted.name] = manifest
    left = len(usable) - manifest.prompts
    reasons = {"note: responses chosen": len(rows), "not chosen": left, "note: missing": manifest.missing}
    reasons = {reason: count for reason, count in reasons.items() if count}
    return Funnel(f"mix {wanted.name}", len(usable), manifest.prompts, reasons)


def card(
    settings: Curation, funnels: Sequence[Funnel], files: Mapping[str, File], origins: Sequence[Origin]
) -> str:
    """A data set card: what it is, what it was made from, what was dropped, what to mind."""
    sources = [
        f"* {s.name}: `{s.path or 'published id'}`" + (f" at `{o.commit}`" if o.commit else "")
        for s, o in zip(settings.sources, origins, strict=False)
    ]
    benchmarks = [f"* {b.name}" for b in settings.benchmarks] or ["* none: **not decontaminated**"]
    listed = [f"| `{name}` | {file.rows:,} | `{file.hash}` |" for name, file in files.items()]
    rule = settings.decontamination
    mode = f"{rule.math}-gram (math), {rule.code}-gram (code)"
    mode += f", shared at least {rule.share:.0%}" if rule.share else ", any hit"
    mode += ", stock phrases not counted" if rule.stock else ""
    return "\n".join(
        [
            "---", "language: en", "tags: [reasoning, math, code]", "---", "",
            "# Prompts and responses for reasoning", "",
            "Made by `acereason curate` after the recipe of AceReason-Nemotron 1.1 "
            "(arXiv 2506.13284). The licences of the sources hold.", "",
            "## Sources", *sources, "",
            "## Kept apart from", *benchmarks, "", f"Rule: {mode}.", "",
            "## Funnel", "```", table(funnels), "```", "",
            "## Files", FIELDS, "",
            "| file | rows | hash (BLAKE2b) |", "|---|---|---|", *listed, "",
            "## Mind", "* Near-duplicates: paraphrases and translations are not found.",
            "* Contamination: shared n-grams only; a paraphrased benchmark question is not found.",
            "* Shares and bounds that the paper does not print are this curation's own.", "",
        ]
    )  # fmt: skip
