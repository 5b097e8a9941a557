"""Steps of one token a row as CUDA graphs, for a model of any class: its hundreds of small kernels are
launched once for each shape and replayed from then on.

Rows and reach are rounded up to powers of two, so that few graphs serve a whole run. A row that is only
filler feeds token 0 at position 0; nobody reads what it computes, and what it caches lies in a slot that is
free. A step in which the host has to ask the device for a number cannot be a graph (a rotation that goes by
the longest position, say): that is found before the first one is made, and steps are launched as before.

Legend: R rows, E hidden size.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

log = logging.getLogger(__name__)
LEAST = 64  # positions that a graph looks back over at least
ROWS = 8  # rows that it has at least
Step = Callable[[Tensor, Tensor, int], Tensor]  # tokens [R], positions [R], reach → hidden states [R, E]
Counts = npt.NDArray[np.int64]


@dataclass(slots=True)
class _Graph:
    """What a graph reads (tokens and positions, [2, R]), how to run it, and what it leaves."""

    fed: Tensor
    run: Callable[[], Any]
    hidden: Tensor


class StepGraphs:
    """Runs `step` by graphs. `capture=False` only rounds, on any device, as the tests want it."""

    def __init__(self, step: Step, device: torch.device, capture: bool = True) -> None:
        self._step, self._device, self._capture = step, device, capture
        self.clear()

    def clear(self) -> None:
        """Forget the graphs: something they read has moved."""
        self._made: dict[tuple[int, int], _Graph] = {}
        self._pool: Any = None

    def __call__(self, token: Counts, position: Counts, rows: int, length: int) -> Tensor:
        """Hidden states [R, E] of the first rows. There are `rows` of them in all, two or more, and `length`
        positions."""
        count, reach = len(token), int(position.max()) + 1
        key = min(rows, max(ROWS, _power(count))), min(length, max(LEAST, _power(reach)))
        fed = np.zeros((2, key[0]), np.int64)
        fed[0, :count], fed[1, :count] = token, position
        graph = self._made.get(key)
        if graph is None:
            graph = self._made[key] = self._make(fed, key[1])
        else:
            graph.fed.copy_(torch.from_numpy(fed))
        graph.run()
        return graph.hidden[:count]

    def _make(self, fed: npt.NDArray[np.int64], reach: int) -> _Graph:
        graph = _Graph(torch.from_numpy(fed).to(self._device), lambda: None, torch.empty(0))

        def run() -> None:
            graph.hidden = self._step(graph.fed[0], graph.fed[1], reach)

        graph.run = run
        if self._capture:
            try:
                with _no_questions():
                    run()  # also makes what the first pass makes: the cache's blocks, the library's plans
                graph.run = self._captured(run)
            except RuntimeError as error:
                log.info("steps are launched kernel by kernel: %s", error)
                self._capture = False
        return graph

    def _captured(self, run: Callable[[], None]) -> Callable[[], None]:
        self._pool = self._pool or torch.cuda.graph_pool_handle()
        torch.cuda.synchronize(self._device)
        made = torch.cuda.CUDAGraph()
        with torch.cuda.graph(made, pool=self._pool):
            run()
        return made.replay


@contextmanager
def _no_questions() -> Iterator[None]:
    """RuntimeError where the host waits for the device."""
    before = torch.cuda.get_sync_debug_mode()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it does not see all of them
        torch.cuda.set_sync_debug_mode("error")
        try:
            yield
        finally:
            torch.cuda.set_sync_debug_mode(before)


def _power(count: int) -> int:
    """The power of two that is at least `count`."""
    return 1 << (count - 1).bit_length()
