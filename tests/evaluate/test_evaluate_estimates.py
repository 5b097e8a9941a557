"""Estimators against enumeration, identities and hypothesis."""

from __future__ import annotations

import itertools
import math
import statistics
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from acereason.errors import DataError
from acereason.evaluate.decompose import decompose, decompose_shares
from acereason.evaluate.estimates import (
    average,
    bootstrap_means,
    majority,
    paired_difference,
    pass_at_k,
)

close = pytest.approx


@st.composite
def tables(draw: st.DrawFn, questions: int = 6, samples: int = 5) -> list[list[bool]]:
    n = draw(st.integers(2, questions))
    k = draw(st.integers(2, samples))
    return [[draw(st.booleans()) for _ in range(k)] for _ in range(n)]


@given(tables())
def test_average_equals_the_textbook(table: list[list[bool]]) -> None:
    shares = [sum(row) / len(row) for row in table]
    noise = sum(statistics.variance(map(float, row)) / len(row) for row in table)
    result = average(table)
    assert result.mean == close(statistics.fmean(shares))
    assert result.se == close(statistics.stdev(shares) / math.sqrt(len(shares)))
    assert result.generation_noise == close(math.sqrt(noise) / len(table))
    assert 0 <= result.low <= result.mean <= result.high <= 1
    assert (result.n, result.k) == (len(table), len(table[0]))


def test_a_known_table_to_the_digit() -> None:
    table = np.array([[1, 1, 1, 1], [1, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0]], dtype=bool)
    result = average(table, clusters=["a", "a", "b", "b"])
    assert result.mean == 0.4375
    assert result.se == close(0.21347814, abs=1e-8)  # sd(1, .5, .25, 0) / 2
    # cluster sums of residuals ±0.625: √(2 · 2 · 0.625²) / 4
    assert result.clustered_se == close(0.3125)
    assert result.generation_noise == close(math.sqrt(0.25 / 3 + 0.1875 / 3) / 4)
    assert result.high == close(0.4375 + 1.959963985 * 0.21347814, abs=1e-7)
    assert pass_at_k(table, 2).mean == close((1 + (1 - 1 / 6) + 0.5 + 0) / 4)


@given(tables())
def test_singleton_clusters_change_nothing(table: list[list[bool]]) -> None:
    result = average(table, clusters=range(len(table)))
    assert result.clustered_se == close(result.se, abs=1e-12)


def test_copied_questions_do_not_shrink_the_clustered_error() -> None:
    """Ten copies of a question add no information: the naive error drops, the clustered stays."""
    random = np.random.default_rng(0)
    table = random.random((40, 8)) < random.random((40, 1))
    copied = np.repeat(table, 10, axis=0)
    result = average(copied, clusters=np.repeat(np.arange(40), 10).tolist())
    assert result.clustered_se == close(average(table).se)
    assert result.se < 0.4 * average(table).se


def test_errors_are_the_spread_of_repeated_experiments() -> None:
    """`se`: spread over new questions and samples; `generation_noise`: over new samples alone."""
    random = np.random.default_rng(1)

    def spread(fresh_questions: bool) -> tuple[float, float, float]:
        skill = random.beta(0.7, 0.7, (60, 1))
        results = []
        for _ in range(600):
            if fresh_questions:
                skill = random.beta(0.7, 0.7, (60, 1))
            results.append(average(random.random((60, 8)) < skill))
        noise = [float(r.generation_noise or 0) for r in results]
        means = statistics.stdev(r.mean for r in results)
        return means, statistics.fmean(r.se for r in results), statistics.fmean(noise)

    spread_all, se, _ = spread(fresh_questions=True)
    assert se == close(spread_all, rel=0.1)
    spread_noise, se, noise = spread(fresh_questions=False)
    assert noise == close(spread_noise, rel=0.1)
    assert noise < 0.6 * se


