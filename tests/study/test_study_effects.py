"""The numbers that decide a claim: right on average, covered by their intervals, paired."""

from __future__ import annotations

import math

import numpy as np
import pytest

from acereason.errors import ConfigError, DataError
from acereason.study.effects import estimate, interval
from acereason.study.spec import Effect
from acereason.study.tables import column, decomposed
from study_records import drawn, outcome, record

GAIN = Effect("gain", "contrast", terms={"after": 1, "before": -1})


def test_a_contrast_is_the_mean_over_seeds_of_differences() -> None:
    arms = drawn({"before": 0.4, "after": 0.5}, 3)
    each = [
        np.mean(arms["after", s].outcomes["rl"]["math"].right) / 0.08
        - np.mean(arms["before", s].outcomes["rl"]["math"].right) / 0.08
        for s in range(3)
    ]
    found = estimate(GAIN, arms, range(3))
    assert found.value == pytest.approx(np.mean(each)) and found.by_seed == pytest.approx(each)
    assert found.low < found.value < found.high


def test_questions_that_arms_share_are_drawn_together() -> None:
    arms = drawn({"before": 0.5, "after": 0.5}, 1, questions=400, k=64)
    paired = estimate(GAIN, arms, [0])
    after = arms["after", 0].outcomes["rl"]["math"]
    arms["after", 0] = record("after", 0, {"math": outcome(after.right, 64, "other questions")})
    assert paired.se < 0.5 * estimate(GAIN, arms, [0]).se


def test_questions_that_seeds_share_are_not_made_more_by_them() -> None:
    own = drawn({"before": 0.4, "after": 0.5}, 8, 200)
    same = {
        (name, seed): record(name, seed, {"math": outcome(r.outcomes["rl"]["math"].right, 8, "the same")})
        for (name, seed), r in ((key, own[key[0], 0]) for key in own)
    }
    one = estimate(GAIN, {key: r for key, r in same.items() if key[1] == 0}, [0])
    eight = estimate(GAIN, same, range(8))
    assert eight.se == pytest.approx(one.se * math.sqrt(8 / 7), rel=0.1)
    assert estimate(GAIN, own, range(8)).se < 0.7 * one.se


@pytest.mark.parametrize(("seeds", "seed_sd"), [(3, 0.0), (3, 0.01), (5, 0.01), (8, 0.02)])
def test_intervals_cover_the_truth(seeds: int, seed_sd: float) -> None:
    """True gain 10 points; 60 experiments; the interval should hold at least 95 % of the time."""
    hits = 0
    for draw in range(60):
        arms = drawn({"before": 0.4, "after": 0.5}, seeds, 100, seed_sd=seed_sd, draw=draw)
        found = estimate(GAIN, arms, range(seeds), resamples=300)
        hits += found.low <= 10 <= found.high
    assert hits >= 54


def test_a_widened_interval_knows_that_three_seeds_are_few() -> None:
    """Seeds that differ by more than their questions say: the standard error is that of their means."""
    errors, spread = [], []
    for draw in range(40):
        arms = drawn({"before": 0.4, "after": 0.5}, 3, 400, k=64, seed_sd=0.05, draw=draw)
        found = estimate(GAIN, arms, range(3), resamples=300)
        errors.append(found.se**2)
        spread.append(np.var(found.by_seed, ddof=1) / 3)
    assert math.sqrt(np.mean(errors)) == pytest.approx(math.sqrt(np.mean(spread)), rel=0.1)


def test_a_slope_is_one_where_gaps_stay_and_zero_where_they_close() -> None:
    starts = {"a": 0.3, "b": 0.4, "c": 0.5}
    arms = drawn({**starts, "a2": 0.5, "b2": 0.6, "c2": 0.7, "a3": 0.6, "b3": 0.6, "c3": 0.6}, 3, 800)
    kept = Effect("s", "slope", pairs=(("a", "a2"), ("b", "b2"), ("c", "c2")))
    closed = Effect("s", "slope", pairs=(("a", "a3"), ("b", "b3"), ("c", "c3")))
    assert estimate(kept, arms, range(3)).value == pytest.approx(1, abs=0.1)
    assert estimate(closed, arms, range(3)).value == pytest.approx(0, abs=0.1)


