"""Temperature rules: each by its interface, its state through a checkpoint, and the bounds of the tracker."""

from __future__ import annotations

import json
import math
import random
from typing import Any, get_args, get_type_hints

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from acereason.config import Temperature
from acereason.sample.rules import RULES, Moment, rule_of
from acereason.sample.temperature import Calibration, Point, Tracker

MET = Calibration(0.3, 0.85, Point(0.85, 0.3, 0.01), (), 1.9)


NEEDED: dict[str, dict[str, Any]] = {
    "epochs": {"values": (1.0,)},
    "annealed": {"target_end": 0.1},
    "anchored": {"share": 1.0},
}


def settings_of(name: Any, **more: Any) -> Temperature:
    return Temperature(name, **{**NEEDED.get(name, {}), **more})


def test_every_rule_of_the_settings_is_known() -> None:
    assert set(RULES) == set(get_args(get_type_hints(Temperature)["rule"]))
    for name in RULES:
        assert rule_of(settings_of(name), {})


@pytest.mark.parametrize("value", [0.02, 0.85, 6.0])
def test_a_fixed_temperature_is_left_alone(value: float) -> None:
    rule = rule_of(Temperature("fixed", value), {})
    for step, H in enumerate((0.0, 0.3, 5.0, math.nan)):
        assert rule.temperature(Moment(step, 4, 0)) == value and rule.target(Moment(step, 4, 0)) is None
        rule.observe(Moment(step, 4, 0), H)
    assert not rule.measures and rule.state == {}


def test_epochs_take_one_value_each_and_the_last_one_holds() -> None:
    rule = rule_of(Temperature("epochs", values=(0.6, 0.8, 1.0)), {})
    assert [rule.temperature(Moment(0, 9, epoch)) for epoch in range(5)] == [0.6, 0.8, 1.0, 1.0, 1.0]


@pytest.mark.parametrize("name", ["calibrate", "track"])
def test_what_a_rule_remembers_goes_through_a_checkpoint(name: str) -> None:
    rule = rule_of(Temperature(name), {})  # type: ignore[arg-type]
    assert rule.measures
    rule.start(MET)
    for step in range(5):
        now = Moment(step, 9, 0)
        again = rule_of(rule.settings, json.loads(json.dumps(rule.state)))
        assert again.temperature(now) == rule.temperature(now) and again.target(now) == 0.3
        rule.observe(now, 0.2)
        again.observe(now, 0.2)
        assert again.state == rule.state
    assert (rule.temperature(Moment(5, 9, 0)) == 0.85) is (name == "calibrate")


@given(
    st.floats(0.05, 5.0),
    st.one_of(st.floats(0, 20), st.sampled_from([0.0, math.nan, math.inf, 1e-300])),
    st.floats(0.01, 1.0),
    st.floats(0.5, 6.0),
    st.floats(1.01, 2.0),
)
def test_one_step_moves_T_at_most_by_the_stated_factor(
    T: float, H: float, gain: float, elasticity: float, factor: float
) -> None:
    tracker = Tracker(T, 0.3, gain, elasticity, factor)
    tracker.observe(H)
    assert math.isfinite(tracker.T) and 1 / factor - 1e-9 <= tracker.T / T <= factor + 1e-9
    if not math.isfinite(H):
        assert tracker.T == T


def test_an_entropy_that_is_no_number_is_warned_about_once_and_survived(
    caplog: pytest.LogCaptureFixture,
) -> None:
    tracker = Tracker(1.0, 0.3, 0.3, 1.0)
    tracker.observe(math.nan)
    assert tracker.T == 1.0 and "temperature stays at 1.000" in caplog.text
    tracker.observe(0.3)
    assert tracker.T == 1.0


@pytest.mark.parametrize("elasticity", [0.8, 1.6, 2.5])
def test_tracking_holds_the_target_while_the_policy_drifts(elasticity: float) -> None:
    """A policy whose entropy at fixed T halves over 60 steps, seen with noise."""
    rng = random.Random(1)
    tracker = Tracker(T=1.0, target=0.3, gain=0.3, elasticity=1.6)
    seen = []
    for step in range(60):
        H = 0.3 * 0.5 ** (step / 60) * tracker.T**elasticity
        seen.append(H)
        tracker.observe(H + rng.gauss(0, 0.02))
    assert abs(np.mean(seen) - 0.3) < 0.03
    assert tracker.T > 1.0


@pytest.mark.parametrize("true", [0.8, 1.9, 4.0, 8.0])
def test_a_wrong_elasticity_oscillates_within_bounds(true: float) -> None:
    """Even with a loop gain far above 2 the entropy stays within the factor that a step may move it."""
    tracker, seen = Tracker(0.85, 0.3, 0.3, 0.5, 1.05), []
    for _ in range(200):
        seen.append(0.3 * (tracker.T / 0.85) ** true)
        tracker.observe(seen[-1] * math.exp(random.Random(len(seen)).gauss(0, 0.03)))
    assert 0.3 * 1.05 ** (-2 * true) < min(seen) and max(seen) < 0.3 * 1.05 ** (2 * true)
