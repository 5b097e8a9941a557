"""The project's own judge agrees with the teacher about what is right and what is wrong."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest

from acereason.problems import Response
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


@pytest.mark.parametrize("name", [name for name, family in FAMILIES.items() if family.domain == "code"])
def test_a_program_without_an_end_costs_a_second(name: str, judge: Judge) -> None:
    (problem,) = generate([name], None, 1, 22, "train")
    endless = Response(problem.id, 0, "</think>\n```python\ndef f(*a):\n    while True: pass\n```")
    verdict = judge.submit(problem, endless).result()
    assert verdict.outcome == "timeout" and "more than 1 s of processor time" in verdict.detail
