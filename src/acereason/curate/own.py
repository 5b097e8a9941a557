"""Data of one's own: the files that a recipe names, read, checked, kept apart from the held-out questions.

    held-out problems        every row must be one that can be judged: with rows left out it is another set
    problems for RL and SFT  rows that cannot be read, or asked and judged, are set aside and counted
    traces                   each answers a problem of the SFT file

What no one can have meant (equal ids, unknown domains, nothing left) is a DataError with file and line. What
was set aside stands in `rejected.jsonl`, what was too near to a held-out question in `contamination-*.jsonl`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

import msgspec

from acereason.config import Curate, Files
from acereason.curate.decontaminate import (
    EVIDENCE_SHARE,
    Boilerplate,
    Overlap,
    build_index,
    decide,
    explain,
    find_hits,
    join_hits,
)
from acereason.curate.dedup import chunks
from acereason.curate.funnel import Funnel
from acereason.errors import DataError
from acereason.files import write_jsonl
from acereason.problems import Problem, Response
from acereason.published import records
from acereason.published.packed import plain
from acereason.published.rows import raw_rows

REJECTED = "rejected.jsonl"
Record = TypeVar("Record", Problem, Response)
Stays = Callable[[Any], bool]


class Aside(msgspec.Struct, frozen=True):
    """A row that was set aside, and why."""

    file: str
    place: str
    reason: str


class Left(Generic[Record]):
    """The records of a file that stay, read anew each time that they are walked through; never all held."""

    def __init__(self, walk: Callable[[], Iterator[Any]], stays: Stays) -> None:
        self._walk, self._stays = walk, stays

    def __iter__(self) -> Iterator[Record]:
        return (record for _, record, _ in self._walk() if record is not None and self._stays(record))

    def __len__(self) -> int:
        return sum(1 for _ in self)


Problems = Left[Problem] | list[Problem]


class OwnData(NamedTuple):
    """What the files hold. `asides` and `overlaps` are what was left out of it."""

    sft: Problems
    traces: Left[Response] | list[Response]
    rl: list[Problem]
    held_out: list[Problem]
    asides: list[Aside]
    overlaps: dict[str, list[Overlap]]
    funnels: list[Funnel]


class Report(NamedTuple):
    """What is left out while files are read."""

    asides: list[Aside]
    overlaps: dict[str, list[Overlap]]
    funnels: list[Funnel]


def read_files(files: Files, settings: Curate) -> OwnData:
    """Read and check all files of a recipe; DataError for what cannot be used. SFT problems and traces stay
    in their files."""
    report = Report([], {}, [])
    held_out = records.read_problems(files.held_out)
    questions = [p.question for p in held_out]
    rl = _apart("rl", _rl(files.rl, report), questions, settings, report)
    if files.sft is None or files.traces is None:
        return OwnData([], [], list(rl), held_out, *report)
    ids = _checked(files.sft, False, report)
    source = partial(_walk, files.sft)
    everything: Left[Problem] = Left(source, lambda p: True)
    sft = _apart("sft", everything, questions, settings, report)
    leaked = {row.prompt for row in report.overlaps["sft"]}
    traces = _traces(files.traces, ids, leaked, files.sft, report)
    return OwnData(sft, traces, list(rl), held_out, *report)


def write_reports(own: OwnData, folder: Path) -> None:
    """Write what was left out, for a person to look at."""
    folder.mkdir(parents=True, exist_ok=True)
    if own.asides:
        write_jsonl(folder / REJECTED, own.asides)
    for name, rows in own.overlaps.items():
        write_jsonl(folder / f"contamination-{name}.jsonl", rows)


def _walk(path: str) -> Iterator[tuple[str, Problem | None, str]]:
    return iter(records.problems_in(Path(path).expanduser()))


def _checked(path: str, judged: bool, report: Report) -> set[str]:
    """The ids of the problems of a file that can be used; the other rows are set aside. Holds no problem."""
    seen: dict[str, str] = {}
    domains: dict[str, str] = {}
    faults: list[Aside] = []
    wrong: list[tuple[str, str]] = []
    count = 0
    for place, problem, reason in _walk(path):
        count += 1
        if problem is not None and not (judged and (reason := records.unanswered(problem))):
            wrong += records.equal_id(problem.id, place, seen)
            wrong += records.unknown_domain(problem.domain, place, domains)
        else:
            faults.append(Aside(path, place, reason))
    if wrong:
        raise DataError(f"{path}: {records.told(wrong)}")
    if not seen:
        why = records.told((f.place, f.reason) for f in faults)
        raise DataError(f"{path}: expected problems, found none that can be used{f': {why}' if why else ''}")
    report.asides.extend(faults)
    report.funnels.append(Funnel(f"file {Path(path).name}", count, len(seen), _counted(faults)))
    return set(seen)


def _problems(path: str, report: Report) -> list[Problem]:
    """The problems of a file that can be asked and judged."""
    _checked(path, True, report)
    return [p for _, p, _ in _walk(path) if p is not None and not records.unanswered(p)]


def _counted(faults: Sequence[Aside]) -> dict[str, int]:
    return dict(Counter(fault.reason.split(":")[0] for fault in faults))


def _rl(files: str | Mapping[str, str], report: Report) -> list[Problem]:
    """The problems of all stages once, each with the names of its stages in `meta` when stages have files."""
    if isinstance(files, str):
        return _problems(files, report)
    by_id: dict[str, tuple[str, Problem]] = {}
    stages: dict[str, list[str]] = {}
    for stage, path in files.items():
        for problem in _problems(path, report):
            first, known = by_id.setdefault(problem.id, (path, problem))
            if known != problem:
                raise DataError(
                    f"{path}: the id {problem.id!r} is that of another problem in {first}; give every "
                    "problem one of its own"
                )
            stages.setdefault(problem.id, []).append(stage)
    return [msgspec.structs.replace(p, meta={**p.meta, "stages": stages[i]}) for i, (_, p) in by_id.items()]


def _traces(path: str, known: set[str], leaked: set[str], problems: str, report: Report) -> Left[Response]:
    """The traces that stay: each must name a problem of the SFT file, and say something."""
    faults: list[Aside] = []
    count = 0
    for place, trace, reason in _responses(path):
        count += 1
        if trace is None:
            faults.append(Aside(path, place, reason))
        elif trace.problem_id not in known:
            raise DataError(
                f"{path}, {place}: a trace answers {trace.problem_id!r}, which is the id of no problem of "
                f"{problems}"
            )
        elif trace.problem_id in leaked:
            faults.append(Aside(path, place, "answers a problem that was dropped"))
    if count == len(faults):
        why = records.told((f.place, f.reason) for f in faults)
        raise DataError(f"{path}: expected traces, found none that can be used{f': {why}' if why else ''}")
    report.asides.extend(faults)
    report.funnels.append(Funnel(f"file {Path(path).name}", count, count - len(faults), _counted(faults)))
    return Left(partial(_responses, path), lambda trace: trace.problem_id not in leaked)


def _responses(path: str) -> Iterator[tuple[str, Response | None, str]]:
    """The traces of a file; a row that is none, or says nothing, comes with the reason."""
    for read in raw_rows(Path(path).expanduser()):
        if read.row is None:
            yield read.place, None, read.reason
            continue
        try:
            trace = msgspec.convert(_trace_row(read.row), Response)
        except (msgspec.ValidationError, msgspec.DecodeError) as error:
            yield read.place, None, str(error)
            continue
        empty = not trace.text.strip()
        yield read.place, None if empty else trace, "empty text" if empty else ""


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
    problems: Left[Problem] | list[Problem],
    questions: Sequence[str],
    settings: Curate,
    report: Report,
) -> Left[Problem]:
    """The problems that share no text with a held-out question, by the recipe's rule."""
    rows = _leaks(problems, questions, settings)
    dropped = {row.prompt for row in rows}
    kept: Left[Problem] = Left(lambda: (("", p, "") for p in problems), lambda p: p.id not in dropped)
    total = len(problems)
    if total == len(dropped):
        raise DataError(
            f"every problem for {name} shares its text with a held-out question, e.g. {rows[0].prompt!r}: "
            f"{rows[0].text[:100]!r}. Hold out other questions"
        )
    report.overlaps[name] = rows
    reasons = dict(Counter(f"{row.rule} as held out" for row in rows))
    report.funnels.append(Funnel(f"decontaminate {name}", total, total - len(rows), reasons))
    return kept


def _leaks(
    problems: Left[Problem] | list[Problem], questions: Sequence[str], settings: Curate
) -> list[Overlap]:
    """The overlaps of problems that are walked through twice and never all held."""
    paper = settings.decontamination == "paper"
    default = 0.0 if paper else EVIDENCE_SHARE
    share = default if settings.overlap_share is None else settings.overlap_share
    rows: list[Overlap] = []
    for n, math in ((settings.ngram, True), (settings.ngram_code, False)):
        index = build_index({"held out": questions}, n)

        def own(math: bool = math) -> Iterator[Problem]:
            return (p for p in problems if (p.domain == "math") == math)

        hits = join_hits([find_hits(part, index) for part in chunks((p.question for p in own()), 1024)])
        decided = {d.prompt: d for d in decide(hits, index, share, None if paper else Boilerplate())}
        rows += [explain(p, decided[i], index) for i, p in enumerate(own()) if i in decided]
    return rows
