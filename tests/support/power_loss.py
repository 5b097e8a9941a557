"""A power cut in the middle of a run: what was not synced is lost.

    with Disk(folder) as disk, pytest.raises(PowerCut):
        disk.cut_at(17)                   # at the 17th sync
        ...                               # a run in `folder`
    disk.leave(other)                     # what a disk may hold afterwards

A file keeps the bytes that it had when it was synced last, a folder the names: the least that a file system
promises. Names and bytes are kept by inode, as both travel with a rename.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any


class PowerCut(BaseException):
    """The machine is off."""


class Disk:
    def __init__(self, folder: Path) -> None:
        self._parent = folder.parent
        self._name = folder.name
        self._bytes: dict[int, bytes] = {}
        self._names: dict[int, dict[str, int]] = {}
        self._folders: set[int] = set()
        self._held: dict[int, int] = {}  # open handles, so that no inode is used a second time
        self._left = -1
        self.syncs = 0

    def __enter__(self) -> Disk:
        self._real = os.fsync
        os.fsync = self._sync  # type: ignore[assignment]
        return self

    def __exit__(self, *_: object) -> None:
        os.fsync = self._real
        for handle in self._held.values():
            os.close(handle)

    def cut_at(self, number: int) -> None:
        """Cut the power at this sync, before it has done anything; it is the last thing that happens."""
        self._left = number

    def _sync(self, handle: Any) -> None:
        number = handle if isinstance(handle, int) else handle.fileno()
        self.syncs += 1
        if self.syncs >= self._left > 0:
            raise PowerCut
        status = os.fstat(number)
        self._hold(status.st_ino, f"/proc/self/fd/{number}")
        if stat.S_ISDIR(status.st_mode):
            entries = list(os.scandir(number))
            for entry in entries:
                self._hold(entry.inode(), f"/proc/self/fd/{number}/{entry.name}")
            self._names[status.st_ino] = {e.name: e.inode() for e in entries}
            self._folders |= {status.st_ino, *(e.inode() for e in entries if e.is_dir())}
        else:
            self._bytes[status.st_ino] = Path(f"/proc/self/fd/{number}").read_bytes()
        self._real(number)

    def _hold(self, inode: int, path: str) -> None:
        if inode not in self._held:
            self._held[inode] = os.open(path, os.O_PATH)

    def leave(self, target: Path) -> None:
        """Put into `target` what is left of the folder; nothing where its name was not synced."""
        inode = self._names.get(self._parent.stat().st_ino, {}).get(self._name)
        if inode is not None:
            self._restore(inode, target)

    def _restore(self, inode: int, target: Path) -> None:
        if inode not in self._folders:
            target.write_bytes(self._bytes.get(inode, b""))
            return
        target.mkdir()
        for name, inner in self._names.get(inode, {}).items():
            self._restore(inner, target / name)
