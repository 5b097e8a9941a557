"""bfloat16 products: the same passes as float32 but for rounding, in learning and in sampling alike."""

from __future__ import annotations

import copy
import random
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from acereason.policy import attention, halves
from acereason.policy.model import logprobs, packed_logprobs
from acereason.policy.packing import Example, pack
from acereason.sample.engines.embedded import EmbeddedSampler
from acereason.train import checkpoint, optimizers
from families import make_family
from sample_models import group

KINDS = [
    "llama",
    "qwen3",
    "gemma3_text",
    "gemma2",
    "olmo2",
    "phi",
]  # norms of both forms, biases, both orders


def halved(kind: str) -> tuple[Any, Any]:
    """A float32 model and its copy with bfloat16 products."""
    model = make_family(kind, initializer_range=0.1)
    model.set_attn_implementation(attention.NAME)
    copied = copy.deepcopy(model)
    halves.halve(copied)
    return model, copied


def packed(count: int = 6) -> Any:
    rng = random.Random(1)
    prompt = [rng.randrange(61) for _ in range(9)]
    return pack([Example(prompt, [rng.randrange(61) for _ in range(3 + 4 * i)], i) for i in range(count)])


def gradient(model: Any, one: Any) -> torch.Tensor:
    model.zero_grad()
    logprob, _ = logprobs(model, one, 0.8)
    logprob.sum().backward()
    return torch.cat([p.grad.flatten() for p in model.parameters()])


@pytest.mark.parametrize("kind", KINDS)
def test_close_to_float32_in_both_passes(kind: str) -> None:
    model, copied = halved(kind)
    found, _ = packed_logprobs(copied, packed(), 0.8)
    wanted, _ = packed_logprobs(model, packed(), 0.8)
    assert 0 < (found - wanted).abs().mean() < 0.02
    a, b = gradient(copied, packed()), gradient(model, packed())
    assert torch.nn.functional.cosine_similarity(a, b, 0) > 0.999
    assert abs(a.norm() / b.norm() - 1) < 0.01


@pytest.mark.parametrize("kind", KINDS)
def test_norms_are_fused_and_matrices_halved(kind: str) -> None:
    _, copied = halved(kind)
    names = {type(m).__name__ for m in copied.base_model.modules()}
    assert "HalfLinear" in names and not any(n.endswith("RMSNorm") for n in names)
    assert all(p.dtype == torch.float32 for p in copied.parameters())
    assert type(copied.get_output_embeddings()) is torch.nn.Linear


def test_fused_norm_s_gradient() -> None:
    x, weight = (torch.randn(s, dtype=torch.float64, requires_grad=True) for s in ((4, 3, 8), (8,)))
    for one in (0.0, 1.0):
        plain = x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-6) * (weight + one)
        pull = torch.randn_like(plain)
        wanted = torch.autograd.grad((pull * plain).sum(), (x, weight))
        ours = halves._Norm.apply(x, weight, 1e-6, one)  # type: ignore[no-untyped-call]
        for a, b in zip(torch.autograd.grad((pull * ours).sum(), (x, weight)), wanted, strict=True):
            assert torch.allclose(a, b, atol=1e-5)  # inside it is float32


@pytest.mark.parametrize("native", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_sampler_and_trainer_share_the_products(kind: str, native: bool) -> None:
    _, copied = halved(kind)
    made = EmbeddedSampler(copied, slots=4, native=native)
    for completion in made.sample(group(temperature=0.8)):
        one = pack([Example(completion.request.prompt, completion.tokens.tolist(), 0)])
        learned, entropy = packed_logprobs(copied, one, 0.8)
        assert (learned - torch.from_numpy(completion.logprobs)).abs().mean() < 0.01
        assert abs(entropy.mean() - completion.entropy.mean()) < 0.01


def test_the_copies_follow_a_fused_optimiser() -> None:
    _, copied = halved("llama")
    steps = [torch.optim.AdamW(copied.parameters(), lr=0.05, fused=True)]
    before, _ = packed_logprobs(copied, packed(), 1.0)
    logprobs(copied, packed(), 1.0)
    before.sum().backward()
    optimizers.step(copied, steps, 1.0)
    after, _ = packed_logprobs(copied, packed(), 1.0)
    assert torch.allclose(after, logprobs(copied, packed(), 1.0)[0], atol=0.02)  # compiled code as well
    fresh = copy.deepcopy(copied)
    for module in fresh.modules():
        if isinstance(module, halves.HalfLinear):
            module.copied = None
    assert not torch.allclose(after, before, atol=1e-3)
    assert torch.equal(after, packed_logprobs(fresh, packed(), 1.0)[0])


def test_weights_read_from_a_checkpoint_reach_the_copies(tmp_path: Path) -> None:
    _, copied = halved("llama")
    wanted = packed_logprobs(copied, packed(), 1.0)[0].detach()
    save_file({n: p.detach().clone() for n, p in copied.named_parameters()}, tmp_path / "weights.safetensors")
    with torch.no_grad():
        for parameter in copied.parameters():
            parameter.mul_(1.5)
    packed_logprobs(copied, packed(), 1.0)
    logprobs(copied, packed(), 1.0)
    checkpoint.load_weights(tmp_path, copied)
    assert torch.allclose(wanted, logprobs(copied, packed(), 1.0)[0], atol=0.02)
    assert torch.equal(packed_logprobs(copied, packed(), 1.0)[0], wanted)


@pytest.mark.parametrize("bias", [False, True])
def test_a_sampler_s_layer_multiplies_as_the_trainer_s_and_follows_it(bias: bool) -> None:
    given = torch.nn.Linear(48, 80, bias=bias)
    layer = copy.deepcopy(given)
    halves._halve(layer, keep_masters=False)
    for _ in range(2):
        torch.nn.init.normal_(given.weight)
        halves.take(layer, given.weight, 64)  # type: ignore[arg-type]
        assert layer.weight.shape == given.weight.shape
        for rows in (1, 7, 64, 200):
            x = torch.randn(1, rows, 48)
            wanted = torch.nn.functional.linear(x.to(halves.HALF), given.weight.to(halves.HALF))
            if bias:
                wanted = wanted + given.bias.to(halves.HALF)
            with torch.no_grad():
                assert torch.allclose(layer(x).float(), wanted.float(), rtol=2e-2, atol=2e-2)


def test_a_norm_is_the_same_with_and_without_a_gradient() -> None:
    _, copied = halved("gemma3_text")
    norm = next(m for m in copied.modules() if isinstance(m, halves.FusedNorm))
    x = torch.randn(5, len(norm.weight))
    learning = norm(x)
    with torch.no_grad():
        assert torch.equal(norm(x), learning)
