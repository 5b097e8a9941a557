"""Muon with the matrices of one shape taken together: torch's own takes one after the other, and for small
models that takes longer than the gradient does."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor

AT_ONCE = 1 << 24  # numbers of one batch; a large matrix is a batch of its own


class Muon(torch.optim.Muon):
    """`torch.optim.Muon` (Jordan et al. 2024): its settings, its state and, up to rounding, its results.

    Sharded parameters (DTensor) and other rules for the rate (`adjust_lr_fn`) are left to it."""

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step for every parameter that has a gradient; returns what `closure` does."""
        if any(map(_left_to_torch, self.param_groups)):
            return super().step(closure)  # type: ignore[no-untyped-call]
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for matrices in _alike([p for p in group["params"] if p.grad is not None]):
                self._step(matrices, group)
        return loss

    def _step(self, matrices: list[Tensor], group: dict[str, Any]) -> None:
        """One step for matrices of one shape."""
        momentum, rate = group["momentum"], float(group["lr"])
        updates = []
        for p in matrices:
            gradient = p.grad
            assert gradient is not None  # `step` chose those that have one
            if "momentum_buffer" not in self.state[p]:
                self.state[p]["momentum_buffer"] = torch.zeros_like(gradient)
            buffer = self.state[p]["momentum_buffer"].lerp_(gradient, 1 - momentum)
            updates.append(gradient.lerp(buffer, momentum) if group["nesterov"] else buffer)
        ready = orthogonal(torch.stack(updates), group["ns_coefficients"], group["ns_steps"], group["eps"])
        rows, columns = matrices[0].shape
        step = rate * math.sqrt(max(1, rows / columns))
        for p, update in zip(matrices, ready.unbind(), strict=True):
            p.mul_(1 - rate * group["weight_decay"]).add_(update, alpha=-step)


def _left_to_torch(group: dict[str, Any]) -> bool:
    other = group["adjust_lr_fn"] not in (None, "original")
    return other or any(isinstance(p, DTensor) for p in group["params"])


def orthogonal(x: Tensor, coefficients: tuple[float, float, float], steps: int, eps: float) -> Tensor:
    """[B, m, n] each matrix with its singular values brought near 1 by a quintic Newton–Schulz iteration, in
    bfloat16 as torch does it."""
    a, b, c = coefficients
    tall = x.shape[-2] > x.shape[-1]
    x = (x.mT if tall else x).bfloat16().contiguous()
    x.div_(x.norm(dim=(-2, -1), keepdim=True).clamp(min=eps))
    for _ in range(steps):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.mT if tall else x


def _alike(parameters: list[Tensor]) -> list[list[Tensor]]:
    """The parameters in batches of one shape, kind and device."""
    found: dict[Any, list[Tensor]] = defaultdict(list)
    for p in parameters:
        found[p.shape, p.dtype, p.device].append(p)
    batches = []
    for alike in found.values():
        size = max(1, AT_ONCE // alike[0].numel())
        batches += [alike[i : i + size] for i in range(0, len(alike), size)]
    return batches
