"""Matrices as compiled code reads them: columns side by side in panels, and memory in large pages.

    panels, fill_panels      of float32, [ceil(N / w), K, w] (`native/matrix.h`)
    half_shape, pack_half    of bfloat16, in tiles of pairs (`native/halves.h`)

A large page is one miss of the processor's address cache instead of 512: weights are read a third faster from
them, and gradients that are new in every step cost one fault of the system instead of 512.
"""

from __future__ import annotations

import contextlib
import ctypes
import math
import mmap
import weakref
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

LARGE = 1 << 24  # bytes from which on a block is kept for the next that wants one
_spare: mmap.mmap | None = None


def zeros(size: Sequence[int]) -> npt.NDArray[np.float32]:
    """float32 zeros in large pages where the system has them; memory is taken as it is first written.

    The last large block that nobody needs any more is kept and given again: a sampler's cache and a trainer's
    gradients are wanted by turns, and fresh pages cost more than what is done with them."""
    count = math.prod(size)
    memory = _taken(4 * count) or _mapped(4 * count)
    array = np.frombuffer(memory, np.float32, count)
    weakref.finalize(array, _keep, memory)
    return array.reshape(size)


def _mapped(size: int) -> mmap.mmap:
    private = {"flags": mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS} if hasattr(mmap, "MAP_PRIVATE") else {}
    try:
        memory = mmap.mmap(-1, max(1, size), **private)  # shared memory has no large pages
    except OSError as error:  # as every other allocation says it
        raise MemoryError(f"no memory for {size:,} bytes: {error}") from error
    if hasattr(mmap, "MADV_HUGEPAGE"):
        with contextlib.suppress(OSError):
            memory.madvise(mmap.MADV_HUGEPAGE)
    return memory


def _taken(size: int) -> mmap.mmap | None:
    """The spare block, with zeros, if it is large enough and not much too large."""
    global _spare
    memory = _spare
    if memory is None or not size <= len(memory) <= 2 * size:
        return None
    _spare = None
    np.frombuffer(memory, np.uint8, size).fill(0)
    return memory


def _keep(memory: mmap.mmap) -> None:
    global _spare
    if len(memory) >= max(LARGE, 0 if _spare is None else len(_spare)):
        _spare = memory


def panels(rows: int, columns: int, width: int) -> Tensor:
    """Zeros [ceil(rows / width), columns, width] for a matrix [rows, columns]."""
    return torch.zeros(-(-rows // width), columns, width)


def fill_panels(matrix: Tensor, out: Tensor) -> None:
    """Put a matrix [N, K] into panels [ceil(N / w), K, w]; lanes past N stay as they are."""
    width, whole = out.shape[2], matrix.shape[0] // out.shape[2]
    full = matrix[: whole * width].reshape(whole, width, matrix.shape[1])
    out[:whole].copy_(full.transpose(1, 2))
    if rest := matrix.shape[0] - whole * width:
        out[whole, :, :rest].copy_(matrix[whole * width :].t())


def half_shape(rows: int, columns: int) -> tuple[int, ...]:
    """How a matrix [rows, columns] lies in bfloat16, two numbers in each int32: panels of 32 rows, blocks of
    32 columns, two tiles, 16 pairs of columns, 16 rows."""
    return -(-rows // 32), -(-columns // 32), 2, 16, 16


def half_panels(matrices: Mapping[str, Sequence[int]]) -> dict[str, Tensor]:
    """Zeros for matrices of these sizes in bfloat16, one behind the other in large pages."""
    shapes = {name: half_shape(*size) for name, size in matrices.items()}
    sizes = [-(-math.prod(shape) // 1024) * 1024 for shape in shapes.values()]
    whole = torch.from_numpy(zeros((sum(sizes),))).view(torch.int32)
    parts = zip(shapes.items(), whole.split(sizes), strict=True)
    return {name: part[: math.prod(shape)].view(*shape) for (name, shape), part in parts}


def pack_half(
    library: ctypes.CDLL,
    matrix: Tensor,
    out: Tensor,
    turned: Tensor | None = None,
    first: int = 0,
    step: int = 1,
) -> None:
    """Put a matrix into half panels, of which every `step`th tile from `first` on is its own, and its
    transpose into others."""
    whole = matrix.detach().float().contiguous()
    rows, columns = whole.shape
    pointers = (out.data_ptr(), None if turned is None else turned.data_ptr())
    library.acereason_pack(whole.data_ptr(), rows, columns, first, step, *pointers)


def declare(library: ctypes.CDLL) -> None:
    """Tell ctypes what `pack_half` calls."""
    pointer, number = ctypes.c_void_p, ctypes.c_int32
    library.acereason_pack.argtypes = [pointer, *[number] * 4, pointer, pointer]
    library.acereason_pack.restype = None
