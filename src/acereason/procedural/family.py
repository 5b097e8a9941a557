"""What a task family is, and the few pieces of text that all families share.

A family draws problems of a level, and its teacher answers them. A response is

    THINKING \\n</think>\\n ANSWER

because the prompt has already opened `<think>\\n`; ANSWER is `\\boxed{…}` for math and a python
block for code. Numbers and operators stand without spaces between them, since every digit,
operator and space costs one token of the small vocabulary that these texts are written for.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from acereason.chat import END_THINK
from acereason.problems import Problem, Test

Domain = Literal["math", "code", "reasoning-gym"]
SECONDS = 1.0  # of the processor, a test: right programs take thousandths, learners write many without an end


@dataclass(frozen=True)
class Family:
    """Problems of one kind with their teacher.

    `respond(problem, rng, wrong)` writes a right response, or with `wrong` one with a mistake of
    the kind that a learner makes. `mode(problem, text)` names the way of answering that a response
    text follows, "other" when it is none of the teacher's. `slip` is the share of wrong responses
    that the teacher writes when nobody asks for either.
    """

    name: str
    domain: Domain
    levels: range
    problem: Callable[[random.Random, int], Problem]
    respond: Callable[[Problem, random.Random, bool], str]
    mode: Callable[[Problem, str], str]
    slip: float = 0.05


def new_problem(
    family: str,
    level: int,
    question: str,
    *,
    answer: int | None = None,
    tests: Sequence[Test] = (),
    **parameters: Any,
) -> Problem:
    """A math problem with its answer or a code problem with its tests; the teacher's parameters."""
    digest = hashlib.sha256(question.encode()).hexdigest()[:12]
    return Problem(
        id=f"{family}-{level}-{digest}",
        domain="code" if tests else "math",
        question=question,
        answer=None if answer is None else str(answer),
        tests=tuple(tests),
        function="f" if tests else None,
        time_limit=SECONDS if tests else None,
        source="procedural",
        meta={"family": family, "level": level, **parameters},
    )


def boxed(thinking: str, answer: int) -> str:
    """A math response."""
    return f"{thinking}\n{END_THINK}\n\\boxed{{{answer}}}"


def fenced(thinking: str, code: str) -> str:
    """A code response."""
    return f"{thinking}\n{END_THINK}\n```python\n{code}\n```"


def without_thinking(text: str) -> str:
    """The response with nothing before `</think>`."""
    _, end, answer = text.partition(END_THINK)
    return end + answer


def thinking_of(text: str) -> str:
    """What a response thinks: all before `</think>`, or all of it when it never got there."""
    return text.partition(END_THINK)[0].strip()


def slipped(value: int, rng: random.Random) -> int:
    """A value as a learner gets it wrong: one or two off, or by a carry; never below 0."""
    while True:
        wrong = value + rng.choice((-10, -2, -1, -1, 1, 1, 2, 10))
        if wrong >= 0:
            return wrong
