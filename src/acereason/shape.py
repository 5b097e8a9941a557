"""The shape of a decoder-only model, once: engines lay their weights out by it, the plan counts memory and
time by it, and MFU is measured with its arithmetic.

    parameters          every weight once, tied ones once
    flops per token     6 x (weights that are multiplied) + 6 x layers x query width x length (causal
                        attention), forward and backward; recomputation not counted
    KV bytes per token  2 x layers x key-value width x 2 (bfloat16)

Counts are checked against transformers' own models in the tests. Mixtures of experts are not covered.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self


def heads_of(config: Any) -> tuple[int, int, int]:
    """Query heads, key-value heads and a head's dimension in a transformers configuration; those that it
    leaves out follow from the others."""
    heads = config.num_attention_heads
    kv_heads = getattr(config, "num_key_value_heads", None) or heads
    return heads, kv_heads, getattr(config, "head_dim", None) or config.hidden_size // heads


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
    norms: int = 2  # of a layer; Gemma 2 and 3 have them after its branches, too

    @classmethod
    def read(cls, config: Any, **more: Any) -> Self:
        """The shape in a transformers configuration; `more` are fields of a subclass.

        Raises AttributeError for a configuration of another kind."""
        return cls(
            config.vocab_size,
            config.hidden_size,
            config.num_hidden_layers,
            *heads_of(config),
            config.intermediate_size,
            bool(getattr(config, "tie_word_embeddings", config.model_type.startswith("gemma"))),
            qkv_bias=config.model_type == "qwen2",
            qk_norm=config.model_type in ("qwen3", "gemma3_text"),
            norms=4 if config.model_type in ("gemma2", "gemma3_text") else 2,
            **more,
        )

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
    def matrices(self) -> int:
        """Weights of one layer's matrices: projections and MLP."""
        return 2 * self.hidden * (self.query_width + self.kv_width) + 3 * self.hidden * self.intermediate

    @property
    def layer(self) -> int:
        """Weights of one layer, biases and norms with them."""
        bias = self.query_width + 2 * self.kv_width if self.qkv_bias else 0
        return self.matrices + bias + self.norms * self.hidden + (2 * self.head_dim if self.qk_norm else 0)

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
