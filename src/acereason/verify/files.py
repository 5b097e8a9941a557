"""Judging a file: responses in, one verdict per response out, in the same order.

A row is a problem's fields with `response`: the text, or a response record. Optional `finish`
("length" marks a response cut at its budget). Other projects' rows are read too, several responses
a row included (`published.responses`); where the file has verdicts of its own, agreement is
counted. A row that holds no response keeps its place, as "unjudged" with the reason. Rows are read, judged
and written as a stream: at most AHEAD responses are in memory.
"""

from __future__ import annotations

import os
from collections import Counter, deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import BinaryIO

import msgspec

from acereason.chat import END_THINK
from acereason.errors import DataError
from acereason.problems import Problem, Verdict
from acereason.published.responses import Answered, Unread, answered_in
from acereason.verify.judge import Judge

AHEAD = 1024


class Row(msgspec.Struct, frozen=True):
    """One line of the output."""

    id: str
    outcome: str
    reward: int | None
    extracted: str | None
    detail: str
    seconds: float
    sample: int | msgspec.UnsetType = msgspec.UNSET  # where a row held several responses


def row_of(problem: Problem, verdict: Verdict, sample: int | None = None) -> Row:
    """The output row of a verdict."""
    return Row(
        problem.id, verdict.outcome, verdict.reward, verdict.extracted, verdict.detail,
        round(verdict.seconds, 6), msgspec.UNSET if sample is None else sample,
    )  # fmt: skip


Item = tuple[Answered, bool]  # a response, and whether its row holds several


def read_rows(path: Path, thinking: bool = True) -> Iterator[Item | Unread]:
    """The responses of a file, and the rows that hold none; DataError when there is no response at all.
    `thinking` False: responses have no thinking part."""
    unread: Unread | None = None
    any_response = False
    for row in answered_in(path):
        if isinstance(row, Unread):
            unread = unread or row
            yield row
            continue
        for one in row:
            any_response = True
            yield (one if thinking else _closed(one)), len(row) > 1
    if not any_response:
        why = f"; {unread.place}: {unread.reason}" if unread else ""
        raise DataError(f"{path}: expected responses, found none{why}")


def _closed(one: Answered) -> Answered:
    text = one.response.text
    said = text if END_THINK in text else END_THINK + text
    return one._replace(response=msgspec.structs.replace(one.response, text=said))


def verify_file(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    workers: int = 2,
    mode: str = "strict",
    thinking: bool = True,
    set_aside: Callable[[Unread], None] = lambda _: None,
) -> dict[str, int]:
    """Judge every response of `source` and write `target`, which appears when it is complete. Returns
    the judge's counters: rows of each outcome, and of them "cached" (the verdict of an equal
    answer), "undecided" (math left to the slow path); "lost" sandbox processes; "agreed" and
    "differed" from the verdicts that the file itself has; "unread" rows, which are told to `set_aside` and
    have a line of their own without an id. Raises DataError for a file without any response,
    SandboxUnavailable."""
    target = Path(target)
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        with Judge(workers, mode) as judge, temporary.open("wb") as out:
            desk = _Desk(judge, out, set_aside)
            for item in read_rows(Path(source), thinking):
                desk.take(item)
            desk.finish()
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)
    return {name: count for name, count in (judge.counters + desk.counts).items() if count}


class _Desk:
    """Rows in, lines out in the same order, with AHEAD verdicts waited for at most."""

    def __init__(self, judge: Judge, out: BinaryIO, set_aside: Callable[[Unread], None]) -> None:
        self._judge, self._out, self._set_aside = judge, out, set_aside
        self._waiting: deque[tuple[Item, Future[Verdict]] | Unread] = deque()
        self.counts: Counter[str] = Counter()

    def take(self, item: Item | Unread) -> None:
        if isinstance(item, Unread):
            self.counts["unread"] += 1
            self._set_aside(item)
            self._waiting.append(item)
        else:
            self._waiting.append((item, self._judge.submit(item[0].problem, item[0].response)))
        if len(self._waiting) >= AHEAD:
            self._write()

    def finish(self) -> None:
        while self._waiting:
            self._write()

    def _write(self) -> None:
        first = self._waiting.popleft()
        if isinstance(first, Unread):
            row = Row("", "unjudged", None, None, f"{first.place}: {first.reason}", 0.0)
        else:
            (one, several), verdict = first[0], first[1].result()
            row = row_of(one.problem, verdict, one.sample if several else None)
            self._compare(one.said, verdict.reward)
        self._out.write(msgspec.json.encode(row) + b"\n")

    def _compare(self, said: bool | None, reward: int | None) -> None:
        if said is not None and reward is not None:
            self.counts["agreed" if bool(reward) == said else "differed"] += 1
