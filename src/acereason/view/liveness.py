"""How a run is doing, told from its folder alone.

    finished   its summary is there
    running    a process holds the folder, or something was written a short while ago
    stalled    a process holds the folder, and nothing has been written for much longer than a step takes
    torn       nobody holds it and its last metrics line is not whole: killed while it wrote
    stopped    nobody holds it, and it is not finished

The lock is read from /proc/locks, never taken: asking must not keep a run from starting. Where that file
does not exist, or the run is on another machine, only the age of what was written speaks.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

State = Literal["finished", "running", "stalled", "torn", "stopped"]

PATIENCE = 600.0  # seconds without a word that are always fine
STEPS = 20.0  # so many steps' time is fine too: evaluations and checkpoints write nothing meanwhile
NETWORK = ("nfs", "lustre", "ceph", "fuse", "cifs", "smb", "gpfs", "beegfs", "gluster", "9p")
UNKNOWN = 3600.0  # seconds that are fine before the first step: curation and loading write nothing either


def state(folder: Path, now: float, torn: bool, step_seconds: float | None) -> State:
    """The run's state at the time `now`; `step_seconds` is what a step takes, if known."""
    quiet = now - (written(folder) or 0.0)
    patience = UNKNOWN if step_seconds is None else max(PATIENCE, STEPS * step_seconds)
    held = locked(folder / ".lock")
    if held:
        return "running" if quiet <= patience else "stalled"
    if (folder / "summary.json").exists():
        return "finished"
    if held is None and quiet <= patience:
        return "running"
    return "torn" if torn else "stopped"


def locked(path: Path) -> bool | None:
    """Whether a process on this machine holds a lock on the file; None when that cannot be known, as on a
    network file system, where the process may be on another machine."""
    try:
        status = path.stat()
        held = [line.split() for line in Path("/proc/locks").read_text().splitlines()]
    except OSError:
        return None
    major, minor = os.major(status.st_dev), os.minor(status.st_dev)
    # file systems without a device (overlay, btrfs) show stat another number than the lock table
    end = f"{major:02x}:{minor:02x}:{status.st_ino}" if major else f":{status.st_ino}"
    if any(part.endswith(end) for line in held for part in line[5:6]):
        return True
    return None if _on_network(status.st_dev) else False


def _on_network(device: int) -> bool:
    place = f"{os.major(device)}:{os.minor(device)}"
    mounts = [line.split() for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    kinds = [mount[mount.index("-") + 1] for mount in mounts if mount[2] == place]
    return any(kind.startswith(NETWORK) for kind in kinds)


def written(folder: Path) -> float | None:
    """When something was last written into the run, in seconds since 1970."""
    return max(_times(folder), default=None)


def begun(folder: Path) -> float | None:
    """When the run was made: the age of its manifest, or of its recipe."""
    for name in ("manifest.json", "recipe.json", "metrics.jsonl"):
        try:
            return (folder / name).stat().st_mtime
        except OSError:
            continue
    return None


def _times(folder: Path) -> Iterator[float]:
    for name in ("metrics.jsonl", "responses", "checkpoints", "evaluations", "models", "data", "recipe.json"):
        try:
            yield (folder / name).stat().st_mtime
        except OSError:
            continue
