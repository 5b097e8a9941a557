"""A small random model of every family of decoders that the tests cover, with nothing at a trivial value."""

from __future__ import annotations

import random
from typing import Any

import torch
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM

WINDOW = 6
HALF_LOCAL = {"layer_types": ["sliding_attention", "full_attention"], "sliding_window": WINDOW}
FAMILIES: dict[str, dict[str, Any]] = {
    "llama": {},
    "mistral": {"sliding_window": WINDOW},
    "qwen2": {"use_sliding_window": True, **HALF_LOCAL},
    "qwen3": {"head_dim": 8, "use_sliding_window": True, **HALF_LOCAL},
    "gemma": {"head_dim": 16, "hidden_activation": "gelu_pytorch_tanh"},
    "gemma2": {
        "head_dim": 16,
        "query_pre_attn_scalar": 12,
        "attn_logit_softcapping": 2.0,
        "final_logit_softcapping": 3.0,
        **HALF_LOCAL,
    },
    "gemma3_text": {"head_dim": 16, "query_pre_attn_scalar": 12, **HALF_LOCAL},
    "smollm3": {"no_rope_layers": [1, 0], "no_rope_layer_interval": 2},
    "phi": {"partial_rotary_factor": 0.5},
    "phi3": {"sliding_window": WINDOW},
    "olmo2": {},
    "granite": {
        "logits_scaling": 3.0,
        "attention_multiplier": 0.3,
        "residual_multiplier": 0.7,
        "embedding_multiplier": 2.0,
    },
    "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_inner": 48, "n_positions": 256},
    "gpt_neox": {"use_parallel_residual": True},
    "starcoder2": {"sliding_window": WINDOW, "use_bias": True},
}
NUMBERS: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 48,
    "max_position_embeddings": 256,
    "initializer_range": 0.2,
}


def make_family(kind: str, seed: int = 0, *, tied: bool = True, vocab: int = 61, **changes: Any) -> Any:
    """A model of the family `kind`; weights are normal, norms around 1 (or around 0 where 1 is added)."""
    numbers = {} if kind == "gpt2" else NUMBERS
    special = {"eos_token_id": 7, "bos_token_id": None, "pad_token_id": None}
    shape = {**numbers, **FAMILIES[kind], **special, "vocab_size": vocab, "tie_word_embeddings": tied}
    torch.manual_seed(seed)
    config = AutoConfig.for_model(kind, **{**shape, **changes})
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32, attn_implementation="eager").eval()
    for name, parameter in model.named_parameters():
        if "norm" in name or "ln_" in name or name.endswith("bias"):
            nn.init.normal_(parameter, 0.0 if name.endswith("bias") or "gemma" in kind else 1.0, 0.3)
    return model


def random_changes(kind: str, rng: random.Random) -> dict[str, Any]:
    """Another shape of the family, windows included."""
    heads = rng.choice((2, 4, 6))
    if kind == "gpt2":
        return {"n_head": heads, "n_embd": heads * 8, "n_layer": rng.randint(1, 3)}
    layers = rng.randint(1, 3)
    found: dict[str, Any] = {
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": rng.choice([k for k in (1, 2, 3, 6) if heads % k == 0]),
        "hidden_size": heads * rng.choice((8, 12, 16)),
        "intermediate_size": rng.randint(20, 60),
    }
    if "layer_types" in FAMILIES[kind]:
        kinds = ("sliding_attention", "full_attention")
        found["layer_types"] = [rng.choice(kinds) for _ in range(layers)]
    if "sliding_window" in FAMILIES[kind]:
        found["sliding_window"] = rng.randint(1, 40)
    if kind == "smollm3":
        found["no_rope_layers"] = [rng.randint(0, 1) for _ in range(layers)]
    return found
