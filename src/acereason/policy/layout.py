"""A pack as trunks and branches: how compiled code sees the responses of a batch.

A *trunk* is a prompt, computed once; each response to it is a *branch* that attends to the trunk
and to itself. The last token of a response predicts nothing and has no row. Threads get whole
pieces, a trunk with some of its branches, so that they never wait for each other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from acereason.policy.packing import Pack

ARRAYS = (
    *("token", "position", "q_start", "q_count", "k_start", "k_count"),
    *("row", "target", "place", "temperature", "row_end", "segment_end", "target_end"),
)


@dataclass(frozen=True, slots=True)
class Layout:
    """The arrays of `Batch` in learn.cpp, each thread's part after the one before."""

    arrays: dict[str, np.ndarray[Any, Any]]
    longest: int


def lay_out(pack: Pack, temperature: Tensor, threads: int) -> Layout | None:
    """A pack as trunks and branches, trunks dealt to threads; None when a response has gaps."""
    branching = trunks(pack)
    if branching is None:
        return None
    order = sorted(_pieces(branching, threads), key=lambda item: -_rows(item))
    loads, shares = [0] * threads, [[] for _ in range(threads)]  # type: ignore[var-annotated]
    for item in order:
        least = loads.index(min(loads))
        loads[least] += _rows(item)
        shares[least].append(item)
    lists: dict[str, list[Any]] = {name: [] for name in ARRAYS}
    for end in ("row_end", "segment_end", "target_end"):
        lists[end].append(0)
    for share in shares:
        for prompt, branches in share:
            _add_trunk(lists, prompt, branches)
        lists["row_end"].append(len(lists["token"]))
        lists["segment_end"].append(len(lists["q_start"]))
        lists["target_end"].append(len(lists["row"]))
    lists["temperature"] = [0.0]
    arrays = {name: np.array(values, np.int32) for name, values in lists.items()}
    arrays["temperature"] = temperature.numpy()[arrays["place"]].astype(np.float32)
    return Layout(arrays, int(arrays["position"].max()) + 1)


_Branch = tuple[list[int], int]  # a response, and the place of its first target in the pack


def trunks(pack: Pack) -> dict[tuple[int, ...], list[_Branch]] | None:
    """The pack's responses by prompt."""
    tokens, predictors = pack.tokens.tolist(), pack.predictors.numpy()
    trunks: dict[tuple[int, ...], list[_Branch]] = {}
    for block in pack.blocks:
        for i in range(block.count):
            start = block.start + i * block.length
            a, b = np.searchsorted(predictors, (start, start + block.length)).tolist()
            if a == b:
                continue
            first, last = int(predictors[a]), int(predictors[b - 1])
            if last - first != b - a - 1:
                return None
            response = [*tokens[first + 1 : last + 1], int(pack.targets[b - 1])]
            trunks.setdefault(tuple(tokens[start : first + 1]), []).append((response, a))
    return trunks


def _pieces(
    trunks: dict[tuple[int, ...], list[_Branch]], threads: int
) -> list[tuple[tuple[int, ...], list[_Branch]]]:
    """Trunks with their branches, cut (and the prompt computed again) where one is a large part of
    what a thread should get."""
    if threads == 1:
        return list(trunks.items())
    most = sum(_rows(item) for item in trunks.items()) / (2 * threads)
    pieces: list[tuple[tuple[int, ...], list[_Branch]]] = []
    for prompt, branches in trunks.items():
        pieces.append((prompt, []))
        for branch in branches:
            if pieces[-1][1] and _rows((prompt, [*pieces[-1][1], branch])) > most:
                pieces.append((prompt, []))
            pieces[-1][1].append(branch)
    return pieces


def _rows(item: tuple[tuple[int, ...], list[_Branch]]) -> int:
    return len(item[0]) + sum(len(response) - 1 for response, _ in item[1])


def _add_trunk(lists: dict[str, list[Any]], prompt: tuple[int, ...], branches: list[_Branch]) -> None:
    start, length = len(lists["token"]), len(prompt)

    def segment(tokens: Sequence[int], before: int) -> int:
        first = len(lists["token"])
        lists["token"].extend(tokens)
        lists["position"].extend(range(before, before + len(tokens)))
        for name, value in zip(ARRAYS[2:6], (first, len(tokens), start, before), strict=True):
            lists[name].append(value)
        return first

    segment(prompt, 0)
    for response, place in branches:
        first = segment(response[:-1], length) if len(response) > 1 else 0
        lists["row"].extend([start + length - 1, *range(first, first + len(response) - 1)])
        lists["target"].extend(response)
        lists["place"].extend(range(place, place + len(response)))
