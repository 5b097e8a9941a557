"""Whole runs of what the pack adds: mixed and replaying stages, distillation, KL, refills, rules with state.

Killed at any event they end with the same bytes, and two ranks ask and learn what one does.
"""

from __future__ import annotations

import json
import random
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import tiny_run
from acereason import runs
from commands import outcome
from dying import Die, dying
from ranked import finish, one, rl_rows, two

SIZES: dict[str, Any] = {"budget": 30, "group": 4, "prompts": 5, "learning_rate": 1e-3, "overlong": "zero"}
DIVERSE = {"rule": "diversity", "value": 0.5, "candidates": [0.4, 0.8], "prompts": 6}
BONUS = {"rule": "coefficient", "share": 0.9, "coefficient_step": 1e-2, "coefficient_max": 0.1}
MIXED = {
    **SIZES, "name": "mixed", "domain": ["math", "code"], "weights": [3, 1], "steps": 3,
    "filter": {"drop": "both", "readmit": {"hard": 0.5}, "retire_above": 1.0, "refill": 2},
    "temperatures": {"math": DIVERSE, "code": BONUS},
}  # fmt: skip
REPLAY = {
    **SIZES, "name": "replay", "domain": "code", "replay": 0.4, "steps": 3,
    "thinking": {"budget": 12}, "temperatures": {"code": {"rule": "e3"}, "math": DIVERSE},
}  # fmt: skip
TAUGHT = {**SIZES, "name": "taught", "domain": "math", "steps": 2, "kind": "distill", "teacher": "mixed"}
CHANGES: dict[str, Any] = {
    "sft": {**tiny_run.RECIPE["sft"], "evaluate_prompts": 0},
    "stage": [MIXED, REPLAY, TAUGHT],
    "rl": {"judges": 1, "advantage": "loo", "kl": {"coefficient": 1e-2}},
    "checkpoint_every": 1,
    "evaluation": {"k": 2, "budget": 30, "start": True},
}
NEVER = 10**9


@pytest.fixture(scope="module")
def die() -> Iterator[Die]:
    with dying(CHANGES) as told:
        yield told


@pytest.fixture(scope="module")
def whole(die: Die, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run that nobody interrupted."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    assert die(folder, NEVER) == 0
    return folder


def test_each_stage_does_what_it_says(whole: Path) -> None:
    rows = {name: [r for r in rl_rows(whole) if r["stage"] == name] for name in ("mixed", "replay", "taught")}
    assert [len(some) for some in rows.values()] == [3, 3, 2]
    for row in rows["mixed"]:
        told = row["by_domain"]
        assert row["domain"] == "math+code" and told["math"]["asked"] > told["code"]["asked"] > 0
        assert sum(one["asked"] for one in told.values()) == row["asked"] >= 5
        assert row["kl"] is not None and row["pool"]["prompts"] == 90
    assert rows["mixed"][0]["kl"] == pytest.approx(0, abs=1e-6)  # the policy is its own reference
    assert rows["mixed"][-1]["kl"] != pytest.approx(0, abs=1e-6)
    for row in rows["replay"]:
        assert set(row["by_domain"]) == {"math", "code"} and row["forced"] > 0
        assert row["by_domain"]["math"]["T"] == rows["replay"][0]["by_domain"]["math"]["T"]
    assert rows["replay"][2]["by_domain"]["code"]["T"] != 1  # E3 moves it after its second batch
    assert all(row["kl"] is not None and row["gradient_norm"] for row in rows["taught"])
    assert all(row["learned_tokens"] == row["tokens"] for row in rows["taught"])
    assert (whole / "models" / "mixed" / "config.json").exists()


def test_each_domain_has_its_rule_and_a_later_stage_is_as_diverse_as_the_first(whole: Path) -> None:
    first, again = [r for r in runs.read_metrics(whole) if r["kind"] == "calibration"]
    assert [(r["stage"], r["domain"], r["quantity"]) for r in (first, again)] == [
        ("mixed", "math", "diversity"),
        ("replay", "math", "diversity"),
    ]
    assert first["T"] == 0.5 and again["target"] == first["target"] == first["check"]["H"]
    for row in rl_rows(whole)[:6]:
        math, code = row["by_domain"]["math"], row["by_domain"]["code"]
        assert math["diversity_target"] == first["target"] and 0 < math["diversity"] <= 1
        assert math["T"] == (0.5 if row["stage"] == "mixed" else again["T"]) and "diversity" not in code
        share = 0.75 if row["stage"] == "mixed" else 0.4
        assert row["T"] == pytest.approx(share * math["T"] + (1 - share) * code["T"])
        lines = (whole / "responses" / f"{row['stage']}-{row['step']:06d}.jsonl").read_text().splitlines()
        found = {(one["family"], one["temperature"]) for one in map(json.loads, lines)}
        assert found == {("largest", math["T"]), ("lists", code["T"])}
    bonus = [row["by_domain"]["code"] for row in rl_rows(whole)[:3]]
    assert bonus[0]["H_target"] is None and bonus[1]["H_target"] == pytest.approx(0.9 * bonus[0]["H_T"])


@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_killed_at_random_events_it_ends_with_the_same_bytes(
    die: Die, whole: Path, tmp_path: Path, seed: int
) -> None:
    rng, folder = random.Random(seed), tmp_path / "run"
    kills, most = 0, 4 if seed == 0 else 30
    while kills < most and (status := die(folder, rng.choice([-1, -2, rng.randint(20, 160)]))) != 0:
        assert status == -signal.SIGKILL
        kills += 1
    assert kills >= 2
    assert (folder / "summary.json").exists() or die(folder, NEVER) == 0
    assert outcome(folder) == outcome(whole)


@pytest.mark.slow
def test_two_ranks_ask_and_learn_what_one_does(tmp_path: Path) -> None:
    """Refills, the batch's standard deviation, KL and the teacher's pull are of all ranks together."""
    sft = {"epochs": 3, "batch_tokens": 1280, "learning_rate": 5e-3, "evaluate_prompts": 0}
    rl = {**CHANGES["rl"], "advantage": "batch"}
    fixed = {"temperatures": {"math": {"value": 0.9}, "code": {"value": 1.1}}}
    changes = {**CHANGES, "sft": sft, "rl": rl, "stage": [MIXED | fixed, TAUGHT]}
    folders = tmp_path / "one", tmp_path / "two"
    finish(one(folders[0], "new", json.dumps(changes)))
    finish(two(folders[1], "new", json.dumps(changes)))
    alone, both = map(rl_rows, folders)
    assert len(alone) == len(both) == 5 and alone[0]["asked"] > SIZES["prompts"]
    for a, b in zip(alone[:2], both[:2], strict=True):  # later, rounding may draw another token
        for key in ("reward", "H_T", "loss", "gradient_norm", "tokens", "learned_tokens", "asked", "kl"):
            assert a[key] == pytest.approx(b[key], rel=1e-3, abs=1e-6), key
        assert a["pool"] == b["pool"]
