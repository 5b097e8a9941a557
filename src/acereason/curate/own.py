"""Data of one's own: the files that a recipe names, read, checked, kept apart from the held-out questions.

    held-out problems        every row must be one that can be judged: with rows left out it is another set
    problems for RL and SFT  rows that cannot be read, or asked and judged, are set aside and counted
    traces                   each answers a problem of the SFT file

What no one can have meant (equal ids, unknown domains, nothing left) is a DataError with file and line. What
was set aside stands in `rejected.jsonl`, what was too near to a held-out question in `contamination-*.jsonl`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from acereason.config import Curate, Files
from acereason.curate.decontaminate import EVIDENCE_SHARE, Boilerplate, Overlap, decontaminate
from acereason.curate.funnel import Funnel
from acereason.errors import DataError
from acereason.files import write_jsonl
from acereason.problems import Problem, Response
from acereason.published import records
from acereason.published.packed import plain
from acereason.published.rows import raw_rows

REJECTED = "rejected.jsonl"


class Aside(msgspec.Struct, frozen=True):
    """A row that was set aside, and why."""

    file: str
    place: str
    reason: str


class Own(NamedTuple):
    """What the files hold. `asides` and `overlaps` are what was left out of it."""

    sft: list[Problem]
    traces: list[Response]
    rl: list[Problem]
    held_out: list[Problem]
    asides: list[Aside]
    overlaps: dict[str, list[Overlap]]
    funnels: list[Funnel]


def read_files(files: Files, settings: Curate) -> Own:
    """Read and check all files of a recipe; DataError for what cannot be used."""
    asides: list[Aside] = []
    held_out = records.read_problems(files.held_out)
    funnels: list[Funnel] = []
    sft = [] if files.sft is None else _problems(files.sft, False, asides, funnels)
    traces = [] if files.traces is None else _traces(files.traces, sft, asides, funnels)
    rl = _rl(files.rl, asides, funnels)
    overlaps: dict[str, list[Overlap]] = {}
    questions = [p.question for p in held_out]
    sft = _apart("sft", sft, questions, settings, overlaps, funnels)
    rl = _apart("rl", rl, questions, settings, overlaps, funnels)
    learned = {p.id for p in sft}
    kept = [trace for trace in traces if trace.problem_id in learned]
    if files.sft is not None and not kept:
        raise DataError(f"{files.traces}: no trace is left that answers a problem of {files.sft}")
    return Own(sft, kept, rl, held_out, asides, overlaps, funnels)


def write_reports(own: Own, folder: Path) -> None:
    """Write what was left out, for a person to look at."""
    folder.mkdir(parents=True, exist_ok=True)
    if own.asides:
        write_jsonl(folder / REJECTED, own.asides)
    for name, rows in own.overlaps.items():
        write_jsonl(folder / f"contamination-{name}.jsonl", rows)


def _problems(path: str, judged: bool, asides: list[Aside], funnels: list[Funnel]) -> list[Problem]:
    """The problems of a file for training; what cannot be used is set aside."""
    found = list(records.problems_in(Path(path).expanduser()))
    faults = [Aside(path, f.place, f.reason) for f in found if f.problem is None]
    good = [(f.place, f.problem) for f in found if f.problem is not None]
    if judged:
        faults += [Aside(path, place, why) for place, p in good if (why := records.unanswered(p))]
        good = [(place, p) for place, p in good if not records.unanswered(p)]
    if wrong := records.equal_ids(good) + records.unknown_domains(good):
        raise DataError(f"{path}: {records.told(wrong)}")
    if not good:
        why = records.told((f.place, f.reason) for f in faults)
        raise DataError(f"{path}: expected problems, found none that can be used{f': {why}' if why else ''}")
    asides += faults
    funnels.append(Funnel(f"file {Path(path).name}", len(found), len(good), _counted(faults)))
    return [p for _, p in good]


def _counted(faults: Sequence[Aside]) -> dict[str, int]:
    return dict(Counter(fault.reason.split(":")[0] for fault in faults))


def _rl(files: str | Mapping[str, str], asides: list[Aside], funnels: list[Funnel]) -> list[Problem]:
    """The problems of all stages once, each with the names of its stages in `meta` when stages have files."""
    if isinstance(files, str):
        return _problems(files, True, asides, funnels)
    found: dict[str, tuple[str, Problem]] = {}
    stages: dict[str, list[str]] = {}
    for stage, path in files.items():
        for problem in _problems(path, True, asides, funnels):
            first, known = found.setdefault(problem.id, (path, problem))
            if known != problem:
                raise DataError(
                    f"{path}: the id {problem.id!r} is that of another problem in {first}; give every "
                    "problem one of its own"
                )
            stages.setdefault(problem.id, []).append(stage)
    return [msgspec.structs.replace(p, meta={**p.meta, "stages": stages[i]}) for i, (_, p) in found.items()]


def _traces(path: str, sft: Sequence[Problem], asides: list[Aside], funnels: list[Funnel]) -> list[Response]:
    """The traces of a file: each must name a problem of the SFT file, and say something."""
    known = {problem.id for problem in sft}
    traces: list[Response] = []
    faults: list[Aside] = []
    count = 0
    for read in raw_rows(Path(path).expanduser()):
        count += 1
        fault, trace = read.reason, None
        try:
            trace = None if read.row is None else msgspec.convert(_trace_row(read.row), Response)
        except (msgspec.ValidationError, DataError) as error:
            fault = str(error)
        if trace is not None and trace.problem_id not in known:
            raise DataError(
                f"{path}, {read.place}: a trace answers {trace.problem_id!r}, which is the id of no problem "
                "of the SFT file"
            )
        if trace is not None and not trace.text.strip():
            fault, trace = "empty text", None
        if trace is None:
            faults.append(Aside(path, read.place, fault))
        else:
            traces.append(trace)
    if not traces:
        why = records.told((f.place, f.reason) for f in faults)
        raise DataError(f"{path}: expected traces, found none{f': {why}' if why else ''}")
    asides += faults
    funnels.append(Funnel(f"file {Path(path).name}", count, len(traces), _counted(faults)))
    return traces


def _trace_row(row: Mapping[str, object]) -> dict[str, object]:
    """A trace under our names: `problem_id` and `text`, the sample counted where it is not said."""
    named = dict(row)
    if "text" not in named and isinstance(named.get("response"), str):
        named["text"] = named.pop("response")
    if isinstance(named.get("problem_id"), int):
        named["problem_id"] = str(named["problem_id"])
    named.setdefault("sample", 0)
    meta = named.get("meta")
    if isinstance(meta, str):
        named["meta"] = msgspec.json.decode(meta)
    return {key: plain(value) for key, value in named.items() if value is not None}


def _apart(
    name: str,
    problems: list[Problem],
    questions: Sequence[str],
    settings: Curate,
    overlaps: dict[str, list[Overlap]],
    funnels: list[Funnel],
) -> list[Problem]:
    """The problems that share no text with a held-out question, by the recipe's rule."""
    if not problems:
        return problems
    paper = settings.decontamination == "paper"
    default = 0.0 if paper else EVIDENCE_SHARE
    share = default if settings.overlap_share is None else settings.overlap_share
    rows: list[Overlap] = []
    for domain in sorted({p.domain for p in problems}):
        n = settings.ngram if domain == "math" else settings.ngram_code
        part = [p for p in problems if p.domain == domain]
        _, report, _ = decontaminate(
            part, {"held out": questions}, n, share, None if paper else Boilerplate()
        )
        rows += report
    dropped = {row.prompt for row in rows}
    kept = [p for p in problems if p.id not in dropped]
    if not kept:
        raise DataError(
            f"every problem for {name} shares its text with a held-out question, e.g. {rows[0].prompt!r}: "
            f"{rows[0].text[:100]!r}. Hold out other questions"
        )
    overlaps[name] = rows
    reasons = dict(Counter(f"{row.rule} as held out" for row in rows))
    funnels.append(Funnel(f"decontaminate {name}", len(problems), len(kept), reasons))
    return kept
