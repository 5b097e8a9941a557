"""Checkpoints: everything a run needs to go on exactly, written whole or not at all.

A checkpoint is a folder `step-000120-1/` with `weights.safetensors`, `optimizer.safetensors` and
`position.json`, which holds the SHA-256 of the other two. It is written under a temporary name, synced and
renamed. The newest that verifies is used, so a damaged one costs the steps since the one before. There is
no pickle, and no random state: every draw is a hash of what it is for.
"""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from acereason.errors import CheckpointError
from acereason.problems import write_atomic
from acereason.runs import Run, disk_errors, file_hash

log = logging.getLogger(__name__)
KEEP = 2


class Position(msgspec.Struct, kw_only=True):
    """Where a run is. `stage` 0 is SFT, i is the i-th stage of the recipe; `stage_step` steps of it are done,
    `step` steps of the whole run. `state` is the stage's own (prompt pool, temperature, history)."""

    stage: int = 0
    stage_step: int = 0
    step: int = 0
    finished: bool = False  # the stage's last step is done, its evaluation is not
    metrics_size: int = 0
    state: dict[str, Any] = {}
    hashes: dict[str, str] = {}


def save(run: Run, model: Any, optimizers: Iterable[torch.optim.Optimizer], position: Position) -> None:
    """Write a checkpoint of this moment and drop all but the newest two."""
    number = max((int(p.name.rpartition("-")[2]) for p in _folders(run)), default=0) + 1
    temporary = run.checkpoints / f".tmp-{number}"
    with disk_errors(run.path):
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        save_file(_weights(model), temporary / "weights.safetensors")
        save_file(_optimizer_tensors(optimizers), temporary / "optimizer.safetensors")
        position.metrics_size = run.metrics_size()
        position.hashes = {f.name: file_hash(f) for f in sorted(temporary.glob("*.safetensors"))}
        for file in temporary.glob("*.safetensors"):
            _sync(file)
        write_atomic(temporary / "position.json", msgspec.json.encode(position))
        _sync(temporary)
        temporary.rename(run.checkpoints / f"step-{position.step:06d}-{number}")
        _sync(run.checkpoints)
    for old in _folders(run)[:-KEEP]:
        shutil.rmtree(old)


def latest(run: Run) -> tuple[Path, Position] | None:
    """The newest checkpoint that is whole, or None when there is none at all.

    Raises CheckpointError when there are some but none verifies."""
    for leftover in run.checkpoints.glob(".tmp-*"):
        shutil.rmtree(leftover)
    folders = _folders(run)
    for folder in reversed(folders):
        try:
            position = msgspec.json.decode((folder / "position.json").read_bytes(), type=Position)
            damaged = [n for n, h in position.hashes.items() if file_hash(folder / n) != h]
        except (OSError, msgspec.DecodeError) as error:
            log.warning("checkpoint %s cannot be read (%s); trying the one before", folder, error)
            continue
        if not damaged:
            return folder, position
        log.warning("checkpoint %s is damaged (%s); trying the one before", folder, damaged[0])
    if folders:
        raise CheckpointError(
            f"none of the {len(folders)} checkpoints in {run.checkpoints} is whole. Remove them to begin "
            "the run again from its recipe, or restore one from a copy"
        )
    return None


def load_weights(folder: Path, model: Any) -> None:
    """Put a checkpoint's weights into the model, in place."""
    try:
        tensors = load_file(folder / "weights.safetensors")
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"cannot read the weights in {folder}: {error}") from error
    own = _weights(model)
    if own.keys() != tensors.keys() or any(own[k].shape != tensors[k].shape for k in own):
        raise CheckpointError(f"{folder} holds the weights of another model than the recipe describes")
    for name, tensor in own.items():
        tensor.copy_(tensors[name])


def load_optimizers(folder: Path, optimizers: Iterable[torch.optim.Optimizer]) -> None:
    """Put a checkpoint's optimiser state into fresh optimisers over the same parameters."""
    tensors = load_file(folder / "optimizer.safetensors")
    for number, optimizer in enumerate(optimizers):
        for index, parameter in enumerate(_parameters(optimizer)):
            prefix = f"{number}.{index}."
            found = {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
            if found:
                optimizer.state[parameter] = found


def _folders(run: Run) -> list[Path]:
    return sorted(run.checkpoints.glob("step-*"), key=lambda p: int(p.name.rpartition("-")[2]))


def _weights(model: Any) -> dict[str, Tensor]:
    """Every parameter once: tied parameters share their storage and are kept under one name."""
    return {name: p.detach() for name, p in model.named_parameters()}


def _optimizer_tensors(optimizers: Iterable[torch.optim.Optimizer]) -> dict[str, Tensor]:
    result: dict[str, Tensor] = {}
    for number, optimizer in enumerate(optimizers):
        for index, parameter in enumerate(_parameters(optimizer)):
            for key, value in optimizer.state.get(parameter, {}).items():
                result[f"{number}.{index}.{key}"] = torch.as_tensor(value)
    return result


def _parameters(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    return [p for group in optimizer.param_groups for p in group["params"]]


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
