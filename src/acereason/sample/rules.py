"""Temperature rules: how a stage gets the T of its next step, each a small class behind one interface.

    rule = rule_of(settings, state)      # settings: the stage's [temperature]; state: what it remembered
    if rule.measures: rule.start(calibration)
    T = rule.temperature(moment)         # before a step
    rule.observe(moment, H)              # after it, with its H_T

A rule keeps everything that it must remember in `state`, plain numbers that each checkpoint holds. A new rule
is a class here, its name in RULES and in `config.Temperature`; the loop knows none of them. `Rules` are those
of a stage, one for all its prompts or one for each domain.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from acereason.config import Stage, Temperature
from acereason.sample.diversity import Anchor
from acereason.sample.temperature import ELASTICITY, T_MAX, T_MIN, Calibration, Tracker


class Moment(NamedTuple):
    """Where a stage stands: `step` of `steps` (from 0), the epoch (from 0) of the prompts asked now, and the
    number of tokens that the policy chooses from."""

    step: int
    steps: int
    epoch: int
    vocabulary: int = 2


class Rule:
    """A constant T, and what every rule can do."""

    measures = ""  # what `start` is called with at the stage's beginning: "entropy", "diversity", or nothing

    def __init__(self, settings: Temperature, state: Mapping[str, float]) -> None:
        self.settings, self.state = settings, dict(state)

    def start(self, met: Any) -> None:
        """Take over what was measured with the policy that the stage begins with: a `Calibration` of the
        entropy, or what `Diversity` takes."""

    def temperature(self, now: Moment) -> float:
        """The T of the step at hand."""
        return self.settings.value

    def target(self, now: Moment) -> float | None:
        """The H_T aimed at, in nats, for the page; None where the rule has none."""
        return None

    def coefficient(self, now: Moment) -> float:
        """That of an entropy bonus in the loss of the step at hand; 0 for none."""
        return 0.0

    def anchor(self) -> Anchor | None:
        """The diversity aimed at, and how it is measured; None where the rule aims at none."""
        return None

    def observe(self, now: Moment, H: float) -> None:
        """Take the H_T of the step at hand, over all generated tokens of its batch."""


class Epochs(Rule):
    """One T an epoch; the last one holds (AceReason 1.0, §3.3.2: 0.6 to 1.0 over the last code stage)."""

    def temperature(self, now: Moment) -> float:
        return self.settings.values[min(now.epoch, len(self.settings.values) - 1)]


class Calibrated(Rule):
    """The T whose H_T meets the target at the stage's beginning; constant from there on (the paper's)."""

    measures = "entropy"

    def start(self, met: Calibration) -> None:
        self.state = {"T": met.T, "elasticity": met.elasticity}

    def temperature(self, now: Moment) -> float:
        return self.state["T"]

    def target(self, now: Moment) -> float | None:
        return self.settings.target


class Tracked(Calibrated):
    """Calibrated, then moved to hold H_T at the target while the policy changes."""

    def observe(self, now: Moment, H: float) -> None:
        rule, target = self.settings, self.target(now)
        assert target is not None
        elasticity = self.state.get("elasticity", ELASTICITY)
        tracker = Tracker(self.temperature(now), target, rule.gain, elasticity, rule.max_factor)
        tracker.observe(H)
        self.state["T"] = tracker.T


class Annealed(Tracked):
    """Tracked, while the target goes evenly from `target` to `target_end`."""

    def target(self, now: Moment) -> float:
        end = self.settings.target_end
        assert end is not None
        return self.settings.target + (end - self.settings.target) * now.step / max(1, now.steps - 1)


class Anchored(Tracked):
    """Tracked from `value` on, at a share of H₀, the H_T of the stage's first batch; measures nothing."""

    measures = ""

    def temperature(self, now: Moment) -> float:
        return self.state.get("T", self.settings.value)

    def target(self, now: Moment) -> float | None:
        first, share = self.state.get("H0"), self.settings.share
        return None if first is None else first * self.part(now) * (1.0 if share is None else share)

    def part(self, now: Moment) -> float:
        """What of the target holds at this step."""
        return 1.0

    def observe(self, now: Moment, H: float) -> None:
        if "H0" in self.state:
            self.move(now, H)
        elif math.isfinite(H) and H > 0:
            self.state["H0"] = H

    def move(self, now: Moment, H: float) -> None:
        """Answer to the H_T of a batch after the first."""
        super().observe(now, H)


class E3(Anchored):
    """T' = T (1 + T ln(H₀ / H) / (ln V + ln ln V)), where H₀ becomes 0.9 of itself after 60 % of the steps
    (E3-RL4LLMs, 2505.18573)."""

    def part(self, now: Moment) -> float:
        return 0.9 if now.step >= 0.6 * now.steps else 1.0

    def move(self, now: Moment, H: float) -> None:
        T, target = self.temperature(now), self.target(now)
        if target is None or not math.isfinite(H):
            return
        size = math.log(now.vocabulary)
        moved = T * (1 + T * math.log(target / max(H, 1e-6)) / (size + math.log(max(size, 1.01))))
        self.state["T"] = min(max(moved, T_MIN), T_MAX)


