"""The project's own judge agrees with the teacher about what is right and what is wrong."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest

from acereason.procedural import FAMILIES, generate, teach
from acereason.verify import Judge


@pytest.fixture(scope="module")
def judge() -> Iterator[Judge]:
    with Judge() as judge:
        yield judge


@pytest.mark.parametrize("name", FAMILIES)
def test_the_judge_agrees_with_the_teacher(name: str, judge: Judge) -> None:
    problems = generate([name], None, 30, 21, "train")
    waiting = []
    for number, problem in enumerate(problems):
        rng = random.Random(number)
        for wrong in (False, True):
            response = teach(problem, rng, wrong)
            waiting.append((wrong, response.text, judge.submit(problem, response)))
    for wrong, text, verdict in waiting:
        assert verdict.result().outcome == ("wrong" if wrong else "correct"), text
