"""Packing, attention and the tempered head against plain per-sequence forward passes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from acereason.errors import CheckpointError
from acereason.policy.head import tempered_logprobs
from acereason.policy.model import load_model, logprobs, new_model, save
from acereason.policy.packing import Example, blocks, pack, packs, split

SHAPES: dict[str, dict[str, Any]] = {
    "qwen3": {"head_dim": 8},
    "qwen2": {},
    "llama": {"head_dim": 16},
}


def small(architecture: str, tied: bool = True, seed: int = 0) -> Any:
    return new_model(
        architecture,
        seed,
        vocab_size=61,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        intermediate_size=48,
        tie_word_embeddings=tied,
        max_position_embeddings=128,
        **SHAPES[architecture],
    )


def examples(seed: int, count: int = 7) -> list[Example]:
    g = torch.Generator().manual_seed(seed)

    def tokens(low: int, high: int) -> list[int]:
        n = int(torch.randint(low, high, (1,), generator=g))
        return torch.randint(0, 61, (n,), generator=g).tolist()

    return [Example(tokens(1, 9), tokens(1, 30), i) for i in range(count)]


def reference(model: Any, example: Example, T: float) -> Tensor:
    """log π_T of the response tokens from an unpacked forward pass with transformers' own attention."""
    ids = torch.tensor([[*example.prompt, *example.response]])
    model.set_attn_implementation("eager")
    logits = model(input_ids=ids).logits[0].double() / T
    model.set_attn_implementation("acereason")
    first = len(example.prompt) - 1
    picked: Tensor = logits[first : first + len(example.response)].log_softmax(-1)
    return picked.gather(1, torch.tensor(example.response)[:, None]).squeeze(1)


@pytest.mark.parametrize("architecture", SHAPES)
@pytest.mark.parametrize("tied", [True, False])
def test_packed_equals_unpacked(architecture: str, tied: bool) -> None:
    model, data = small(architecture, tied), examples(1)
    for T in (0.4, 0.85, 1.3):
        for one in packs(data, 64, waste=0.3):
            ours, _ = logprobs(model, one, T)
            for i in set(one.owners.tolist()):
                expected = reference(model, data[i], T)
                assert torch.allclose(ours[one.owners == i].double(), expected, atol=2e-5)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6), st.integers(8, 200), st.floats(0, 0.5))
def test_the_split_into_packs_does_not_change_the_gradient(seed: int, budget: int, waste: float) -> None:
    model, data = small("qwen3", seed=seed % 3).double(), examples(seed)
    weights = torch.randn(len(data), dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    naive = gradient(model, [pack([e], 0.0) for e in data], weights)
    assert torch.allclose(gradient(model, packs(data, budget, waste), weights), naive, rtol=0, atol=1e-10)


def gradient(model: Any, micro_batches: list[Any], weights: Tensor) -> Tensor:
    model.zero_grad()
    for one in micro_batches:
        logprob, _ = logprobs(model, one, 0.7)
        (-(weights[one.owners] * logprob).sum()).backward()
    return torch.cat([p.grad.flatten() for p in model.parameters()])


@given(st.lists(st.integers(1, 300), min_size=1, max_size=60), st.integers(1, 400))
def test_split_keeps_every_sequence_once_and_the_budget(lengths: list[int], budget: int) -> None:
    groups = split(lengths, budget)
    assert sorted(i for g in groups for i in g) == list(range(len(lengths)))
    for group in groups:
        assert len(group) == 1 or sum(lengths[i] for i in group) <= budget


@given(st.lists(st.integers(1, 300), min_size=1, max_size=60), st.floats(0, 0.5))
def test_blocks_cover_all_sequences_within_the_waste(lengths: list[int], waste: float) -> None:
    ordered = sorted(lengths, reverse=True)
    remaining = list(ordered)
    start = 0
    for block in blocks(ordered, waste):
        members, remaining = remaining[: block.count], remaining[block.count :]
        assert block.start == start and block.length == members[0]
        places = block.count * block.length
        assert places - sum(members) <= waste * places + 1e-9
        start += places
    assert not remaining


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 40), st.integers(1, 9), st.booleans())
def test_head_equals_plain_softmax_forward_and_backward(
    seed: int, tokens: int, chunk: int, one_T: bool
) -> None:
    g = torch.Generator().manual_seed(seed)
    hidden = torch.randn(tokens, 5, dtype=torch.float64, generator=g, requires_grad=True)
    weight = torch.randn(11, 5, dtype=torch.float64, generator=g, requires_grad=True)
    targets = torch.randint(0, 11, (tokens,), generator=g)
    T = torch.rand(tokens, dtype=torch.float64, generator=g) + 0.3
    used: Any = 0.85 if one_T else T
    pull = torch.randn(tokens, dtype=torch.float64, generator=g)
    log_p = ((hidden @ weight.t()) / (0.85 if one_T else T[:, None])).log_softmax(-1)
    expected = log_p.gather(1, targets[:, None]).squeeze(1)
    ours, entropy = tempered_logprobs(hidden, weight, targets, used, chunk)
    assert torch.allclose(ours, expected, atol=1e-12)
    assert torch.allclose(entropy, -(log_p.exp() * log_p).sum(-1), atol=1e-12)
    for a, b in zip(
        torch.autograd.grad((pull * ours).sum(), (hidden, weight)),
        torch.autograd.grad((pull * expected).sum(), (hidden, weight)),
        strict=True,
    ):
        assert torch.allclose(a, b, atol=1e-11)


def test_head_memory_is_bounded_by_the_chunk() -> None:
    """With 64 chunks no tensor of all logits exists, forward or backward."""
    tokens, vocabulary = 4096, 4096
    hidden = torch.randn(tokens, 8, requires_grad=True)
    weight = torch.randn(vocabulary, 8, requires_grad=True)
    largest = 0
    targets = torch.zeros(tokens, dtype=torch.long)

    class Watch(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            nonlocal largest
            result = func(*args, **(kwargs or {}))
            if isinstance(result, Tensor):
                largest = max(largest, result.numel())
            return result

    with Watch():  # type: ignore[no-untyped-call]
        logprob, _ = tempered_logprobs(hidden, weight, targets, 1.0, tokens // 64)
        logprob.sum().backward()
    assert largest <= tokens * vocabulary // 64


def test_saved_models_open_with_transformers_alone(tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    model = small("qwen3")
    save(model, None, tmp_path)
    plain = AutoModelForCausalLM.from_pretrained(tmp_path)
    ids = torch.arange(9)[None]
    assert torch.allclose(plain(ids).logits, model(input_ids=ids).logits, atol=1e-5)
    again = load_model(tmp_path)
    for a, b in zip(model.parameters(), again.parameters(), strict=True):
        assert torch.equal(a, b)


def test_damaged_and_foreign_checkpoints_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"config\.json"):
        load_model(tmp_path / "nowhere")
    save(small("qwen3"), None, tmp_path)
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(CheckpointError):
        load_model(tmp_path)
    other = tmp_path / "other"
    save(small("llama"), None, other)
    (other / "config.json").write_text((tmp_path / "config.json").read_text())
    with pytest.raises(CheckpointError, match="missing, unexpected or of another shape"):
        load_model(other)
