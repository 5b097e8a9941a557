"""A run with adapters: SFT and RL resume to the same bytes, and only adapters are in its checkpoints."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import tiny_run
from acereason import config, program, runs, stopping
from acereason.errors import CheckpointError, RunError
from acereason.export import export
from acereason.policy import model as models
from acereason.progress import Quiet
from acereason.train import checkpoint
from commands import outcome

MATH = {
    "name": "math",
    "domain": "math",
    "budget": 40,
    "steps": 2,
    "group": 8,
    "prompts": 4,
    "learning_rate": 1e-2,
}
LORA: dict[str, Any] = {
    "lora": {"rank": 4, "alpha": 8.0},
    "sft": {"epochs": 1, "batch_tokens": 1280, "learning_rate": 2e-2, "evaluate_prompts": 0},
    "stage": [MATH],
    "evaluation": {"k": 1, "budget": 20, "dev": {"prompts": 14, "k": 2}},
    "checkpoint_every": 1,
    "rl": {"judges": 1, "false_positives": 0.5},  # a base of random weights gets nothing right
}


def test_stopped_in_sft_and_in_rl_it_ends_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reference, folder = tmp_path / "reference", tmp_path / "run"
    tiny_run.main(reference, resume=False, changes=LORA)
    for kind in ("sft", "rl"):  # stopped in the middle of each

        def asked(kind: str = kind) -> bool:
            return any(row["kind"] == kind for row in runs.read_metrics(folder))

        monkeypatch.setattr(stopping, "asked", asked)
        with pytest.raises(stopping.Preempted):
            tiny_run.main(folder, resume=kind == "rl", changes=LORA)
    monkeypatch.undo()
    tiny_run.main(folder, resume=True)
    assert outcome(folder) == outcome(reference)
    _files(folder)


def _files(folder: Path) -> None:
    """Checkpoints hold adapters, models are merged and have their adapter beside them."""
    last = max((folder / "checkpoints").glob("step-*"), key=checkpoint._number)
    held = load_file(last / "weights.safetensors")
    assert all(".lora_" in name for name in held if name != checkpoint.BASE) and len(held) == 15
    assert len(load_file(last / "optimizer.safetensors")) == 3 * 14
    model = folder / "models" / "math"
    whole = models.load_model(model).state_dict()
    own = load_file(model / "adapter" / "adapter_model.safetensors")
    told = json.loads((model / "adapter" / "adapter_config.json").read_text())
    assert told["r"] == 4 and told["lora_alpha"] == 8 and len(own) == 14
    before = models.load_model(folder / "models" / "sft").state_dict()
    moved = {name for name, tensor in whole.items() if not torch.equal(tensor, before[name])}
    assert moved and all("_proj.weight" in name for name in moved)


def test_another_base_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "run"
    recipe = config.parse({**tiny_run.RECIPE, **LORA})
    monkeypatch.setattr(stopping, "asked", lambda: True)
    with pytest.raises(stopping.Preempted), runs.create(folder, recipe) as run:
        program.run_all(run, Quiet())
    seed = models.new_model
    monkeypatch.setattr(models, "new_model", lambda kind, _, *more, **shape: seed(kind, 99, *more, **shape))
    with pytest.raises(CheckpointError, match="other frozen weights"), runs.resume(folder) as run:
        program.run_all(run, Quiet())


def _run(folder: Path) -> None:
    """A finished run, short."""
    tiny_run.main(folder, resume=False, changes=LORA | {"stage": [{**MATH, "steps": 1}]})


def test_exports_merged_and_as_an_adapter(tmp_path: Path) -> None:
    """The adapter over its base says what the merged model does; a run of whole weights has none."""
    run = tmp_path / "run"
    _run(run)
    merged, adapter = (
        export(run, tmp_path / name, adapter=name == "adapter") for name in ("merged", "adapter")
    )
    names = {p.name for p in adapter.iterdir()}
    assert {"adapter_config.json", "adapter_model.safetensors", "README.md", "prompt.json"} <= names
    assert "tokenizer.json" in names and "model.safetensors" not in names and "config.json" not in names
    assert "library_name: peft" in (adapter / "README.md").read_text()
    whole = models.load_model(run / "models" / "math")
    own = load_file(adapter / "adapter_model.safetensors")
    assert own.keys() == load_file(run / "models" / "math" / "adapter" / "adapter_model.safetensors").keys()
    assert all(map(torch.equal, whole.parameters(), models.load_model(merged).parameters()))
    for file in (run / "models" / "math" / "adapter").iterdir():
        file.unlink()
    with pytest.raises(RunError, match="without --adapter"):
        export(run, tmp_path / "none", adapter=True)
    assert not (tmp_path / "none").exists()
