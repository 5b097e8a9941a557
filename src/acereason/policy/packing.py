"""Packing: many sequences of different lengths in one row of tokens, without leakage between them.

A `Pack` holds whole sequences, longest first, in *blocks* of nearly equal length. A block of `count`
sequences of at most `length` tokens takes count x length places, so attention sees it as an ordinary
[count, length] batch; the few places after a shorter sequence are filled with its last token, are never
attended from a real position (attention is causal) and are never predicted from.

Shapes: N places in the pack, M predicted tokens, S sequences.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

Tokens = Sequence[int] | npt.NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class Example:
    """A prompt and the response to be learned. `index` finds the example again in per-example data."""

    prompt: Tokens
    response: Tokens
    index: int = 0

    def __len__(self) -> int:
        return len(self.prompt) + len(self.response)


@dataclass(frozen=True, slots=True)
class Block:
    """`count` sequences laid out in `count * length` places from `start` on."""

    start: int
    count: int
    length: int


@dataclass(frozen=True, slots=True)
class Pack:
    """One micro-batch. `tokens`, `positions`: [N]. `predictors`: [M] places whose next token is a response
    token, `targets`: [M] those tokens, `owners`: [M] the index of the example they belong to."""

    tokens: Tensor
    positions: Tensor
    blocks: tuple[Block, ...]
    predictors: Tensor
    targets: Tensor
    owners: Tensor

    def ends(self) -> Tensor:
        """[S + 1] int32 on CPU: where each sequence begins (filler after it included) and the last ends."""
        lengths = [b.length for b in self.blocks for _ in range(b.count)]
        return torch.tensor([0, *accumulate(lengths)], dtype=torch.int32)

    def to(self, device: torch.device) -> Pack:
        moved = (self.tokens, self.positions, self.predictors, self.targets, self.owners)
        tokens, positions, predictors, targets, owners = (t.to(device) for t in moved)
        return Pack(tokens, positions, self.blocks, predictors, targets, owners)


def split(lengths: Sequence[int], budget: int) -> list[list[int]]:
    """Indices of sequences in packs of at most `budget` places, longest first.

    Every pack holds at least one sequence, so a sequence longer than the budget gets one of its own.
    Deterministic; ties keep the given order."""
    order = sorted(range(len(lengths)), key=lambda i: -lengths[i])
    packs: list[list[int]] = []
    room = 0
    for i in order:
        if not packs or lengths[i] > room:
            packs.append([])
            room = budget
        packs[-1].append(i)
        room -= lengths[i]
    return packs


def blocks(lengths: Sequence[int], waste: float = 0.1) -> list[Block]:
    """Group lengths, sorted longest first, into blocks in which at most `waste` of the places are filler."""
    result: list[Block] = []
    start = count = used = 0
    longest = 0
    for length in lengths:
        if count and longest * (count + 1) - (used + length) > waste * longest * (count + 1):
            result.append(Block(start, count, longest))
            start += longest * count
            count = used = 0
        if not count:
            longest = length
        count += 1
        used += length
    if count:
        result.append(Block(start, count, longest))
    return result


def pack(examples: Sequence[Example], waste: float = 0.1) -> Pack:
    """Lay examples out as one pack. Examples of an empty prompt or response are a programming error."""
    ordered = sorted(examples, key=lambda e: -len(e))
    layout = blocks([len(e) for e in ordered], waste)
    starts = [b.start + i * b.length for b in layout for i in range(b.count)]
    ends = [*starts[1:], layout[-1].start + layout[-1].count * layout[-1].length]
    tokens = np.empty(ends[-1], np.int64)
    predictors, targets = [], []
    for example, start, end in zip(ordered, starts, ends, strict=True):
        assert len(example.prompt) and len(example.response)
        middle, last = start + len(example.prompt), start + len(example)
        tokens[start:middle], tokens[middle:last] = example.prompt, example.response
        tokens[last:end] = tokens[last - 1]
        predictors.append(np.arange(middle - 1, last - 1))
        targets.append(tokens[middle:last])
    owners = np.repeat([e.index for e in ordered], [len(e.response) for e in ordered])
    positions = torch.cat([torch.arange(b.length).repeat(b.count) for b in layout])
    return Pack(
        torch.from_numpy(tokens),
        positions,
        tuple(layout),
        torch.from_numpy(np.concatenate(predictors)),
        torch.from_numpy(np.concatenate(targets)),
        torch.from_numpy(owners),
    )


def packs(examples: Sequence[Example], budget: int, waste: float = 0.1) -> list[Pack]:
    """All examples as packs of about `budget` places (filler may exceed it by the share `waste`)."""
    return [pack([examples[i] for i in group], waste) for group in split([len(e) for e in examples], budget)]


def packs_by_prompt(examples: Sequence[Example], budget: int) -> list[Pack]:
    """All examples as packs of about `budget` tokens, responses to one prompt side by side.

    A prompt counts once; a pack holds at least one response."""
    by_prompt: dict[tuple[int, ...], list[Example]] = {}
    for example in examples:
        by_prompt.setdefault(tuple(example.prompt), []).append(example)
    groups: list[list[Example]] = []
    room = 0
    for prompt, members in by_prompt.items():
        fresh = True
        for example in members:
            cost = len(example.response) + (len(prompt) if fresh else 0)
            if not groups or cost > room:
                groups.append([])
                room, cost = budget, len(example)
            groups[-1].append(example)
            room, fresh = room - cost, False
    return [pack(members) for members in groups]