class Coefficient(Anchored):
    """T stays; the coefficient of an entropy bonus goes up a step below the target and down above it, and
    counts only below it (Skywork-OR1, 2505.22312: 1e-4 a step up to 5e-3, below 0.2 nats). With a share, the
    target is that of H₀ (AER, 2510.10959, without its share by difficulty)."""

    def target(self, now: Moment) -> float | None:
        return self.settings.target if self.settings.share is None else super().target(now)

    def coefficient(self, now: Moment) -> float:
        return self.state.get("coefficient", 0.0) if self.state.get("low") else 0.0

    def observe(self, now: Moment, H: float) -> None:
        rule = self.settings
        if rule.share is not None and "H0" not in self.state:
            return super().observe(now, H)
        target = self.target(now)
        if target is None or not math.isfinite(H):
            return None
        step = rule.coefficient_step if target > H else -rule.coefficient_step
        moved = self.state.get("coefficient", 0.0) + step
        self.state |= {"coefficient": min(max(moved, 0.0), rule.coefficient_max), "low": float(target > H)}
        return None


class Diversity(Rule):
    """`value` in the first stage of the rule, whose diversity is measured; in each later stage the T at which
    the policy's responses are as diverse again, constant within the stage (POLARIS: 1.4, then 1.45, then
    1.5)."""

    measures = "diversity"

    def start(self, met: tuple[float, Anchor]) -> None:
        """Take the T, and what the first stage had."""
        T, anchor = met
        self.state = {"T": T, **anchor._asdict()}

    def anchor(self) -> Anchor | None:
        diversity, length, samples = (self.state[name] for name in Anchor._fields)
        return Anchor(diversity, int(length), int(samples))

    def temperature(self, now: Moment) -> float:
        return self.state["T"]


RULES: dict[str, type[Rule]] = {
    "fixed": Rule,
    "epochs": Epochs,
    "calibrate": Calibrated,
    "track": Tracked,
    "annealed": Annealed,
    "anchored": Anchored,
    "e3": E3,
    "coefficient": Coefficient,
    "diversity": Diversity,
}


def rule_of(settings: Temperature, state: Mapping[str, float]) -> Rule:
    """The rule that the settings name, as it stood."""
    return RULES[settings.rule](settings, state)


class Asked(NamedTuple):
    """What a rule says of a step: its T, the H_T aimed at, and the coefficient of the entropy bonus."""

    T: float
    H_target: float | None
    coefficient: float


def across(asked: Mapping[str, Asked], name: str) -> Any:
    """One number of `Asked`: that of all, or by domain."""
    each = {domain: getattr(one, name) for domain, one in asked.items()}
    return each.get("", each)


def together(asked: Mapping[str, Asked], shares: Mapping[str, float]) -> Asked:
    """One for all domains: means by their shares of the prompts; a target only where all have the same."""
    if "" in asked:
        return asked[""]
    T = sum(shares[domain] * one.T for domain, one in asked.items())
    coefficient = sum(shares[domain] * one.coefficient for domain, one in asked.items())
    targets = {one.H_target for one in asked.values()}
    return Asked(T, targets.pop() if len(targets) == 1 else None, coefficient)


class Rules:
    """The rules of a stage by domain; one for all of its prompts is that of the domain ""."""

    def __init__(self, stage: Stage, state: Mapping[str, float]) -> None:
        settings = stage.temperatures or {"": stage.temperature}
        self.each = {domain: rule_of(one, _part(state, domain)) for domain, one in settings.items()}

    @property
    def state(self) -> dict[str, float]:
        """What all of them remember: T, or math.T and code.T."""
        return {_key(domain, key): x for domain, rule in self.each.items() for key, x in rule.state.items()}

    @property
    def apart(self) -> bool:
        """Whether each domain has a rule of its own."""
        return "" not in self.each

    def of(self, domain: str) -> Rule:
        """The rule for a domain's prompts."""
        return self.each[domain if self.apart else ""]

    def asked(self, now: Moment) -> dict[str, Asked]:
        """How each domain's prompts are asked in the step at hand."""
        return {
            domain: Asked(rule.temperature(now), rule.target(now), rule.coefficient(now))
            for domain, rule in self.each.items()
        }

    @property
    def anchors(self) -> dict[str, Anchor]:
        """The diversities aimed at, by domain."""
        return {domain: anchor for domain, rule in self.each.items() if (anchor := rule.anchor())}

    def observe(self, now: Moment, H: Mapping[str, float]) -> None:
        """Take the H_T of the step at hand; a domain that was not asked has none."""
        for domain, rule in self.each.items():
            if domain in H:
                rule.observe(now, H[domain])


def _key(domain: str, key: str) -> str:
    return f"{domain}.{key}" if domain else key


def _part(state: Mapping[str, float], domain: str) -> dict[str, float]:
    split = ((key.rpartition("."), value) for key, value in state.items())
    return {key: value for (of, _, key), value in split if of == domain}
