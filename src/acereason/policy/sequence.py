"""Sequence parallelism: each rank of a group holds a slice of every pack, and in attention some of its heads.

    part = sequence.of(model)          None, or what this rank does of every pack
    q, k, v = part.to_heads(q, k, v)   [1, H, N/S, D] of its places -> [1, H/S, N, D] of its heads
    out = part.to_places(out)          [1, N, H/S, D] -> [1, N/S, H, D]

Everything but attention works token by token, so a rank keeps activations of N/S places; in attention it
sees the whole pack with H/S heads, so packing and every attention rule stay as they are. Two all-to-alls of
the bytes that a rank holds before attention and one after it, the same backward. Key-value heads that S does
not divide are repeated first. Log-probabilities are put together on all ranks of the group, which then
compute the same loss; each goes back through its own places alone, so gradients are added up over ranks as
ever. Source: Jacobs et al. 2023, DeepSpeed Ulysses, arXiv 2309.14509.

Shapes: S ranks, N places (a multiple of S), H heads, D head dimension, M predicted tokens.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from acereason.errors import ConfigError
from acereason.policy.marks import marks_of
from acereason.policy.packing import Block, Pack


@dataclass(frozen=True, slots=True)
class Slice:
    """A rank's places of a pack: `tokens`, `positions` [N/S], `predictors` [m] into them, and `chosen` [m],
    which of the pack's M predicted tokens these are."""

    tokens: Tensor
    positions: Tensor
    predictors: Tensor
    chosen: Tensor


@dataclass(frozen=True, slots=True)
class Part:
    """One rank of a group: its `index` of `size`, and the group's communicator."""

    group: Any
    index: int
    size: int

    def padded(self, pack: Pack) -> Pack:
        """The pack with a number of places that the group divides; what is added is a sequence of its own,
        of which nothing is predicted."""
        more = -len(pack.tokens) % self.size
        if not more:
            return pack
        tokens, positions = (
            torch.cat([x, y.to(x.device)])
            for x, y in (
                (pack.tokens, torch.zeros(more, dtype=pack.tokens.dtype)),
                (pack.positions, torch.arange(more)),
            )
        )
        blocks = (*pack.blocks, Block(len(pack.tokens), 1, more))
        return replace(pack, tokens=tokens, positions=positions, blocks=blocks)

    def slice(self, pack: Pack) -> Slice:
        """This rank's places of a padded pack."""
        count = len(pack.tokens) // self.size
        first = self.index * count
        own = (pack.predictors >= first) & (pack.predictors < first + count)
        tokens, positions = (x[first : first + count] for x in (pack.tokens, pack.positions))
        return Slice(tokens, positions, pack.predictors[own] - first, own.nonzero()[:, 0])

    def to_heads(self, *tensors: Tensor) -> list[Tensor]:
        """Each [1, heads, n, D] of this rank's places -> [1, heads / S, N, D] of its heads."""
        queries = tensors[0].shape[1]
        result = []
        for x in tensors:
            x = x.repeat_interleave(repeats(queries, x.shape[1], self.size), 1)
            _, heads, n, width = x.shape
            sent = x[0].reshape(self.size, heads // self.size, n, width)
            got = _exchange(sent, self.group)  # [S (whose places), heads / S, n, D]
            result.append(got.transpose(0, 1).reshape(1, heads // self.size, self.size * n, width))
        return result

    def to_places(self, x: Tensor) -> Tensor:
        """[1, N, heads / S, D] of this rank's heads -> [1, N / S, heads, D] of its places."""
        _, places, heads, width = x.shape
        sent = x[0].reshape(self.size, places // self.size, heads, width)
        got = _exchange(sent, self.group)  # [S (whose heads), n, heads / S, D]
        return got.transpose(0, 1).reshape(1, places // self.size, self.size * heads, width)

    def whole(self, own: Tensor, chosen: Tensor, count: int) -> Tensor:
        """[count] from every rank's [m]; the gradient goes to each rank's own."""
        result: Tensor = _Whole.apply(own, chosen, count, self.group)  # type: ignore[no-untyped-call]
        return result


class _Exchange(torch.autograd.Function):
    """Send the i-th of S parts to the i-th rank, and get one from each; its transpose is itself."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, group: Any) -> Tensor:
        ctx.group = group
        return _exchanged(x, group)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return _exchanged(gradients[0], ctx.group), None


def _exchange(x: Tensor, group: Any) -> Tensor:
    result: Tensor = _Exchange.apply(x, group)  # type: ignore[no-untyped-call]
    return result


def _exchanged(x: Tensor, group: Any) -> Tensor:
    sent = x.contiguous()
    got = torch.empty_like(sent)
    dist.all_to_all_single(got, sent, group=group)
    return got


class _Whole(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, own: Tensor, chosen: Tensor, count: int, group: Any) -> Tensor:
        ctx.save_for_backward(chosen)
        result = own.new_zeros(count)
        result[chosen] = own
        dist.all_reduce(result, group=group)
        return result

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        (chosen,) = ctx.saved_tensors
        return gradients[0][chosen], None, None, None


def of(model: Any) -> Part | None:
    """What this rank does of every pack; None where each rank has packs of its own."""
    return marks_of(model).sequence


def repeats(queries: int, heads: int, size: int) -> int:
    """How often each of `heads` key-value heads stands in a row, so that `size` ranks share them and each
    query head still meets its own."""
    each = queries // heads
    return next(n for n in range(1, each + 1) if each % n == 0 and heads * n % size == 0)


def check(heads: int, size: int) -> None:
    """ConfigError where so many query heads cannot be shared by `size` ranks."""
    if heads % size:
        fit = ", ".join(str(n) for n in range(1, heads + 1) if heads % n == 0)
        raise ConfigError(
            f"placement.sequence = {size} ranks cannot share the model's {heads} attention heads evenly; "
            f"take one of {fit}"
        )
