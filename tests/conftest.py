"""What the tests share: one thread for torch, and a tiny policy made on the spot."""

from __future__ import annotations

import os
import signal

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # begun in the background, and inherited
    signal.signal(signal.SIGINT, signal.default_int_handler)
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
import torch
from hypothesis import settings

torch.set_num_threads(1)
# The same examples at every run, and no deadline: neither luck nor a busy machine fails a change.
# `HYPOTHESIS_PROFILE=explore make test` draws new ones.
settings.register_profile("same", derandomize=True, deadline=None)
settings.register_profile("explore", deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "same"))


@pytest.fixture
def qwen3() -> object:
    """A random Qwen3 of 2 layers, vocabulary 61."""
    from acereason.policy.model import new_model

    return new_model(
        "qwen3",
        0,
        vocab_size=61,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        intermediate_size=48,
        tie_word_embeddings=True,
        max_position_embeddings=256,
        eos_token_id=1,
    )
