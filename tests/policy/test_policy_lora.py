"""Adapters: their gradient, their merging, what stays frozen, and that peft reads them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from acereason.config import Lora, Placement
from acereason.errors import ConfigError
from acereason.policy import attention, frozen, halves, lora
from acereason.policy import model as models
from acereason.policy.packing import Example, pack
from acereason.policy.state import full_tensors
from acereason.sample.protocol import Request
from acereason.train import optimizers, parallel
from sample_models import KINDS, sampler
from sample_models import make as plain

EXAMPLES = [Example([3, 9, 4], [11 + i, 5, 2 * i + 20, 7], i) for i in range(4)]


def make(kind: str, **changes: Any) -> Any:
    """A model with attention over packs."""
    model = plain(kind, **changes)
    model.set_attn_implementation(attention.NAME)
    return model


def adapted(kind: str = "qwen3", rank: int = 4, targets: tuple[str, ...] = (), **changes: Any) -> Any:
    """A model with adapters that change what it says."""
    model = make(kind, **changes)
    lora.adapt(model, Lora(rank, 8.0, targets))
    lora.initialise(model, 5)
    torch.manual_seed(1)
    for layer in lora.adapters(model).values():
        nn.init.normal_(layer.lora_B.weight, 0.0, 0.1)
    return model


def loss(model: Any) -> Tensor:
    logprob, _ = models.logprobs(model, pack(EXAMPLES))
    return -logprob.mean()


@pytest.mark.parametrize("compiled", ["0", "1"])
def test_b_gets_the_gradient_of_w_where_a_is_the_identity(
    compiled: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ACEREASON_NATIVE", compiled)
    whole, model = make("qwen3"), make("qwen3")
    loss(whole).backward()
    lora.adapt(model, Lora(48, 48.0, ("q_proj", "gate_proj")))  # their input is 48 wide
    lora.initialise(model, 5)
    for layer in lora.adapters(model).values():
        layer.lora_A.weight.data = torch.eye(48)
    loss(model).backward()
    wanted = dict(whole.named_parameters())
    assert len(lora.adapters(model)) == 4
    for name, layer in lora.adapters(model).items():
        gradient = wanted[name].grad
        assert gradient is not None and float(gradient.abs().max()) > 1e-4
        torch.testing.assert_close(layer.lora_B.weight.grad, gradient, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("kind", KINDS)
def test_merged_is_adapted_and_zero_is_the_base(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACEREASON_NATIVE", "0")
    base, model = make(kind), adapted(kind)
    own = loss(model).detach()
    assert abs(float(loss(base).detach() - own)) > 1e-3
    base.load_state_dict(dict(full_tensors(model)), strict=False)
    torch.testing.assert_close(loss(base).detach(), own, rtol=1e-5, atol=1e-6)
    lora.initialise(model, 6)
    assert torch.equal(loss(model), loss(make(kind)))


def test_compiled_code_learns_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for native in "01":
        monkeypatch.setenv("ACEREASON_NATIVE", native)
        model = adapted()
        value = loss(model)
        value.backward()
        found.append([value.detach(), *(p.grad for p in optimizers.learned(model))])
    assert len(found[0]) == 2 * 14 + 1
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


def test_a_step_moves_the_adapters_alone() -> None:
    model = adapted(targets=("o_proj", "up_proj"))
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    optimizer = [torch.optim.AdamW(optimizers.learned(model), lr=0.1)]
    loss(model).backward()
    assert optimizers.step(model, optimizer, 1.0)
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, before[name]) == (not lora.is_factor(name)), name


def test_engines_sample_the_merged_model() -> None:
    model = adapted()
    request = Request([3, 9, 4], 12, 1.0, 8, key=0)
    for native in ("torch", "native"):
        made = sampler(model, native)
        made.update(model)
        (found,) = made.sample([request])
        example = Example(request.prompt, found.tokens.tolist(), 0)
        logprob, _ = models.logprobs(model, pack([example]))
        torch.testing.assert_close(torch.from_numpy(found.logprobs), logprob.detach(), rtol=0, atol=1e-4)


def test_in_half_precision_the_base_is_halved_and_the_adapters_are_not() -> None:
    model, full = make("qwen3"), adapted()
    halves.halve(model)
    lora.adapt(model, Lora(4, 8.0))
    lora.initialise(model, 5)
    model.load_state_dict(full.state_dict())
    value = loss(model)
    value.backward()
    assert abs(float((value - loss(full)).detach())) < 0.05
    for p in optimizers.learned(model):
        assert p.dtype == torch.float32 and p.grad is not None and p.grad.isfinite().all()
    assert all(p.grad is None for n, p in model.named_parameters() if not lora.is_factor(n))


def test_sharded_it_learns_the_same() -> None:
    """In a process of its own, for sharding makes a process group."""
    paths = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])}
    code = "import test_policy_lora; test_policy_lora.learns_sharded()"
    subprocess.run([sys.executable, "-c", code], env=paths, check=True, timeout=300)


def same_base(one: Any, other: Any) -> bool:
    """Whether the checksums of the frozen weights agree."""
    sums = frozen.base_of(one), frozen.base_of(other)
    assert sums[0] is not None and sums[1] is not None
    return torch.equal(sums[0], sums[1])


def learns_sharded() -> None:
    whole, model = make("qwen3"), make("qwen3")
    for one in (whole, model):
        lora.adapt(one, Lora(4, 8.0))
        if one is model:
            parallel.shard(model, Placement())
        lora.initialise(one, 5)
        loss(one).backward()
    assert same_base(model, whole)
    for one, other in zip(optimizers.learned(model), optimizers.learned(whole), strict=True):
        assert isinstance(one.grad, DTensor)
        torch.testing.assert_close(one.grad.full_tensor(), other.grad, rtol=1e-4, atol=1e-6)
    for (name, one), (_, other) in zip(full_tensors(model), full_tensors(whole), strict=True):
        assert torch.equal(one, other), name


def test_layers_that_are_not_there_are_named() -> None:
    with pytest.raises(ConfigError, match=r"no wq; it has down_proj, .*v_proj"):
        lora.adapt(make("llama"), Lora(4, 8.0, ("q_proj", "wq")))


def test_the_checksum_knows_the_base() -> None:
    model, same, other = adapted(), adapted(), adapted(seed=1)
    assert same_base(model, same)
    assert not same_base(model, other)


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")
def test_a_saved_model_is_merged_and_its_adapter_is_pefts(tmp_path: Path) -> None:
    model = adapted(tied=False)
    models.save(model, None, tmp_path / "merged")
    whole = models.load_model(tmp_path / "merged")
    whole.set_attn_implementation("sdpa")
    for name, tensor in full_tensors(model):
        assert torch.equal(whole.get_parameter(name), tensor), name
    peft = pytest.importorskip("peft")
    lora.save(model, tmp_path / "adapter", "base")
    loaded = peft.PeftModel.from_pretrained(plain("qwen3", tied=False), tmp_path / "adapter")
    ids = torch.tensor([[3, 9, 4, 11, 30]])
    with torch.no_grad():
        torch.testing.assert_close(loaded(ids).logits, whole(ids).logits, rtol=0, atol=1e-5)
