"""Attention over a `Pack`, registered with transformers under the name "acereason".

Each block of the pack is an ordinary causal batch, so torch's own scaled-dot-product kernels serve it and
nothing leaks from one sequence to another. The blocks reach this function as the keyword `pack_blocks`
that transformers hands through the model's layers.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import AttentionInterface

from acereason.policy.packing import Block

NAME = "acereason"


def packed_attention(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    scaling: float | None = None,
    pack_blocks: tuple[Block, ...] | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """query [B, heads, N, D]; key, value [B, kv_heads, N, D] → [B, N, heads, D].

    Without `pack_blocks` the batch is taken as plain sequences (causal, no padding mask)."""
    if getattr(module, "sliding_window", None) is not None:
        raise ValueError("sliding-window layers cannot be packed; set use_sliding_window to false")
    groups = query.shape[1] // key.shape[1]
    if pack_blocks is None:
        return _causal(query, key, value, groups, scaling).transpose(1, 2), None
    parts = []
    for block in pack_blocks:
        end = block.start + block.count * block.length
        q, k, v = (_rows(x, block.start, end, block) for x in (query, key, value))
        out = _causal(q, k, v, groups, scaling)  # [count, heads, length, D]
        parts.append(out.transpose(1, 2).reshape(1, end - block.start, query.shape[1], -1))
    return torch.cat(parts, dim=1), None


def _rows(x_1HND: Tensor, start: int, end: int, block: Block) -> Tensor:
    """The block's places as a batch: [count, heads, length, D]."""
    x_NHD = x_1HND[0].transpose(0, 1)[start:end]
    return x_NHD.reshape(block.count, block.length, *x_NHD.shape[1:]).transpose(1, 2)


def _causal(q: Tensor, k: Tensor, v: Tensor, groups: int, scaling: float | None) -> Tensor:
    if groups > 1:  # on CPU an explicit repeat is faster than enable_gqa
        k, v = k.repeat_interleave(groups, 1), v.repeat_interleave(groups, 1)
    return F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=scaling)


AttentionInterface.register(NAME, packed_attention)
