"""What compiled code needs to know of a Hugging Face model: shape, weights by name, rotations.

Llama, Mistral, Qwen2 (biases on q, k, v), Qwen3 (RMS norms on every head of q and k), Gemma (a scaled
embedding, weights of norms counted from one) and Gemma 3 (norms after the branches as well) are understood,
with tied or separate embeddings, grouped key-value heads, layers that look through a window and static rotary
scaling. Mixtures of experts, output biases, soft caps and activations other than SiLU and GELU by tanh are
refused by name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from acereason.errors import SamplingError
from acereason.policy.passes import GATES
from acereason.policy.state import full_tensors
from acereason.shape import Shape, heads_of

ARCHITECTURES = {
    "llama": "Llama",
    "mistral": "Mistral",
    "qwen2": "Qwen2",
    "qwen3": "Qwen3",
    "gemma": "Gemma",
    "gemma3_text": "Gemma 3",
}
_ACTIVATIONS = {"silu": "silu", "gelu_pytorch_tanh": "gelu"}
_CHANGING_ROTATIONS = ("dynamic", "longrope")  # their angles depend on the length reached
FULL, SLIDING = "full_attention", "sliding_attention"


@dataclass(frozen=True, slots=True, kw_only=True)
class DecoderShape(Shape):
    """A shape with what decoding needs; `context` is the most positions the model was made for.

    kinds         of each layer, "full_attention" or "sliding_attention", which look back `window` positions
    gate          (a, b) of the MLP's activation x σ(a x + b x³)
    embed_scale   what embeddings are multiplied with; query_scale: queries
    one           what is added to the weights of norms"""

    context: int
    eps: float
    kinds: tuple[str, ...]
    window: int | None = None
    gate: tuple[float, float] = GATES["silu"]
    embed_scale: float = 1.0
    query_scale: float
    one: float = 0.0

    @property
    def plain(self) -> bool:
        """Whether this is a Llama's arithmetic but for biases and norms of heads."""
        special = (self.gate != GATES["silu"], self.norms != 2, self.embed_scale != 1.0, self.one)
        return SLIDING not in self.kinds and not any(special)

    def window_of(self, layer: int) -> int | None:
        """How many positions a layer looks back, its own included; None: all."""
        return self.window if self.kinds[layer] == SLIDING else None

    def norm_names(self) -> dict[str, str]:
        """A layer's norms by what compiled code calls them: before its branches, and after."""
        if self.norms == 2:
            return {"norm1": "input_layernorm", "norm2": "post_attention_layernorm"}
        return {
            "norm1": "input_layernorm",
            "post1": "post_attention_layernorm",
            "norm2": "pre_feedforward_layernorm",
            "post2": "post_feedforward_layernorm",
        }


def read_shape(config: Any) -> DecoderShape:
    """The shape in a transformers configuration; SamplingError names what is not supported."""
    kind = getattr(config, "model_type", type(config).__name__)
    if kind not in ARCHITECTURES:
        known = ", ".join(ARCHITECTURES.values())
        raise SamplingError(
            f"the embedded sampler decodes {known} models, not {kind!r}; sample it from a server"
        )
    if problem := _unsupported(config):
        raise SamplingError(f"the embedded sampler cannot decode a {kind} model with {problem}")
    return DecoderShape.read(
        config, context=config.max_position_embeddings, eps=config.rms_norm_eps, **_arithmetic(config)
    )


def _arithmetic(config: Any) -> dict[str, Any]:
    """The fields of a DecoderShape in which architectures differ."""
    window = getattr(config, "sliding_window", None)
    kinds = getattr(config, "layer_types", None)
    if kinds is None:  # only a Mistral then has windows; others carry the key without heeding it
        window = window if config.model_type == "mistral" else None
        kinds = [FULL if window is None else SLIDING] * config.num_hidden_layers
    gemma = config.model_type.startswith("gemma")
    scaled = getattr(config, "query_pre_attn_scalar", heads_of(config)[2])
    return {
        "kinds": tuple(kinds),
        "window": window if SLIDING in kinds else None,
        "gate": GATES[_ACTIVATIONS[_activation(config)]],
        "query_scale": float(1 / torch.tensor(float(scaled)).sqrt()),
        "embed_scale": config.hidden_size**0.5 if gemma else 1.0,
        "one": 1.0 if gemma else 0.0,
    }


