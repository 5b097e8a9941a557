"""How quick this machine's cores are: a matrix product and a copy, about a second together.

Beside other work the numbers are as much too low as the work takes of the core.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import torch

from acereason.policy import halves

SECONDS = 0.4  # of each
SHAPE = (512, 1024, 2048)  # rows, in, out: of a micro-batch in a layer of a small model
COPIED = 32 << 20  # floats, more than any cache holds


def product_type(compute: str) -> str:
    """The type in which this machine multiplies where a recipe asks for `compute`."""
    there = compute == "bfloat16" and halves.available(torch.device("cpu"))
    return "bfloat16" if there else "float32"


def core(compute: str) -> tuple[float, float]:
    """(operations, bytes) a second of one core: products in `product_type`, and a copy's reads and writes."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        dtype = getattr(torch, product_type(compute))
        rows, inner, outer = SHAPE
        a, b = torch.ones(rows, inner, dtype=dtype), torch.ones(inner, outer, dtype=dtype)
        source, target = torch.ones(COPIED), torch.empty(COPIED)
        return (
            2.0 * rows * inner * outer / _seconds(lambda: a @ b),
            2.0 * 4 * COPIED / _seconds(lambda: target.copy_(source)),
        )
    finally:
        torch.set_num_threads(before)


def _seconds(work: Callable[[], object]) -> float:
    """The median time of the work, by processor time, so that waiting for the core is left out."""
    work()
    times: list[float] = []
    until = time.perf_counter() + SECONDS
    while not times or time.perf_counter() < until:
        begun = time.thread_time()
        work()
        times.append(time.thread_time() - begun)
    return sorted(times)[len(times) // 2]
