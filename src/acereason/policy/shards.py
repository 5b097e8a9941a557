"""Hugging Face folders to and from a model whose ranks hold shards: never a whole model in one process.

model = empty_model(path)          the class of the checkpoint, its parameters without storage
... shard it ...
fill(model, path, device)          each rank reads its own slices of the safetensors
write(model, folder)               tensor by tensor, gathered; the first rank writes
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.distributed.tensor._utils import compute_local_shape_and_global_offset
from transformers import AutoModelForCausalLM, GenerationConfig

from acereason import ranks
from acereason.errors import CheckpointError
from acereason.policy import attention, lora
from acereason.policy.state import full_tensors

FILE_BYTES = 5 << 30  # of one file that `write` writes
ROWS = 8192  # of two matrices, compared at a time
INDEX = "model.safetensors.index.json"
TWO_HEADS = (
    "config.json in {path} says that output head and embeddings are tied, but the file holds a head of its "
    "own; write tie_word_embeddings = false there, or take the head out of the file"
)


def empty_model(config: Any, folder: Path, dtype: torch.dtype) -> Any:
    """The model that `config` describes, with parameters on the meta device and real buffers."""
    with _parameters_on_meta():
        model = AutoModelForCausalLM.from_config(config, dtype=dtype, attn_implementation=attention.NAME)
    if (folder / "generation_config.json").exists():
        model.generation_config = GenerationConfig.from_pretrained(str(folder))
    return model.train()


@contextmanager
def _parameters_on_meta() -> Iterator[None]:
    """Modules built here get their parameters without storage as they are registered, one by one."""
    plain = nn.Module.register_parameter

    def register(self: nn.Module, name: str, param: nn.Parameter | None) -> None:
        if param is not None and not param.is_meta:  # one that is there already is being tied
            param = nn.Parameter(param.detach().to("meta"), param.requires_grad)
        plain(self, name, param)

    nn.Module.register_parameter = register  # type: ignore[method-assign]
    try:
        yield
    finally:
        nn.Module.register_parameter = plain  # type: ignore[method-assign]


def fill(model: Any, folder: Path, device: torch.device, rest: torch.device | None = None) -> None:
    """Give a model without storage its weights from `folder`; each rank reads only what it holds. They lie on
    `device`, or at `rest` where they are offloaded.

    Raises CheckpointError when a tensor is missing, unexpected, of another shape or cannot be read."""
    files = _files(folder)
    _check_tying(model, files, folder)
    model._apply(lambda t: torch.empty_like(t, device=rest or device) if t.is_meta else t.to(device))
    own = {name: p for name, p in model.named_parameters() if not lora.is_factor(name)}
    tied = {name for name, _ in model.named_parameters(remove_duplicate=False)} - own.keys()
    wrong = sorted((own.keys() - files.keys()) | (files.keys() - own.keys() - tied))
    if wrong:
        raise CheckpointError(
            f"the weights in {folder} are not those of a {type(model).__name__.removeprefix('FSDP')}: "
            f"{len(wrong)} tensors are missing or unexpected, e.g. {wrong[0]}"
        )
    for file in sorted(set(files.values())):
        try:
            with safe_open(file, framework="pt") as stored:
                for name in (n for n in own if files[n] == file):
                    _copy(own[name].detach(), stored.get_slice(name), f"{name} in {file}")
        except (OSError, SafetensorError) as error:
            raise CheckpointError(f"cannot read the weights in {file}: {error}") from error


def _check_tying(model: Any, files: dict[str, Path], folder: Path) -> None:
    """CheckpointError when head and embeddings are tied, and yet both are stored and differ."""
    names = {id(module): f"{name}.weight" for name, module in model.named_modules()}
    head, table = (names[id(m)] for m in (model.get_output_embeddings(), model.get_input_embeddings()))
    if not model.config.get_text_config().tie_word_embeddings or not {head, table} <= files.keys():
        return
    with safe_open(files[head], framework="pt") as one, safe_open(files[table], framework="pt") as two:
        a, b = one.get_slice(head), two.get_slice(table)
        rows = a.get_shape()[0]
        same = a.get_shape() == b.get_shape() and all(
            torch.equal(a[start : start + ROWS], b[start : start + ROWS]) for start in range(0, rows, ROWS)
        )
    if not same:
        raise CheckpointError(TWO_HEADS.format(path=folder))


def _files(folder: Path) -> dict[str, Path]:
    """Which file holds which tensor."""
    if (folder / INDEX).exists():
        named = json.loads((folder / INDEX).read_text())["weight_map"]
        return {name: folder / file for name, file in named.items()}
    file = folder / "model.safetensors"
    if not file.exists():
        raise CheckpointError(f"{folder} has neither {file.name} nor {INDEX}; expected a Hugging Face folder")
    try:
        with safe_open(file, framework="pt") as stored:
            return dict.fromkeys(stored.keys(), file)
    except SafetensorError as error:
        raise CheckpointError(f"cannot read the weights in {file}: {error}") from error


def _copy(target: Tensor, stored: Any, where: str) -> None:
    """Copy the slice of `stored` that this rank holds of `target`."""
    shape = tuple(stored.get_shape())
    if shape != tuple(target.shape):
        raise CheckpointError(f"{where} is {shape}; {tuple(target.shape)} was expected")
    if not isinstance(target, DTensor):
        target.copy_(stored[:])
        return
    size, start = compute_local_shape_and_global_offset(shape, target.device_mesh, target.placements)
    part = target.to_local()
    if part.numel():
        part.copy_(stored[tuple(slice(s, s + n) for s, n in zip(start, size, strict=True))])


def write(model: Any, folder: Path, dtype: torch.dtype) -> None:
    """Write a sharded model as an ordinary Hugging Face folder. Collective; the first rank writes."""
    files: list[tuple[Path, list[str]]] = []
    for tensors in _portions(model, dtype):
        if ranks.main():
            folder.mkdir(parents=True, exist_ok=True)
            part = folder / f"part-{len(files)}.safetensors"
            save_file(tensors, part, metadata={"format": "pt"})
            files.append((part, list(tensors)))
    if ranks.main():
        _finish(model, folder, files, dtype)


def _portions(model: Any, dtype: torch.dtype) -> Iterator[dict[str, Tensor]]:
    """The whole tensors, as many at a time as make a file; empty on ranks that do not write."""
    held: dict[str, Tensor] = {}
    size = 0
    for name, tensor in full_tensors(model, dtype):
        if size and size + tensor.nbytes > FILE_BYTES:
            yield held
            held, size = {}, 0
        size += tensor.nbytes
        if ranks.main():
            held[name] = tensor.cpu().contiguous()
    yield held


def _finish(model: Any, folder: Path, files: list[tuple[Path, list[str]]], dtype: torch.dtype) -> None:
    """Name the files as transformers does, and write the configuration."""
    count, index = len(files), {}
    total = sum(part.stat().st_size for part, _ in files)
    for number, (part, names) in enumerate(files, 1):
        of = f"-{number:05d}-of-{count:05d}" if count > 1 else ""
        file = part.rename(folder / f"model{of}.safetensors")
        index.update(dict.fromkeys(names, file.name))
    if count > 1:
        text = json.dumps({"metadata": {"total_size": total}, "weight_map": index}, indent=2)
        (folder / INDEX).write_text(text + "\n")
    config = type(model.config).from_dict(model.config.to_dict())
    config.architectures = [type(model).__name__.removeprefix("FSDP")]
    config.dtype = dtype
    config.save_pretrained(folder)
    if model.generation_config is not None:
        model.generation_config.save_pretrained(folder)
