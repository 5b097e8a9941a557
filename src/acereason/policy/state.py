"""A model's parameters whole, also when its ranks hold only shards of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from acereason.policy import lora


def full_tensors(model: Any, dtype: torch.dtype | None = None) -> Iterator[tuple[str, Tensor]]:
    """(name, tensor) of every parameter once, tied ones under their first name, gathered from all ranks;
    those that have adapters are merged with them.

    A collective when the model is sharded: every rank must run it to the end, in the same order, and gets
    every tensor. Nothing but the present tensor is held."""
    tensors = lora.merged(model)
    while (item := _next(tensors)) is not None:
        name, tensor = item
        yield name, tensor.detach() if dtype is None else tensor.detach().to(dtype)


@torch.no_grad()
def _next(tensors: Iterator[tuple[str, Tensor]]) -> tuple[str, Tensor] | None:
    return next(tensors, None)
