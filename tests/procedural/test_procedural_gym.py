"""reasoning-gym's problems: every worked solution is right to the last line, and splits do not meet."""

from __future__ import annotations

import random
import re

import pytest

from acereason.errors import ConfigError
from acereason.procedural import find, generate, gym, teach

pytest.importorskip("reasoning_gym", reason="reasoning-gym is not installed")
_LINE = re.compile(r"^(?:[^:=]*: )?(.+) = (-?\d+)$")


@pytest.mark.parametrize("name", gym.LEVELS)
def test_worked_solutions_are_right_line_by_line(name: str) -> None:
    problems = generate([name], None, 60, 7, "train")
    assert len({p.question for p in problems}) == 60
    for problem in problems:
        text = teach(problem, random.Random(1)).text
        assert text.endswith(f"</think>\n\\boxed{{{problem.answer}}}")
        for line in text.partition("\n</think>")[0].split("\n"):
            check(line, name)


def check(line: str, name: str) -> None:
    """The arithmetic of a line, by Python's own."""
    if name == "rg-gcd":
        left, right = line.split(" = ")
        assert int(left) == eval(right)
        return
    found = _LINE.match(line)
    assert found, line
    computed = found[1].split(" = ")[-1]
    assert eval(computed) == int(found[2]), line


@pytest.mark.parametrize("name", gym.LEVELS)
def test_a_wrong_trace_has_a_wrong_answer(name: str) -> None:
    for problem in generate([name], [1], 20, 3, "train"):
        text = teach(problem, random.Random(2), wrong=True).text
        assert f"\\boxed{{{problem.answer}}}" not in text


def test_splits_share_no_question_and_draws_are_the_same_again() -> None:
    names = list(gym.LEVELS)
    splits = [generate(names, [1], 50, 5, split) for split in ("train", "dev", "test")]
    questions = [{p.question for p in split} for split in splits]
    assert not (questions[0] & questions[1] or questions[0] & questions[2] or questions[1] & questions[2])
    assert generate(names, [1], 50, 5, "dev") == splits[1]


def test_any_generator_by_its_name() -> None:
    (problem,) = generate(["rg:countdown"], None, 1, 1, "train")
    assert problem.domain == "reasoning-gym" and problem.meta["dataset"] == "countdown"
    with pytest.raises(ConfigError, match="no worked solutions"):
        teach(problem, random.Random(0))
    with pytest.raises(ConfigError, match="countdwn"):
        generate(["rg:countdwn"], None, 1, 1, "train")
    assert find("nothing") is None
