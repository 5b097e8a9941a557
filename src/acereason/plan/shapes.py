"""Shapes of decoder-only models: parameters, arithmetic, and bytes of cache, counted exactly.

    parameters          every weight once, tied ones once
    flops per token     6 x (weights that are multiplied) + 6 x layers x query width x length (causal
                        attention), forward and backward; recomputation not counted
    KV bytes per token  2 x layers x key-value width x 2 (bfloat16)

Counts are checked against transformers' own models in the tests. Mixtures of experts are not covered.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from acereason.config import Model
from acereason.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Shape:
    """A Llama-family decoder: gated MLP, grouped-query attention, RMS norms."""

    vocab: int
    hidden: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    intermediate: int
    tied: bool
    qkv_bias: bool = True  # Qwen2 has biases on q, k and v
    qk_norm: bool = False  # Qwen3 normalises q and k instead

    @property
    def query_width(self) -> int:
        return self.heads * self.head_dim

    @property
    def kv_width(self) -> int:
        return self.kv_heads * self.head_dim

    @property
    def embedding(self) -> int:
        """Weights of the embedding, and of the head when it is its own."""
        return self.vocab * self.hidden

    @property
    def layer(self) -> int:
        """Weights of one layer."""
        attention = 2 * self.hidden * (self.query_width + self.kv_width)
        bias = self.query_width + 2 * self.kv_width if self.qkv_bias else 0
        norms = 2 * self.hidden + (2 * self.head_dim if self.qk_norm else 0)
        return attention + bias + 3 * self.hidden * self.intermediate + norms

    @property
    def root(self) -> int:
        """Weights outside the layers: embedding, head, last norm."""
        return self.embedding * (1 if self.tied else 2) + self.hidden

    @property
    def parameters(self) -> int:
        return self.layers * self.layer + self.root

    def flops(self, length: float) -> float:
        """Operations to learn one token of a sequence of `length` tokens, forward and backward."""
        multiplied = self.parameters - (0 if self.tied else self.embedding)
        return 6.0 * multiplied + 6.0 * self.layers * self.query_width * length

    @property
    def kv_bytes(self) -> int:
        """Bytes of the key-value cache per token, in bfloat16."""
        return 2 * self.layers * self.kv_width * 2


def _qwen25(hidden: int, layers: int, heads: int, kv_heads: int, intermediate: int, tied: bool) -> Shape:
    vocab = 151_936 if hidden < 3584 else 152_064
    return Shape(vocab, hidden, layers, heads, kv_heads, 128, intermediate, tied)


def _qwen3(hidden: int, layers: int, heads: int, intermediate: int, tied: bool) -> Shape:
    return Shape(151_936, hidden, layers, heads, 8, 128, intermediate, tied, qkv_bias=False, qk_norm=True)


SHAPES = {
    "qwen2.5-math-1.5b": _qwen25(1536, 28, 12, 2, 8960, tied=True),
    "qwen2.5-math-7b": _qwen25(3584, 28, 28, 4, 18944, tied=False),
    "qwen2.5-14b": _qwen25(5120, 48, 40, 8, 13824, tied=False),
    "qwen2.5-32b": _qwen25(5120, 64, 40, 8, 27648, tied=False),
    "deepseek-r1-distill-qwen-1.5b": _qwen25(1536, 28, 12, 2, 8960, tied=False),
    "nemotron-research-reasoning-qwen-1.5b": _qwen25(1536, 28, 12, 2, 8960, tied=False),
    "qwen3-0.6b": _qwen3(1024, 28, 16, 3072, tied=True),
    "qwen3-4b": _qwen3(2560, 36, 32, 9728, tied=True),
    "qwen3-8b-base": _qwen3(4096, 36, 32, 12288, tied=False),
    "llama-3.1-8b": Shape(128_256, 4096, 32, 32, 8, 128, 14336, False, qkv_bias=False, qk_norm=False),
}


def named(name: str) -> Shape:
    """A shape by name, the owner's part of a hub id left out; or of a folder with a config.json.

    Raises ConfigError for one that is not known."""
    if (Path(name) / "config.json").exists():
        return _of_folder(Path(name))
    key = name.partition("@")[0].rsplit("/", 1)[-1].lower()
    if key not in SHAPES:
        raise ConfigError(
            f"the shape of {name!r} is not known; known: {', '.join(SHAPES)}, or a folder with a config.json"
        )
    return SHAPES[key]


def of(model: Model) -> Shape:
    """The shape of a recipe's model."""
    if model.path is not None:
        return named(model.path)
    new = model.new
    assert new is not None
    return Shape(
        new.vocab_size,
        new.hidden_size,
        new.num_hidden_layers,
        new.num_attention_heads,
        new.num_key_value_heads,
        new.head_dim,
        new.intermediate_size,
        new.tie_word_embeddings,
        qkv_bias=new.architecture == "qwen2",
        qk_norm=new.architecture == "qwen3",
    )


def _of_folder(folder: Path) -> Shape:
    try:
        data = json.loads((folder / "config.json").read_text())
        heads = data["num_attention_heads"]
        return Shape(
            data["vocab_size"],
            data["hidden_size"],
            data["num_hidden_layers"],
            heads,
            data.get("num_key_value_heads") or heads,
            data.get("head_dim") or data["hidden_size"] // heads,
            data["intermediate_size"],
            bool(data.get("tie_word_embeddings", False)),
            qkv_bias=data["model_type"] == "qwen2",
            qk_norm=data["model_type"] == "qwen3",
        )
    except (OSError, ValueError, KeyError) as error:
        raise ConfigError(f"{folder}/config.json does not describe a Llama-family model: {error}") from error
