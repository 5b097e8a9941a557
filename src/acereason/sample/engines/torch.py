"""The PyTorch engine: the same steps as `native/decode.cpp` for machines without a compiler, and
for GPUs that `cuda_engine` does not serve.

The cache is one preallocated block per layer; attention folds the query heads of a group into the
query length, so that keys are never repeated. Rows of the cache are kept dense: when a sixth of
them are idle the last ones move down. Tokens are drawn by the same inverse of the cumulative
distribution as in the native engine. Rounding inside matrix products may depend on the size of the
batch here.

Legend: R rows, C tokens of a chunk, K key-value heads, G query heads per key-value head, D head
dimension, T positions, V vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from acereason.draws import uniforms
from acereason.errors import SamplingError
from acereason.policy.llama import Rotation, Shape
from acereason.sample.engines.slots import Ints, Slots
from acereason.sample.engines.weights import Layer, Weights

CHUNK = 512  # prompt tokens at once
LOGITS = 1 << 22  # logits held in double precision at once


def nucleus(mass_RV: Tensor, share_R: Tensor) -> Tensor:
    """Zero all but the fewest likeliest tokens with `share` of each row's mass (ties: lower id)."""
    sorted_RV, order_RV = mass_RV.sort(dim=-1, descending=True, stable=True)
    before_RV = sorted_RV.cumsum(-1) - sorted_RV
    kept_RV = before_RV < (share_R * mass_RV.sum(-1))[:, None]
    kept_RV[:, 0] = True
    return mass_RV * torch.zeros_like(kept_RV).scatter_(1, order_RV, kept_RV)


@dataclass(frozen=True, slots=True)
class Drawn:
    """Per row: token, its log-probability, the entropies at T and at 1 (nats)."""

    token: npt.NDArray[np.int64]
    logprob: npt.NDArray[np.float64]
    entropy: npt.NDArray[np.float64]
    entropy_1: npt.NDArray[np.float64]


def draw(logits_RV: Tensor, T_R: Tensor, share_R: Tensor, uniform_R: Tensor) -> Drawn:
    """Draw one token per row of softmax(logits / T), cut to its nucleus where share < 1."""
    logp_RV = (logits_RV.double() / T_R[:, None]).log_softmax(-1)
    plain_RV = logits_RV.double().log_softmax(-1)
    mass_RV = logp_RV.exp()
    entropy_R, one_R = _entropy(mass_RV, logp_RV), _entropy(plain_RV.exp(), plain_RV)
    if bool((share_R < 1).any()):
        mass_RV = torch.where((share_R < 1)[:, None], nucleus(mass_RV, share_R), mass_RV)
    total_RV = mass_RV.cumsum(-1)
    target_R1 = (uniform_R * total_RV[:, -1])[:, None]
    token_R1 = torch.searchsorted(total_RV, target_R1, right=True)
    last_R1 = (mass_RV > 0).int().cumsum(-1).argmax(-1, keepdim=True)
    token_R1 = torch.minimum(token_R1, last_R1)
    chosen = (token_R1[:, 0], logp_RV.gather(1, token_R1)[:, 0], entropy_R, one_R)
    return Drawn(*(value.cpu().numpy() for value in chosen))


def _entropy(p_RV: Tensor, logp_RV: Tensor) -> Tensor:
    return -(p_RV * logp_RV.clamp_min(-1e4)).sum(-1)


