"""Checkpoints: everything a run needs to go on exactly, written whole or not at all.

A checkpoint is a folder `step-000120-1/` of safetensors with `position.json`, which holds their SHA-256. It
is written under a temporary name, synced and renamed, once the metrics up to it are on the disk. The newest
that verifies, and whose metrics are there, is used; a damaged one costs the steps since the one before. There
is no pickle, and no random state: every draw is a hash of what it is for.

A whole model is written as `weights.safetensors` and `optimizer.safetensors`, at once. A sharded one by
torch.distributed.checkpoint, each rank its own shards in one file, in the background: `save` returns when
they are copied, and the folder gets its name when the last file is written. Tensors have the same names in
both, and either is read on any number of ranks. What does not learn (under adapters, or in frozen layers) is
not written.
"""

from __future__ import annotations

import logging
import math
import re
import shutil
import threading
import warnings
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import msgspec
import torch
import torch.distributed as dist
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor
from torch.distributed.checkpoint import state_dict_loader, state_dict_saver
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader, HuggingFaceStorageWriter

from acereason import ranks, stopping
from acereason.errors import CheckpointError
from acereason.files import file_hash, sync, sync_tree, write_atomic
from acereason.policy import halves
from acereason.policy.frozen import base_of
from acereason.runs import Run, disk_errors
from acereason.sample.diversity import Anchor
from acereason.train import eight_bit
from acereason.train.parallel import is_sharded
from acereason.train.stages import StageState

log = logging.getLogger(__name__)
Optimizers = Iterable[torch.optim.Optimizer]
BASE = "lora.base"  # the checksum of what does not learn, which only adapters had at first


class Best(msgspec.Struct, frozen=True):
    """The weights with the highest score of a stage so far: of which step, and their files."""

    step: int
    score: float
    hashes: dict[str, str]

    def folder(self, run: Run) -> Path:
        """Where they are."""
        return run.checkpoints / f"best-{self.step:06d}"


class Position(msgspec.Struct, kw_only=True):
    """Where a run is. `stage` 0 is SFT, i is the i-th stage of the recipe; `stage_step` steps of it are done,
    `step` steps of the whole run. `state` is the stage's own; None before it has begun, and in SFT."""

    stage: int = 0
    stage_step: int = 0
    step: int = 0
    finished: bool = False  # the stage's last step is done, its evaluation is not
    metrics_size: int = 0
    metrics_hash: str = ""
    state: StageState | None = None
    best: Best | None = None
    micro: dict[str, int] = {}  # tokens of a micro-batch, by phase, where they were measured
    slots: tuple[int, ...] = ()  # of each rank's sampler, where memory lowered some; 0: as the recipe says
    hashes: dict[str, str] = {}
    anchors: dict[str, Anchor] = {}  # by domains: the diversity that later stages match

    def next_stage(self) -> None:
        """Go on to the beginning of the stage after this one."""
        self.stage, self.stage_step, self.finished = self.stage + 1, 0, False
        self.state = self.best = None


