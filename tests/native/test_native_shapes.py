"""Compiled decoding and learning against transformers in double precision: shapes of every kind, and every
width of vector that this machine has."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from acereason.native import build
from acereason.policy import compiled_pass
from acereason.policy.packing import Example, pack
from processors import compiled_for
from sample_models import assert_numbers, group, make, sampler

LANES = {"portable": 4, "x86-64-v3": 8, "x86-64-v4": 16}
SHAPES = st.fixed_dictionaries(
    {
        "num_key_value_heads": st.integers(1, 3),
        "head_dim": st.integers(1, 128).map(lambda n: 2 * n),
        "hidden_size": st.integers(4, 130),
        "intermediate_size": st.integers(1, 130),
        "vocab_size": st.integers(61, 300),
        "num_hidden_layers": st.integers(1, 2),
    }
)


@pytest.fixture(scope="module", params=LANES)
def width(request: pytest.FixtureRequest) -> Any:
    """One architecture, for all that is compiled within."""
    with compiled_for(request.param) as library:
        if build.processor().startswith("x86"):
            assert library.acereason_lanes() == LANES[request.param]
        yield request.param


def shaped(kind: str, shape: dict[str, int], ratio: int, tied: bool) -> Any:
    heads = ratio * shape["num_key_value_heads"]
    assume(heads * shape["head_dim"] <= 2048)
    if kind == "llama":  # whose configuration wants a multiple
        shape = {**shape, "hidden_size": heads * max(1, shape["hidden_size"] // heads)}
    return make(kind, tied=tied, **shape, num_attention_heads=heads)


cases = given(st.sampled_from(["qwen3", "qwen2", "llama"]), SHAPES, st.integers(1, 9), st.booleans())
many = settings(
    max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much]
)


@many
@cases
def test_decoding(width: str, kind: str, shape: dict[str, int], ratio: int, tied: bool) -> None:
    model = shaped(kind, shape, ratio, tied)
    for completion in sampler(model, "native").sample(group(prompts=3, each=2, budget=6, temperature=0.9)):
        assert_numbers(model, completion, slack=1e-4)


@many
@cases
def test_learning(width: str, kind: str, shape: dict[str, int], ratio: int, tied: bool) -> None:
    model, state = shaped(kind, shape, ratio, tied), torch.Generator().manual_seed(1)
    examples = [
        Example(
            [3, 1, 4, 1, 5][: 1 + i // 2], torch.randint(0, 61, (1 + 7 * i,), generator=state).tolist(), i
        )
        for i in range(5)
    ]
    part = pack(examples)
    weights = torch.randn(len(part.targets), generator=state)
    found = compiled_pass.logprobs(model, part, 0.9, threads=2)
    assert found is not None
    (found[0] * weights).sum().backward()
    exact = copy.deepcopy(model).double()
    exact.zero_grad()
    total = torch.zeros(())
    for i, example in enumerate(examples):
        own, theirs = part.owners == i, logprobs_by_transformers(exact, example, 0.9)
        torch.testing.assert_close(found[0][own].double(), theirs, rtol=0, atol=1e-4)
        total = total + (theirs * weights[own]).sum()
    total.backward()
    wanted = {name: p.grad for name, p in exact.named_parameters()}
    largest = max(float(d.abs().max()) for d in wanted.values())
    for name, ours in model.named_parameters():
        assert ours.grad is not None
        scale = max(float(wanted[name].abs().max()), largest / 30)  # some cancel nearly to nothing
        assert (ours.grad - wanted[name]).abs().max() <= 1e-4 * scale, name


def logprobs_by_transformers(model: Any, example: Example, T: float) -> torch.Tensor:
    ids = torch.tensor([[*example.prompt, *example.response]])
    logits = model(ids, use_cache=False).logits[0, len(example.prompt) - 1 : -1] / T
    picked: torch.Tensor = logits.log_softmax(-1).gather(1, torch.tensor(example.response)[:, None])
    return picked[:, 0]


@pytest.mark.parametrize("dim", [36, 40, 44, 56, 72, 100])
def test_head_sizes_off_the_vector_with_grouped_heads(width: str, dim: int) -> None:
    """Heads of a group stand side by side: what one writes past its end must not reach the next."""
    model = make("llama", num_attention_heads=8, num_key_value_heads=2, head_dim=dim)
    for completion in sampler(model, "native").sample(group(prompts=3, each=2, budget=40)):
        assert_numbers(model, completion, slack=1e-4)
