"""From the last hidden state to logits, as the model's own class does it: bias, scale, soft cap.

output = output_of(model)
logits = cap · tanh(scale · (h Wᵀ + b) / cap)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

ROWS = 4096  # of the matrix, made wide at a time where the processor has no such product


@dataclass(frozen=True, slots=True)
class Output:
    """`weight` [V, E], `bias` [V] or None; `cap` None leaves the scaled logits as they are."""

    weight: Tensor
    bias: Tensor | None = None
    scale: float = 1.0
    cap: float | None = None

    def finished(self, raw: Tensor) -> Tensor:
        """Logits from products h Wᵀ, in their type; the products may be overwritten."""
        if self.bias is not None:
            raw = raw.add_(self.bias)
        if self.scale != 1.0:
            raw = raw.mul_(self.scale)
        return raw if self.cap is None else raw.div_(self.cap).tanh_().mul_(self.cap)

    def slope(self, logits: Tensor, gradient: Tensor) -> Tensor:
        """The gradient by h Wᵀ from that by the logits, in place."""
        if self.cap is not None:
            gradient = gradient.mul_(1 - (logits / self.cap) ** 2)
        return gradient if self.scale == 1.0 else gradient.mul_(self.scale)


def output_of(model: Any) -> Output:
    """How a causal language model makes logits (Gemma 2 caps, Phi adds a bias, Granite and Cohere scale)."""
    layer, config = model.get_output_embeddings(), model.config
    scale = getattr(config, "logit_scale", None) or 1 / (getattr(config, "logits_scaling", None) or 1.0)
    cap = getattr(config, "final_logit_softcapping", None)
    return Output(layer.weight, getattr(layer, "bias", None), float(scale), cap)


def float_logits(hidden: Tensor, output: Output) -> Tensor:
    """Logits with float32 sums of the products, also from bfloat16: a rounded logit would move log π by 0.1
    nat."""
    weight = output.weight
    if hidden.dtype in (torch.bfloat16, torch.float16):
        if hidden.is_cuda:
            return output.finished(torch.mm(hidden, weight.t(), out_dtype=torch.float32))
        return output.finished(_widened(hidden.float(), weight))
    z = hidden @ weight.t()
    return output.finished(z if z.dtype == torch.float64 else z.float())


def _widened(hidden: Tensor, weight: Tensor) -> Tensor:
    """h Wᵀ in float32 from a matrix of halves, of which so many rows at a time are made wide."""
    z = hidden.new_empty(len(hidden), len(weight))
    for start in range(0, len(weight), ROWS):
        part = weight[start : start + ROWS].float()
        torch.mm(hidden, part.t(), out=z[:, start : start + ROWS])
    return z