class Writer:
    """Writes a run's checkpoints, with what `slots` says. As a context manager it ends when the last is on
    disk."""

    def __init__(self, run: Run, slots: Callable[[], int] = lambda: 0) -> None:
        self.run, self._slots = run, slots
        self._group: Any = None  # of the background's own messages between ranks
        self._waiting: tuple[threading.Thread, list[BaseException]] | None = None

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, *_: object) -> None:
        self.wait()

    def save(self, model: Any, optimizers: Optimizers, position: Position) -> None:
        """Write a checkpoint of this moment and drop all but the newest that are to be kept. Collective."""
        self.wait()
        run = self.run
        number = ranks.of_main(max((_number(p) for p in _folders(run)), default=0) + 1)
        temporary = run.checkpoints / f".tmp-{number}"
        position.metrics_size, position.metrics_hash = run.mark()
        slots = tuple(ranks.gathered(self._slots()))
        position.slots = slots if any(slots) else ()
        now = msgspec.json.decode(msgspec.json.encode(position), type=Position)
        with disk_errors(run.path):
            if ranks.main():
                shutil.rmtree(temporary, ignore_errors=True)
                temporary.mkdir(parents=True)
            if is_sharded(model):
                self._save_shards(temporary, _tensors(model, optimizers), now, number)
                return
            if ranks.main():  # the others hold the same
                save_file(_weights(model), temporary / "weights.safetensors")
                save_file(_optimizer_tensors(optimizers), temporary / "optimizer.safetensors")
                _finish(run, temporary, now, number)
            ranks.barrier()

    def save_best(self, model: Any, step: int, score: float) -> Best:
        """Write the weights alone, apart from the checkpoints. Collective."""
        run = self.run
        final = Best(step, score, {}).folder(run)
        temporary = final.with_name(f".tmp-{final.name}")
        with disk_errors(run.path):
            if ranks.main():
                shutil.rmtree(temporary, ignore_errors=True)
                temporary.mkdir(parents=True)
            ranks.barrier()
            if is_sharded(model):
                target = HuggingFaceStorageWriter(str(temporary), save_distributed=True)
                state_dict_saver.save(
                    _weights(model), storage_writer=target, no_dist=not dist.is_initialized()
                )
            else:
                save_file(_weights(model), temporary / "weights.safetensors")
            ranks.barrier()
            return ranks.of_main(_named(temporary, final, step, score) if ranks.main() else None)

    def wait(self) -> None:
        """Wait for what is being written; raises what went wrong with it."""
        if self._waiting is not None:
            thread, errors = self._waiting
            thread.join()
            self._waiting = None
            if errors:
                raise errors[0]

    def _save_shards(
        self, temporary: Path, tensors: dict[str, Tensor], position: Position, number: int
    ) -> None:
        ranks.barrier()  # the folder is there
        self._group = self._group or dist.new_group(backend="gloo")
        writer = HuggingFaceStorageWriter(str(temporary), save_distributed=True)
        written = state_dict_saver.async_save(tensors, storage_writer=writer, process_group=self._group)
        assert isinstance(written, Future)
        errors: list[BaseException] = []

        def finish() -> None:
            try:
                with disk_errors(self.run.path):
                    _result(written)
                    if ranks.main():
                        _finish(self.run, temporary, position, number)
            except BaseException as error:
                errors.append(error)

        thread = threading.Thread(target=finish, name="acereason-checkpoint")
        thread.start()
        self._waiting = thread, errors


def _named(temporary: Path, final: Path, step: int, score: float) -> Best:
    """Sync the best weights and give their folder its name."""
    hashes = {f.name: file_hash(f) for f in sorted(temporary.glob("*.safetensors"))}
    sync_tree(temporary)
    shutil.rmtree(final, ignore_errors=True)
    temporary.rename(final)
    sync(final.parent)
    return Best(step, score, hashes)


def _result(written: Future[Any]) -> None:
    """Wait for the ranks' files. What kept a rank from writing is raised as it was."""
    try:
        written.result()
    except CheckpointException as error:
        raise next(iter(error.failures.values()))[0] from error


def _finish(run: Run, temporary: Path, position: Position, number: int) -> None:
    """Sync the files, write where the run is, and give the folder its name."""
    files = sorted(temporary.glob("*.safetensors"))
    position.hashes = {f.name: file_hash(f) for f in files}
    for file in files:
        sync(file)
    write_atomic(temporary / "position.json", msgspec.json.encode(position))
    temporary.rename(run.checkpoints / f"step-{position.step:06d}-{number}")
    sync(run.checkpoints)
    for old in _folders(run)[: -run.recipe.keep.checkpoints]:
        shutil.rmtree(old)


