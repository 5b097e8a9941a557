"""The arithmetic that MFU counts, against the parameters of real models."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from acereason.policy import flops
from acereason.policy.model import new_model
from acereason.sample.ask import Batch
from acereason.train import metrics
from acereason.train.streaming import StepResult
from acereason.train.update import Learned
from learn_groups import groups

SHAPES = [
    ("qwen2", {"num_attention_heads": 4, "num_key_value_heads": 2}),
    ("qwen3", {"num_attention_heads": 4, "num_key_value_heads": 1, "head_dim": 24}),
    ("llama", {"num_attention_heads": 4, "num_key_value_heads": 4}),
]


@pytest.mark.parametrize(("kind", "heads"), SHAPES)
def test_matrices_take_six_operations_a_weight_and_token(kind: str, heads: dict[str, Any]) -> None:
    shape: dict[str, Any] = {
        "vocab_size": 70,
        "hidden_size": 64,
        "num_hidden_layers": 3,
        "intermediate_size": 96,
    }
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


def test_mfu_counts_what_was_learned_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    model = new_model("qwen2", 1, vocab_size=70, hidden_size=64, num_attention_heads=4, num_hidden_layers=2)
    some = groups(1)
    weights = torch.zeros(len(some), len(some[0]))
    nothing = Learned(0.0, None, 0, 0.0, 0.0, 0.0)
    result = StepResult(Batch(some, 0.0, 0.0), weights, weights, nothing, seconds=0.5, overlap=1.5)
    assert metrics.utilisation(model, result) == {}  # a CPU's peak is not known
    monkeypatch.setattr(flops, "peak", lambda device: 1e9)
    assert metrics.utilisation(model, result) == {"mfu": 0.0}
    weights[1, 2] = -0.5
    learned = some[1][2].completion
    work = flops.needed(
        model.config, [len(learned.request.prompt) + len(learned.tokens)], len(learned.tokens)
    )
    assert metrics.utilisation(model, result) == {"mfu": work / 2e9}
