"""This machine: its memory, and how much of it is free, with the limits of a container; its processors."""

from __future__ import annotations

import os
from pathlib import Path

CGROUP = Path("/sys/fs/cgroup")
MEMINFO = Path("/proc/meminfo")


def cores() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0))


def memory() -> int:
    """Bytes of memory, or of the container that this process is in."""
    whole = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    limit = _number(CGROUP / "memory.max")
    return whole if limit is None else min(whole, limit)


def available() -> int | None:
    """Bytes of memory that are free or can be had at once; None where the kernel does not say."""
    free = _sizes(MEMINFO).get("MemAvailable:")
    if free is None:
        return None
    limit, used = _number(CGROUP / "memory.max"), _number(CGROUP / "memory.current")
    if limit is None or used is None:
        return free * 1024
    pages = _sizes(CGROUP / "memory.stat").get("inactive_file", 0)  # of files, which are dropped first
    return min(free * 1024, max(limit - used + pages, 0))


def _number(file: Path) -> int | None:
    """What a file of one number says; None: no such file, or no limit ("max")."""
    try:
        text = file.read_text().strip()
    except OSError:
        return None
    return int(text) if text.isdigit() else None


def _sizes(file: Path) -> dict[str, int]:
    """The first number of each line, by what stands before it."""
    try:
        lines = [line.split() for line in file.read_text().splitlines()]
    except OSError:
        return {}
    return {line[0]: int(line[1]) for line in lines if len(line) > 1 and line[1].isdigit()}