class Saver:
    """Writes checkpoints when a loop says that it may: now, or after a step where one is due. When the run
    was asked to stop it writes one and raises Preempted. Collective."""

    def __init__(
        self, writer: Writer, model: Any, optimizers: Optimizers, position: Position, every: int
    ) -> None:
        self._writer, self._model, self._optimizers = writer, model, optimizers
        self._position, self._every = position, every

    def __call__(self) -> None:
        """Write one now."""
        asked = bool(ranks.largest(torch.tensor(float(stopping.asked()))))
        self._writer.save(self._model, self._optimizers, self._position)
        if asked:
            self._writer.wait()
            raise stopping.Preempted

    def best(self, score: float) -> None:
        """Keep these weights as the stage's best if no score before was as high."""
        before = self._position.best
        if math.isnan(score) or (before is not None and score <= before.score):
            return
        self._position.best = self._writer.save_best(self._model, self._position.step, score)
        self()  # from now on the newest checkpoint tells of them
        self._drop(self._position.best)

    def restore_best(self) -> int:
        """Put the best weights into the model; returns the step that they are of."""
        best = self._position.best
        if best is None:
            raise CheckpointError("there are no best weights: no score was a number")
        folder = best.folder(self._writer.run)
        wrong = [n for n, h in best.hashes.items() if not (folder / n).exists() or file_hash(folder / n) != h]
        if wrong:
            raise CheckpointError(f"the best weights in {folder} are damaged ({wrong[0]}); restore a copy")
        load_weights(folder, self._model)
        return best.step

    def _drop(self, kept: Best) -> None:
        """Remove weights that were the best before."""
        self._writer.wait()
        for folder in self._writer.run.checkpoints.glob("best-*") if ranks.main() else ():
            if folder != kept.folder(self._writer.run):
                shutil.rmtree(folder)

    def after_step(self) -> None:
        """Write one if it is due after this step of the stage, or if the run was asked to stop."""
        due = self._position.stage_step % self._every == 0
        if due or ranks.largest(torch.tensor(float(stopping.asked()))):
            self()


def latest(run: Run) -> tuple[Path, Position] | None:
    """The newest checkpoint that is whole and whose metrics are there, or None when there is none at all.
    Collective.

    Raises CheckpointError when there are some but none verifies."""
    return ranks.of_main(_latest(run) if ranks.main() else None)


def _latest(run: Run) -> tuple[Path, Position] | None:
    for leftover in run.checkpoints.glob(".tmp-*"):
        shutil.rmtree(leftover)
    folders = _folders(run)
    for folder in reversed(folders):
        position, fault = _verified(run, folder)
        if position is not None:
            return folder, position
        log.warning("checkpoint %s %s; trying the one before", folder, fault)
    if folders:
        raise CheckpointError(
            f"none of the {len(folders)} checkpoints in {run.checkpoints} is whole (the oldest {fault}). "
            "Remove them to begin the run again from its recipe, or restore one from a copy"
        )
    return None


def _verified(run: Run, folder: Path) -> tuple[Position | None, str]:
    """Where a checkpoint stands, or what is wrong with it."""
    try:
        position = msgspec.json.decode((folder / "position.json").read_bytes(), type=Position)
        damaged = [n for n, h in position.hashes.items() if file_hash(folder / n) != h]
    except (OSError, msgspec.DecodeError) as error:
        return None, f"cannot be read ({error})"
    if damaged:
        return None, f"is damaged ({damaged[0]})"
    if not run.has(position.metrics_size, position.metrics_hash):
        return None, f"is of {position.metrics_size:,} bytes of metrics.jsonl that are not there any more"
    return position, ""


def drop_later(run: Run, folder: Path) -> None:
    """Remove the checkpoints after this one, which cannot be used: the run goes on from here."""
    for later in _folders(run) if ranks.main() else ():
        if _number(later) > _number(folder):
            shutil.rmtree(later)


