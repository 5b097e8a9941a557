"""Doctored runs are each named rightly by the health rules, and a healthy one by none."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from acereason.config import Health
from acereason.health.findings import fatal, findings
from acereason.health.rows import since
from doctored import DOCTORED, Change, run


@pytest.mark.parametrize("name", DOCTORED)
def test_doctored_runs_are_named(name: str) -> None:
    rows, expected = DOCTORED[name]
    assert {f.rule for f in findings(rows)} == expected


def test_a_finding_says_since_when_and_what_to_do() -> None:
    rows = run(lambda t: {"logprob_difference": {"k3": 0.02 if t > 0.5 else 1e-5}})
    (finding,) = findings(rows)
    assert finding.severity == "alarm" and 116 <= finding.since <= 121
    assert "0.02" in finding.sentence and finding.why and finding.remedy
    assert fatal([finding], Health()) is None
    assert fatal([finding], Health(stop=("mismatch",))) == finding


def test_other_faults() -> None:
    def named(change: Change) -> list[str]:
        return [f.rule for f in findings(run(change))]

    assert named(lambda t: {"outcomes": {"correct": 90, "unjudged": 10}}) == ["unjudged"]
    assert named(lambda t: {"gradient_norm": None if t > 0.9 else 0.2}) == ["gradient"]
    assert named(lambda t: {"seconds": {"total": 300 if t < 0.8 else 900}}) == ["slower"]
    sft = [{"kind": "sft", "stage": "sft", "step": i, "loss": 2.0} for i in range(60)]
    assert [f.rule for f in findings(sft)] == ["sft_flat"]
    falling = [{**row, "loss": 2.0 - i / 60} for i, row in enumerate(sft)]
    assert not findings(falling)


def test_pass_at_k_falling_while_accuracy_rises() -> None:
    def evaluation(stage: str, step: int, accuracy: float, wide: float) -> dict[str, Any]:
        told = {"accuracy": accuracy, "n": 512, "k": 8, "pass_at_k": {"1": accuracy, "8": wide}}
        return {"kind": "evaluation", "stage": stage, "step": step, "benchmark": "math", **told}

    (finding,) = findings([evaluation("sft", 0, 0.53, 0.93), evaluation("rl", 50, 0.70, 0.82)])
    assert finding.rule == "pass_at_k" and finding.stage == "rl" and "82.0%" in finding.sentence
    assert not findings([evaluation("sft", 0, 0.53, 0.83), evaluation("rl", 50, 0.70, 0.82)])


@given(st.lists(st.booleans(), min_size=1, max_size=60), st.integers(2, 6))
def test_since_is_the_earliest_window_of_the_last_streak(flags: list[bool], window: int) -> None:
    rows = [{"step": i, "x": float(flag)} for i, flag in enumerate(flags)]

    def holds(part: Any) -> bool:
        return bool(sum(row["x"] for row in part) >= len(part) / 2)

    starts = [i for i in range(len(rows) - window + 1) if holds(rows[i : i + window])]
    naive = None
    for i in range(len(rows) - window, -1, -1):
        if i not in starts:
            break
        naive = i
    assert since(rows, holds, window) == naive


def test_rows_that_lack_everything_are_no_error() -> None:
    assert findings([{"kind": "rl"}] * 30) == []
    broken = {"kind": "rl", "stage": None, "outcomes": None, "length": 3, "H_T": float("nan")}
    assert findings([broken] * 30) == []


def test_the_recipe_names_known_rules_only() -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"stop": ["nothing"]}, Health)
