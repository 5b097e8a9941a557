"""Temperature rules: how a stage gets the T of its next step, each a small class behind one interface.

    rule = rule_of(settings, state)      # settings: the stage's [temperature]; state: what it remembered
    if rule.measures: rule.start(calibration)
    T = rule.temperature(moment)         # before a step
    rule.observe(moment, H)              # after it, with its H_T

A rule keeps everything that it must remember in `state`, plain numbers that each checkpoint holds. A new rule
is a class here, its name in RULES and in `config.Temperature`; the loop knows none of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from acereason.config import Temperature
from acereason.sample.temperature import Calibration, Tracker


class Moment(NamedTuple):
    """Where a stage stands: `step` of `steps` (from 0), and the epoch (from 0) of the prompts asked now."""

    step: int
    steps: int
    epoch: int


class Rule:
    """A constant T, and what every rule can do."""

    measures = False  # whether `start` is to be called with a calibration at the stage's beginning

    def __init__(self, settings: Temperature, state: Mapping[str, float]) -> None:
        self.settings, self.state = settings, dict(state)

    def start(self, met: Calibration) -> None:
        """Take over what was measured with the policy that the stage begins with."""

    def temperature(self, now: Moment) -> float:
        """The T of the step at hand."""
        return self.settings.value

    def target(self, now: Moment) -> float | None:
        """The H_T aimed at, in nats, for the page; None where the rule has none."""
        return None

    def observe(self, now: Moment, H: float) -> None:
        """Take the H_T of the step at hand, over all generated tokens of its batch."""


class Epochs(Rule):
    """One T an epoch; the last one holds (AceReason 1.0, §3.3.2: 0.6 to 1.0 over the last code stage)."""

    def temperature(self, now: Moment) -> float:
        return self.settings.values[min(now.epoch, len(self.settings.values) - 1)]


class Calibrated(Rule):
    """The T whose H_T meets the target at the stage's beginning; constant from there on (the paper's)."""

    measures = True

    def start(self, met: Calibration) -> None:
        self.state = {"T": met.T, "elasticity": met.elasticity}

    def temperature(self, now: Moment) -> float:
        return self.state["T"]

    def target(self, now: Moment) -> float | None:
        return self.settings.target


class Tracked(Calibrated):
    """Calibrated, then moved to hold H_T at the target while the policy changes."""

    def observe(self, now: Moment, H: float) -> None:
        rule = self.settings
        tracker = Tracker(self.state["T"], rule.target, rule.gain, self.state["elasticity"], rule.max_factor)
        tracker.observe(H)
        self.state["T"] = tracker.T


RULES: dict[str, type[Rule]] = {
    "fixed": Rule,
    "epochs": Epochs,
    "calibrate": Calibrated,
    "track": Tracked,
}


def rule_of(settings: Temperature, state: Mapping[str, float]) -> Rule:
    """The rule that the settings name, as it stood."""
    return RULES[settings.rule](settings, state)
