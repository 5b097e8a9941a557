"""The records that everything exchanges.

    Problem ──▶ Response ──judge──▶ Verdict

A `Problem` is asked, a `Response` answers it, a `Verdict` judges the response (what travels between policy,
sampler and judge in a run is in `sample.protocol` and `sample.ask`). All three are plain
immutable data with JSON field names equal to their attribute names; a file is JSON Lines, one object
a line. Fields that a record does not know are ignored, so files of other tools can be read; a missing
field or a wrong type is an error that names the line.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec

MOST_SECONDS, MOST_MEBIBYTES = 3600, 1 << 20  # of a problem's limits; one that asks for more is a mistake
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
    time_limit: Annotated[float, msgspec.Meta(ge=0, le=MOST_SECONDS)] | None = (
        None  # of processor time, a test
    )
    memory_limit: Annotated[int, msgspec.Meta(ge=0, le=MOST_MEBIBYTES)] | None = None
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


class Got(msgspec.Struct, frozen=True):
    """What a program answered to a test it failed: `text`, at most 1,000 characters from character `at` of
    its answer, to read beside the expected text from its character `expected_at`. `size`: all its bytes."""

    text: str
    at: int = 0
    expected_at: int = 0
    size: int = 0


class FailedTest(msgspec.Struct, frozen=True):
    """A test that a program failed: `number` counts from 1; `got` is None where it was stopped."""

    number: int
    got: Got | None = None


class Verdict(msgspec.Struct, frozen=True, omit_defaults=True):
    """What the judge says. `reward` is 1 or 0, and None exactly when `outcome` is "unjudged":
    an infrastructure fault is neither right nor wrong and never becomes a reward. `share`: the part of a
    program's tests that it passed, where the judge was asked for it. `failed`: the test that ended judging,
    and where all were run a few more."""

    outcome: Outcome
    reward: int | None
    extracted: str | None = None
    detail: str = ""
    seconds: float = 0.0
    share: float | None = None
    failed: tuple[FailedTest, ...] = ()

    def __post_init__(self) -> None:
        expected = {"correct": 1, "unjudged": None}.get(self.outcome, 0)
        if self.reward != expected:
            raise ValueError(f"outcome {self.outcome!r} has reward {expected}, not {self.reward!r}")
