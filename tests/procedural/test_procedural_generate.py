"""Splits never share a question, and the same arguments give the same problems."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from acereason.errors import ConfigError
from acereason.problems import Problem
from acereason.procedural import FAMILIES, generate, split_of, teach

NAMES = list(FAMILIES)


@settings(max_examples=15, deadline=None)
@given(
    st.lists(st.sampled_from(NAMES), min_size=1, max_size=4, unique=True),
    st.integers(0, 10**6),
    st.integers(1, 60),
)
def test_deterministic_distinct_and_disjoint(families: list[str], seed: int, count: int) -> None:
    seen: set[str] = set()
    for split in ("train", "dev", "test"):
        problems = generate(families, None, count, seed, split)
        assert problems == generate(families, None, count, seed, split)
        questions = {problem.question for problem in problems}
        assert len(questions) == len({problem.id for problem in problems}) == count
        assert not questions & seen
        assert {split_of(question) for question in questions} == {split}
        seen |= questions


def test_another_process_draws_the_same() -> None:
    program = (
        "from acereason.procedural import *; import random;"
        "ps = generate(list(FAMILIES), None, 40, 5, 'dev');"
        "print([(p.id, teach(p, random.Random(p.id)).text) for p in ps])"
    )
    command = [sys.executable, "-c", program]
    first, second = (subprocess.run(command, capture_output=True, check=True) for _ in range(2))
    assert first.stdout == second.stdout


def test_other_seeds_draw_other_problems() -> None:
    first, second = (generate(["chain"], [6], 50, seed, "train") for seed in (1, 2))
    assert not {p.question for p in first} & {p.question for p in second}


def test_balanced_over_families_and_levels() -> None:
    problems = generate(["chain", "lists"], None, 100, 3, "train")
    cells = Counter((p.meta["family"], p.meta["level"]) for p in problems)
    assert len(cells) == len(FAMILIES["chain"].levels) + len(FAMILIES["lists"].levels)
    assert max(cells.values()) - min(cells.values()) <= 1
    assert [p.meta["family"] for p in problems] != sorted(p.meta["family"] for p in problems)


def test_levels_are_chosen_where_a_family_has_them() -> None:
    problems = generate(["chain", "picks"], [2, 5], 30, 3, "train")
    assert {(p.meta["family"], p.meta["level"]) for p in problems} == {
        ("chain", 2),
        ("chain", 5),
        ("picks", 2),
    }


def test_excluded_questions_are_not_drawn() -> None:
    before = {p.question for p in generate(["search"], [1], 200, 4, "train")}
    after = {p.question for p in generate(["search"], [1], 200, 4, "train", exclude=before)}
    assert not before & after


def test_errors_name_what_is_known() -> None:
    with pytest.raises(ConfigError, match="unknown family 'chian'; known: chain"):
        generate(["chian"], None, 3, 1, "train")
    with pytest.raises(ConfigError, match="levels 1 to 2, none of"):
        generate(["picks"], [7], 3, 1, "train")
    with pytest.raises(ConfigError, match="unknown split 'valid'; known: train"):
        generate(["chain"], None, 3, 1, "valid")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="expected 5000 distinct questions for split 'dev'"):
        generate(["gcd"], [1], 5000, 1, "dev")
    with pytest.raises(ConfigError, match="unknown family"):
        teach(Problem(id="a", domain="math", question="?"), __import__("random").Random(1))