def _rms(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    return F.rms_norm(x, (x.shape[-1],), weight, eps)


class TorchEngine:
    """See `slots.Engine`."""

    name = "torch"

    def __init__(self, shape: Shape, rotation: Rotation, slots: int, device: torch.device) -> None:
        self._shape, self._rotation, self._device = shape, rotation, device
        self._slots, self._length = slots, 0
        self._row = list(range(slots + 1))  # row of the cache that holds each slot
        self._keys: list[Tensor] = []  # per layer [slots + 1, K, T, D]
        self._values: list[Tensor] = []
        self._weights = Weights(shape, torch.float32, device)

    def load(self, weights: object) -> None:
        """Copy the weights of a module or state dict into the engine's own."""
        self._weights.load(weights)

    def reserve(self, length: int) -> None:
        """Make room for `length` positions in every slot; what is cached stays."""
        s, old = self._shape, self._length
        if length <= old:
            return
        self._length = -(-length // 64) * 64
        size = (self._slots + 1, s.kv_heads, self._length, s.head_dim)
        keys = [torch.zeros(size, device=self._device) for _ in range(s.layers)]
        values = [torch.zeros(size, device=self._device) for _ in range(s.layers)]
        for new, before in zip(keys + values, self._keys + self._values, strict=False):
            new[:, :, :old] = before
        self._keys, self._values = keys, values
        cos, sin = (table.to(self._device) for table in self._rotation.tables(self._length))
        self._cos, self._sin = torch.cat([cos, cos], 1), torch.cat([-sin, sin], 1)

    @torch.no_grad()
    def prefill(self, tokens: Ints, slot: int) -> None:
        """Fill a slot's cache with the keys and values of `tokens`, from position 0."""
        row = self._row[slot]
        for start in range(0, len(tokens), CHUNK):
            ids = torch.from_numpy(tokens[start : start + CHUNK]).long().to(self._device)
            position_C = torch.arange(start, start + len(ids), device=self._device)
            self._through(ids, position_C, slice(row, row + 1), start + len(ids))

    def copy(self, source: int, target: int, length: int) -> None:
        """Copy the first `length` cached positions of a slot to another slot."""
        self._move(self._row[source], self._row[target], length)

    def _move(self, source: int, target: int, length: int) -> None:
        for block in self._keys + self._values:
            block[target, :, :length] = block[source, :, :length]

    @torch.no_grad()
    def decode(self, slots: Slots, active: Ints) -> Ints:
        """One token for each active slot; see `slots.Engine.decode`."""
        span = self._compact(slots, active)
        token, position = np.zeros(span, np.int64), np.zeros(span, np.int64)
        rows = np.array([self._row[slot] for slot in active])
        token[rows], position[rows] = slots.token[active], slots.position[active]
        ids, at = (torch.from_numpy(x).to(self._device) for x in (token, position))
        hidden = self._through(ids, at, slice(0, span), int(position.max()) + 1)
        hidden = _rms(hidden[torch.from_numpy(rows).to(self._device)], self._weights.norm, self._shape.eps)
        step = max(1, LOGITS // self._shape.vocab)
        for start in range(0, len(active), step):
            part = active[start : start + step]
            self._draw(slots, part, hidden[start : start + step])
        slots.count[active] += 1
        slots.position[active] += 1
        over = np.isin(slots.token[active], slots.eos)
        ended: Ints = active[over | (slots.count[active] == slots.budget[active])]
        return ended

    def _draw(self, slots: Slots, part: Ints, hidden: Tensor) -> None:
        number = uniforms(slots.seed[part], slots.count[part])
        T, share = slots.temperature[part].astype(float), slots.top_p[part].astype(float)
        logits = F.linear(hidden, self._weights.head)
        if not bool(torch.isfinite(logits).all()):
            for block in self._keys + self._values:
                block.zero_()  # a mask does not hide NaN
            raise SamplingError("a logit is not a finite number; the weights have diverged")
        drawn = draw(logits, *(torch.from_numpy(x).to(self._device) for x in (T, share, number)))
        here = (part, slots.count[part])
        slots.token[part] = slots.out_token[here] = drawn.token
        slots.out_logprob[here], slots.out_entropy[here] = drawn.logprob, drawn.entropy
        slots.out_entropy_1[here] = drawn.entropy_1

    def _compact(self, slots: Slots, active: Ints) -> int:
        """Rows to compute: up to the last active one, after moving rows down when many are idle."""
        used = sorted((self._row[slot], int(slot)) for slot in active)
        if 6 * len(used) > 5 * (used[-1][0] + 1):
            return int(used[-1][0]) + 1
        holder = {row: slot for slot, row in enumerate(self._row)}
        holes = sorted(set(range(len(used))) - {row for row, _ in used})
        for (row, slot), hole in zip(reversed(used), holes, strict=False):
            self._move(row, hole, int(slots.position[slot]))
            self._row[slot], self._row[holder[hole]] = hole, row
        return len(used)

    def _through(self, ids: Tensor, position: Tensor, rows: slice, length: int) -> Tensor:
        """Hidden states after the last layer [C, hidden]: C tokens of one row, or one of each."""
        s, per_row = self._shape, rows.stop - rows.start
        tokens = len(ids) // per_row  # per row of the cache
        blind = torch.arange(length, device=self._device) > position[:, None]
        mask_CT = torch.zeros(blind.shape, device=self._device).masked_fill_(blind, -torch.inf)
        groups = s.heads // s.kv_heads
        mask = mask_CT.view(per_row, 1, tokens, 1, length)
        mask = mask.expand(-1, 1, -1, groups, -1).reshape(per_row, 1, tokens * groups, length)
        cos, sin = self._cos[position][:, None], self._sin[position][:, None]
        where = torch.arange(rows.start, rows.stop, device=self._device).repeat_interleave(tokens)
        x = self._weights.embed[ids]
        for i, layer in enumerate(self._weights.layers):
            q, k, v = self._split(layer, _rms(x, layer.norm1, s.eps), cos, sin)
            keys, values = self._keys[i], self._values[i]
            keys[where, :, position], values[where, :, position] = k, v
            q = q.view(per_row, tokens, s.kv_heads, groups, s.head_dim).transpose(1, 2)
            mixed = F.scaled_dot_product_attention(
                q.reshape(per_row, s.kv_heads, tokens * groups, s.head_dim),
                *(keys[rows, :, :length], values[rows, :, :length], mask),
            )
            mixed = mixed.view(per_row, s.kv_heads, tokens, groups, s.head_dim).transpose(1, 2)
            x = x + F.linear(mixed.reshape(len(ids), -1), layer.o)
            gate, up = F.linear(_rms(x, layer.norm2, s.eps), layer.gate_up).chunk(2, -1)
            x = x + F.linear(F.silu(gate) * up, layer.down)
        return x

    def _split(self, layer: Layer, normed: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Rotated queries [C, heads, D], rotated keys and values [C, K, D]."""
        s = self._shape
        heads = F.linear(normed, layer.qkv, layer.bias).view(len(normed), -1, s.head_dim)
        q, k, v = torch.split(heads, [s.heads, s.kv_heads, s.kv_heads], 1)
        if layer.q_norm is not None and layer.k_norm is not None:
            q, k = _rms(q, layer.q_norm, s.eps), _rms(k, layer.k_norm, s.eps)
        half = s.head_dim // 2
        q, k = (x * cos + x.roll(half, -1) * sin for x in (q, k))
        return q, k, v
