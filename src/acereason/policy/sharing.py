"""Prompts that several responses of a pack share, computed once.

    laid = share(pack)      tokens with every prompt once, and where the pack's predictors went; or None

A *group* is a prompt, the trunk, and the responses to it, the branches. A branch attends to the trunk and to
itself, so a group of 8 responses of 40 tokens to a prompt of 60 has 372 rows instead of 800. A response's
last token, from which nothing is predicted, has no row. Branches of a group are padded to nearly equal
lengths for attention only.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate

import torch
from torch import Tensor

from acereason.policy.causal import LayerRule, attend
from acereason.policy.layout import trunks
from acereason.policy.packing import Pack, blocks

LONGEST = 2048  # tokens of prompt and response; longer ones gain more from the causal kernel
GAIN = 0.1  # the least share of rows that must be saved
WASTE = 0.35  # of the padded places of a group's attention


@dataclass(frozen=True, slots=True)
class Branches:
    """Responses of nearly equal length: `places` [B, L], their rows among those of the group's responses,
    repeated to the longest; `kept`, which of the B x L places, flattened, are rows, in the order of rows."""

    places: Tensor
    kept: Tensor


Three = tuple[Tensor, Tensor, Tensor]  # queries, keys, values


@dataclass(frozen=True, slots=True)
class PromptGroup:
    """A prompt in `length` rows, with `rows` of its responses after it."""

    length: int
    rows: int
    branches: tuple[Branches, ...]

    def attend(self, trunk: Three, rest: Three, rule: LayerRule) -> list[Tensor]:
        """Queries [1, heads, n, D], keys and values [1, kv_heads, n, D] of the prompt's rows and of the
        others → their outputs [1, n, heads, D], part by part."""
        parts = [attend(*trunk, rule).transpose(1, 2)]
        return parts + [self._branches(b, rest, trunk, rule) for b in self.branches]

    @staticmethod
    def _branches(b: Branches, rest: Three, trunk: Three, rule: LayerRule) -> Tensor:
        count = len(b.places)
        q, *own = (x[0][:, b.places].transpose(0, 1) for x in rest)  # [B, heads, L, D]
        k, v = (
            torch.cat([before.expand(count, -1, -1, -1), x], 2)
            for x, before in zip(own, trunk[1:], strict=True)
        )
        return attend(q, k, v, rule).transpose(1, 2).flatten(0, 1)[b.kept][None]


def attend_groups(
    groups: tuple[PromptGroup, ...], query: Tensor, key: Tensor, value: Tensor, rule: LayerRule
) -> Tensor:
    """query [1, heads, N, D]; key, value [1, kv_heads, N, D] of the whole batch → [1, N, heads, D]. Split
    once, whose gradient is one copy; slices would each have one of the batch's size."""
    sizes = [size for group in groups for size in (group.length, group.rows)]
    pieces = list(zip(*(x.split(sizes, 2) for x in (query, key, value)), strict=True))
    outs = [g.attend(t, r, rule) for g, t, r in zip(groups, pieces[::2], pieces[1::2], strict=True)]
    return torch.cat([part for out in outs for part in out], 1)


@dataclass(frozen=True, slots=True)
class Shared:
    """`tokens`, `positions` [N]; `predictors` [M], in the pack's order, into the N rows."""

    tokens: Tensor
    positions: Tensor
    predictors: Tensor
    groups: tuple[PromptGroup, ...]


def share(pack: Pack) -> Shared | None:
    """The pack with every prompt once; None when that saves too little, or sequences are long."""
    branching = trunks(pack)
    if branching is None or max(b.length for b in pack.blocks) > LONGEST:
        return None
    rows = sum(len(p) + sum(len(r) - 1 for r, _ in branches) for p, branches in branching.items())
    if rows > (1 - GAIN) * len(pack.tokens):
        return None
    tokens: list[int] = []
    positions: list[int] = []
    predictors = torch.empty_like(pack.predictors)
    groups = []
    for prompt, branches in branching.items():
        ordered = sorted(branches, key=lambda b: -len(b[0]))
        start = len(tokens)
        tokens += prompt
        positions += range(len(prompt))
        starts = list(accumulate((len(r) - 1 for r, _ in ordered), initial=0))
        before = len(tokens)
        for (response, place), first in zip(ordered, (before + n for n in starts), strict=False):
            tokens += response[:-1]
            positions += range(len(prompt), len(prompt) + len(response) - 1)
            predictors[place] = start + len(prompt) - 1
            predictors[place + 1 : place + len(response)] = torch.arange(first, first + len(response) - 1)
        lengths = [len(r) - 1 for r, _ in ordered if len(r) > 1]
        groups.append(PromptGroup(len(prompt), starts[-1], _blocks(starts, lengths)))
    return Shared(torch.tensor(tokens), torch.tensor(positions), predictors, tuple(groups))


def _blocks(starts: list[int], lengths: list[int]) -> tuple[Branches, ...]:
    """Branches, longest first, as few batches with little padding."""
    result, first = [], 0
    for block in blocks(lengths, WASTE):
        own = slice(first, first + block.count)
        first += block.count
        length = torch.tensor(lengths[own])[:, None]
        step = torch.arange(block.length)[None]
        places = torch.tensor(starts[own])[:, None] + torch.minimum(step, length - 1)
        result.append(Branches(places, (step < length).flatten().nonzero()[:, 0]))
    return tuple(result)
