"""A model's parameters whole, also when its ranks hold only shards of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor


def full_tensors(model: Any, dtype: torch.dtype | None = None) -> Iterator[tuple[str, Tensor]]:
    """(name, tensor) of every parameter once, tied ones under their first name, gathered from all ranks.

    A collective when the model is sharded: every rank must run it to the end, in the same order, and gets
    every tensor. Nothing but the present tensor is held."""
    for name, parameter in model.named_parameters():
        tensor = parameter.detach()
        if isinstance(tensor, DTensor):
            tensor = tensor.full_tensor()
        yield name, tensor if dtype is None else tensor.to(dtype)
