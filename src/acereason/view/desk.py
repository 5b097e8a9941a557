"""The reward-hacking desk: the run's right answers that one should read before believing its reward.

    responses/*.jsonl + data/*.jsonl ─▶ Desk.advance ─▶ records ─▶ health.suspicion ─▶ Desk.page ─▶ the queue

Looked at are the run's newest steps and, in turn with them, the first of each stage that were kept, RESPONSES
and BYTES at most: what is looked at is said, and so are files that are too large by themselves. A file is
read once, in slices of time; the rules are run again when another was read.
"""

from __future__ import annotations

import hashlib
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from itertools import chain, zip_longest
from pathlib import Path
from typing import Any

import msgspec

from acereason import procedural
from acereason.chat import END_THINK, final_part
from acereason.config import Health
from acereason.errors import AceReasonError
from acereason.files import read_file
from acereason.health import ways
from acereason.health.suspicion import Answered, Share, Suspicion, answers, stages, suspicious
from acereason.health.suspicion import ways as ways_of
from acereason.problems import Problem
from acereason.view.data import limits
from acereason.view.groups import cut
from acereason.view.index import File, Index
from acereason.view.problems_at import ProblemsAt
from acereason.view.tail import Row, decode

RESPONSES, BYTES = 20_000, 96 << 20  # that are looked at
EVALUATION = "evaluation-"  # how the files of answers to held-out questions are called
QUEUE, ANSWERS = 200, 10  # shown at most
QUESTION = 20_000  # characters of a question
LONGEST = 60  # characters of an answer by which answers are told apart, besides their hash


class Desk:
    """The responses of one run as the rules see them."""

    def __init__(self, folder: Path, index: Index) -> None:
        self._folder, self._index = folder, index
        self.problems = ProblemsAt(folder)
        self._looked: dict[str, tuple[Any, list[Answered]]] = {}
        self._told: tuple[Any, Row] | None = None
        self._part = 0.0
        self._too_large = 0

    def advance(self, seconds: float = float("inf")) -> None:
        """Look at what is new, for at most about so many seconds (at least one file)."""
        end = time.monotonic() + seconds
        wanted = self._wanted()
        for name in self._looked.keys() - {file.name for file in wanted}:
            del self._looked[name]
        todo = [file for file in wanted if self._looked.get(file.name, (None,))[0] != file.stamp]
        if todo and not self.problems.advance(seconds):
            self._part = 0.0
            return
        for place, file in enumerate(todo):
            self._looked[file.name] = file.stamp, list(self._records(file))
            if time.monotonic() > end:
                self._part = 1 - (len(todo) - place - 1) / len(wanted)
                return
        self._part = 1.0

    def page(self) -> Row:
        """The queue, the histograms of answers and ways, and how much was looked at."""
        key = sorted((name, stamp) for name, (stamp, _) in self._looked.items()), self._part, self._too_large
        if self._told is None or self._told[0] != key:
            self._told = key, self._page(limits(self._folder))
        return self._told[1]

    def _page(self, limits: Health) -> Row:
        records = [one for _, kept in self._looked.values() for one in kept]
        queue = _merged(suspicious(records, limits))
        every = stages(records)
        return {
            "looked": len(records),
            "right": sum(one.right for one in records),
            "total": self._index.total,
            "part": self._part,
            "too_large": self._too_large,
            "steps": len({(one.stage, one.step) for one in records}),
            "suspicious": len(queue),
            "counts": dict(Counter(reason["rule"] for entry in queue for reason in entry["reasons"])),
            "queue": queue[:QUEUE],
            "answers": [s._asdict() for stage in every for s in _shown(answers(stage, limits))],
            "ways": [s._asdict() for stage in every for s in ways_of(stage, limits)],
        }

    def _wanted(self) -> list[File]:
        """The newest files in turn with the first of each stage, as many as the bounds allow."""
        every = self._index.files.values()
        files = sorted((file for file in every if _fits(len(file), _bytes(file))), key=_trained_first)
        self._too_large = len(every) - len(files)
        by_stage: dict[str, list[File]] = defaultdict(list)
        for file in reversed(files):
            if not file.stage.startswith(EVALUATION):
                by_stage[file.stage].append(file)
        window = limits(self._folder).window
        first = chain.from_iterable(zip_longest(*(own[:window] for own in by_stage.values())))
        chosen: dict[str, File] = {}
        responses = size = 0
        for file in chain.from_iterable(zip_longest(files, filter(None, first))):
            if file is not None and file.name not in chosen:
                with_it = responses + len(file), size + _bytes(file)
                if _fits(*with_it):
                    chosen[file.name] = file
                    responses, size = with_it
        return list(chosen.values())

    def _records(self, file: File) -> Iterator[Answered]:
        try:
            data = read_file(self._folder / "responses" / file.name)
        except OSError:
            return
        problems: dict[str, Problem] = {}
        for start, length in zip(file.starts.tolist(), file.lengths.tolist(), strict=True):
            row = decode(data[start : start + length])
            if isinstance(row, dict):
                name = str(row.get("problem_id"))
                if name not in problems:
                    problems[name] = _problem(name, {**row, **(self.problems.get(name) or {})})
                yield record(file.stage, file.step, file.name.removesuffix(".jsonl"), row, problems[name])


