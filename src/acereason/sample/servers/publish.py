"""Weights on their way to servers as files: safetensors in a fresh folder that every server can read, all of
them or what changed since those before.

    settings.folder / run-<name> / w000012 / model-00001.safetensors …

The folder should be memory-backed (/dev/shm) where trainer and servers share a machine, else on a shared
disk. The present weights stay there until the next are served, so that a server that is started again can
load them: twice the model's size is needed while publishing. A run's folder is locked; what a killed run
left behind is deleted by the next one that publishes beside it.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import shutil
import threading
import uuid
from collections.abc import Iterable
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from acereason.errors import RunError, SamplingError
from acereason.files import lock
from acereason.sample.servers import delta
from acereason.sample.servers.vllm import Vllm

log = logging.getLogger(__name__)
SHARD = 2 << 30  # bytes of tensors gathered before they are written


class Outbox:
    """A run's own folder in `parent`; `close` deletes it."""

    def __init__(self, parent: Path) -> None:
        self.parent, self.name = parent, uuid.uuid4().hex[:12]
        self.path = parent / f"run-{self.name}"
        self.count = self.bytes = 0  # publications, and the size of the last one
        self.current: Path | None = None
        try:
            self.path.mkdir(parents=True)
            self._lock = lock(self.path / "lock")
            _sweep(parent)
        except OSError as error:
            raise SamplingError(
                f"weights cannot be published in {parent}: {error.strerror}. Give sampling.servers.folder "
                "a folder that the trainer can write and every server can read"
            ) from error

    def write(self, tensors: Iterable[tuple[str, Tensor]], name: str = "") -> tuple[Path, str]:
        """Write all tensors into a fresh folder; returns it and the name of these weights. They are in files
        of 2 GiB, or where `name` is given in one that is called so.

        The iterable is always run to its end, since gathering is a collective. Raises SamplingError when the
        folder is full; the weights before stay where they are."""
        self.count += 1
        folder, tensors = self.path / f"w{self.count:06d}", iter(tensors)
        folder.mkdir()
        try:
            if name:
                save_file({n: t.detach().cpu().contiguous() for n, t in tensors}, folder / name)
            else:
                self._save(folder, tensors)
        except (OSError, SafetensorError) as error:
            for _ in tensors:  # the other ranks are in the same gathering
                pass
            shutil.rmtree(folder, ignore_errors=True)
            free = shutil.disk_usage(self.parent).free / 2**30
            raise SamplingError(
                f"weights could not be written to {folder}: {error} ({free:.2f} GiB free). The servers go on "
                "with the weights before. Make room, or give sampling.servers.folder another folder: twice "
                "the model's size is needed"
            ) from error
        self.bytes = sum(file.stat().st_size for file in folder.iterdir())
        return folder, self.version

    @property
    def version(self) -> str:
        """The name of the weights that were written last."""
        return f"{self.name}-{self.count}"

    def _save(self, folder: Path, tensors: Iterable[tuple[str, Tensor]]) -> None:
        _write_shards(folder, tensors)

    def served(self, folder: Path) -> None:
        """`folder` is what the servers have now; the weights before are deleted."""
        if self.current is not None and self.current != folder:
            shutil.rmtree(self.current, ignore_errors=True)
        self.current = folder

    def close(self) -> None:
        """Delete the folder with everything in it."""
        shutil.rmtree(self.path, ignore_errors=True)
        self._lock.close()


class Deltas(Outbox):
    """As `Outbox`, of what changed (`delta`). Holds the present weights in memory, to compare with and for
    servers whose own copy is of others."""

    def __init__(self, parent: Path) -> None:
        super().__init__(parent)
        self._present: dict[str, Tensor] = {}
        self._base = ""  # the name of these
        self._whole: tuple[str, Path] | None = None  # a folder of all of them, where one was needed
        self._lock_whole = threading.Lock()

    def _save(self, folder: Path, tensors: Iterable[tuple[str, Tensor]]) -> None:
        base, self._base = self._base, ""  # of no use if this fails
        changes, hashes = dict[str, Tensor](), dict[str, str]()
        for key, tensor in tensors:
            after = tensor.detach().to("cpu", copy=True).contiguous()
            made = delta.change(self._present[key], after) if base else {"": after}
            if made is not None:
                changes |= {key + form: part for form, part in made.items()}
                hashes[key] = delta.digest(after)
                self._present[key] = after
        if base:
            delta.write(folder, self.version, base, changes, hashes)
        else:
            self._write_whole(folder, hashes)
        self._base = self.version

    def _write_whole(self, folder: Path, hashes: dict[str, str]) -> None:
        _write_shards(folder, self._present.items())
        delta.describe(folder, self.version, "", hashes)

    def whole(self) -> Path:
        """A folder of all present weights, written when it is first asked for."""
        with self._lock_whole:
            if self._whole is None or self._whole[0] != self.version:
                folder = self.path / f"w{self.count:06d}-whole"
                folder.mkdir()
                self._write_whole(folder, {key: delta.digest(t) for key, t in self._present.items()})
                self._whole = self.version, folder
            return self._whole[1]

    async def give(self, server: Vllm, folder: Path, in_flight: str) -> None:
        """Let a server take what changed, or everything where that is not enough."""
        copy = f"{self.name}-{hashlib.sha256(server.url.encode()).hexdigest()[:8]}"
        try:
            await server.load(folder, self.version, in_flight, copy)
        except delta.Missing as missing:
            log.info("%s has %s, and gets all weights", server.url, missing)
            try:
                await server.load(await asyncio.to_thread(self.whole), self.version, in_flight, copy)
            except delta.Missing as error:
                raise SamplingError(
                    f"{server.url} could not keep a copy of the weights: it has {error}. Is its disk full? "
                    'ACEREASON_COPIES names another folder; or set sampling.servers.transfer = "files"'
                ) from error

    def served(self, folder: Path) -> None:
        super().served(folder)
        if self._whole is not None and self._whole[0] != self.version:
            shutil.rmtree(self._whole[1], ignore_errors=True)
            self._whole = None


def _write_shards(folder: Path, tensors: Iterable[tuple[str, Tensor]]) -> None:
    part: dict[str, Tensor] = {}
    size = number = 0
    for name, tensor in tensors:
        part[name] = tensor.detach().cpu().contiguous()
        size += part[name].nbytes
        if size >= SHARD:
            number += 1
            save_file(part, folder / f"model-{number:05d}.safetensors")
            part, size = {}, 0
    if part:
        save_file(part, folder / f"model-{number + 1:05d}.safetensors")


def _sweep(parent: Path) -> None:
    """Delete the folders of runs that are no longer there: their lock is free."""
    for folder in parent.glob("run-*"):
        if (folder / "lock").exists():
            with contextlib.suppress(RunError), lock(folder / "lock"):
                shutil.rmtree(folder, ignore_errors=True)