def load_weights(folder: Path, model: Any) -> None:
    """Put a checkpoint's weights into the model, in place. Collective."""
    own, stored = _weights(model), _sizes(folder)
    weights = {name for name in stored if not _OPTIMIZER.match(name)}
    if own.keys() != weights or any(own[name].shape != stored[name][0] for name in weights):
        raise CheckpointError(f"{folder} holds the weights of another model than the recipe describes")
    _read(folder, own)
    halves.refresh(model)
    base = base_of(model)
    if base is not None and not torch.equal(own[BASE], base):
        raise CheckpointError(
            f"{folder} was trained over other frozen weights than those of model.path are now; put these back"
        )


def load_optimizers(folder: Path, optimizers: Optimizers) -> None:
    """Put a checkpoint's optimiser state into fresh optimisers over the same parameters. Collective."""
    targets = {}
    known = [_parameters(optimizer) for optimizer in optimizers]
    for name, (size, dtype) in _sizes(folder).items():
        if place := _OPTIMIZER.match(name):
            number, index, key = int(place[1]), int(place[2]), place[3]
            parameter = known[number][index]
            if size == parameter.shape:
                target = torch.empty_like(parameter.detach(), dtype=dtype)
            elif len(size) == 2:  # the scales of 8-bit moments: a row for each of the parameter's
                target = eight_bit.like(parameter.detach(), size, dtype)
            else:
                target = torch.empty(size, dtype=dtype, device=parameter.device)
            targets[name] = (list(optimizers)[number].state[parameter], key, target)
    _read(folder, {name: target for name, (_, _, target) in targets.items()})
    for state, key, target in targets.values():
        state[key] = target
    for optimizer in optimizers:
        getattr(optimizer, "rest", lambda: None)()


_OPTIMIZER = re.compile(r"(\d+)\.(\d+)\.(\w+)$")  # optimiser, parameter, what of its state


def _sizes(folder: Path) -> dict[str, tuple[torch.Size, torch.dtype]]:
    """Shape and type of every tensor of a checkpoint, whole or in shards."""
    try:
        metadata = HuggingFaceStorageReader(str(folder)).read_metadata().state_dict_metadata
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"cannot read the checkpoint {folder}: {error}") from error
    return {name: (tensor.size, tensor.properties.dtype) for name, tensor in metadata.items()}  # type: ignore[union-attr]


def _read(folder: Path, targets: dict[str, Tensor]) -> None:
    """Fill `targets`, whole tensors or shards, from a checkpoint."""
    with warnings.catch_warnings():  # that there is only one process is no reason to warn
        warnings.simplefilter("ignore")
        reader = HuggingFaceStorageReader(str(folder))
        state_dict_loader.load(targets, storage_reader=reader, no_dist=not dist.is_initialized())


def _number(folder: Path) -> int:
    return int(folder.name.rpartition("-")[2])


def _folders(run: Run) -> list[Path]:
    return sorted(run.checkpoints.glob("step-*"), key=_number)


def _weights(model: Any) -> dict[str, Tensor]:
    """Every parameter that learns, once: tied parameters share their storage and are kept under one name.
    With adapters these are the adapters; beside them, and beside layers that learn over frozen ones, goes a
    checksum of what does not learn."""
    weights = {name: p.detach() for name, p in model.named_parameters() if p.requires_grad}
    base = base_of(model)
    return weights if base is None else {**weights, BASE: base.clone()}


def _tensors(model: Any, optimizers: Optimizers) -> dict[str, Tensor]:
    return {**_weights(model), **_optimizer_tensors(optimizers)}


def _optimizer_tensors(optimizers: Optimizers) -> dict[str, Tensor]:
    result: dict[str, Tensor] = {}
    for number, optimizer in enumerate(optimizers):
        for index, parameter in enumerate(_parameters(optimizer)):
            for key, value in optimizer.state.get(parameter, {}).items():
                result[f"{number}.{index}.{key}"] = torch.as_tensor(value)
    return result


def _parameters(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    return [p for group in optimizer.param_groups for p in group["params"]]
