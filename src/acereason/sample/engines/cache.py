"""Keys and values of every slot, per layer, for `policy.attention`: written as they come, attended as they
lie.

A pass holds either some tokens of one slot (a prompt's part) or one token of each of the first rows. Layers
may differ in their heads; each one's block is made when it first writes. Whole rows are kept also where a
layer looks through a window.

Legend: R rows, K key-value heads, T positions, D head dimension, C tokens.
"""

from __future__ import annotations

import torch
from torch import Tensor

from acereason.policy.causal import LayerRule, attend, masked


class SlotCache:
    """[R, K, T, D] keys and values for each layer; `policy.attention.Cache` of the pass that was begun
    last."""

    def __init__(self, rows: int, device: torch.device) -> None:
        self._number, self._device = rows, device
        self.length = 0
        self._keys: dict[int, Tensor] = {}
        self._values: dict[int, Tensor] = {}
        self._rows = slice(0, 0)
        self._position = torch.zeros(0, dtype=torch.long)
        self._reach = 0
        self._seen: dict[int | None, Tensor] = {}

    def reserve(self, length: int) -> None:
        """Make room for `length` positions in every row; what is cached stays."""
        self.length = max(self.length, length)
        for blocks in (self._keys, self._values):
            for layer, old in blocks.items():
                blocks[layer] = self._block(old)
                blocks[layer][:, :, : old.shape[2]] = old

    def _block(self, like: Tensor) -> Tensor:
        size = (self._number, like.shape[1], self.length, like.shape[3])
        return torch.zeros(size, dtype=like.dtype, device=self._device)

    def move(self, source: int, target: int, length: int) -> None:
        """Copy the first `length` positions of a row to another row."""
        for blocks in (self._keys, self._values):
            for block in blocks.values():
                block[target, :, :length] = block[source, :, :length]

    def clear(self) -> None:
        """Forget everything: a mask does not hide NaN."""
        for blocks in (self._keys, self._values):
            for block in blocks.values():
                block.zero_()

    def begin(self, rows: slice, position: Tensor, reach: int) -> None:
        """A pass over tokens at `position` [C], of one row or one of each row, up to position `reach` - 1."""
        self._rows, self._position, self._reach = rows, position, reach
        self._seen = {}

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, rule: LayerRule) -> Tensor:
        """[1, heads, C, D] queries over what is cached and over the new keys; [1, C, heads, D]."""
        if layer not in self._keys:
            self._keys[layer], self._values[layer] = self._block(key), self._block(value)
        keys, values, rows, reach = self._keys[layer], self._values[layer], self._rows, self._reach
        if rows.stop - rows.start == 1:
            return self._prompt(query, key, value, keys[rows], values[rows], rule)
        where = torch.arange(rows.start, rows.stop, device=self._device)
        keys[where, :, self._position] = key[0].transpose(0, 1)
        values[where, :, self._position] = value[0].transpose(0, 1)
        seen = self._mask(rule)
        q = query[0].transpose(0, 1)[:, :, None]  # [R, heads, 1, D]
        out = masked(q, keys[rows, :, :reach], values[rows, :, :reach], seen, rule)
        return out[None, :, :, 0]

    def _prompt(
        self, query: Tensor, key: Tensor, value: Tensor, keys: Tensor, values: Tensor, rule: LayerRule
    ) -> Tensor:
        first = self._reach - query.shape[2]
        keys[:, :, first : self._reach], values[:, :, first : self._reach] = key, value
        return attend(query, keys[:, :, : self._reach], values[:, :, : self._reach], rule).transpose(1, 2)

    def _mask(self, rule: LayerRule) -> Tensor:
        """[R, 1, T] which positions each row sees; the same for all layers with the same window."""
        window = rule.window if rule.window is not None and rule.window < self._reach else None
        if window not in self._seen:
            at = torch.arange(self._reach, device=self._device)
            self._seen[window] = rule.seen(self._position[:, None], at)[:, None]
        return self._seen[window]
