"""Sampling from servers: what is sent, faults, what ends early, sleep."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from acereason.errors import SamplingError
from acereason.policy.policy import Policy
from acereason.sample.protocol import Request
from acereason.sample.servers.vllm import payload, raw_ratio
from acereason.sample.servers.vllm_worker import refresh_tied
from fake_vllm import FakeVllm, tiny_policy
from served import REQUESTS, Open, answers, assert_ours, warm

pytest.importorskip("httpx2")


def test_responses_of_the_published_weights(policy: Policy, fakes: Any, opened: Open) -> None:
    server = fakes(tiny_policy(seed=9))  # started on other weights
    sampler = opened(policy, server)
    sampler.update(policy.model)
    found = answers(sampler, warm())
    assert_ours(policy, found)
    assert {c.finish for c in found.values()} <= {"stop", "length"}
    for c in found.values():
        np.testing.assert_array_equal(c.entropy, -c.logprobs)
        assert np.isnan(c.entropy_1).all() and len(c.tokens) <= c.request.budget
    again = answers(sampler, warm())
    assert all((found[k].tokens == again[k].tokens).all() for k in found)
    assert set(server.used) == {"default", server.version}  # the checks at the start, then ours


def test_every_parameter_is_sent() -> None:
    body = payload("m", Request([1, 2], 9, 0.7, 2**64 - 1, 0.95), [2, 3])
    wanted = {
        "temperature": 0.7, "top_p": 0.95, "top_k": 0, "min_p": 0.0, "repetition_penalty": 1.0,
        "presence_penalty": 0.0, "frequency_penalty": 0.0, "max_tokens": 9, "min_tokens": 0, "n": 1,
        "stop": [], "stop_token_ids": [2, 3], "ignore_eos": True, "skip_special_tokens": False,
        "return_token_ids": True, "prompt": [1, 2], "seed": 2**63 - 1, "logprobs": 0,
    }  # fmt: skip
    assert wanted.items() <= body.items()


@given(st.integers(0, 2**64 - 1))
def test_seeds_are_in_the_servers_range(seed: int) -> None:
    assert 0 <= payload("m", Request([1], 1, 1.0, seed), [])["seed"] < 2**63


@pytest.mark.parametrize("fault", ["429", "500", "503", "hang", "half", "abort", "fewer", "garbage", "close"])
def test_faults_lose_and_double_nothing(fault: str, policy: Policy, fakes: Any, opened: Open) -> None:
    servers = [fakes(), fakes()]
    sampler = opened(policy, *servers, concurrency=4, deadline=1.0)
    sampler.update(policy.model)
    reference = answers(sampler)

    def plan(body: dict[str, Any], attempt: int) -> str:
        return fault if body["seed"] % 3 == 0 and attempt == 2 else "good"

    for server in servers:
        server.plan = plan
    found = answers(sampler)
    assert all((found[k].tokens == reference[k].tokens).all() for k in reference)  # the same seeds


@pytest.mark.parametrize(
    ("fault", "said"),
    [("500", "failed 8 times"), ("garbage", "failed 8 times"), ("400", "refuses a request"),
     ("401", "refuses every request"), ("noids", "no token ids")],
)  # fmt: skip
def test_what_never_works_is_an_error(
    fault: str, said: str, policy: Policy, fakes: Any, opened: Open
) -> None:
    server = fakes()
    sampler = opened(policy, server)
    sampler.update(policy.model)
    server.plan = lambda body, attempt: fault
    with pytest.raises(SamplingError, match=said):
        list(sampler.sample(REQUESTS[:2]))


def test_an_overloaded_server_is_given_less(policy: Policy, fakes: Any, opened: Open) -> None:
    server = fakes()
    sampler = opened(policy, server)
    sampler.update(policy.model)
    server.plan = lambda body, attempt: "429" if server.flying > 3 else "slow"
    answers(sampler)
    assert sampler._fleet.members[0].cap < 24


def test_the_least_loaded_is_asked(policy: Policy, fakes: Any, opened: Open) -> None:
    fast, slow = fakes(), fakes()
    sampler = opened(policy, fast, slow, concurrency=2)
    sampler.update(policy.model)
    slow.plan = lambda body, attempt: "slow"
    before = len(fast.bodies), len(slow.bodies)
    answers(sampler)
    counts = len(fast.bodies) - before[0], len(slow.bodies) - before[1]
    assert sum(counts) == 24 and counts[1] < counts[0]


def test_a_server_that_is_down_at_the_start(policy: Policy, fakes: Any, opened: Open) -> None:
    good, gone = fakes(), FakeVllm(policy)
    gone.die()
    with pytest.raises(SamplingError, match=rf"{gone.url} cannot be sampled from.*Start it"):
        opened(policy, good, gone)


@pytest.mark.parametrize(
    ("change", "said"),
    [({"mode": "raw_logprobs"}, "--logprobs-mode"), ({"mode": "raw"}, "raw log-prob"),
     ({"dev": False}, "DEV_MODE"), ({"extension": False}, "--worker-extension-cls")],
)  # fmt: skip
def test_a_server_started_wrongly(
    change: dict[str, Any], said: str, policy: Policy, fakes: Any, opened: Open
) -> None:
    server = fakes()
    for name, value in change.items():
        setattr(server, name, value)
    with pytest.raises(SamplingError, match=said):
        opened(policy, server)


def test_another_model_on_the_server(policy: Policy, fakes: Any, opened: Open) -> None:
    with pytest.raises(SamplingError, match=r"another model.*hidden_size 16, ours 32.*--model"):
        opened(policy, fakes(tiny_policy(hidden_size=16)))


def test_context_too_small(policy: Policy, fakes: Any, opened: Open) -> None:
    server = fakes()
    server.limit = 100
    sampler = opened(policy, server)
    sampler.update(policy.model)
    with pytest.raises(SamplingError, match="larger --max-model-len, or lower the stage's budget"):
        list(sampler.sample([Request([5] * 40, 61, 1.0, 1)]))


def test_sampling_before_anything_was_published(policy: Policy, fakes: Any, opened: Open) -> None:
    with pytest.raises(SamplingError, match="call update"):
        list(opened(policy, fakes()).sample(REQUESTS))


def test_closing_the_iterator_abandons_the_rest(policy: Policy, fakes: Any, opened: Open) -> None:
    server = fakes()
    sampler = opened(policy, server, concurrency=4)
    sampler.update(policy.model)
    asked = len(server.bodies)
    iterator = sampler.sample(REQUESTS)
    next(iterator)
    iterator.close()
    time.sleep(0.2)
    assert len(server.bodies) - asked < 24
    answers(sampler)


def test_updating_ends_what_is_in_flight(policy: Policy, fakes: Any, opened: Open) -> None:
    server = fakes()
    sampler = opened(policy, server, concurrency=2)
    sampler.update(policy.model)
    server.plan = lambda body, attempt: "slow" if body["max_tokens"] == 12 else "good"
    iterator = sampler.sample(REQUESTS)
    next(iterator)
    sampler.update(policy.model)
    with pytest.raises(SamplingError, match="updated while responses were in flight"):
        list(iterator)


def test_colocated_servers_sleep_but_while_they_are_used(policy: Policy, fakes: Any, opened: Open) -> None:
    server = fakes()
    sampler = opened(policy, server, colocated=True)
    assert not sampler.remote
    sampler.update(policy.model)
    answers(sampler)
    awake = True
    for route in server.routes:
        if route == "/wake_up":
            awake = True
        elif route == "/sleep":
            awake = False
        elif route in ("/v1/completions", "/collective_rpc"):
            assert awake
    assert not awake and server.routes.count("/sleep") == 3


@given(st.lists(st.floats(-6, 6), min_size=3, max_size=5), st.booleans())
def test_raw_logprobs_are_told_by_two_temperatures(logits: list[float], raw: bool) -> None:
    def scores(T: float) -> dict[str, float]:
        z = np.array(logits) / T
        return dict(zip("abcde", (z - np.log(np.exp(z).sum())).tolist(), strict=False))

    found = raw_ratio(scores(1.0), scores(1.0 if raw else 0.5))
    assert found in ((raw,) if max(logits) - min(logits) > 0.06 else (raw, None))


def test_the_extension_processes_tied_layers_again() -> None:
    """On stand-ins for vLLM's layers: those that share a weight, and no other."""
    processed: list[str] = []

    class Method:
        def process_weights_after_loading(self, layer: Any) -> None:
            processed.append(layer.name)

    def layer(name: str, weight: torch.nn.Parameter | None) -> torch.nn.Module:
        made = torch.nn.Module()
        made.name, made.quant_method = name, Method()  # type: ignore[assignment]
        made.weight = weight  # type: ignore[assignment]
        return made

    shared, own = torch.nn.Parameter(torch.ones(2)), torch.nn.Parameter(torch.ones(2))
    layers = [layer("embed", shared), layer("linear", own), layer("none", None), layer("head", shared)]
    assert refresh_tied(torch.nn.ModuleList(layers)) == 2 and processed == ["embed", "head"]