@given(tables(), st.data())
@settings(max_examples=60)
def test_pass_at_k_equals_enumeration_of_all_subsets(table: list[list[bool]], data: st.DataObject) -> None:
    k = data.draw(st.integers(1, len(table[0])))
    rates = []
    for row in table:
        subsets = list(itertools.combinations(row, k))
        rates.append(sum(map(any, subsets)) / len(subsets))
    result = pass_at_k(table, k, resamples=200)
    assert result.mean == close(statistics.fmean(rates), abs=1e-12)
    assert result.low - 1e-12 <= result.mean <= result.high + 1e-12 or result.se > 0


@given(tables())
@settings(max_examples=60)
def test_identities_of_pass_at_k(table: list[list[bool]]) -> None:
    curve = [pass_at_k(table, k, resamples=1).mean for k in range(1, len(table[0]) + 1)]
    assert curve[0] == close(average(table).mean)
    assert curve[-1] == close(statistics.fmean(map(any, table)))
    assert all(earlier <= later + 1e-12 for earlier, later in itertools.pairwise(curve))


def test_pass_at_k_is_stable_for_many_samples() -> None:
    """C(10000, 5000) overflows a float; the product does not."""
    table = np.zeros((2, 10_000), dtype=bool)
    table[:, :3] = True
    exact = 1 - math.comb(9997, 5000) / math.comb(10_000, 5000)
    assert pass_at_k(table, 5000, resamples=1).mean == close(exact, rel=1e-12)


def test_bootstrap_band_matches_full_enumeration() -> None:
    """Three questions have 27 equally likely resamples; the sampled distribution is that one."""
    values = np.array([0.0, 0.25, 1.0])
    exact = np.array([np.mean(draw) for draw in itertools.product(values, repeat=3)])
    means = bootstrap_means(values, 20_000, seed=3)
    assert means.mean() == close(exact.mean(), abs=0.01)
    assert means.std() == close(exact.std(), rel=0.03)
    assert set(np.round(means, 9)) == set(np.round(exact, 9))
    assert np.array_equal(means, bootstrap_means(values, 20_000, seed=3))


ANSWERS = st.sampled_from(["1", "2", "3", None])


@given(st.lists(st.lists(ANSWERS, min_size=3, max_size=5), min_size=2, max_size=5))
def test_majority_equals_the_mean_over_all_tie_breaks(answers: list[list[str | None]]) -> None:
    answers = [row[:3] for row in answers]
    table = [[answer == "2" for answer in row] for row in answers]
    expected = []
    for row in answers:
        votes = [answer for answer in row if answer is not None]
        best = [a for a in set(votes) if votes.count(a) == max(map(votes.count, votes))]
        expected.append(sum(a == "2" for a in best) / len(best) if best else 0.0)
    assert majority(table, answers).mean == close(statistics.fmean(expected))


SPELLINGS = ("{0}/{1}", "\\frac{{{0}}}{{{1}}}", "\\dfrac{{ {0} }}{{ {1} }}")


@given(
    st.lists(
        st.tuples(st.integers(1, 4), st.integers(1, 2), st.sampled_from(SPELLINGS)), min_size=2, max_size=6
    )
)
def test_votes_are_for_values_not_for_spellings(answers: list[tuple[int, int, str]]) -> None:
    values = [str(Fraction(a, b)) for a, b, _ in answers]
    spelled = [form.format(a, b) for a, b, form in answers]
    right = [[value == values[0] for value in values]] * 2
    assert majority(right, [spelled] * 2).mean == majority(right, [values] * 2).mean


def test_wrong_answers_gather_as_right_ones_do() -> None:
    answers = ["0.5", "1/2", r"\frac12", "2", "2", "2.0", "2.0"]
    assert majority([[True] * 3 + [False] * 4] * 2, [answers] * 2).mean == 0.0


