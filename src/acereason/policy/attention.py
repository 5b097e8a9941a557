"""Attention over a `Pack`, registered with transformers under the name "acereason".

On CPU, and in float32, each block of the pack is an ordinary causal batch, so torch's scaled-dot-product
kernels serve it. On CUDA in half precision sequences may have any lengths: long ones go one by one to
cuDNN's kernel where it is the fastest (compute capability 9 and up: twice the rate of FlashAttention 2 on an
H200), the others together to torch's variable-length kernel. Either way nothing leaks from one sequence
to another. The layout reaches this function as keywords that transformers hands through the model's
layers; see `pack_keywords`.
"""

from __future__ import annotations

import inspect
from functools import cache, partial
from itertools import pairwise
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from transformers import AttentionInterface

from acereason.errors import CheckpointError
from acereason.policy.causal import LayerRule, attend
from acereason.policy.packing import Block, Pack
from acereason.policy.sequence import Part
from acereason.policy.sharing import PromptGroup, Shared, attend_groups

NAME = "acereason"
HALF = (torch.bfloat16, torch.float16)
UNKNOWN = ("s_aux", "position_bias")  # what some architectures add to scores
LONG = 2048  # tokens from which on a sequence has a kernel call of its own


def _variable_length() -> Any:
    """torch's variable-length attention, causal (torch ≥ 2.10); its keywords changed between versions."""
    try:
        from torch.nn.attention.varlen import varlen_attn
    except ImportError:
        return None
    known = inspect.signature(varlen_attn).parameters
    fixed: dict[str, Any] = {"window_size": (-1, 0)} if "window_size" in known else {"is_causal": True}
    if "enable_gqa" in known:
        fixed["enable_gqa"] = True
    return partial(varlen_attn, **fixed)


_VARIABLE_LENGTH = _variable_length()


