"""A hundred kills at random events of the run end with the same bytes; SIGTERM ends at a checkpoint."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import tiny_run
from acereason import runs
from commands import outcome, write_recipe
from dying import Die, dying

STAGE = {**tiny_run.RECIPE["stage"][0], "steps": 12, "stop": {"truncated_below": 1.0}}
CHANGES = {
    "sft": {**tiny_run.RECIPE["sft"], "epochs": 2, "held_out": 8, "keep": "best"},
    "stage": [STAGE, {**tiny_run.RECIPE["stage"][1], "steps": 2}],
    "checkpoint_every": 1,
}
KILLS = 100
NEVER = 10**9


@pytest.fixture(scope="module")
def die() -> Iterator[Die]:
    with dying(CHANGES) as told:
        yield told


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_a_hundred_kills_at_random_events_end_with_the_same_bytes(die: Die, tmp_path: Path) -> None:
    """Among them are deaths right after mkdir and right after a stop rule has ended a stage."""
    reference = tmp_path / "reference"
    assert die(reference, NEVER) == 0
    expected = outcome(reference)
    steps = [r for r in runs.read_metrics(reference) if r["kind"] == "rl" and r["stage"] == "math"]
    assert len(steps) < STAGE["steps"], "the rule did not end the stage"
    rng, kills, number = random.Random(0), 0, 0
    while kills < KILLS:
        number += 1
        folder, first = tmp_path / str(number), rng.choice([2, 3, 5, 8])
        kills += die(folder, first) == -signal.SIGKILL  # while the folder is being made
        while kills < KILLS and (status := die(folder, _moment(rng))) != 0:
            assert status == -signal.SIGKILL
            kills += 1
        assert (folder / "summary.json").exists() or die(folder, NEVER) == 0
        assert outcome(folder) == expected, f"run {number} after {kills} kills in all"


def _moment(rng: random.Random) -> int:
    return rng.choice([-1, -2, *(rng.randint(1, 120) for _ in range(8))])


@pytest.mark.slow
def test_killed_after_mkdir_and_after_a_stop_rule_it_ends_the_same(die: Die, tmp_path: Path) -> None:
    assert die(tmp_path / "whole", NEVER) == 0
    for at in (2, 9, -2):
        assert die(tmp_path / "run", at) == -signal.SIGKILL
    assert die(tmp_path / "run", NEVER) == 0
    assert outcome(tmp_path / "run") == outcome(tmp_path / "whole")


def start(folder: Path, recipe: Path, *more: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "acereason", "run", str(recipe), "--out", str(folder), "--quiet", *more]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def rl_rows(folder: Path) -> list[dict[str, Any]]:
    return [r for r in runs.read_metrics(folder) if r["kind"] == "rl"]


def test_sigterm_writes_a_checkpoint_and_exits_with_75(tmp_path: Path) -> None:
    code = {**tiny_run.RECIPE["stage"][1], "steps": 12}
    sft = {**tiny_run.RECIPE["sft"], "epochs": 1, "evaluate_prompts": 0}
    recipe = write_recipe(tmp_path, sft=sft, stage=[code], checkpoint_every=100)
    folder = tmp_path / "run"
    process = start(folder, recipe)
    while len(rl_rows(folder)) < 2:
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 75, said
    assert "goes on with" in said and "--resume" in said
    done = rl_rows(folder)
    steps = [json.loads(p.read_text())["step"] for p in (folder / "checkpoints").glob("*/position.json")]
    assert 2 <= len(done) < 12 and max(steps) == done[-1]["step"]
    again = start(folder, recipe, "--resume")
    _, said = again.communicate(timeout=240)
    assert again.returncode == 0, said
    assert rl_rows(folder)[: len(done)] == done  # none was done a second time
    assert [r["stage_step"] for r in rl_rows(folder)] == list(range(1, 13))
