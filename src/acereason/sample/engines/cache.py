"""Keys and values of every slot, per layer, for `policy.attention`: written as they come, attended as they
lie.

A pass holds either some tokens of one slot (a prompt's part) or one token of each of the first rows. Layers
may differ in their heads; each one's block is made when it first writes. A layer that looks through a window
keeps so many positions and no more: position p lies at place p mod W, over the one that left the window, and
the order of places means nothing to attention.

Legend: R rows, K key-value heads, T places, D head dimension, C tokens, W window.
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
        self._windows: dict[int, int | None] = {}
        self._rows = slice(0, 0)
        self._position = torch.zeros(0, dtype=torch.long)
        self._reach = 0
        self._seen: dict[int, Tensor] = {}

    def reserve(self, length: int) -> None:
        """Make room for `length` positions in every row; what is cached stays."""
        self.length = max(self.length, length)
        for blocks in (self._keys, self._values):
            for layer, old in blocks.items():
                blocks[layer] = self._block(old, self._windows[layer])
                blocks[layer][:, :, : old.shape[2]] = old

    def _block(self, like: Tensor, window: int | None) -> Tensor:
        places = self.length if window is None else min(self.length, window)
        size = (self._number, like.shape[1], places, like.shape[3])
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
            self._windows[layer] = rule.window
            self._keys[layer], self._values[layer] = (self._block(x, rule.window) for x in (key, value))
        keys, values, rows = self._keys[layer], self._values[layer], self._rows
        if rows.stop - rows.start == 1:
            return self._prompt(query, key, value, keys[rows], values[rows], rule)
        where = torch.arange(rows.start, rows.stop, device=self._device)
        place = self._position % keys.shape[2]
        keys[where, :, place] = key[0].transpose(0, 1)
        values[where, :, place] = value[0].transpose(0, 1)
        seen = self._mask(min(self._reach, keys.shape[2]))
        q = query[0].transpose(0, 1)[:, :, None]  # [R, heads, 1, D]
        places = seen.shape[2]
        out = masked(q, keys[rows, :, :places], values[rows, :, :places], seen, rule)
        return out[None, :, :, 0]

    def _prompt(
        self, query: Tensor, key: Tensor, value: Tensor, keys: Tensor, values: Tensor, rule: LayerRule
    ) -> Tensor:
        places, first = keys.shape[2], self._reach - query.shape[2]
        before = torch.arange(max(0, first - places), first, device=self._device) % places
        own = torch.arange(max(first, self._reach - places), self._reach, device=self._device) % places
        k, v = (torch.cat([x[:, :, before], new], 2) for x, new in ((keys, key), (values, value)))
        keys[:, :, own], values[:, :, own] = key[:, :, -len(own) :], value[:, :, -len(own) :]
        return attend(query, k, v, rule).transpose(1, 2)

    def _mask(self, places: int) -> Tensor:
        """[R, 1, T] which of the first `places` each row sees: those up to its position, and all once these
        are as many as the window; the same for all layers with as many."""
        if places not in self._seen:
            at, position = torch.arange(places, device=self._device), self._position[:, None]
            self._seen[places] = ((at <= position) | (position >= places))[:, None]
        return self._seen[places]
