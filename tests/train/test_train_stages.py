"""Prompt pools, filters and stop rules."""

from __future__ import annotations

from collections import Counter
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from acereason.config import Filter, Stage, Stop, Temperature
from acereason.problems import Problem
from acereason.train.stages import PoolState, PromptPool, best, candidates, finished, learning_rate, within


def problems(n: int, domain: str = "math") -> list[Problem]:
    return [
        Problem(f"{domain}-{i}", domain, f"q{i}", answer="1", meta={"level": i % 4 + 1}) for i in range(n)
    ]


def pool_of(size: int, seed: int = 1, **rule: Any) -> PromptPool:
    made = problems(size)
    return PromptPool(made, PoolState(ids=[p.id for p in made]), "s", seed, Filter(**rule))


@given(st.integers(1, 30), st.lists(st.integers(1, 40), min_size=1, max_size=30), st.integers(0, 9))
def test_no_batch_asks_a_prompt_twice_and_each_epoch_asks_every_prompt_once(
    size: int, takes: list[int], seed: int
) -> None:
    pool = pool_of(size, seed)
    taken = []
    for count in takes:
        batch = [p.id for p in pool.take(count)]
        assert len(set(batch)) == len(batch) == min(count, size)
        taken += batch
    for start in range(0, len(taken) - size + 1, size):
        assert len(set(taken[start : start + size])) == size


@given(st.integers(1, 30), st.integers(1, 12), st.integers(0, 9))
def test_the_epoch_is_that_of_the_first_prompt_taken(size: int, count: int, seed: int) -> None:
    pool, asked = pool_of(size, seed), 0
    for _ in range(20):
        assert pool.epoch == asked // size
        asked += len(pool.take(count))


@given(st.integers(2, 20), st.integers(0, 60), st.integers(0, 9))
def test_a_restored_pool_goes_on_with_the_very_same_prompts(size: int, before: int, seed: int) -> None:
    pool = pool_of(size, seed, drop_solved=True)
    pool.take(before)
    pool.observe({"math-0": 1.0, "math-1": 0.0})
    state = msgspec.json.decode(msgspec.json.encode(pool.state), type=PoolState)
    again = PromptPool(problems(size), state, "s", seed, Filter(drop_solved=True))
    assert [[p.id for p in again.take(7)] for _ in range(9)] == [
        [p.id for p in pool.take(7)] for _ in range(9)
    ]


@pytest.mark.parametrize("size", [2, 3, 5, 7, 13])
def test_uniform_asking_stays_uniform_whatever_the_batch(size: int) -> None:
    """Filling a batch from the next epoch favours nobody: shares differ by one at most at any time."""
    pool, seen = pool_of(size), Counter[str]()
    for _ in range(200):
        seen.update(p.id for p in pool.take(3))
        assert max(seen.values()) - min(seen[f"math-{i}"] for i in range(size)) <= 2


def test_solved_prompts_leave_with_the_next_epoch_and_return_when_lost() -> None:
    pool = pool_of(4, drop_solved=True)
    pool.take(4)
    pool.observe({"math-0": 1.0, "math-1": 1.0, "math-2": 0.0})
    assert {p.id for p in pool.take(2)} == {"math-2", "math-3"}
    pool.observe({"math-0": 0.0, "math-2": 1.0, "math-3": 1.0, "math-1": 1.0})
    assert {p.id for p in pool.take(1)} == {"math-0"}


def test_filters_by_domain_level_and_pass_rate() -> None:
    mixed = problems(8) + problems(3, "code")
    assert {p.id for p in candidates(mixed, "code", Filter(), 1)} == {"code-0", "code-1", "code-2"}
    assert all(p.meta["level"] in (2, 3) for p in candidates(mixed, "math", Filter(levels=(2, 3)), 1))
    rates = {"math-0": 0.0, "math-1": 0.375, "math-2": 1.0}
    assert [p.id for p in within(problems(4), rates, Filter(low=0.01, high=0.375))] == ["math-1"]


def test_stop_rules() -> None:
    assert finished(Stop(), [(0.0, 1.0, 9)] * 100) is None
    assert finished(Stop(truncated_below=0.1), [(0.5, 0.0, 9)] * 4) is None
    assert "truncated" in (finished(Stop(truncated_below=0.1), [(0.5, 0.05, 9)] * 5) or "")
    assert finished(Stop(patience=3), [(0.1, 0, 9)] * 3 + [(0.2, 0, 9)] * 3) is None
    assert "no gain" in (finished(Stop(patience=3), [(0.2, 0, 9)] * 6) or "")
    assert finished(Stop(tokens=100), [(0.5, 0, 99)]) is None
    assert "100 tokens" in (finished(Stop(tokens=100), [(0.5, 0, 99), (0.5, 0, 1)]) or "")


def test_the_learning_rate_rises_over_its_warm_up() -> None:
    stage = Stage("math", "math", budget=8, steps=9, learning_rate=1e-6, warmup=4)
    rates = [learning_rate(stage, step) for step in range(6)]
    assert rates == pytest.approx([0.25e-6, 0.5e-6, 0.75e-6, 1e-6, 1e-6, 1e-6])
    assert learning_rate(Stage("math", "math", budget=8, steps=9), 0) == 1e-6


def test_a_stage_stops_when_the_dev_split_gains_no_more() -> None:
    rule, dev = Stop(dev_patience=2), [(0, 0.1), (10, 0.3), (20, 0.3)]
    assert best(dev) == 10 and finished(rule, [], dev) is None
    assert "that of step 10" in (finished(rule, [], [*dev, (30, 0.2)]) or "")
    assert finished(rule, [], [*dev, (30, 0.31)]) is None
    assert finished(Stop(), [], [*dev, (30, 0.2)]) is None


def test_settings_that_need_each_other_are_refused_apart() -> None:
    base = {"name": "s", "domain": "math", "budget": 9, "steps": 9}
    for wrong in ({"keep": "best"}, {"stop": {"dev_patience": 2}}):
        with pytest.raises(msgspec.ValidationError, match="need evaluate_every"):
            msgspec.convert({**base, **wrong}, Stage)
    for rule in ({"rule": "epochs"}, {"rule": "fixed", "values": [0.6]}):
        with pytest.raises(msgspec.ValidationError, match="epochs"):
            msgspec.convert(rule, Temperature)
