"""Judging a file: rows in, one verdict per row out, in the same order.

A row is a problem's fields with `response`: the text, or a response record. Optional `finish`
("length" marks a response cut at its budget). Rows are read, judged and written as a stream: at
most AHEAD of them are in memory.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path

import msgspec

from acereason.errors import DataError
from acereason.problems import Finish, Problem, Response, Verdict
from acereason.verify.judge import Judge

AHEAD = 1024


class _Answered(msgspec.Struct):
    """What a row holds beside the problem's fields."""

    response: str | Response
    finish: Finish = "stop"


class Row(msgspec.Struct, frozen=True):
    """One line of the output."""

    id: str
    outcome: str
    reward: int | None
    extracted: str | None
    detail: str
    seconds: float


def read_row(line: bytes) -> tuple[Problem, Response]:
    """The problem and the response of one row. Raises msgspec.DecodeError."""
    answered = msgspec.json.decode(line, type=_Answered)
    fields = msgspec.json.decode(line)
    problem = msgspec.convert({"question": "", **fields}, Problem)  # judging needs no question
    response = answered.response
    if isinstance(response, str):
        response = Response(problem.id, 0, response, finish=answered.finish)
    return problem, response


def row_of(problem: Problem, verdict: Verdict) -> Row:
    """The output row of a verdict."""
    return Row(
        problem.id, verdict.outcome, verdict.reward, verdict.extracted, verdict.detail,
        round(verdict.seconds, 6),
    )  # fmt: skip


def read_rows(path: Path) -> Iterator[tuple[Problem, Response]]:
    """The rows of a file; DataError names the line that does not fit."""
    try:
        file = path.open("rb")
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}") from error
    with file:
        for number, line in enumerate(file, 1):
            if line.isspace():
                continue
            try:
                yield read_row(line)
            except (msgspec.DecodeError, UnicodeDecodeError) as error:
                raise DataError(
                    f"{path}, line {number}: expected a problem's fields and `response`, {error}"
                ) from error


def verify_file(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    workers: int = 2,
    mode: str = "strict",
) -> dict[str, int]:
    """Judge every row of `source` and write `target`, which appears when it is complete. Returns
    the judge's counters: rows of each outcome, and of them "cached" (the verdict of an equal
    answer), "undecided" (math left to the slow path); "lost" sandbox processes. Raises DataError for
    a row that is none, SandboxUnavailable."""
    target = Path(target)
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    waiting: deque[tuple[Problem, Future[Verdict]]] = deque()
    try:
        with Judge(workers, mode) as judge, temporary.open("wb") as out:

            def write_first() -> None:
                problem, future = waiting.popleft()
                verdict = future.result()
                out.write(msgspec.json.encode(row_of(problem, verdict)) + b"\n")

            for problem, response in read_rows(Path(source)):
                waiting.append((problem, judge.submit(problem, response)))
                if len(waiting) >= AHEAD:
                    write_first()
            while waiting:
                write_first()
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)
    return {name: count for name, count in judge.counters.items() if count}
