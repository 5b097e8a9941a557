"""Doctored runs are each named rightly by the health rules, and a healthy one by none."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from acereason.config import Health
from acereason.health.findings import fatal, findings, since

Change = Callable[[float], dict[str, Any]]  # from the share of the stage that is done


def healthy(t: float, rng: random.Random) -> dict[str, Any]:
    """A step's row of a run as it should be, t in [0, 1] of the stage."""
    reward = 0.4 + 0.25 * t + rng.gauss(0, 0.02)
    return {
        "kind": "rl",
        "stage": "math",
        "budget": 8192,
        "T": 0.9,
        "H_target": 0.3,
        "reward": reward,
        "H_T": 0.3 + rng.gauss(0, 0.01),
        "truncated": 0.2 - 0.1 * t,
        "all_right": 0.1 + 0.1 * t,
        "all_wrong": 0.3 - 0.1 * t,
        "length": {"mean": 3000 + rng.gauss(0, 50)},
        "outcomes": {"correct": 500, "wrong": 524},
        "same_answer": 0.2 + 0.1 * t,
        "gradient_norm": 0.2 + abs(rng.gauss(0, 0.02)),
        "learned_tokens": 100_000,
        "logprob_difference": {"k3": 2e-5},
        "tokens": 3_000_000,
        "seconds": {"total": 300 + rng.gauss(0, 5)},
    }


def run(change: Change = lambda t: {}, dev: Change | None = None, steps: int = 40) -> list[dict[str, Any]]:
    rng, rows = random.Random(1), []
    for i in range(steps):
        t = i / (steps - 1)
        rows.append(healthy(t, rng) | {"step": 100 + i, "stage_step": i + 1} | change(t))
        if dev is not None and i % 10 == 0:
            rows.append({"kind": "dev", "stage": "math", "step": 100 + i, "se": 0.02, **dev(t)})
    return rows


DOCTORED: dict[str, tuple[list[dict[str, Any]], set[str]]] = {
    "healthy": (run(dev=lambda t: {"accuracy": 0.5 + 0.2 * t}), set()),
    "dead": (run(lambda t: {"all_wrong": 0.95, "all_right": 0.0, "reward": 0.02}), {"no_gradient"}),
    "hacked": (
        run(
            lambda t: {"reward": 0.3 + 0.6 * t, "length": {"mean": 3000 - 2700 * t}},
            lambda t: {"accuracy": 0.5 - 0.2 * t},
        ),
        {"held_out", "shorter"},
    ),
    "hot": (run(lambda t: {"H_T": 0.3 + 0.8 * t, "truncated": 0.2 + 0.6 * t}), {"entropy_hot", "truncated"}),
    "cold": (run(lambda t: {"H_T": 0.3 * (1 - t) ** 2, "H_target": None, "T": 0.6}), {"entropy_cold"}),
    "mismatched": (run(lambda t: {"logprob_difference": {"k3": 0.02}}), {"mismatch"}),
    "collapsing": (run(lambda t: {"same_answer": 0.2 + 0.75 * t, "all_right": 0.3 * t}), {"same_answers"}),
}


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
        return sum(row["x"] for row in part) >= len(part) / 2

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
