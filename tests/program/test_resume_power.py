"""After a power cut at any sync, with all unsynced bytes and names lost, a run ends with the same bytes."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

import tiny_run
from acereason import config, program, runs
from acereason.progress import Quiet
from acereason.runs import Run
from commands import outcome
from power_loss import Disk, PowerCut

RECIPE: dict[str, Any] = {
    **tiny_run.RECIPE,
    "sft": {**tiny_run.RECIPE["sft"], "epochs": 1, "evaluate_prompts": 0},
    "stage": [{**tiny_run.RECIPE["stage"][0], "steps": 3}],
    "checkpoint_every": 1,
}


pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # files left open


def go(run: Run) -> None:
    with tiny_run.coin(), run:
        program.run_all(run, Quiet())


def cut_and_resume(folder: Path, at: int) -> dict[str, Any]:
    """The outcome of a run whose power is cut at a sync, and that goes on from what is left."""
    recipe, left = config.parse(RECIPE), folder / "left"
    with Disk(folder / "run") as disk, pytest.raises(PowerCut):
        disk.cut_at(at)
        go(runs.create(folder / "run", recipe))
    disk.leave(left)
    go(runs.resume(left, recipe) if left.exists() else runs.create(left, recipe))
    return outcome(left)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], int]:
    """The outcome of a run that nothing happened to, and how often it synced."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    with Disk(folder) as disk:
        go(runs.create(folder, config.parse(RECIPE)))
    return outcome(folder), disk.syncs


@pytest.mark.parametrize("share", [0.01, 0.3, 0.6, 0.9])
def test_a_power_cut_costs_nothing(whole: tuple[dict[str, Any], int], tmp_path: Path, share: float) -> None:
    expected, syncs = whole
    assert cut_and_resume(tmp_path, 1 + int(share * syncs)) == expected


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_power_cut_anywhere_costs_nothing(whole: tuple[dict[str, Any], int], tmp_path: Path) -> None:
    expected, syncs = whole
    for at in random.Random(0).sample(range(1, syncs + 1), 40):
        (tmp_path / str(at)).mkdir()
        assert cut_and_resume(tmp_path / str(at), at) == expected, f"cut at sync {at}"


def test_a_lost_tail_of_metrics_costs_the_steps_since_the_checkpoint_before(
    whole: tuple[dict[str, Any], int], tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    with tiny_run.coin(), runs.create(folder, config.parse(RECIPE)) as run:
        program.run_all(run, Quiet(), until="sft")
    metrics = folder / "metrics.jsonl"
    data = metrics.read_bytes()
    newest = max((folder / "checkpoints").iterdir(), key=lambda p: int(p.name.rpartition("-")[2]))
    metrics.write_bytes(data[:-30] + bytes(30))  # as long as before, but never written
    go(runs.resume(folder))
    assert outcome(folder) == whole[0] and not newest.exists()