def test_majority_beats_and_loses_to_the_average() -> None:
    assert majority([[True, True, False]] * 2, [["a", "a", "b"]] * 2).mean == 1.0
    assert majority([[True, False, False]] * 2, [["a", "b", "b"]] * 2).mean == 0.0
    assert majority([[True, False, False]] * 2, [["a", None, None]] * 2).mean == 1.0
    with pytest.raises(DataError, match="one answer for each of 3"):
        majority([[True, True, False]], [["a"]])


@given(tables(), st.data())
@settings(max_examples=50)
def test_paired_difference_equals_the_textbook(before: list[list[bool]], data: st.DataObject) -> None:
    after = [[data.draw(st.booleans()) for _ in range(3)] for _ in before]
    gains = [statistics.fmean(b) - statistics.fmean(a) for a, b in zip(before, after, strict=True)]
    result = paired_difference(before, after, resamples=100)
    assert result.mean == close(statistics.fmean(gains))
    assert result.se == close(statistics.stdev(gains) / math.sqrt(len(gains)))
    assert result.low == close(result.mean - 1.959963985 * result.se, abs=1e-6)
    assert result.mean == close(average(after).mean - average(before).mean)


def test_pairing_covers_the_truth_and_is_tighter_than_not_pairing() -> None:
    random = np.random.default_rng(5)
    covered = covered_by_bootstrap = 0
    for _ in range(200):
        skill = random.beta(0.6, 0.6, (80, 1)) * 0.8
        result = paired_difference(
            random.random((80, 8)) < skill, random.random((80, 8)) < skill + 0.1, resamples=300
        )
        covered += result.low <= 0.1 <= result.high
        covered_by_bootstrap += result.boot_low <= 0.1 <= result.boot_high
    assert covered >= 180 and covered_by_bootstrap >= 180
    unpaired = math.hypot(average(random.random((80, 8)) < skill).se, 0.03)
    assert result.se < 0.7 * unpaired


def test_pairs_by_question_id_whatever_the_order() -> None:
    before = {"a": [True, True], "b": [False, False], "c": [True, False]}
    after = {"c": [True, True], "a": [True, True], "b": [False, True]}
    assert paired_difference(before, after).mean == close((0 + 0.5 + 0.5) / 3)
    with pytest.raises(DataError, match=r"1 only before and 1 only after.*'a'"):
        paired_difference(before, {"b": [True], "c": [True], "z": [True]})
    with pytest.raises(DataError, match="found 1 and 2"):
        paired_difference([[True]], [[True], [False]])


def test_the_same_table_twice_gains_exactly_nothing() -> None:
    table = np.random.default_rng(2).random((50, 8)) < 0.5
    result = paired_difference(table, table)
    assert (result.mean, result.se, result.low, result.high) == (0, 0, 0, 0)
    assert (result.boot_low, result.boot_high) == (0, 0)


@pytest.mark.parametrize(
    ("table", "arguments", "counts"),
    [
        ([[True, True], [True]], {}, "0 questions missing, 1 samples missing and 0 unjudged"),
        ([[True, True], []], {}, "1 questions missing, 0 samples missing and 0 unjudged"),
        (
            [[True, None], [True, False]],
            {},
            "0 questions missing, 0 samples missing and 1 unjudged",
        ),
        ([[True], [True]], {"questions": 5}, "expected 5 questions.* 3 questions missing"),
        ([[True], [True]], {"samples": 3}, "4 samples missing"),
        (np.array([[1.0, np.nan]]), {}, "1 unjudged"),
    ],
)
def test_an_incomplete_table_is_refused(table: Any, arguments: dict[str, Any], counts: str) -> None:
    with pytest.raises(DataError, match=counts):
        average(table, **arguments)
    if "questions" not in arguments and "samples" not in arguments:
        with pytest.raises(DataError, match=counts):
            pass_at_k(table, 1)
    assert average(table, allow_ragged=True, **arguments).mean >= 0


