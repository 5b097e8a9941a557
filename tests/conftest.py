"""What tests share: one thread for torch, a tiny policy, stand-ins for servers, and a browser for each file
that looks at pages."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from typing import TYPE_CHECKING

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # begun in the background, and inherited
    signal.signal(signal.SIGINT, signal.default_int_handler)
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
import torch
from hypothesis import settings

from browser import Browser

if TYPE_CHECKING:
    from fake_vllm import FakeVllm

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


@pytest.fixture
def fakes() -> Iterator[list[FakeVllm]]:
    """Two stand-ins for vLLM servers, of one model."""
    from fake_vllm import FakeVllm, tiny_policy

    servers = [FakeVllm(tiny_policy()) for _ in range(2)]
    yield servers
    for server in servers:
        server.die()


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """A Chromium for all tests of a file."""
    with Browser(tmp_path_factory.mktemp("profile")) as one:
        yield one


@pytest.fixture
def page(browser: Browser) -> Iterator[Browser]:
    """A fresh page in it; at the end nothing may have been complained of."""
    browser.open("about:blank")
    browser.look(1280, 900)
    browser.console.clear()
    browser.requests.clear()
    yield browser
    assert browser.console == []