def record(stage: str, step: int, file: str, row: Row, problem: Problem) -> Answered:
    """What the rules need of a response; its text is looked at only if it is right, its problem always."""
    right = row.get("outcome") == "correct"
    tokens = row.get("tokens")
    sample = row.get("sample")
    said = row.get("extracted")
    nothing = ("", 0.0, False, False)
    way, copied, leaked, tested = _features(row, problem, str(said or "")) if right else nothing
    answer = _short(ways.plain(str(said))) if said not in (None, "") else ""
    return Answered(
        stage, step, file, str(row.get("problem_id")),
        sample if isinstance(sample, int) else -1,
        str(row.get("family") or ""), str(row.get("level") or ""),
        right, row.get("finish") == "length",
        len(tokens) if isinstance(tokens, list) else tokens if isinstance(tokens, int) else -1,
        answer, _short(ways.plain(problem.answer or "")),
        way, copied, leaked, tested,
        ways.stands_in(problem.question, problem.answer or ""),
    )  # fmt: skip


def _features(row: Row, problem: Problem, said: str) -> tuple[str, float, bool, bool]:
    """The way of answering, the share from the prompt, whether that says the answer, or the tests do."""
    text = str(row.get("text", ""))
    final = final_part(text)
    thinking = text if final is None else text[: -len(END_THINK + final)]
    code = bool(problem.tests)
    name = _known_way(problem, text) or ways.way("code" if code else "math", thinking, final or "")
    if code:
        return (
            name,
            0.0,
            False,
            ways.from_tests(said or (final or ""), [t.output for t in problem.tests], problem.question),
        )
    copied = ways.from_prompt(problem.question, text, said)
    return name, copied, copied > 0 and ways.leaked(problem.question, said), False


def _fits(responses: int, size: int) -> bool:
    return responses <= RESPONSES and size <= BYTES


def _bytes(file: File) -> int:
    return int(file.lengths.sum())


def _trained_first(file: File) -> tuple[bool, int, str]:
    return file.stage.startswith(EVALUATION), -file.step, file.stage


def _known_way(problem: Problem, text: str) -> str:
    """The mode that a procedural problem's family names; nothing for other problems."""
    if problem.source != "procedural":
        return ""
    try:
        return procedural.mode_of(problem, text)
    except (AceReasonError, ArithmeticError, AttributeError, LookupError, TypeError, ValueError):
        return ""


def _problem(name: str, row: Row) -> Problem:
    """A problem as far as its row is one; without what is needed to know it, only its id."""
    question = str(row.get("question") or "")[:QUESTION]
    try:
        known = msgspec.convert({"domain": "", **row, "id": name, "question": question}, Problem)
    except msgspec.ValidationError:
        known = Problem(name, "", question, str(row.get("reference") or row.get("answer") or "") or None)
    return known


def _short(answer: str) -> str:
    """An answer by which answers are told apart: a long one ends in its hash."""
    if len(answer) <= LONGEST:
        return answer
    return f"{answer[:LONGEST]}… {hashlib.sha256(answer.encode('utf-8', 'replace')).hexdigest()[:8]}"


def _shown(shares: Sequence[Share]) -> list[Share]:
    """The most frequent answers, where one of them is frequent at all."""
    return [share for share in shares[:ANSWERS] if share.n > 1 or share.told]


def _merged(found: Sequence[Suspicion]) -> list[Row]:
    """One entry for all equal answers of a group, with the reasons; most reasons first, then the newest."""
    by_response: dict[Answered, dict[str, str]] = defaultdict(dict)
    for one in found:
        by_response[one.of][one.rule] = one.sentence
    entries: dict[Any, Row] = {}
    for of, reasons in by_response.items():
        entry = entries.setdefault(
            (of.file, of.problem, of.answer, *reasons), {**_entry(of, reasons), "alike": 0}
        )
        entry["alike"] += 1
    return sorted(entries.values(), key=lambda entry: (-len(entry["reasons"]), -entry["step"]))


def _entry(of: Answered, reasons: dict[str, str]) -> Row:
    return {
        **{name: getattr(of, name) for name in ("stage", "step", "file", "sample", "tokens")},
        "problem_id": of.problem,
        "family": " ".join(filter(None, (of.family, of.level))),
        "answer": cut(of.answer, 80),
        "reasons": [{"rule": rule, "sentence": sentence} for rule, sentence in reasons.items()],
    }
