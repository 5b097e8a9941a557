"""The compiled pass against transformers and autograd in double precision."""

from __future__ import annotations

import copy
import gc
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from acereason.policy import attention, compiled_pass
from acereason.policy import model as models
from acereason.policy.packing import Example, Pack, pack, packs, packs_by_prompt
from sample_models import KINDS, make

needs_compiler = pytest.mark.skipif(compiled_pass.open_library() is None, reason="no compiler")


def examples(count: int = 14, group: int = 3) -> list[Example]:
    """Responses of 1 to 50 tokens, several to a prompt of 1 to 30."""
    state = torch.Generator().manual_seed(5)
    return [
        Example(
            [(5 * (i // group) + t) % 61 for t in range(1 + 7 * (i // group))],
            torch.randint(0, 61, (1 + (i * 13) % 50,), generator=state).tolist(),
            i,
        )
        for i in range(count)
    ]


def exact(model: Any, part: Pack, T: torch.Tensor, d: torch.Tensor) -> tuple[Any, ...]:
    """log-probabilities, entropies and gradients of sum(d * logprob) in double precision."""
    reference = copy.deepcopy(model).double()
    reference.set_attn_implementation(attention.NAME)
    logprob, entropy = models.logprobs(reference, part, T.double())
    (logprob * d.double()).sum().backward()
    return logprob, entropy, {n: p.grad for n, p in reference.named_parameters()}


def compiled(model: Any, part: Pack, T: Any, d: torch.Tensor, threads: int = 1) -> tuple[Any, ...]:
    found = compiled_pass.logprobs(model, part, T, threads)
    assert found is not None
    model.zero_grad()
    (found[0] * d).sum().backward()
    gradients = {n: p.grad.clone() for n, p in model.named_parameters()}
    model.zero_grad()
    return (*found, gradients)


def assert_close(found: tuple[Any, ...], wanted: tuple[Any, ...], slack: float = 2e-5) -> None:
    for a, b in zip(found[:2], wanted[:2], strict=True):
        torch.testing.assert_close(a.double(), b.double(), rtol=0, atol=slack)
    for name, b in wanted[2].items():
        difference = (found[2][name].double() - b).abs().max()
        assert difference <= slack * b.abs().max(), name


@needs_compiler
@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_values_and_every_gradient(kind: str, tied: bool, threads: int) -> None:
    model, part = make(kind, tied=tied), pack(examples())
    T = torch.tensor([0.4 + 0.3 * (owner % 4) for owner in part.owners.tolist()])
    d = torch.randn(len(part.targets), generator=torch.Generator().manual_seed(1))
    assert_close(compiled(model, part, T, d, threads), exact(model, part, T, d))


@needs_compiler
@pytest.mark.parametrize(
    "changes",
    [
        {"hidden_size": 128, "intermediate_size": 256, "vocab_size": 300},  # powers of two
        {"hidden_size": 20, "intermediate_size": 33, "vocab_size": 61, "head_dim": 2},
        {"num_attention_heads": 7, "num_key_value_heads": 1, "head_dim": 40},
    ],
)
def test_shapes_off_the_vector_width(changes: dict[str, Any]) -> None:
    model, part = make("qwen3", **changes), pack(examples())
    T, d = torch.ones(len(part.targets)), torch.ones(len(part.targets))
    assert_close(compiled(model, part, T, d, 2), exact(model, part, T, d), slack=1e-4)


@needs_compiler
def test_long_sequences_and_one_response() -> None:
    model = make("qwen3", max_position_embeddings=2048)
    prompt = [(7 * t) % 61 for t in range(700)]
    part = pack([Example(prompt, [(11 * t) % 61 for t in range(300)], 0)])
    T, d = torch.ones(300), torch.ones(300) / 300
    assert_close(compiled(model, part, T, d, 2), exact(model, part, T, d), slack=1e-4)


@needs_compiler
@settings(max_examples=20, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 2), st.integers(1, 20)), min_size=1, max_size=9))
def test_prompts_shared_or_not(shape: list[tuple[int, int]]) -> None:
    prompts = ([1], [2, 3, 4], [2, 3, 5, 6])
    part = pack([Example(prompts[p], list(range(n)), i) for i, (p, n) in enumerate(shape)])
    model = make("qwen3", num_hidden_layers=1)
    T, d = torch.ones(len(part.targets)), torch.arange(len(part.targets)) / len(part.targets)
    assert_close(compiled(model, part, T, d, 2), exact(model, part, T, d))


@needs_compiler
def test_bytes_are_the_same_again() -> None:
    model, part = make("qwen3"), pack(examples())
    d = torch.ones(len(part.targets))
    for threads in (1, 2):
        first, second = (compiled(model, part, 0.8, d, threads) for _ in range(2))
        assert torch.equal(first[0], second[0])
        assert all(torch.equal(first[2][n], second[2][n]) for n in first[2])


@needs_compiler
def test_a_written_parameter_is_seen() -> None:
    model, part = make("qwen3"), pack(examples())
    T, d = torch.ones(len(part.targets)), torch.ones(len(part.targets))
    compiled(model, part, T, d)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.05, fused=True)
    for parameter in model.parameters():
        parameter.grad = torch.randn_like(parameter)
    optimizer.step()
    assert_close(compiled(model, part, T, d), exact(model, part, T, d))
    model.load_state_dict(make("qwen3", seed=9).state_dict())
    assert_close(compiled(model, part, T, d), exact(model, part, T, d))


@needs_compiler
def test_passes_do_not_disturb_each_other() -> None:
    """Two forward passes before their backward passes, one of them abandoned, one without gradient."""
    model = make("qwen3")
    one, two = pack(examples()[:7]), pack(examples()[7:])
    d = torch.ones(len(one.targets))
    wanted = compiled(model, one, 1.0, d)
    first = compiled_pass.logprobs(model, one)
    assert first is not None
    compiled_pass.logprobs(model, two)
    gc.collect()
    with torch.no_grad():
        plain = compiled_pass.logprobs(model, two)
    assert plain is not None and not plain[0].requires_grad
    first[0].sum().backward()
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter.grad, wanted[2][name])


def test_packs_by_prompt_hold_everything_once() -> None:
    given_ = examples(40, group=8)
    found = packs_by_prompt(given_, 120)
    owners = sorted(i for part in found for i in set(part.owners.tolist()))
    assert owners == list(range(40))
    assert sum(len(p.targets) for p in found) == sum(len(e.response) for e in given_)
    assert sum(len(p.targets) for p in packs(given_, 120)) == sum(len(e.response) for e in given_)


def test_what_compiled_code_leaves_to_pytorch(monkeypatch: pytest.MonkeyPatch) -> None:
    part = pack(examples())
    assert compiled_pass.logprobs(make("qwen3").double(), part) is None
    assert compiled_pass.logprobs(make("llama", mlp_bias=True), part) is None
    monkeypatch.setenv("ACEREASON_NATIVE", "0")
    assert compiled_pass.logprobs(make("qwen3"), part) is None
