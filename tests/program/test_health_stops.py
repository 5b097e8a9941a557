"""`health.stop` ends fine-tuning that teaches nothing, in words; without it the run goes on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import tiny_run
from acereason import config, program, runs
from acereason.errors import TrainingError
from acereason.progress import Quiet

SFT = {**tiny_run.RECIPE["sft"], "epochs": 1, "evaluate_prompts": 0, "batch_tokens": 200, "micro_tokens": 200}
RECIPE: dict[str, Any] = {
    **tiny_run.RECIPE,
    "sft": SFT | {"learning_rate": 1e-9, "matrix_learning_rate": 1e-9},
    "health": {"window": 2, "stop": ["sft_flat"]},
}


def test_fine_tuning_that_teaches_nothing_is_ended_and_goes_on_when_told(tmp_path: Path) -> None:
    with (
        runs.create(tmp_path / "run", config.parse(RECIPE)) as run,
        pytest.raises(
            TrainingError, match=r"health.stop ends the run in sft, since step \d+: The SFT loss.*"
        ),
    ):
        program.run_all(run, Quiet(), "sft")
    steps = [row["step"] for row in runs.read_metrics(tmp_path / "run") if row["kind"] == "sft"]
    assert steps[-1] % 2 == 0 and steps[-1] >= 12
    on = config.parse({**RECIPE, "health": {"window": 2}})
    with runs.resume(tmp_path / "run", on) as run:
        program.run_all(run, Quiet(), "sft")
    after = [row["step"] for row in runs.read_metrics(tmp_path / "run") if row["kind"] == "sft"]
    assert after == list(range(1, after[-1] + 1)) and after[-1] > steps[-1]
