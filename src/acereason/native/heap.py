"""The C library's heap, told how PyTorch uses it.

By default glibc gives every large block back to the system as soon as it is freed, and the next pass over the
model pays for the same pages again: elementwise passes of 1 MB took 2.5 times as long. `keep` lets freed
blocks wait for reuse, `give_back` returns what lies unused between the phases of a run, whose needs differ.

Only glibc on Linux; elsewhere nothing happens. What the environment says (MALLOC_TRIM_THRESHOLD_, …) stands.
"""

from __future__ import annotations

import ctypes
import os
import sys
from functools import cache

TRIM_THRESHOLD, MMAP_THRESHOLD, ARENA_MAX = -1, -3, -8  # mallopt's names in <malloc.h>
KEPT = 256 << 20  # bytes at the heap's end that may lie unused
SMALL = 8 << 20  # larger blocks, weights and caches, are mapped alone and given back when freed


@cache
def _library() -> ctypes.CDLL | None:
    """The C library where it is glibc's."""
    if sys.platform != "linux":
        return None
    library = ctypes.CDLL(None)
    return library if hasattr(library, "gnu_get_libc_version") else None


def keep() -> bool:
    """Let freed memory wait for reuse; whether that was possible. For programs, not on import."""
    library = _library()
    if library is None or any(name.startswith("MALLOC_") for name in os.environ):
        return False
    return bool(library.mallopt(MMAP_THRESHOLD, SMALL) and library.mallopt(TRIM_THRESHOLD, KEPT))


def share(arenas: int = 2) -> bool:
    """Let all threads share so many heaps, before the first of them begins: each of a server's would keep the
    free blocks of what it once answered. Whether that was possible. For programs, not on import."""
    library = _library()
    if library is None or any(name.startswith("MALLOC_") for name in os.environ):
        return False
    return bool(library.mallopt(ARENA_MAX, arenas))


def give_back() -> None:
    """Return unused memory to the system."""
    library = _library()
    if library is not None:
        library.malloc_trim(0)
