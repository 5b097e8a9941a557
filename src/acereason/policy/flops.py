"""Arithmetic of a forward and backward pass, for model FLOPs utilisation (MFU).

    6 x (layers x weights of a layer x tokens + hidden x vocabulary x predicted tokens)
    + 6 x layers x heads x head_dim x Σ length²            causal attention: half of the square

Embedding look-ups, norms and what is computed twice (activation checkpointing, logits) are not counted.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from acereason.shape import Shape

# dense bfloat16, operations a second, by the vendor's datasheet
PEAK = {
    "NVIDIA H200": 989e12,
    "NVIDIA H100 80GB HBM3": 989e12,
    "NVIDIA A100-SXM4-80GB": 312e12,
    "NVIDIA A100-SXM4-40GB": 312e12,
}


def needed(config: Any, lengths: Sequence[int], predicted: int) -> float:
    """Floating-point operations to learn sequences of these lengths with `predicted` target tokens."""
    shape = Shape.read(config)
    matrices = 6.0 * (shape.layers * shape.matrices * sum(lengths) + shape.embedding * predicted)
    return matrices + 6.0 * shape.layers * shape.query_width * sum(n * n for n in lengths)


def peak(device: torch.device) -> float | None:
    """The device's datasheet rate; None where it is not known."""
    return PEAK.get(torch.cuda.get_device_name(device)) if device.type == "cuda" else None