def test_the_fit_is_least_squares_on_standardised_predictors() -> None:
    grid = [(x, y) for x in range(4) for y in range(4)]
    arms = {}
    for x, y in grid:
        right = [int(200 + 100 * x + 40 * y)]
        arms[f"{x}{y}", 0] = record(f"{x}{y}", 0, {"math": outcome(right, 1000)})
    points = tuple((f"{x}{y}", x, y) for x, y in grid)

    def fit(coefficient: str) -> float:
        effect = Effect("f", "fit", points=points, coefficient=coefficient)  # type: ignore[arg-type]
        return estimate(effect, arms, [0], 10).value

    deviation = np.std(range(4))
    assert fit("a") == pytest.approx(10 * deviation) and fit("b") == pytest.approx(4 * deviation)
    assert fit("a - b") == pytest.approx(6 * deviation) and fit("R2") == pytest.approx(1)


def test_the_vertex_is_found_in_log_x_and_nowhere_beyond_the_points() -> None:
    def arms(values: list[int]) -> dict[tuple[str, int], object]:
        return {(str(n), 0): record(str(n), 0, {"math": outcome([v], 1000)}) for n, v in enumerate(values)}

    xs = (0.02, 0.2, 2.0)
    effect = Effect("v", "vertex", points=tuple((str(n), x) for n, x in enumerate(xs)))
    assert estimate(effect, arms([500, 700, 500]), [0], 10).value == pytest.approx(0.2)  # type: ignore[arg-type]
    assert math.isnan(estimate(effect, arms([500, 600, 700]), [0], 10).value)  # type: ignore[arg-type]
    assert math.isnan(estimate(effect, arms([500, 300, 500]), [0], 10).value)  # type: ignore[arg-type]


def test_newly_solved_is_told_against_chance() -> None:
    arms = {
        ("before", 0): record("b", 0, {"math": outcome([0, 0, 0, 5])}),
        ("after", 0): record("a", 0, {"math": outcome([1, 1, 0, 8])}),
        ("again", 0): record("c", 0, {"math": outcome([1, 0, 0, 5])}),
    }
    effect = Effect("n", "solved", before="before", after="after", chance="again")
    assert estimate(effect, arms, [0]).value == pytest.approx(25.0)
    arms["after", 0] = record("a", 0, {"math": outcome([1, 1, 0, 8], questions="others")})
    with pytest.raises(DataError, match="different questions"):
        estimate(effect, arms, [0])


def test_columns_of_an_arm() -> None:
    arm = record("a", 0, {"math": outcome([0, 4, 8])}, entropy=0.25)
    assert column(arm, "accuracy", "math").values.tolist() == [0, 50, 100]
    assert column(arm, "pass@8", "math").values.tolist() == [0, 100, 100]
    assert column(arm, "pass@1", "math").values == pytest.approx([0, 50, 100])
    assert column(arm, "entropy:end", "math").values == pytest.approx([0.25])
    assert column(arm, "truncated", "math").values == pytest.approx([25])
    for wrong, kind in (("pass@16", DataError), ("acuracy", ConfigError), ("reward of x", DataError)):
        with pytest.raises(kind):
            column(arm, wrong, "math")
    with pytest.raises(DataError, match="has not been run"):
        estimate(GAIN, {}, [0])


def test_a_mean_over_one_seed_has_the_questions_interval() -> None:
    arms = drawn({"a": 0.5}, 1, 400)
    value, low, high = interval([column(arms["a", 0], "accuracy", "math")])
    values = column(arms["a", 0], "accuracy", "math").values
    assert (high - low) / 2 == pytest.approx(1.96 * values.std() / 20, rel=0.15)
    assert value == pytest.approx(values.mean())


def test_a_gain_splits_into_within_and_shift() -> None:
    before = record("b", 0, {"math": outcome([1])})
    after = record("a", 0, {"math": outcome([1])})
    before.outcomes["rl"]["math"].modes.update({"chain/row": (50, 10), "chain/guess": (50, 0)})
    after.outcomes["rl"]["math"].modes.update({"chain/row": (100, 30), "chain/guess": (0, 0)})
    within, shift = decomposed(before, after, "math")
    assert within + shift == pytest.approx(30 - 10) and within > 0 and shift > 0
