"""Weights on their way to servers: safetensors in a fresh folder that every server can read.

    settings.folder / run-<name> / w000012 / model-00001.safetensors …

The folder should be memory-backed (/dev/shm) where trainer and servers share a machine, else on a shared
disk. The present weights stay there until the next are served, so that a server that is started again can
load them: twice the model's size is needed while publishing. A run's folder is locked; what a killed run
left behind is deleted by the next one that publishes beside it.
"""

from __future__ import annotations

import contextlib
import shutil
import uuid
from collections.abc import Iterable
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from acereason.errors import RunError, SamplingError
from acereason.files import lock

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
                _write_shards(folder, tensors)
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
        return folder, f"{self.name}-{self.count}"

    def served(self, folder: Path) -> None:
        """`folder` is what the servers have now; the weights before are deleted."""
        if self.current is not None and self.current != folder:
            shutil.rmtree(self.current, ignore_errors=True)
        self.current = folder

    def close(self) -> None:
        """Delete the folder with everything in it."""
        shutil.rmtree(self.path, ignore_errors=True)
        self._lock.close()


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
