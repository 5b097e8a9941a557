"""The comparison lab's estimates: coverage, pairing, what would decide, what flipped, in sentences."""

from __future__ import annotations

import numpy as np
import pytest

from acereason.evaluate import lab
from acereason.evaluate.lab import Side, difference, flips, level, values, verdict


def side(
    random: np.random.Generator, seeds: range, gain: float, hard: np.ndarray, wobble: float, own: bool = False
) -> Side:
    """Runs of a recipe that is better by `gain`, seeds varying by `wobble`; `own` questions for each seed."""
    found = {}
    for seed in seeds:
        easy = np.random.default_rng(1000 + seed).random(len(hard)) if own else hard
        chance = np.clip(easy * 0.6 + 0.2 + gain + wobble * random.normal(), 0, 1)
        name = f"{seed}:" if own else ""
        right = random.binomial(8, chance) / 8
        found[str(seed)] = {f"{name}q{q}": float(share) for q, share in enumerate(right)}
    return found


@pytest.mark.parametrize(("matched", "own"), [(True, False), (False, False), (True, True)])
def test_intervals_cover_the_truth(matched: bool, own: bool) -> None:
    random, covered, tries = np.random.default_rng(1), 0, 80
    for _ in range(tries):
        hard = random.random(40)
        first = side(random, range(4), 0.0, hard, 0.03, own)
        second = side(random, range(4) if matched else range(4, 8), 0.05, hard, 0.03, own)
        found = difference(first, second)
        assert found is not None and found.matched is matched and found.seeds == (4, 4)
        covered += found.low <= 0.05 <= found.high
    assert 0.9 <= covered / tries <= 1.0


def test_a_large_difference_is_decided_and_a_small_one_says_what_it_needs() -> None:
    random = np.random.default_rng(2)
    hard = random.random(512)
    base = side(random, range(3), 0.0, hard, 0.002)
    better = difference(base, side(random, range(3), 0.05, hard, 0.002))
    assert better is not None and better.sign == 1 and better.needed is None
    said = verdict(better, "A", "B")
    assert said.startswith("B beats A by ") and said.endswith("points, 3 seeds × 512 questions")
    wobbly = difference(side(random, range(3), 0.0, hard, 0.05), side(random, range(3), 0.03, hard, 0.05))
    assert wobbly is not None and wobbly.sign == 0 and wobbly.needed is not None
    what, count = wobbly.needed
    assert what == "seeds" and 3 < count <= lab.MOST
    assert f"needs about {count} seeds" in verdict(wobbly, "A", "B")


def test_one_seed_each_speaks_of_runs_and_not_of_recipes() -> None:
    random = np.random.default_rng(3)
    hard = random.random(400)
    found = difference(side(random, range(1), 0.0, hard, 0.0), side(random, range(1, 2), 0.2, hard, 0.0))
    said = verdict(found, "A", "B")
    assert "B is ahead of A by" in said and "of these runs alone, recipes need 3 seeds each" in said
    same = difference(side(random, range(1), 0.0, hard, 0.0), side(random, range(1, 2), 0.0, hard, 0.0))
    assert "undecided" in verdict(same, "A", "B") and "needs at least 3 seeds" in verdict(same, "A", "B")


def test_no_shared_question_is_refused_and_partly_shared_ones_are_counted() -> None:
    first = {"1": {"a": 1.0, "b": 0.0}, "2": {"a": 1.0, "b": 1.0}}
    assert difference(first, {"3": {"c": 1.0}}) is None
    assert "not compared: no question" in verdict(None, "A", "B")
    found = difference(first, {"3": {"b": 1.0, "c": 1.0}, "4": {"b": 1.0}})
    assert found is not None and (found.questions, found.left_out, found.mean) == (1, 2, 0.5)
    own = {"1": {"a": 0.0}, "2": {"b": 0.0}}
    nested = difference(own, {"1": {"a": 1.0}, "2": {"b": 1.0}, "9": {"z": 1.0}})
    assert nested is not None and nested.matched and (nested.mean, nested.seeds) == (1.0, (2, 2))


def test_values_levels_and_flips() -> None:
    rows = {"a": [True, False, None, True], "b": [None, None], "c": [False, False, True]}
    assert values(rows) == {"a": 2 / 3, "c": 1 / 3}  # type: ignore[arg-type]
    assert values(rows, 2) == pytest.approx({"a": 1.0, "c": 2 / 3})  # type: ignore[arg-type]
    mean, se = level({"1": {"a": 1.0, "b": 0.0}})
    assert mean == 0.5 and se == pytest.approx(0.5)
    turned = flips({"1": {"a": 0.0, "b": 0.4, "c": 0.9}}, {"1": {"a": 1.0, "b": 0.6, "c": 0.8}})
    assert [(f.question, f.before, f.after) for f in turned] == [("a", 0.0, 1.0), ("b", 0.4, 0.6)]
    own = flips({"1": {"a": 0.0}, "2": {"b": 1.0}}, {"1": {"a": 1.0}, "2": {"b": 0.0}})
    assert [(f.question, f.seed) for f in own] == [("a", "1"), ("b", "2")]
    assert lab.unpaired([[(0.5, 0.03)], [(0.6, 0.04)]]).se == pytest.approx(0.05)
