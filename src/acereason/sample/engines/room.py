"""How much memory a decoder's cache takes, and how many responses' caches this machine has room for.

Legend: a row is the cache of one response, of `length` positions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from acereason import machine, ranks
from acereason.shape import heads_of

SHARE = 0.8  # of the memory that is free, for the caches of all ranks of this machine


@dataclass(frozen=True, slots=True)
class RowSize:
    """Bytes a position of one layer takes; positions that each layer keeps (None: all)."""

    position: int
    windows: tuple[int | None, ...]

    @staticmethod
    def of(config: Any, windowed: bool) -> RowSize:
        """By a transformers configuration, in float32; `windowed`: layers keep their windows alone."""
        _, kv_heads, head_dim = heads_of(config)
        kinds = getattr(config, "layer_types", None) or ["sliding_attention"] * config.num_hidden_layers
        window = getattr(config, "sliding_window", None) if windowed else None
        windows = tuple(window if kind == "sliding_attention" else None for kind in kinds)
        return RowSize(2 * kv_heads * head_dim * 4, windows)

    def row(self, length: int) -> int:
        """Bytes of a row."""
        return self.position * sum(length if w is None else min(length, w) for w in self.windows)

    def longest(self, size: int, context: int) -> int:
        """Most positions of a row of at most `size` bytes, a multiple of 64; at most the context's."""
        low, high = 0, -(-context // 64) + 1
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if self.row(64 * middle) <= size else (low, middle)
        return 64 * low


def rows(size: int) -> int:
    """How many rows of so many bytes this process's share of the free memory holds."""
    free = machine.available()
    free = machine.memory() if free is None else free
    return int(SHARE * free / ranks.local_world()) // size
