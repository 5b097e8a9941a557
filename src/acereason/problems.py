"""The records that everything exchanges, and reading and writing them.

    Problem ──▶ Response ──judge──▶ Verdict

A `Problem` is asked, a `Response` answers it, a `Verdict` judges the response (what travels between policy,
sampler and judge in a run is in `sample.protocol` and `sample.ask`). All three are plain
immutable data with JSON field names equal to their attribute names; a file is JSON Lines, one object
a line. Fields that a record does not know are ignored, so files of other tools can be read; a missing
field or a wrong type is an error that names the line.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Literal, TypeVar

import msgspec

from acereason.errors import DataError

Finish = Literal["stop", "length"]
Outcome = Literal["correct", "wrong", "no_answer", "timeout", "unjudged"]


class Test(msgspec.Struct, frozen=True, omit_defaults=True):
    """One test of a program.

    `stdin`: `input` is fed to standard input and `output` is compared with standard output.
    `functional`: `input` is a JSON list of arguments and `output` the JSON result.
    """

    __test__ = False  # not a pytest class

    type: Literal["stdin", "functional"]
    input: str
    output: str


class Problem(msgspec.Struct, frozen=True, omit_defaults=True):
    """A question with what is needed to judge an answer to it."""

    id: str
    domain: str
    question: str
    answer: str | None = None
    tests: tuple[Test, ...] = ()
    function: str | None = None  # the function that functional tests call
    starter_code: str | None = None
    time_limit: float | None = None  # seconds of processor time per test
    memory_limit: int | None = None  # MiB
    source: str = ""
    difficulty: float | None = None  # 0 (every attempt right) … 1 (none)
    released: str | None = None  # ISO date
    meta: dict[str, Any] = {}


class Response(msgspec.Struct, frozen=True, omit_defaults=True):
    """The text of one answer, sampled or a teacher's: what is judged, and what is learned in SFT. Files may
    also say the `temperature` that sampled it and its `tokens`, whose number is then its length."""

    problem_id: str
    sample: int
    text: str
    tokens: list[int] = []
    finish: Finish = "stop"
    temperature: float = 1.0
    meta: dict[str, Any] = {}


class Verdict(msgspec.Struct, frozen=True, omit_defaults=True):
    """What the judge says. `reward` is 1 or 0, and None exactly when `outcome` is "unjudged":
    an infrastructure fault is neither right nor wrong and never becomes a reward."""

    outcome: Outcome
    reward: int | None
    extracted: str | None = None
    detail: str = ""
    seconds: float = 0.0

    def __post_init__(self) -> None:
        expected = {"correct": 1, "unjudged": None}.get(self.outcome, 0)
        if self.reward != expected:
            raise ValueError(f"outcome {self.outcome!r} has reward {expected}, not {self.reward!r}")


Record = TypeVar("Record")
_encoder = msgspec.json.Encoder()


def read_jsonl(path: str | os.PathLike[str], kind: type[Record]) -> Iterator[Record]:
    """Yield the records of a JSON Lines file; DataError names the line that does not fit."""
    path = Path(path)
    decoder = msgspec.json.Decoder(kind)
    try:
        file = path.open("rb")
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}") from error
    with file:
        for number, line in enumerate(file, 1):
            if line.isspace():
                continue
            try:
                yield decoder.decode(line)
            except (msgspec.DecodeError, UnicodeDecodeError) as error:
                raise DataError(
                    f"{path}, line {number}: expected a {kind.__name__} record, {error}"
                ) from error


def to_jsonl(records: Iterable[object]) -> bytes:
    """The records as the bytes of a JSON Lines file."""
    return _encoder.encode_lines(list(records))


def write_atomic(path: str | os.PathLike[str], data: bytes) -> None:
    """Write a file so that a reader, or a run resumed after a kill, sees the old or the new content whole."""
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with temporary.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def write_jsonl(path: str | os.PathLike[str], records: Iterable[object]) -> None:
    """Write records as JSON Lines, atomically."""
    write_atomic(path, to_jsonl(records))