def test_ragged_averages_questions_not_samples() -> None:
    table: list[list[bool | None]] = [[True] * 9 + [None], [False], []]
    result = average(table, clusters=["x", "y", "z"], allow_ragged=True)
    assert (result.mean, result.n, result.k) == (0.5, 2, 1)
    assert result.generation_noise is None
    assert result.clustered_se == close(result.se)
    gain = paired_difference(table, [[False], [None], [True]], allow_ragged=True)
    assert (gain.mean, gain.n) == (-1.0, 1)
    answers: list[list[str]] = [["1"] * 10, ["2"], []]
    assert majority(table, answers, allow_ragged=True).mean == 0.5


def test_nonsense_is_refused() -> None:
    with pytest.raises(DataError, match="at least one judged sample"):
        average([], allow_ragged=True)
    with pytest.raises(DataError, match="found 2"):
        average([[2, 0]])  # type: ignore[list-item]
    with pytest.raises(DataError, match="one cluster for each of 2"):
        average([[True], [True]], clusters=["a"])
    with pytest.raises(DataError, match="pass@3"):
        pass_at_k([[True, True]], 3)
    with pytest.raises(DataError, match="none in common"):
        paired_difference([[True], []], [[], [True]], allow_ragged=True)


def test_one_question_has_a_mean_but_no_error() -> None:
    result = average([[True, False]], clusters=["a"])
    assert result.mean == 0.5
    assert math.isnan(result.se) and math.isnan(result.clustered_se or 0)


ROWS = st.lists(
    st.tuples(st.sampled_from("fg"), st.sampled_from("xyz"), st.booleans()), min_size=1, max_size=40
).map(lambda rows: [("f", "x", True), ("g", "x", False), *rows])


@given(ROWS, ROWS)
def test_decomposition_is_exact(
    before: list[tuple[str, str, bool]], after: list[tuple[str, str, bool]]
) -> None:
    result = decompose(before, after)
    for family, part in [(None, result.overall), *result.families.items()]:
        accuracy = [
            statistics.fmean(right for name, _, right in rows if family in (None, name))
            for rows in (before, after)
        ]
        assert [part.before, part.after] == close(accuracy)
        assert part.within + part.shift == close(part.after - part.before, abs=1e-12)
        assert sum(mode.share_after for mode in part.modes) == close(1)


@given(ROWS, ROWS)
def test_decomposition_is_antisymmetric(
    before: list[tuple[str, str, bool]], after: list[tuple[str, str, bool]]
) -> None:
    forth, back = decompose(before, after).overall, decompose(after, before).overall
    assert [back.within, back.shift] == close([-forth.within, -forth.shift], abs=1e-12)


def test_decomposition_of_pure_cases() -> None:
    within = decompose_shares({"x": (0.5, 0.2), "y": (0.5, 0.4)}, {"x": (0.5, 0.6), "y": (0.5, 0.4)})
    assert [within.within, within.shift] == close([0.2, 0])
    shift = decompose_shares({"x": (0.9, 0.2), "y": (0.1, 0.8)}, {"x": (0.1, 0.2), "y": (0.9, 0.8)})
    assert [shift.within, shift.shift] == close([0, 0.48], abs=1e-12)
    new = decompose_shares({"x": (1.0, 0.25)}, {"x": (0.5, 0.25), "new": (0.5, 0.75)})
    assert [new.within, new.shift] == close([0, 0.25])
    assert {mode.mode: mode.accuracy_before for mode in new.modes} == {"x": 0.25, "new": None}


def test_decomposition_refuses_what_cannot_be_compared() -> None:
    with pytest.raises(DataError, match="same families"):
        decompose([("f", "x", True)], [("g", "x", True)])
    with pytest.raises(DataError, match="1 unjudged"):
        decompose([("f", "x", None)], [("f", "x", True)])
    with pytest.raises(DataError, match="after, found none"):
        decompose([("f", "x", True)], [])
