"""Causal attention as any decoder wants it: a window, capped scores, fewer key-value heads, keys that came
before.

    attend(q [B, H, L, D], k, v [B, K, T, D])   the L queries are the last of the T positions

What torch's causal kernel can do goes there; else rows of queries go with a mask, so that no [L, T] mask of a
long sequence exists at once. `masked` is the same with a mask of the caller's own, as cached decoding needs.

Legend: B sequences, H query heads, K key-value heads, D head dimension, L queries, T keys.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

ROWS = 512  # queries that have a mask at once


@dataclass(frozen=True, slots=True)
class LayerRule:
    """What a layer does beyond plain causal attention.

    scale   of the scores; None is 1 / sqrt(D)
    window  a query sees the last `window` positions, its own included; None: all
    cap     scores become cap x tanh(score / cap) before the mask; None: as they are"""

    scale: float | None = None
    window: int | None = None
    cap: float | None = None

    def plain(self, keys: int) -> bool:
        """Whether so many keys are attended as by any causal layer."""
        return self.cap is None and (self.window is None or keys <= self.window)

    def seen(self, query_at: Tensor, key_at: Tensor) -> Tensor:
        """Whether a query at a position sees a key at a position (broadcast)."""
        seen = key_at <= query_at
        return seen if self.window is None else seen & (key_at > query_at - self.window)


def attend(q: Tensor, k: Tensor, v: Tensor, rule: LayerRule) -> Tensor:
    """[B, H, L, D]: each query over the keys up to its own position, L ≤ T."""
    L, T = q.shape[2], k.shape[2]
    if L == T and rule.plain(T):
        groups = q.shape[1] // k.shape[1]
        if groups > 1:  # on CPU an explicit repeat is faster than enable_gqa
            k, v = k.repeat_interleave(groups, 1), v.repeat_interleave(groups, 1)
        return F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=rule.scale)
    parts = [_rows(q, k, v, rule, start) for start in range(0, L, ROWS)]
    return torch.cat(parts, 2) if len(parts) > 1 else parts[0]


def _rows(q: Tensor, k: Tensor, v: Tensor, rule: LayerRule, start: int) -> Tensor:
    """`ROWS` queries from `start` on, over the keys that any of them sees."""
    before = k.shape[2] - q.shape[2]
    stop = min(start + ROWS, q.shape[2])
    first = 0 if rule.window is None else max(0, before + start - rule.window + 1)
    keys = slice(first, before + stop)
    at = torch.arange(before + start, before + stop, device=q.device)
    seen = rule.seen(at[:, None], torch.arange(keys.start, keys.stop, device=q.device))
    return masked(q[:, :, start:stop], k[:, :, keys], v[:, :, keys], seen[None], rule)


def masked(q: Tensor, k: Tensor, v: Tensor, seen: Tensor, rule: LayerRule) -> Tensor:
    """[B, H, L, D] with `seen` [B or 1, L, T]: the heads that share keys become more queries of them."""
    B, H, L, D = q.shape
    K = k.shape[1]
    q = q.reshape(B, K, H // K * L, D)
    mask = seen.repeat(1, H // K, 1)[:, None]
    if rule.cap is None:
        out = F.scaled_dot_product_attention(q, k, v, mask, scale=rule.scale)
    else:
        scores = q @ k.transpose(2, 3) * (D**-0.5 if rule.scale is None else rule.scale)
        scores = (rule.cap * torch.tanh(scores / rule.cap)).masked_fill(~mask, -torch.inf)
        out = scores.softmax(-1) @ v
    return out.reshape(B, H, L, D)
