"""The rules on what runs recorded: a healthy run is named by none at any moment, a doctored one rightly."""

from __future__ import annotations

import random

import pytest

from acereason.config import Health
from acereason.health.findings import findings
from acereason.health.memory import Memory
from doctored import run
from recorded import DOCTORED, Row, recorded


@pytest.mark.parametrize("name", DOCTORED)
def test_six_faults_of_a_recorded_run_are_named_and_nothing_else(name: str) -> None:
    rows, expected = DOCTORED[name]
    found = findings(rows)
    assert {f.rule for f in found} == expected
    steps = {row.get("step") for row in rows}
    assert all(f.since in steps and f.sentence and f.why and f.remedy for f in found)


def test_a_healthy_run_is_called_well_at_every_moment_of_it() -> None:
    memory = Memory()
    for place, row in enumerate(recorded("demo-3")):
        memory.add(row["kind"], row)
        if row["kind"] != "sft" or place % 25 == 0:
            assert memory.findings() == [], (row["kind"], row["step"])


def test_what_is_said_of_other_recorded_runs() -> None:
    (one,) = findings(recorded("demo-4"))  # its pass@8 fell while avg@8 rose
    assert (one.rule, one.severity, one.stage) == ("pass_at_k", "warning", "math-long")
    dead = findings(recorded("dead"))
    assert {(f.rule, f.severity) for f in dead} == {("no_gradient", "alarm"), ("truncated", "alarm")}


@pytest.mark.parametrize("seed", range(20))
def test_short_runs_and_small_dev_sets_raise_no_alarm(seed: int) -> None:
    rng = random.Random(seed)
    noisy = {"accuracy": 0.5, "se": 0.07}
    rows = run(dev=lambda t: noisy | {"accuracy": 0.5 + 0.2 * t + rng.gauss(0, 0.07)}, steps=40)
    assert findings(rows) == []
    for steps in (2, 4, 6, 9, 12):
        assert findings(run(steps=steps)) == []


def sft(losses: list[float], warmup: int = 0) -> list[Row]:
    rates = [min(1.0, (i + 1) / warmup) if warmup else 1.0 for i in range(len(losses))]
    return [
        {"kind": "sft", "stage": "sft", "step": i + 1, "loss": loss, "lr": rate, "gradient_norm": 1.0}
        for i, (loss, rate) in enumerate(zip(losses, rates, strict=True))
    ]


@pytest.mark.parametrize("seed", range(10))
def test_the_loss_of_fine_tuning(seed: int) -> None:
    """It falls quickly and then slowly, with a base model that knows much only a little; warm-up is flat."""
    rng = random.Random(seed)

    def losses(first: float, last: float, steps: int) -> list[float]:
        return [last + (first - last) * 0.99**i + rng.gauss(0, 0.03) for i in range(steps)]

    assert (
        findings(sft([2.0 + rng.gauss(0, 0.03) for _ in range(40)] + losses(2.0, 0.8, 20), warmup=40)) == []
    )
    for steps in (20, 60, 120, 400):
        assert findings(sft(losses(0.8, 0.5, steps))) == [], steps
    noise = [2.0 + rng.gauss(0, 0.03) for _ in range(400)]
    assert [(f.rule, f.severity) for f in findings(sft(noise))] == [("sft_flat", "alarm")]
    assert {f.rule for f in findings(sft(noise[:100]))} <= {"sft_flat"}
    rising = findings(sft([2.0 + 0.002 * i + rng.gauss(0, 0.03) for i in range(400)]))
    assert [(f.rule, f.severity) for f in rising] == [("sft_flat", "alarm")]


def test_a_gradient_that_grows_is_seen_in_fine_tuning_too() -> None:
    rows = [
        row | {"gradient_norm": 1.0 if row["step"] < 90 else 40.0}
        for row in sft([2 - i / 100 for i in range(100)])
    ]
    (one,) = findings(rows)
    assert (one.rule, one.stage, one.severity) == ("gradient", "sft", "warning")
    assert 85 <= one.since <= 91


def test_thresholds_are_the_recipes() -> None:
    rows = recorded("demo-3")
    assert {f.rule for f in findings(rows, Health(truncated=0.2))} == {"truncated"}
    assert {f.rule for f in findings(rows, Health(idle_groups=0.3))} == {"no_gradient"}
    assert findings(DOCTORED["mismatched"][0], Health(mismatch=1.0)) == []
