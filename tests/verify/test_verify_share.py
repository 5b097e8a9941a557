"""The share of a program's tests that it passes: counted where it is asked for, and learned from."""

from __future__ import annotations

import math
from collections.abc import Iterator

import msgspec
import numpy as np
import pytest

from acereason.config import Recipe, Rl, parse
from acereason.errors import ConfigError
from acereason.problems import Problem, Response, Test, Verdict
from acereason.train import update
from acereason.train.judging import Mistaken
from acereason.verify import Judge
from learn_groups import groups

TESTS = tuple(Test("stdin", str(i), str(2 * i)) for i in range(6))
DOUBLE = Problem("p", "code", "Double it.", tests=TESTS)
CALLED = Problem(
    "f", "code", "Double it.", function="f",
    tests=tuple(Test("functional", f"[{i}]", str(2 * i)) for i in range(4)),
)  # fmt: skip


@pytest.fixture(scope="module")
def judge() -> Iterator[Judge]:
    with Judge(workers=1, every_test=True) as made:
        yield made


def response(code: str) -> Response:
    return Response("p", 0, f"so</think>```python\n{code}\n```")


@pytest.mark.parametrize(
    ("code", "outcome", "passed"),
    [
        ("print(2 * int(input()))", "correct", 6),
        ("n = int(input())\nprint(2 * n if n % 2 else 0)", "wrong", 4),  # right for 0, 1, 3, 5
        ("n = int(input())\nassert n != 3\nprint(2 * n)", "wrong", 5),
        ("print('no')", "wrong", 0),
        ("import os\nn = int(input())\nif n == 2: os._exit(1)\nprint(2 * n)", "wrong", 5),
        ("syntax error here", "wrong", 0),
    ],
)
def test_every_test_is_run_and_those_passed_are_counted(
    judge: Judge, code: str, outcome: str, passed: int
) -> None:
    verdict = judge.verify(DOUBLE, response(code))
    assert verdict.outcome == outcome and verdict.share == pytest.approx(passed / 6)


def test_what_the_program_said_to_the_tests_it_failed_is_kept(judge: Judge) -> None:
    three = judge.verify(DOUBLE, response("n = int(input())\nprint('no', n)\nassert n % 3"))
    said = sorted((one.number, one.got and one.got.text) for one in three.failed)
    assert said == [(n, f"no {n - 1}\n") for n in (1, 2, 3, 4)] and three.share == 0
    slow = judge.verify(msgspec.structs.replace(DOUBLE, time_limit=0.1), response("while True: print(1)"))
    assert slow.outcome == "timeout" and {one.got for one in slow.failed} == {None}
    calls = judge.verify(CALLED, response("def f(n):\n    return [2 * n] if n == 2 else 2 * n"))
    assert [(one.number, one.got and one.got.text) for one in calls.failed] == [(3, "[4]")]
    assert judge.verify(DOUBLE, response("print(2 * int(input()))")).failed == ()


def test_functions_and_answers_without_a_program(judge: Judge) -> None:
    odd = "def f(n):\n    return 2 * n if n % 2 else -1"
    assert judge.verify(CALLED, response(odd)).share == pytest.approx(2 / 4)
    nothing = judge.verify(DOUBLE, Response("p", 0, "no program"))
    assert nothing.share is None and nothing.reward == 0


def test_without_being_asked_it_stops_at_the_first_failure() -> None:
    with Judge(workers=1) as plain:
        assert plain.verify(DOUBLE, response("print('no')")).share is None


def test_what_is_learned_from_is_the_share() -> None:
    batch = groups(2, rewards=[[1, 0, 0, None]])
    shares = [1.0, 0.5, None, None]
    for answer, share in zip(batch[0], shares, strict=True):
        verdict = answer.verdict
        told = Verdict(verdict.outcome, verdict.reward, share=share)
        object.__setattr__(answer, "verdict", told)
    plain, by_tests = (update.rollouts(batch, rule).rewards[0].tolist() for rule in ("outcome", "tests"))
    assert plain[:3] == [1, 0, 0] and by_tests[:3] == [1, 0.5, 0] and math.isnan(by_tests[3])
    mean = 0.5
    expected = (np.array([1, 0.5, 0]) - mean) / np.std([1, 0.5, 0])
    stage = recipe(rl={"reward": "tests"}).stage[0]
    weights = update.weigh(batch, stage, Rl(reward="tests", masked_in_statistics=True))
    assert weights.advantages[0, :3].tolist() == pytest.approx(expected.tolist(), abs=1e-10)


def test_a_verdict_turned_over_has_no_share() -> None:
    wrong = Mistaken(None, 1.0, 1.0, 1)  # type: ignore[arg-type]
    turned = wrong.turned(Verdict("wrong", 0, share=0.5), DOUBLE, response(""))
    assert turned.reward == 1 and turned.share is None


def recipe(domain: str = "code", **changes: object) -> Recipe:
    stage = {"name": "a", "domain": domain, "budget": 20, "steps": 1}
    return parse({"name": "r", "model": {"path": "x/y"}, "stage": [stage], **changes})


def test_nonsense_is_refused() -> None:
    with pytest.raises(ConfigError, match="every stage is of math"):
        recipe("math", rl={"reward": "tests"})
    with pytest.raises(ConfigError, match="use one of the two"):
        recipe(rl={"reward": "tests", "length_penalty": 0.1})
