"""Only what changed since the weights before, for links that are slow: files that patch a server's own copy.

    trainer   folder / weights.json    {name, base, tensors: {tensor: SHA-256 of its bytes from now on}}
              folder / *.safetensors   of each tensor what is least: nothing, elements, rows, or all of it
    server    a copy of all weights on its own machine, patched in place, then loaded as published files are

At RL's learning rates few bfloat16 weights change in a step, so a delta is a small part of a model. A copy
that is of other weights than `base`, or whose tensors have other hashes when it is patched, takes no delta:
the server says what it has, and gets everything. Servers load this file: torch, safetensors, and no more.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

ABOUT, FILE, NAME = "weights.json", "delta.safetensors", "name"
AT, ROWS, VALUES = "@elements", "@rows", "@values"
BITS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
TYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
PREFIX = "acereason-copy-"


def digest(tensor: Tensor) -> str:
    """SHA-256 of a tensor's bytes."""
    return hashlib.sha256(_raw(tensor).numpy().data).hexdigest()


def _raw(tensor: Tensor) -> Tensor:
    return tensor.detach().contiguous().flatten().view(torch.uint8)


def change(before: Tensor, after: Tensor) -> dict[str, Tensor] | None:
    """What makes `after` of `before` in the fewest bytes, by suffix of its key; None: nothing changed.

    Shapes: elements [n] are places in the flattened tensor, rows [n] in its first dimension."""
    bits = BITS[after.element_size()]
    differs = before.view(bits) != after.view(bits)
    count = int(differs.sum())
    if not count:
        return None
    index = torch.int32 if after.numel() < 2**31 else torch.int64
    rows = differs.reshape(len(after), -1).any(1) if after.ndim > 1 else differs.flatten()
    sizes = {
        "": after.nbytes,
        AT: count * (after.element_size() + index.itemsize),
        ROWS: int(rows.sum()) * (after.nbytes // max(rows.numel(), 1) + index.itemsize),
    }
    form = min(sizes, key=lambda key: sizes[key])
    if not form:
        return {"": after}
    places = (differs.flatten() if form == AT else rows).nonzero()[:, 0]
    values = after.flatten()[places] if form == AT else after[places]
    return {form: places.to(index), VALUES: values}


def write(folder: Path, name: str, base: str, changes: Mapping[str, Tensor], hashes: dict[str, str]) -> None:
    """A delta's files in `folder`; `changes` by the tensor's name with the suffixes of `change`."""
    save_file({key: tensor.contiguous() for key, tensor in changes.items()}, folder / FILE)
    describe(folder, name, base, hashes)


def describe(folder: Path, name: str, base: str, hashes: dict[str, str]) -> None:
    """Say what the files in `folder` are; whole weights have no `base`."""
    (folder / ABOUT).write_text(json.dumps({"name": name, "base": base, "tensors": hashes}))


class Missing(Exception):
    """A copy that cannot be patched; says what it is."""


class Copy:
    """A server's own copy of the weights, in `folder` on its machine; its processes share it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._used = _held(folder)

    @property
    def name(self) -> str:
        """Of the weights in the copy; empty while they are none."""
        file = self.folder / NAME
        return file.read_text() if file.exists() else ""

    def take(self, given: Path) -> int:
        """Make the copy that of the weights in `given`, whole or a delta; the number of changed tensors.

        Raises Missing when it would need all of them."""
        about = json.loads((given / ABOUT).read_text())
        with (self.folder / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if self.name == about["name"]:  # another process of this server was quicker
                return len(about["tensors"])
            if about["base"] and self.name != about["base"]:
                raise Missing(self.name or "nothing")
            (self.folder / NAME).unlink(missing_ok=True)  # killed from here on, it is nobody's copy
            if about["base"]:
                self._patch(load_file(given / FILE))
            else:
                self._replace(given)
            self._check(about["tensors"])
            (self.folder / NAME).write_text(about["name"])
            return len(about["tensors"])

    def _replace(self, given: Path) -> None:
        for old in self.folder.glob("*.safetensors"):
            old.unlink()
        for file in sorted(given.glob("*.safetensors")):
            shutil.copyfile(file, self.folder / file.name)

    def _patch(self, changes: dict[str, Tensor]) -> None:
        own = self.tensors()
        for key, tensor in changes.items():
            name, _, form = key.partition("@")
            target = own[name]
            if not form:
                target.copy_(tensor)
            elif f"@{form}" == AT:
                target.view(-1)[tensor.long()] = changes[name + VALUES]
            elif f"@{form}" == ROWS:
                target[tensor.long()] = changes[name + VALUES]

    def _check(self, hashes: dict[str, str]) -> None:
        own = self.tensors()
        with ThreadPoolExecutor(4) as pool:
            found = dict(zip(hashes, pool.map(lambda name: digest(own[name]), hashes), strict=True))
        if wrong := [name for name in hashes if found[name] != hashes[name]]:
            raise Missing(f"a copy in which {wrong[0]} and {len(wrong) - 1} more are damaged")

    def tensors(self) -> dict[str, Tensor]:
        """All tensors, mapped from the files: what is written into them is in the files."""
        files = sorted(self.folder.glob("*.safetensors"))
        return {name: tensor for file in files for name, tensor in _mapped(file)}

    def drop(self) -> None:
        """Delete the copy."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self._used.close()


def _held(folder: Path) -> IO[str]:
    """A lock that is held while a process lives, so that nobody sweeps its folder, which is made."""
    while True:
        with contextlib.suppress(FileNotFoundError), contextlib.ExitStack() as opened:
            folder.mkdir(parents=True, exist_ok=True)
            used = opened.enter_context((folder / "used").open("w"))
            fcntl.flock(used, fcntl.LOCK_SH)
            if _there(used):
                opened.pop_all()
                return used


def _there(used: IO[str]) -> bool:
    """Whether a file is still the one at its path, and not swept (and made anew) since it was opened."""
    return os.path.samestat(os.fstat(used.fileno()), os.stat(used.name))


def _mapped(file: Path) -> Iterator[tuple[str, Tensor]]:
    """Every tensor of a safetensors file, in place (8 bytes of length, a JSON header, the tensors' bytes)."""
    with file.open("rb") as opened:
        begin = int.from_bytes(opened.read(8), "little")
        header: dict[str, Any] = json.loads(opened.read(begin))
    data = torch.from_file(str(file), shared=True, size=file.stat().st_size, dtype=torch.uint8)[8 + begin :]
    header.pop("__metadata__", None)
    for name, about in header.items():
        first, last = about["data_offsets"]
        yield name, data[first:last].view(TYPES[about["dtype"]]).view(about["shape"])


def place(name: str) -> Path:
    """Where a server keeps its copy: in memory where there is a folder of that, or ACEREASON_COPIES."""
    memory = Path("/dev/shm")
    where = os.environ.get("ACEREASON_COPIES") or (memory if memory.is_dir() else tempfile.gettempdir())
    return Path(where) / f"{PREFIX}{name}"


def sweep(kept: Path) -> None:
    """Delete the copies beside `kept` whose servers are gone."""
    for folder in kept.parent.glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError), (folder / "used").open("r") as used:
            fcntl.flock(used, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if folder != kept and _there(used):
                shutil.rmtree(folder, ignore_errors=True)
