"""Exact resume: a run killed with SIGKILL again and again ends with the same bytes as one left alone."""

from __future__ import annotations

import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import tiny_run
from acereason import config, program, runs
from acereason.errors import CheckpointError, RunError
from acereason.progress import Quiet
from acereason.train import checkpoint
from commands import outcome

SCRIPT = Path(tiny_run.__file__)


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nobody interrupted."""
    folder = tmp_path_factory.mktemp("reference") / "run"
    tiny_run.main(folder, resume=False)
    return folder


def test_a_run_is_complete_and_its_numbers_agree(reference: Path) -> None:
    found = outcome(reference)
    assert [s["name"] for s in found["summary"]["stages"]] == ["sft", "math", "code"]
    steps = [r for r in found["metrics"] if r["kind"] == "rl"]
    assert [r["stage_step"] for r in steps] == [1, 2, 3, 4, 5, 1, 2, 3]
    assert [r["step"] for r in steps] == list(range(steps[0]["step"], steps[0]["step"] + 8))
    for row in steps:
        assert row["logprob_difference"]["max"] < 1e-3
    learned = [row["gradient_norm"] for row in steps if row["stage"] == "math"]
    assert sum(norm is not None for norm in learned) >= 3, (
        "too little was learned for these tests to say much"
    )
    assert (reference / "report.html").exists()


def test_the_same_recipe_gives_the_same_bytes(reference: Path, tmp_path: Path) -> None:
    tiny_run.main(tmp_path / "run", resume=False)
    assert outcome(tmp_path / "run") == outcome(reference)


@pytest.mark.parametrize(
    "seed", [0, pytest.param(1, marks=pytest.mark.slow), pytest.param(2, marks=pytest.mark.slow)]
)
def test_killed_at_random_moments_it_ends_the_same(reference: Path, tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    folder = tmp_path / "run"
    total = len(list(runs.read_metrics(reference)))
    for target in sorted(rng.sample(range(2, total - 2), 4)):  # so many rows seen, then a moment more
        process = start(folder)
        while process.poll() is None and rows_in(folder) < target:
            time.sleep(0.002)
        time.sleep(rng.uniform(0, 0.15))
        assert process.poll() is None, "the run ended before it could be killed"
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert start(folder).wait(timeout=240) == 0
    assert outcome(folder) == outcome(reference)


def start(folder: Path) -> subprocess.Popen[bytes]:
    """The run in a process of its own, from its beginning or from where it is."""
    resume = ["resume"] if (folder / "recipe.json").exists() else []
    return subprocess.Popen([sys.executable, str(SCRIPT), str(folder), *resume])


def rows_in(folder: Path) -> int:
    """Metric rows written so far."""
    return sum(1 for _ in runs.read_metrics(folder))


def test_stopping_after_every_stage_changes_nothing(reference: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with tiny_run.coin():
        with runs.create(folder, config.parse(tiny_run.RECIPE)) as run:
            assert program.run_all(run, Quiet(), until="sft") is None
        with runs.resume(folder) as run:
            assert program.run_all(run, Quiet(), until="math") is None
        with runs.resume(folder) as run:
            program.run_all(run, Quiet())
    mine, theirs = outcome(folder), outcome(reference)
    assert mine == theirs


def test_a_damaged_checkpoint_costs_only_the_steps_since_the_one_before(
    reference: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    with tiny_run.coin(), runs.create(folder, config.parse(tiny_run.RECIPE)) as run:
        program.run_all(run, Quiet(), until="math")
    newest = max((folder / "checkpoints").iterdir(), key=lambda p: int(p.name.rpartition("-")[2]))
    weights = newest / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100] + bytes(100))
    with tiny_run.coin(), runs.resume(folder) as run:
        program.run_all(run, Quiet())
    assert outcome(folder) == outcome(reference)


def test_no_whole_checkpoint_is_a_clear_error(reference: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(reference, folder)
    for position in (folder / "checkpoints").glob("*/position.json"):
        position.write_text("{")
    with runs.resume(folder) as run, pytest.raises(CheckpointError, match=r"checkpoints .* is whole"):
        checkpoint.latest(run)


def test_a_run_folder_refuses_what_would_spoil_it(reference: Path, tmp_path: Path) -> None:
    recipe = config.parse(tiny_run.RECIPE)
    with pytest.raises(RunError, match="--resume"):
        runs.create(reference, recipe)
    other = config.parse({**tiny_run.RECIPE, "seed": 6})
    with pytest.raises(RunError, match=r"seed \(7 → 6\)"):
        runs.resume(reference, other)
    moved = config.parse({**tiny_run.RECIPE, "placement": {"checkpoint_activations": True}})
    with runs.resume(reference, moved) as run:  # where a run runs may change
        assert run.recipe.placement.checkpoint_activations
    with pytest.raises(RunError, match="not a run's folder"):
        runs.resume(tmp_path)
    with runs.resume(reference), pytest.raises(RunError, match="in use by another process"):
        runs.resume(reference)