def _activation(config: Any) -> str:
    name: str = getattr(config, "hidden_act", None) or config.hidden_activation
    return name


def _unsupported(config: Any) -> str | None:
    odd = set(getattr(config, "layer_types", None) or []) - {FULL, SLIDING}
    if odd:
        return f"layers of the kind {min(odd)!r}; {FULL} and {SLIDING} are expected"
    if _activation(config) not in _ACTIVATIONS:
        return f"hidden_act {_activation(config)!r}; {' or '.join(map(repr, _ACTIVATIONS))} is expected"
    if getattr(config, "attention_bias", False) or getattr(config, "mlp_bias", False):
        return "attention_bias or mlp_bias; both are expected to be false"
    if getattr(config, "use_bidirectional_attention", False):
        return "use_bidirectional_attention; causal attention is expected"
    caps = ("attn_logit_softcapping", "final_logit_softcapping")
    if capped := [name for name in caps if getattr(config, name, None) is not None]:
        return f"{capped[0]}; no soft cap is expected"
    heads, kv_heads, head_dim = heads_of(config)
    if heads % kv_heads or head_dim % 2:
        return (
            f"{heads} heads over {kv_heads} key-value heads of dimension"
            f" {head_dim}; the heads must divide and the dimension be even"
        )
    changing = [rope for rope in _rope_types(config) if rope in _CHANGING_ROTATIONS]
    return f"rope_type {changing[0]!r}, whose angles change with the length" if changing else None


def _rope_types(config: Any) -> list[str]:
    """The kinds of rotation, of all layers or of each kind of layer."""
    rope = getattr(config, "rope_parameters", None) or {}
    each = [r for r in rope.values() if isinstance(r, dict)] or [rope]
    return [r.get("rope_type", "default") for r in each]


class Rotation:
    """Cosines and sines of the rotary embedding, computed as transformers does (float32 angles)."""

    def __init__(self, model: nn.Module) -> None:
        rotary: Any = model.get_submodule("model.rotary_emb")
        self._of: dict[str, tuple[Tensor, float]] = {}  # frequencies and scale by kind of layer
        for kind in (FULL, SLIDING):
            prefix = f"{kind}_" if hasattr(rotary, f"{kind}_inv_freq") else ""
            frequency: Tensor | None = getattr(rotary, f"{prefix}inv_freq", None)
            if frequency is not None:
                scale = float(getattr(rotary, f"{prefix}attention_scaling"))
                self._of[kind] = frequency.detach().float().cpu(), scale

    def tables(self, length: int, kind: str = FULL) -> tuple[Tensor, Tensor]:
        """cos and sin [length, head_dim / 2] of positions 0 .. length-1, for layers of a kind."""
        frequency, scale = self._of[kind]
        angles = torch.arange(length, dtype=torch.float32)[:, None] * frequency
        return (angles.cos() * scale).contiguous(), (angles.sin() * scale).contiguous()


def read_weights(weights: Any, shape: DecoderShape) -> dict[str, Tensor]:
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


def _sizes(shape: DecoderShape) -> dict[str, tuple[int, ...]]:
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
        for norm in shape.norm_names().values():
            sizes[f"layers.{i}.{norm}.weight"] = (hidden,)
    return sizes


def joined(weights: Mapping[str, Tensor], layer: int, what: str) -> Tensor:
    """q, k and v ("weight" or "bias") of a layer, one under the other."""
    names = (f"layers.{layer}.self_attn.{part}_proj.{what}" for part in "qkv")
    return torch.cat([weights[name] for name in names])
