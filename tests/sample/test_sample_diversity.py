"""Diversity: against a naive count, the temperature that keeps it, and rules by domain."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from acereason.config import Stage, Temperature
from acereason.errors import SamplingError
from acereason.sample import diversity
from acereason.sample.diversity import N, distinct, drawn, match
from acereason.sample.protocol import Completion, Request
from acereason.sample.rules import Moment, Rules, across, together
from acereason.sample.temperature import Point

RESPONSES = st.lists(st.lists(st.sampled_from([0, 1, 2, 151_000]), max_size=12), max_size=5)


@given(RESPONSES, st.integers(1, 14), st.integers(0, 4), st.integers(0, 4))
def test_diversity_is_the_share_of_distinct_n_grams(
    responses: list[list[int]], length: int, first: int, put_in: int
) -> None:
    """Of what was drawn: a forced end splits a response in two."""
    request, none = Request([1], 20, 1.0, 0), np.zeros(0, np.float32)
    completions = [
        Completion(request, np.array(r, np.int32), none, none, none, "stop", (first, first + put_in))
        for r in responses
    ]
    cut = [tuple(r[:length]) for r in responses]
    pieces = [piece for r in cut for piece in (r[:first], r[first + put_in :])]
    grams = [piece[i : i + N] for piece in pieces for i in range(len(piece) - N + 1)]
    found = distinct(drawn(completions, length))
    assert found == (len(set(grams)) / len(grams) if grams else None)


def curve(scale: float, noise: float = 0.0) -> diversity.Callable[[float, int], Point]:  # type: ignore[name-defined]
    """A policy whose responses are the more diverse the hotter; `scale` says how diverse it is at T = 1."""
    return lambda T, round_: Point(T, 1 - math.exp(-scale * T) + noise * math.sin(99 * T + round_), 0.01)


@pytest.mark.parametrize("later", [1.5, 1.2, 0.9, 0.6, 4.0])  # the last two lie beyond the candidates
def test_a_later_policy_is_asked_where_it_is_as_diverse_as_the_first(later: float) -> None:
    first = diversity.begun(curve(1.5), 1.4)
    assert first.T == 1.4 and first.target == first.check.H
    met = match(curve(later), first.target, (1.2, 1.4, 1.6, 1.8))
    assert pytest.approx(1.4 * 1.5 / later, rel=0.06) == met.T
    assert pytest.approx(first.target, abs=0.01) == met.check.H and met.row()["quantity"] == "diversity"


def test_noise_and_plateaus_are_survived_and_what_is_out_of_reach_is_said() -> None:
    target = diversity.begun(curve(1.0), 1.0).target
    assert pytest.approx(1.0, abs=0.15) == match(curve(1.0, 0.02), target, (0.6, 0.8, 1.0, 1.2, 1.4)).T
    flat = lambda T, _: Point(T, 0.5, 0.01)  # noqa: E731
    assert pytest.approx(1.0) == match(flat, 0.5, (0.8, 1.2)).T
    assert match(flat, 0.515, (0.8, 1.2)).check.H == 0.5  # as near as noise lets one say
    for wrong in (0.4, 0.6):
        with pytest.raises(SamplingError, match=r"that an earlier stage had: measured .*0\.500 at 5\.00"):
            match(flat if wrong == 0.6 else lambda T, _: Point(T, 0.5, 0.01), wrong, (0.8, 5.0))
    with pytest.raises(SamplingError, match="cannot be measured"):
        diversity.begun(lambda T, _: Point(T, math.nan, math.nan), 1.0)


def test_each_domain_has_its_rule_which_sees_its_own_entropy_and_is_restored() -> None:
    each = {"math": Temperature("e3", 0.9), "rg:a.b": Temperature("coefficient", 1.2, target=0.2)}
    stage = Stage("s", ("math", "rg:a.b"), 20, 9, temperatures=each)
    rules, alone = Rules(stage, {}), Rules(Stage("s", "math", 20, 9, temperature=each["math"]), {})
    for step, H in enumerate([0.4, 0.3, 0.5, 0.2]):
        now = Moment(step, 9, 0, 1000)
        asked = rules.asked(now)
        assert asked["math"] == alone.asked(now)[""] and across(alone.asked(now), "T") == asked["math"].T
        assert asked["rg:a.b"].T == 1.2 and asked["rg:a.b"].coefficient == 1e-4 * step
        assert (
            pytest.approx(0.25 * asked["math"].T + 0.9) == together(asked, {"math": 0.25, "rg:a.b": 0.75}).T
        )
        rules.observe(now, {"": 9.0, "math": H, "rg:a.b": 0.1})
        alone.observe(now, {"": H})
        rules = Rules(stage, json.loads(json.dumps(rules.state)))
    before = dict(rules.state)
    rules.observe(Moment(4, 9, 0, 1000), {"": 9.0, "rg:a.b": 0.1})  # no prompt of math was asked
    assert {k for k in before if before[k] != rules.state[k]} == {"rg:a.b.coefficient"}
