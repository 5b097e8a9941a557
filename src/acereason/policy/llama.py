"""What compiled code needs to know of a Hugging Face model: shape, weights by name, rotation.

Llama, Qwen2 (biases on q, k, v) and Qwen3 (RMS norms on every head of q and k) decoders are
understood, with tied or separate embeddings, grouped key-value heads and static rotary scaling.
Sliding windows, mixtures of experts, output biases and activations other than SiLU are refused by
name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from acereason.errors import SamplingError
from acereason.policy.state import full_tensors
from acereason.shape import Shape

ARCHITECTURES = {"llama": "Llama", "qwen2": "Qwen2", "qwen3": "Qwen3"}
_CHANGING_ROTATIONS = ("dynamic", "longrope")  # their angles depend on the length reached


@dataclass(frozen=True, slots=True, kw_only=True)
class DecoderShape(Shape):
    """A shape with what decoding needs; `context` is the most positions the model was made for."""

    context: int
    eps: float


def read_shape(config: Any) -> DecoderShape:
    """The shape in a transformers configuration; SamplingError names what is not supported."""
    kind = getattr(config, "model_type", type(config).__name__)
    if kind not in ARCHITECTURES:
        known = ", ".join(ARCHITECTURES.values())
        raise SamplingError(
            f"the embedded sampler decodes {known} models, not {kind!r}; sample it from a server"
        )
    shape = DecoderShape.read(config, context=config.max_position_embeddings, eps=config.rms_norm_eps)
    if problem := _unsupported(config, shape):
        raise SamplingError(f"the embedded sampler cannot decode a {kind} model with {problem}")
    return shape


def _unsupported(config: Any, shape: Shape) -> str | None:
    layers = getattr(config, "layer_types", None) or []
    if any(layer != "full_attention" for layer in layers):
        return "sliding-window attention (use_sliding_window); full attention is expected"
    if config.hidden_act != "silu":
        return f"hidden_act {config.hidden_act!r}; 'silu' is expected"
    if getattr(config, "attention_bias", False) or getattr(config, "mlp_bias", False):
        return "attention_bias or mlp_bias; both are expected to be false"
    if shape.heads % shape.kv_heads or shape.head_dim % 2:
        return (
            f"{shape.heads} heads over {shape.kv_heads} key-value heads of dimension"
            f" {shape.head_dim}; the heads must divide and the dimension be even"
        )
    rope = (getattr(config, "rope_parameters", None) or {}).get("rope_type", "default")
    return f"rope_type {rope!r}, whose angles change with the length" if rope in _CHANGING_ROTATIONS else None


class Rotation:
    """Cosines and sines of the rotary embedding, computed as transformers does (float32 angles)."""

    def __init__(self, model: nn.Module) -> None:
        rotary: Any = model.get_submodule("model.rotary_emb")
        self._frequency: Tensor = rotary.inv_freq.detach().float().cpu()
        self._scale = float(rotary.attention_scaling)

    def tables(self, length: int) -> tuple[Tensor, Tensor]:
        """cos and sin [length, head_dim / 2] of positions 0 .. length-1."""
        angles = torch.arange(length, dtype=torch.float32)[:, None] * self._frequency
        return (angles.cos() * self._scale).contiguous(), (angles.sin() * self._scale).contiguous()


def read_weights(weights: Any, shape: Shape) -> dict[str, Tensor]:
    """Weights by name without the "model." prefix; "head" is the output matrix, tied or not.

    `weights` is a module or a state dict. SamplingError: a matrix is missing or of another size."""
    if isinstance(weights, nn.Module):  # whole tensors, also of a sharded model
        weights = dict(full_tensors(weights))
    if not isinstance(weights, Mapping):
        raise SamplingError(f"expected a model or its state dict, found {type(weights).__name__}")
    tensors = {name.removeprefix("model."): tensor.detach() for name, tensor in weights.items()}
    head = "embed_tokens.weight" if shape.tied else "lm_head.weight"
    if head in tensors:
        tensors["head"] = tensors[head]
    for name, size in _sizes(shape).items():
        if name not in tensors:
            raise SamplingError(f"the weights lack {name!r}; expected those of the model at hand")
        if tuple(tensors[name].shape) != size:
            raise SamplingError(f"{name} is {tuple(tensors[name].shape)}; {size} was expected")
    return tensors


def _sizes(shape: Shape) -> dict[str, tuple[int, ...]]:
    queries, keys = shape.query_width, shape.kv_width
    hidden, inter = shape.hidden, shape.intermediate
    sizes: dict[str, tuple[int, ...]] = {
        "embed_tokens.weight": (shape.vocab, hidden),
        "norm.weight": (hidden,),
        "head": (shape.vocab, hidden),
    }
    for i in range(shape.layers):
        at, mlp = f"layers.{i}.self_attn", f"layers.{i}.mlp"
        for name, rows in (("q", queries), ("k", keys), ("v", keys)):
            sizes[f"{at}.{name}_proj.weight"] = (rows, hidden)
            if shape.qkv_bias:
                sizes[f"{at}.{name}_proj.bias"] = (rows,)
        if shape.qk_norm:
            sizes[f"{at}.q_norm.weight"] = sizes[f"{at}.k_norm.weight"] = (shape.head_dim,)
        sizes[f"{at}.o_proj.weight"] = (hidden, queries)
        sizes[f"{mlp}.gate_proj.weight"] = sizes[f"{mlp}.up_proj.weight"] = (inter, hidden)
        sizes[f"{mlp}.down_proj.weight"] = (hidden, inter)
        sizes[f"layers.{i}.input_layernorm.weight"] = (hidden,)
        sizes[f"layers.{i}.post_attention_layernorm.weight"] = (hidden,)
    return sizes


def joined(weights: Mapping[str, Tensor], layer: int, what: str) -> Tensor:
    """q, k and v ("weight" or "bias") of a layer, one under the other."""
    names = (f"layers.{layer}.self_attn.{part}_proj.{what}" for part in "qkv")
    return torch.cat([weights[name] for name in names])


def panels(rows: int, columns: int, width: int) -> Tensor:
    """Zeros [ceil(rows / width), columns, width] for a matrix [rows, columns]."""
    return torch.zeros(-(-rows // width), columns, width)


def fill_panels(matrix: Tensor, out: Tensor) -> None:
    """Put a matrix [N, K] into panels [ceil(N / w), K, w]; lanes past N stay as they are."""
    width, whole = out.shape[2], matrix.shape[0] // out.shape[2]
    full = matrix[: whole * width].reshape(whole, width, matrix.shape[1])
    out[:whole].copy_(full.transpose(1, 2))
    if rest := matrix.shape[0] - whole * width:
        out[whole, :, :rest].copy_(matrix[whole * width :].t())
