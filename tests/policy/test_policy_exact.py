"""Numbers where they are easily lost: halves on the processor, temperatures next to nothing, a tied flag
beside two matrices, ids without a token."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

import tokenizers_of as kinds
from acereason.errors import CheckpointError, SamplingError
from acereason.policy import compiled_pass, shards
from acereason.policy import model as models
from acereason.policy.head import tempered_logprobs
from acereason.policy.packing import Example, pack
from acereason.policy.policy import Policy
from acereason.sample.engines.embedded import EmbeddedSampler
from acereason.sample.protocol import Completion, Request
from acereason.sample.traces import piece_lengths, trace
from sample_models import ENGINES, group, make, sampler


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([torch.bfloat16, torch.float16]), st.floats(0.2, 2.0))
def test_a_head_of_halves_is_as_exact_as_float32(seed: int, dtype: torch.dtype, T: float) -> None:
    g = torch.Generator().manual_seed(seed)
    hidden, weight = torch.randn(70, 96, generator=g).to(dtype), torch.randn(5000, 96, generator=g).to(dtype)
    weight *= 0.3
    targets = torch.randint(0, 5000, (70,), generator=g)
    found, entropy = tempered_logprobs(hidden, weight, targets, T)
    wanted = ((hidden.double() @ weight.double().t()) / T).log_softmax(-1)
    assert (found - wanted.gather(1, targets[:, None])[:, 0]).abs().max() <= 1e-4
    assert (entropy + (wanted.exp() * wanted).sum(-1)).abs().max() <= 1e-4


@pytest.mark.parametrize("T", [1e-30, 1e-12, 1e-3, 0.05, 1e4])
def test_every_temperature_in_the_head(T: float) -> None:
    g = torch.Generator().manual_seed(3)
    hidden, weight = torch.randn(9, 16, generator=g), torch.randn(61, 16, generator=g)
    logits = hidden.double() @ weight.double().t()
    best, hidden_64 = logits.argmax(-1), hidden.double().requires_grad_()
    hidden.requires_grad_()
    found, entropy = tempered_logprobs(hidden, weight, best, T)
    wanted = ((hidden_64 @ weight.double().t()) / T).log_softmax(-1)
    chosen = wanted.gather(1, best[:, None])[:, 0]
    torch.testing.assert_close(found.double(), chosen, rtol=0, atol=1e-4)
    assert torch.isfinite(entropy).all() and (entropy >= -1e-4).all()
    found.sum().backward()
    chosen.sum().backward()
    assert hidden.grad is not None and hidden_64.grad is not None
    torch.testing.assert_close(hidden.grad.double(), hidden_64.grad, rtol=1e-2, atol=1e-3)


@pytest.mark.parametrize("engine", ENGINES)
def test_next_to_no_temperature_samples_the_likeliest_token(engine: str) -> None:
    model = make("qwen3")
    for T in (1e-30, 1e-20, 1e-6):
        answers = list(sampler(model, engine).sample(group(prompts=2, each=2, budget=8, temperature=T)))
        assert all(np.isfinite(c.logprobs).all() and np.abs(c.entropy).max() < 1e-3 for c in answers)
        firsts = {tuple(c.request.prompt): c.tokens.tolist() for c in answers}
        assert all(firsts[tuple(c.request.prompt)] == c.tokens.tolist() for c in answers)
        if engine == "native":
            parts = [Example(c.request.prompt, c.tokens.tolist(), i) for i, c in enumerate(answers)]
            learned = compiled_pass.logprobs(model, pack(parts), T)
            assert learned is not None and learned[0].abs().max() < 1e-3 and learned[1].abs().max() < 1e-3
    with pytest.raises(SamplingError, match="from 1e-30"):
        list(sampler(model, engine).sample(group(prompts=1, temperature=1e-31)))


@pytest.mark.parametrize("other", [False, True])
def test_a_tied_flag_beside_two_matrices(tmp_path: Path, other: bool) -> None:
    model = make("qwen3")
    model.save_pretrained(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    head = tensors["model.embed_tokens.weight"].clone()
    tensors["lm_head.weight"] = head + 0.1 * torch.randn_like(head) if other else head
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
    if other:
        with pytest.raises(CheckpointError, match="tie_word_embeddings = false"):
            models.load_model(tmp_path)
        with pytest.raises(CheckpointError, match="tie_word_embeddings = false"):
            shards.fill(*_sharded(tmp_path))
        return
    shards.fill(*_sharded(tmp_path))
    loaded, part = models.load_model(tmp_path), pack([Example([5, 6, 7], [8, 9, 2], 0)])
    assert loaded.lm_head.weight is loaded.model.embed_tokens.weight
    found = models.logprobs(loaded, part)[0]
    torch.testing.assert_close(found, models.packed_logprobs(loaded, part, 1.0)[0], rtol=0, atol=1e-5)
    found.sum().backward()


def _sharded(folder: Path) -> tuple[Any, Path, torch.device]:
    model, found = models.empty_model(folder, torch.float32, None, None)
    return model, found, torch.device("cpu")


def test_ids_without_a_token_are_seen_in_text_and_trace() -> None:
    tokenizer = kinds.byte_level(*kinds.CHATML)
    policy = Policy(make("qwen3", vocab_size=400), tokenizer, "chatml-1.1")
    hole, ids = len(tokenizer) + 5, tokenizer.encode("is it", add_special_tokens=False)
    tokens = np.array([hole, *ids, hole, hole, policy.end_id], np.int32)
    text = policy.text(tokens)
    assert text == "\ufffdis it\ufffd\ufffd" and policy.text(tokens[:1]) == "\ufffd"
    assert sum(piece_lengths(tokenizer, tokens.tolist()[:-1])) == len(text.encode())
    nothing = np.zeros(len(tokens), np.float32)
    made = Completion(Request([1], 9, 1.0, 1), tokens, nothing, nothing, nothing, "stop")
    assert trace(tokenizer, made, text) is not None


def test_padded_rows_can_be_sampled_and_read() -> None:
    model = make("qwen3", vocab_size=4000)  # nearly all of them are padding
    policy = Policy(model, kinds.byte_level(*kinds.CHATML), "plain")
    for made in EmbeddedSampler(model, slots=2).sample([Request([1, 2], 12, 1.0, 3, 1.0)]):
        assert "\ufffd" in policy.text(made.tokens)
        assert trace(policy.tokenizer, made, policy.text(made.tokens)) is not None
