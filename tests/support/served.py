"""Requests to fake servers, and what must be true of the answers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from acereason.policy.policy import Policy
from acereason.sample.protocol import Completion, Request
from acereason.sample.servers import canary
from acereason.sample.servers.server import ServerSampler

REQUESTS = [Request([5, 6, 7 + i % 4], 12, 0.9, 1000 + i, key=i) for i in range(24)]
Open = Callable[..., ServerSampler]


def answers(sampler: ServerSampler, requests: list[Request] = REQUESTS) -> dict[Any, Completion]:
    found = list(sampler.sample(requests))
    assert sorted(c.request.key for c in found) == sorted(r.key for r in requests)
    return {c.request.key: c for c in found}


def assert_ours(policy: Policy, found: dict[Any, Completion]) -> None:
    """The log-probabilities are those of the policy's present weights at the request's temperature."""
    same = [c for c in found.values() if c.request.temperature == canary.TEMPERATURE]
    d = canary.difference(same, canary.own_logprobs(policy, same))
    assert d.largest < 1e-4


def warm(requests: list[Request] = REQUESTS) -> list[Request]:
    return [Request(r.prompt, r.budget, canary.TEMPERATURE, r.seed, key=r.key) for r in requests]
