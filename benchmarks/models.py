"""The model, prompts and lengths that every benchmark of sampling and learning uses.

A random Qwen3 of 2.6M parameters with tied embeddings and a vocabulary of 128; prompts of 32
tokens; lengths from a lognormal distribution with mean 60, cut at 256. Everything comes from fixed
seeds.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

PROMPT, VOCABULARY, END, PAD = 32, 128, 127, 126


def config(**changes: Any) -> Any:
    """The model's configuration."""
    from transformers import Qwen3Config

    numbers = {
        "hidden_size": 192,
        "num_hidden_layers": 6,
        "num_attention_heads": 6,
        "num_key_value_heads": 2,
        "head_dim": 32,
        "intermediate_size": 576,
        "vocab_size": VOCABULARY,
        "tie_word_embeddings": True,
        "max_position_embeddings": 512,
        "eos_token_id": END,
        "pad_token_id": PAD,
        "bos_token_id": None,
    }
    return Qwen3Config(**{**numbers, **changes})


def build(**changes: Any) -> Any:
    """The model, the same in every process."""
    import torch
    from transformers import Qwen3ForCausalLM

    torch.manual_seed(0)
    return Qwen3ForCausalLM(config(**changes)).eval()


def parameters(model: Any) -> int:
    return sum(p.numel() for p in model.parameters())


def prompts(count: int) -> list[list[int]]:
    """Prompts of 32 tokens."""
    found: list[list[int]] = np.random.default_rng(1).integers(0, PAD, (count, PROMPT)).tolist()
    return found


def long_tailed(count: int, mean: float = 60.0, most: int = 256) -> list[int]:
    """Lengths of responses: lognormal with that mean after the cut at `most`, give or take a token."""
    normal = np.random.default_rng(2).standard_normal(count)
    low, high = 0.0, 10.0
    for _ in range(60):  # the location that gives the mean
        middle = (low + high) / 2
        lengths = np.clip(np.exp(middle + 0.9 * normal), 1, most)
        low, high = (middle, high) if lengths.mean() < mean else (low, middle)
    return [int(x) for x in np.round(lengths)]


def tokenizer(folder: Path) -> Any:
    """A tokenizer of one token a word ("t0" … "t127"), for peers that take text; saved to `folder`."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = Tokenizer(models.WordLevel({f"t{i}": i for i in range(VOCABULARY)}, unk_token="t0"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    made = PreTrainedTokenizerFast(
        tokenizer_object=words, eos_token=f"t{END}", pad_token=f"t{PAD}", unk_token="t0"
    )
    made.save_pretrained(folder)
    return made
