"""Any decoder-only model: sampler and trainer against its own forward pass, on random shapes of every
family."""

from __future__ import annotations

import copy
import random
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoConfig, AutoModelForCausalLM

from acereason.errors import CheckpointError
from acereason.policy import attention, halves, proof, shards
from acereason.policy.model import logprobs, packed_logprobs
from acereason.policy.packing import Example, pack, packs_by_prompt
from acereason.sample.engines.embedded import EmbeddedSampler
from acereason.sample.protocol import Completion, Request
from families import FAMILIES, WINDOW, make_family, random_changes
from sample_models import assert_drawn_by_inverse, assert_numbers, group

families = pytest.mark.parametrize("kind", FAMILIES)


def reference(model: Any, example: Example, T: float) -> torch.Tensor:
    """log π_T of the response by the model's own class in double precision, with gradient."""
    ids = torch.tensor([[*example.prompt, *example.response]])
    z = model(input_ids=ids, use_cache=False).logits[0, len(example.prompt) - 1 : -1] / T
    picked: torch.Tensor = z.log_softmax(-1).gather(1, torch.tensor(example.response)[:, None])
    return picked[:, 0]


def examples(rng: random.Random, vocab: int = 61) -> list[Example]:
    """Groups of ragged responses to prompts of 1 to 30 tokens, some responses of one token."""
    prompts = [[rng.randrange(vocab) for _ in range(rng.randint(1, 30))] for _ in range(3)]
    return [
        Example(prompts[i % 3], [rng.randrange(vocab) for _ in range(rng.choice((1, 2, 9, 30)))], i)
        for i in range(10)
    ]


@families
def test_sampler_equals_transformers(kind: str) -> None:
    model = make_family(kind)
    for native in (True, False):
        made = EmbeddedSampler(model, slots=5, native=native)
        completions = list(made.sample(group(temperature=0.8) + group(top_p=0.9)))
        assert max(len(c.tokens) + len(c.request.prompt) for c in completions) > 2 * WINDOW
        for completion in completions:
            assert_numbers(model, completion, slack=1e-4)
            assert_drawn_by_inverse(model, completion, slack=1e-4)


@given(st.sampled_from(sorted(FAMILIES)), st.integers(0, 10**6))
@settings(max_examples=25, deadline=None)
def test_sampler_equals_transformers_on_random_shapes(kind: str, seed: int) -> None:
    rng = random.Random(seed)
    model = make_family(kind, seed % 7, tied=rng.random() < 0.5, **random_changes(kind, rng))
    made = EmbeddedSampler(model, slots=rng.randint(1, 6), native=rng.random() < 0.5)
    requests = [
        Request([rng.randrange(61) for _ in range(rng.randint(1, 60))], rng.randint(1, 30), 0.9, i)
        for i in range(3)
    ]
    found: list[Completion] = list(made.sample([r for r in requests for _ in range(2)]))
    for completion in found:
        assert_numbers(model, completion, slack=1e-4)


@given(st.sampled_from(sorted(FAMILIES)), st.integers(0, 10**6))
@settings(max_examples=25, deadline=None)
def test_learning_equals_transformers_on_random_shapes(kind: str, seed: int) -> None:
    """Log-probabilities and gradients, prompts shared or not, packed in any way, in double precision."""
    rng = random.Random(seed)
    model = make_family(kind, seed % 7, tied=rng.random() < 0.5, **random_changes(kind, rng)).double()
    ours = copy.deepcopy(model)
    ours.set_attn_implementation(attention.NAME)
    data = examples(rng)
    for packed in packs_by_prompt(data, rng.choice((40, 200, 2000))):
        found, entropy = packed_logprobs(ours, packed, 0.7)
        found.sum().backward()
        assert torch.isfinite(entropy).all()
        for i in set(packed.owners.tolist()):
            wanted = reference(model, data[i], 0.7)
            wanted.sum().backward()
            assert torch.allclose(found[packed.owners == i], wanted, atol=1e-9)
    found, wanted = (torch.cat([p.grad.flatten() for p in m.parameters()]) for m in (ours, model))
    assert (found - wanted).norm() < 1e-5 * wanted.norm()  # norms are in float32


@families
def test_a_model_without_storage_has_the_same_buffers(kind: str) -> None:
    """Embedding scales and frequencies lie in buffers that no file holds."""
    model = make_family(kind)
    empty = shards.empty_model(model.config, Path(), torch.float32)
    assert all(p.is_meta for p in empty.parameters())
    for (name, a), (_, b) in zip(model.named_buffers(), empty.named_buffers(), strict=True):
        assert torch.equal(a, b), name


@families
def test_families_are_proven_in_packs(kind: str) -> None:
    model = make_family(kind)
    model.set_attn_implementation(attention.NAME)
    assert proof.packed_difference(model) < 1e-4


def test_a_model_that_carries_state_is_refused() -> None:
    config = AutoConfig.for_model(
        "mamba", vocab_size=61, hidden_size=32, num_hidden_layers=1, state_size=4, num_attention_heads=1
    )
    with pytest.raises((CheckpointError, ValueError)):
        proof.check(AutoModelForCausalLM.from_config(config))


def test_a_window_longer_than_the_mask_s_rows() -> None:
    """Rows of queries go 512 at a time; windows reach back over their edges."""
    model = make_family("mistral", sliding_window=700, max_position_embeddings=2048)
    ours = copy.deepcopy(model)
    ours.set_attn_implementation(attention.NAME)
    rng = random.Random(3)
    data = [Example([5, 3], [rng.randrange(61) for _ in range(1500)], 0)]
    found, _ = logprobs(ours, pack(data), 1.0)
    assert torch.allclose(found, reference(model.double(), data[0], 1.0).float(), atol=1e-4)


@pytest.mark.gpu
@families
def test_on_a_gpu(kind: str) -> None:
    """The sampler in float32, and bfloat16 products in both passes, near the processor's numbers."""
    model = make_family(kind, initializer_range=0.1)
    placed = copy.deepcopy(model).cuda()
    for completion in EmbeddedSampler(placed, slots=5, native=False).sample(group(temperature=0.8)):
        assert_numbers(model, completion, slack=1e-3)
    placed.set_attn_implementation(attention.NAME)
    halves.halve(placed)
    data = examples(random.Random(1))
    for packed in packs_by_prompt(data, 200):
        found, _ = packed_logprobs(placed, packed, 1.0)
        for i in set(packed.owners.tolist()):
            wanted = reference(model, data[i], 1.0)
            assert (found[packed.owners == i] - wanted).abs().mean() < 0.05
