"""A decoder's weights as the PyTorch and CUDA engines use them: in buffers of their own, filled in place.

Buffers are made once and keep their addresses, which CUDA graphs hold; new weights are copied into them. A
layer's q, k and v are one matrix, and so are gate and up.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from acereason.policy.decoder import DecoderShape, joined, read_weights


@dataclass(slots=True)
class Layer:
    """A decoder layer's weights; biases and head norms only where the architecture has them."""

    norm1: Tensor
    qkv: Tensor
    bias: Tensor | None
    q_norm: Tensor | None
    k_norm: Tensor | None
    o: Tensor
    norm2: Tensor
    gate_up: Tensor
    down: Tensor


def _parts(given: dict[str, Tensor], i: int, shape: DecoderShape) -> dict[str, Tensor | None]:
    """The i-th layer's weights as `Layer` names them: q, k, v joined, gate and up joined."""
    at = f"layers.{i}."
    halves = [given[f"{at}mlp.{half}_proj.weight"] for half in ("gate", "up")]
    return {
        "norm1": given[at + "input_layernorm.weight"],
        "qkv": joined(given, i, "weight"),
        "bias": joined(given, i, "bias") if shape.qkv_bias else None,
        "q_norm": given[at + "self_attn.q_norm.weight"] if shape.qk_norm else None,
        "k_norm": given[at + "self_attn.k_norm.weight"] if shape.qk_norm else None,
        "o": given[at + "self_attn.o_proj.weight"],
        "norm2": given[at + "post_attention_layernorm.weight"],
        "gate_up": torch.cat(halves),
        "down": given[at + "mlp.down_proj.weight"],
    }


class DecoderWeights:
    """Embedding, final norm, output matrix and layers; empty until the first `load`."""

    def __init__(self, shape: DecoderShape, dtype: torch.dtype, device: torch.device) -> None:
        self._shape, self._dtype, self._device = shape, dtype, device
        self.embed = self.norm = self.head = torch.empty(0)
        self.layers: list[Layer] = []

    @torch.no_grad()
    def load(self, weights: object) -> None:
        """Copy the weights of a module or state dict; SamplingError when they are not of this shape."""
        given = read_weights(weights, self._shape)
        if not self.layers:
            self._make(given)
        self.embed.copy_(given["embed_tokens.weight"])
        self.norm.copy_(given["norm.weight"])
        if not self._shape.tied:
            self.head.copy_(given["head"])
        for i, layer in enumerate(self.layers):
            for name, tensor in _parts(given, i, self._shape).items():
                if tensor is not None:
                    getattr(layer, name).copy_(tensor)

    def _make(self, given: dict[str, Tensor]) -> None:
        self.embed, self.norm = self._empty(given["embed_tokens.weight"]), self._empty(given["norm.weight"])
        self.head = self.embed if self._shape.tied else self._empty(given["head"])
        for i in range(self._shape.layers):
            parts = _parts(given, i, self._shape).items()
            self.layers.append(Layer(**{n: None if t is None else self._empty(t) for n, t in parts}))  # type: ignore[arg-type]

    def _empty(self, like: Tensor) -> Tensor:
        return torch.empty(like.shape, dtype=self._dtype, device=self._device)