def takes_any_lengths(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether sequences may lie close together, of whatever lengths; else they go by blocks."""
    return device.type == "cuda" and dtype in HALF and _VARIABLE_LENGTH is not None


def pack_keywords(pack: Pack | Shared, dtype: torch.dtype) -> dict[str, Any]:
    """The keywords that tell `packed_attention` where the pack's sequences lie."""
    if isinstance(pack, Shared):
        return {"pack_groups": pack.groups}
    if takes_any_lengths(pack.tokens.device, dtype):
        ends = pack.ends()
        return {"pack_ends": ends, "pack_ends_device": ends.to(pack.tokens.device, non_blocking=True)}
    return {"pack_blocks": pack.blocks}


def packed_attention(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    scaling: float | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    pack_blocks: tuple[Block, ...] | None = None,
    pack_ends: Tensor | None = None,
    pack_ends_device: Tensor | None = None,
    pack_groups: tuple[PromptGroup, ...] | None = None,
    pack_cache: Cache | None = None,
    pack_part: Part | None = None,
    **rest: Any,
) -> tuple[Tensor, None]:
    """query [B, heads, N, D]; key, value [B, kv_heads, N, D] → [B, N, heads, D].

    Where sequences lie: `pack_blocks`; or `pack_ends` [S + 1] on CPU and on the device; or `pack_groups`,
    which share prompts; or in a `pack_cache`. Without them the batch is taken as plain sequences (causal, no
    padding). With a `pack_part` the N places are this rank's slice of what these keywords tell of. On CPU
    scores are computed in float32 also for bfloat16."""
    if named := [name for name in UNKNOWN if rest.get(name) is not None]:
        raise CheckpointError(
            f"{type(module).__name__} wants attention with {named[0]}, which packs cannot have"
        )
    rule, wanted = LayerRule(scaling, sliding_window, softcap), query.dtype
    if pack_part is not None:
        query, key, value = pack_part.to_heads(query, key, value)
    narrow = query.device.type == "cpu" and value.dtype in HALF
    if narrow or value.dtype != query.dtype:  # a rotation in float32 widens queries and keys alone
        query, key, value = query.float(), key.float(), value.float()
    if pack_cache is not None:
        out = pack_cache.attend(module.layer_idx, query, key, value, rule)
    elif pack_groups is not None:
        out = attend_groups(pack_groups, query, key, value, rule)
    elif pack_ends is not None:
        out = _ragged(query, key, value, rule, pack_ends, pack_ends_device)
    elif pack_blocks is not None:
        out = torch.cat([_block(query, key, value, rule, block) for block in pack_blocks], 1)
    else:
        out = attend(query, key, value, rule).transpose(1, 2)
    out = out.to(wanted)
    return out if pack_part is None else pack_part.to_places(out), None


def _block(query: Tensor, key: Tensor, value: Tensor, rule: LayerRule, block: Block) -> Tensor:
    """The block's places [1, count x length, heads, D], its sequences as an ordinary batch."""
    end = block.start + block.count * block.length
    q, k, v = (_rows(x, block.start, end, block) for x in (query, key, value))
    return attend(q, k, v, rule).transpose(1, 2).flatten(0, 1)[None]


@torch.compiler.disable  # type: ignore[untyped-decorator]
def _ragged(
    query: Tensor, key: Tensor, value: Tensor, rule: LayerRule, ends: Tensor, ends_device: Tensor | None
) -> Tensor:
    """[1, heads, N, D] and [1, kv_heads, N, D] → [1, N, heads, D]; sequences stand longest first."""
    bounds = ends.tolist()
    lengths = [b - a for a, b in pairwise(bounds)]
    special = sum(not rule.plain(n) for n in lengths)
    alone = max(special, sum(n >= LONG for n in lengths) if _long_kernel(query.device) else 0)
    parts = [torch.split(x, [*lengths[:alone], sum(lengths[alone:])], dim=2) for x in (query, key, value)]
    outs = []
    for number, (q, k, v) in enumerate(list(zip(*parts, strict=True))[:alone]):
        special_one = number < special
        outs.append(attend(q, k, v, rule).transpose(1, 2) if special_one else _long(q, k, v, rule.scale))
    if alone < len(lengths):
        q, k, v = (part[-1][0].transpose(0, 1) for part in parts)
        extra = 1.0 if rule.scale is None else rule.scale * q.shape[-1] ** 0.5
        if abs(extra - 1.0) > 1e-6:  # the kernel itself divides by sqrt(D)
            q = q * extra
        assert ends_device is not None
        where = ends_device[alone:] - bounds[alone]
        outs.append(_VARIABLE_LENGTH(q, k, v, where, where, lengths[alone], lengths[alone])[None])
    return torch.cat(outs, dim=1) if len(outs) > 1 else outs[0]


class Cache(Protocol):
    """Keys and values of earlier positions, held by a sampler."""

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, rule: LayerRule) -> Tensor:
        """Keep the new keys and values; the queries' attention over all, [1, N, heads, D]."""
        ...


@cache
def _long_kernel(device: torch.device) -> bool:
    """Whether cuDNN's attention is the better one for long sequences."""
    return device.type == "cuda" and torch.cuda.get_device_capability(device) >= (9, 0)


def _long(q: Tensor, k: Tensor, v: Tensor, scaling: float | None) -> Tensor:
    """One sequence [1, heads, n, D] → [1, n, heads, D]. cuDNN plans for each length, so lengths are rounded
    up to sixteen steps an octave; what is added lies after all real tokens, which never look there."""
    n = q.shape[2]
    step = max(64, (1 << n.bit_length()) // 32)
    more = -n % step
    if more:
        q, k, v = (F.pad(x, (0, 0, 0, more)) for x in (q, k, v))
    with sdpa_kernel([SDPBackend.CUDNN_ATTENTION, SDPBackend.FLASH_ATTENTION], set_priority=True):
        out = F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=scaling, enable_gqa=True)
    return out[:, :, :n].transpose(1, 2)


def _rows(x_1HND: Tensor, start: int, end: int, block: Block) -> Tensor:
    """The block's places as a batch: [count, heads, length, D]."""
    x_NHD = x_1HND[0].transpose(0, 1)[start:end]
    return x_NHD.reshape(block.count, block.length, *x_NHD.shape[1:]).transpose(1, 2)


AttentionInterface.register(NAME, packed_attention)
