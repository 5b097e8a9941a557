"""Later recipes' entropy rules: against their formulas, and closed around a policy that drifts."""

from __future__ import annotations

import json
import math

import pytest

from acereason.config import Temperature
from acereason.sample.rules import Moment, Rule, rule_of

V = 1000


def at(step: int, steps: int = 100) -> Moment:
    return Moment(step, steps, 0, V)


def drifting(rule: Rule, steps: int = 100, final: float = 0.5) -> list[tuple[float, float, float | None]]:
    """(T, H, target) of each step, with a policy whose entropy at equal T falls evenly to `final` of itself;
    the rule is brought back from its state before every step, as after a resume."""
    rows = []
    for step in range(steps):
        rule = rule_of(rule.settings, json.loads(json.dumps(rule.state)))
        T = rule.temperature(at(step, steps))
        H = 0.4 * final ** (step / steps) * T**1.7
        rows.append((T, H, rule.target(at(step, steps))))
        rule.observe(at(step, steps), H)
    return rows


@pytest.mark.parametrize("share", [0.7, 1.0, 1.3])
def test_an_anchored_target_is_a_share_of_the_first_entropy(share: float) -> None:
    rows = drifting(rule_of(Temperature("anchored", 0.9, share=share), {}))
    assert rows[0][2] is None and rows[0][0] == rows[1][0] == 0.9
    assert {target for *_, target in rows[1:]} == {rows[0][1] * share}
    late = [H for _, H, _ in rows[50:]]
    assert abs(sum(late) / len(late) - rows[0][1] * share) < 0.02


def test_an_annealed_target_goes_evenly_from_one_to_the_other() -> None:
    rule = rule_of(Temperature("annealed", target=0.4, target_end=0.2), {"T": 1.0, "elasticity": 1.7})
    rows = drifting(rule)
    assert [rows[i][2] for i in (0, 33, 99)] == pytest.approx([0.4, 1 / 3, 0.2])
    assert all(abs(H - (target or 0)) < 0.03 for _, H, target in rows[10:])


def test_e3_is_its_formula() -> None:
    rule, T, first = rule_of(Temperature("e3", 1.0), {}), 1.0, None
    for step, H in enumerate([0.5, 0.3, 0.7, 0.5, 0.2, 0.2, 0.45, 0.5, 0.1, 0.5]):
        assert rule.temperature(at(step, 10)) == pytest.approx(T, abs=1e-12)
        if first is None:
            first = H
        else:
            aim = first * (0.9 if step >= 6 else 1.0)
            T = T * (1 + T * math.log(aim / H) / (math.log(V) + math.log(math.log(V))))
        rule.observe(at(step, 10), H)
    rule.observe(at(9, 10), math.nan)
    assert rule.temperature(at(9, 10)) == pytest.approx(T, abs=1e-12)


def test_e3_holds_the_first_entropy() -> None:
    """A slow rule: it moves T by about T² / ln V, so a policy that drifts is held part of the way."""
    rows = drifting(rule_of(Temperature("e3", 1.0), {}))
    assert rows[-1][0] > 1.1 and 0.4 * 0.5 < rows[-1][1] < 0.4 * 0.95


def test_the_coefficient_rises_below_the_target_falls_above_and_counts_only_below() -> None:
    rule = rule_of(Temperature("coefficient", 0.8, target=0.2, coefficient_max=3e-4), {})
    seen = []
    for step, H in enumerate([0.3, 0.1, 0.1, 0.1, 0.1, 0.25, 0.15, math.nan, 0.15]):
        assert rule.temperature(at(step)) == 0.8 and rule.target(at(step)) == 0.2
        seen.append(rule.coefficient(at(step)))
        rule.observe(at(step), H)
    assert seen == pytest.approx([0, 0, 1e-4, 2e-4, 3e-4, 3e-4, 0, 3e-4, 3e-4])


def test_a_coefficient_with_a_share_aims_at_the_first_entropy() -> None:
    rule = rule_of(Temperature("coefficient", 1.0, share=0.4), {})
    rule.observe(at(0), 0.5)
    assert rule.target(at(1)) == pytest.approx(0.2) and rule.coefficient(at(1)) == 0
    rule.observe(at(1), 0.19)
    assert rule.coefficient(at(2)) == pytest.approx(1e-4)
