"""Judging a file: responses in, one verdict per response out, in the same order.

A row is a problem's fields with `response`: the text, or a response record. Optional `finish`
("length" marks a response cut at its budget). Other projects' rows are read too, several responses
a row included (`published.responses`); where the file has verdicts of its own, agreement is
counted. Rows are read, judged and written as a stream: at most AHEAD responses are in memory.
"""

from __future__ import annotations

import os
from collections import Counter, deque
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path

import msgspec

from acereason.chat import END_THINK
from acereason.errors import DataError
from acereason.problems import Problem, Verdict
from acereason.published.responses import Answered, answered_in
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


def read_rows(path: Path, thinking: bool = True) -> Iterator[tuple[Answered, bool]]:
    """The responses of a file, each with whether its row holds several; DataError names the row that does not
    fit, or says that there is none. `thinking` False: responses have no thinking part."""
    found = False
    for row in answered_in(path):
        for one in row:
            found = True
            yield (one if thinking else _closed(one)), len(row) > 1
    if not found:
        raise DataError(f"{path}: expected responses, found none")


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
) -> dict[str, int]:
    """Judge every response of `source` and write `target`, which appears when it is complete. Returns
    the judge's counters: rows of each outcome, and of them "cached" (the verdict of an equal
    answer), "undecided" (math left to the slow path); "lost" sandbox processes; "agreed" and
    "differed" from the verdicts that the file itself has. Raises DataError for a row that is none,
    SandboxUnavailable."""
    target = Path(target)
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    waiting: deque[tuple[Answered, bool, Future[Verdict]]] = deque()
    compared: Counter[str] = Counter()
    try:
        with Judge(workers, mode) as judge, temporary.open("wb") as out:

            def write_first() -> None:
                one, several, future = waiting.popleft()
                verdict = future.result()
                sample = one.sample if several else None
                out.write(msgspec.json.encode(row_of(one.problem, verdict, sample)) + b"\n")
                if one.said is not None and verdict.reward is not None:
                    compared["agreed" if bool(verdict.reward) == one.said else "differed"] += 1

            for one, several in read_rows(Path(source), thinking):
                waiting.append((one, several, judge.submit(one.problem, one.response)))
                if len(waiting) >= AHEAD:
                    write_first()
            while waiting:
                write_first()
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)
    return {name: count for name, count in (judge.counters + compared).items() if count}
