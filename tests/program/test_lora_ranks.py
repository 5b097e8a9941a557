"""Adapters on two ranks: what they learn, and a run that goes from two ranks to one and to two again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import tiny_run
from acereason.policy import model as models
from ranked import asked, finish, kill_after, one, rl_rows, two

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
STAGE = tiny_run.RECIPE["stage"][0] | {
    "steps": 5, "prompts": 7, "budget": 40, "overlong": "zero", "temperature": {"value": 0.8},
    "learning_rate": 1e-2, "evaluate_every": 0, "keep": "last", "filter": {},
}  # fmt: skip
CHANGES: dict[str, Any] = {
    "lora": {"rank": 4, "alpha": 8.0},
    "sft": {"epochs": 3, "batch_tokens": 1280, "learning_rate": 2e-2, "evaluate_prompts": 0},
    "stage": [STAGE],
    "checkpoint_every": 2,
}


def test_from_two_ranks_to_one_to_two(tmp_path: Path) -> None:
    """The same prompts in the same order; adapters alone in checkpoints; a merged model with its adapter."""
    reference, folder = tmp_path / "reference", tmp_path / "run"
    finish(one(reference, "new", json.dumps(CHANGES)))
    process = two(folder, "new", json.dumps(CHANGES))
    kill_after(process, folder, 2, "one")
    process.communicate(timeout=200)
    alone = one(folder, "resume")
    kill_after(alone, folder, 4, "all")
    alone.communicate()
    finish(two(folder, "resume"))
    assert asked(folder) == asked(reference)
    mine, theirs = rl_rows(folder), rl_rows(reference)
    assert [row["step"] for row in mine] == [row["step"] for row in theirs]
    assert mine[0]["H_T"] == pytest.approx(theirs[0]["H_T"], rel=1e-3)
    assert any(row["gradient_norm"] for row in mine)
    _files(folder)


def _files(folder: Path) -> None:
    last = max((folder / "checkpoints").glob("step-*"))
    held = {name for file in last.glob("*.safetensors") for name in load_file(file)}
    assert held and not any(name.endswith("_proj.weight") or "embed" in name for name in held)
    model = folder / "models" / "math"
    own = load_file(model / "adapter" / "adapter_model.safetensors")
    merged, base = (models.load_model(folder / "models" / name).state_dict() for name in ("math", "sft"))
    moved = {name for name, tensor in merged.items() if not torch.equal(tensor, base[name])}
    assert moved == {
        name.removeprefix("base_model.model.").replace(".lora_A", "") for name in own if "_A" in name
    }
