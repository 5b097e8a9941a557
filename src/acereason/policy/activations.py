"""Activations that rest in the machine's memory between the forward and the backward pass.

    with activations.resting(model):     what the pass keeps, and is worth moving, goes over beside it
        output = model(...)

With activation checkpointing that is the input of each layer: 2 hidden bytes a token and layer in bfloat16.
Copies go in a stream of their own; the backward pass waits for each when it comes to it. On a processor
nothing moves.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

from acereason.policy.marks import marks_of

LEAST = 1 << 20  # bytes of a tensor that is worth moving
HOST = torch.device("cpu")


def offloaded(model: Any) -> tuple[str, ...]:
    """What rests in the machine's memory (`placement.offload`, put down by `train.parallel.prepare`)."""
    return marks_of(model).offload


def work_device(model: Any) -> torch.device:
    """Where the model computes, which is not where its parameters are when these rest."""
    return marks_of(model).works_on or next(model.parameters()).device


def copied(tensor: Tensor, device: torch.device) -> Tensor:
    """A tensor on a device; on the machine's side pinned, and the copy may still be under way."""
    if tensor.device == device:
        return tensor
    if device.type != "cpu":
        return tensor.to(device, non_blocking=True)
    host = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
    return host.copy_(tensor, non_blocking=True)


@contextmanager
def resting(model: Any) -> Iterator[None]:
    """Within, what the forward pass keeps rests in the machine's memory until the backward pass wants it."""
    if "activations" not in offloaded(model):
        yield
        return
    kept = Kept(work_device(model))
    with saved_tensors_hooks(kept.rest, kept.fetch):
        yield


class Kept:
    """The hooks of `resting` for one forward pass. Parameters, and what is small, stay."""

    def __init__(self, device: torch.device, least: int = LEAST) -> None:
        self._device, self._least = device, least
        self._going = torch.cuda.Stream() if device.type == "cuda" else None
        self.bytes = 0

    def rest(self, tensor: Tensor) -> Any:
        """A tensor that is kept, or its copy on the machine's side."""
        weight = isinstance(tensor, nn.Parameter) or isinstance(tensor._base, nn.Parameter)  # W, or Wᵀ
        if weight or tensor.nbytes < self._least or tensor.device != self._device:
            return tensor
        self.bytes += tensor.nbytes
        if self._going is None:
            return (tensor.clone(),)
        self._going.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._going):
            host = copied(tensor, HOST)
        tensor.record_stream(self._going)
        return (host,)

    def fetch(self, kept: Any) -> Tensor:
        """The tensor again, on its device."""
        if isinstance(kept, Tensor):
            return kept
        if self._going is not None:
            torch.cuda.current_stream().wait_stream(self._going)
        return copied(kept[0], self._device)
