"""The arithmetic that MFU counts, against the parameters of real models."""

from __future__ import annotations

import pytest
import torch

from acereason.policy import flops
from acereason.policy.model import new_model

SHAPES = [
    ("qwen2", {"num_attention_heads": 4, "num_key_value_heads": 2}),
    ("qwen3", {"num_attention_heads": 4, "num_key_value_heads": 1, "head_dim": 24}),
    ("llama", {"num_attention_heads": 4, "num_key_value_heads": 4}),
]


@pytest.mark.parametrize(("kind", "heads"), SHAPES)
def test_matrices_take_six_operations_a_weight_and_token(kind: str, heads: dict[str, int]) -> None:
    shape = {"vocab_size": 70, "hidden_size": 64, "num_hidden_layers": 3, "intermediate_size": 96}
    model = new_model(kind, 1, tie_word_embeddings=False, **shape, **heads)
    names = dict(model.named_parameters())
    matrices = sum(p.numel() for n, p in names.items() if p.ndim == 2 and "embed" not in n)
    width = model.config.num_attention_heads * getattr(model.config, "head_dim", 16)
    assert flops.needed(model.config, [1], 1) == 6 * matrices + 6 * 3 * width
    head = 6 * 64 * 70
    assert (
        flops.needed(model.config, [10, 4], 5) == 6 * 14 * (matrices - 64 * 70) + 5 * head + 18 * width * 116
    )


def test_a_peak_is_known_for_gpus_only() -> None:
    assert flops.peak(torch.device("cpu")) is None
