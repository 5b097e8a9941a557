"""Fake servers and samplers over them, closed after each test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from acereason.config import Servers
from acereason.policy.policy import Policy
from acereason.sample.servers.server import ServerSampler
from fake_vllm import FakeVllm, tiny_policy
from served import Open

POLICY = tiny_policy()


@pytest.fixture
def policy() -> Policy:
    """Weights of its own for every test."""
    return tiny_policy()


@pytest.fixture
def fakes() -> Iterator[Callable[..., FakeVllm]]:
    started: list[FakeVllm] = []

    def start(policy: Policy = POLICY, port: int = 0) -> FakeVllm:
        started.append(FakeVllm(policy, port))
        return started[-1]

    yield start
    for server in started:
        server.die()


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Open]:
    samplers: list[ServerSampler] = []

    def open_(policy: Policy, *servers: FakeVllm, patience: float = 20.0, **changes: Any) -> ServerSampler:
        urls = tuple(s.url for s in servers)
        changes = {"folder": str(tmp_path / "weights"), "canary": 1e-4, "deadline": 60.0} | changes
        samplers.append(ServerSampler(policy, Servers(urls, **changes), patience=patience))
        return samplers[-1]

    yield open_
    for sampler in samplers:
        sampler.close()
