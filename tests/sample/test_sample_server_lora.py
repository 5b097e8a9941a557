"""Adapters on their way to servers: alone, by vLLM's dynamic loading, under the canary."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from acereason.config import Lora, Servers
from acereason.errors import SamplingError
from acereason.policy import lora
from acereason.policy.policy import Policy
from acereason.sample.protocol import Request
from acereason.sample.servers.server import ServerSampler
from acereason.train import optimizers
from fake_vllm import FakeVllm, tiny_policy

pytest.importorskip("httpx2")
REQUESTS = [Request([5, 6, 7 + i % 4], 12, 0.9, 1000 + i, key=i) for i in range(6)]


@pytest.fixture
def fake() -> Iterator[FakeVllm]:
    server = FakeVllm(tiny_policy())
    yield server
    server.die()


@pytest.fixture
def opened(fake: FakeVllm, tmp_path: Path) -> Iterator[tuple[Policy, ServerSampler]]:
    policy = tiny_policy()
    lora.adapt(policy.model, Lora(4, 8.0, publish="adapter"))
    lora.initialise(policy.model, 3)
    sampler = ServerSampler(policy, Servers((fake.url,), folder=str(tmp_path), canary=1e-4, deadline=60.0))
    yield policy, sampler
    sampler.close()


def move(policy: Policy) -> None:
    with torch.no_grad():
        for p in optimizers.learned(policy.model):
            p.add_(0.1 * torch.randn_like(p))


def test_the_adapter_alone_is_published(
    fake: FakeVllm, opened: tuple[Policy, ServerSampler], tmp_path: Path
) -> None:
    policy, sampler = opened
    for step in range(3):
        sampler.update(policy.model)
        assert sampler.differences[fake.url].mean < 1e-4
        assert list(fake.loaded) == [fake.version], "the adapter before is taken out"
        found = list(sampler.sample(REQUESTS))
        assert len(found) == len(REQUESTS) and fake.bodies[-1]["model"] == fake.version
        (folder,) = (p for p in tmp_path.glob("run-*/w*"))
        assert sorted(p.name for p in folder.iterdir()) == [lora.CONFIG, lora.WEIGHTS]
        assert folder.name == f"w{step + 1:06d}"
        move(policy)
    assert "load_published" not in {b.get("method") for b in fake.bodies}


def test_an_adapter_that_did_not_take_is_found(fake: FakeVllm, opened: tuple[Policy, ServerSampler]) -> None:
    policy, sampler = opened
    move(policy)
    fake.loads = "nothing"
    with pytest.raises(SamplingError, match="canary"):
        sampler.update(policy.model)


def test_a_server_without_adapters_says_how(fake: FakeVllm, opened: tuple[Policy, ServerSampler]) -> None:
    fake.adapters = False
    with pytest.raises(SamplingError, match="--enable-lora"):
        opened[1].update(opened[0].model)
