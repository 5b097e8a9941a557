"""Sampling from servers: what is sent, faults, publishing, the canary, servers that come back."""

from __future__ import annotations

import resource
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from acereason.config import Servers
from acereason.errors import SamplingError
from acereason.policy.policy import Policy
from acereason.sample.protocol import Completion, Request
from acereason.sample.servers import canary
from acereason.sample.servers.server import ServerSampler
from fake_vllm import FakeVllm, shake, tiny_policy

pytest.importorskip("httpx2")
POLICY = tiny_policy()
REQUESTS = [Request([5, 6, 7 + i % 4], 12, 0.9, 1000 + i, key=i) for i in range(24)]
Open = Callable[..., ServerSampler]


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
        settings: dict[str, Any] = {"folder": str(tmp_path / "weights"), "canary": 1e-4, "deadline": 60.0}
        samplers.append(ServerSampler(policy, Servers(urls, **settings | changes), patience=patience))
        return samplers[-1]

    yield open_
    for sampler in samplers:
        sampler.close()


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


def test_only_the_present_weights_are_kept(policy: Policy, fakes: Any, opened: Open, tmp_path: Path) -> None:
    sampler = opened(policy, fakes())
    (tmp_path / "weights" / "run-dead").mkdir(parents=True)  # a killed run's, its lock is free
    (tmp_path / "weights" / "run-dead" / "lock").touch()
    for _ in range(3):
        shake(policy, 0.01)
        sampler.update(policy.model)
    assert len(list((tmp_path / "weights").rglob("w*/*.safetensors"))) == 1
    sampler.close()
    assert not list((tmp_path / "weights").glob("*"))


def test_a_full_disk_while_publishing(policy: Policy, fakes: Any, opened: Open, tmp_path: Path) -> None:
    server = fakes()
    sampler = opened(policy, server)
    sampler.update(policy.model)
    version, before = server.version, answers(sampler)
    shake(policy, 0.05)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        with pytest.raises(SamplingError, match=r"could not be written.*GiB free.*sampling.servers.folder"):
            sampler.update(policy.model)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert server.version == version and len(list((tmp_path / "weights").rglob("w*/"))) == 1
    found = answers(sampler)  # the weights before go on serving, whole
    assert all((found[k].logprobs == before[k].logprobs).all() for k in found)
    sampler.update(policy.model)
    assert_ours(policy, answers(sampler, warm()))


@pytest.mark.parametrize(("fault", "scale"), [("nothing", 0.02), ("nothing", 1e-4), ("head", 0.02)])
def test_the_canary_finds_stale_weights(fault: str, scale: float, fakes: Any, opened: Open) -> None:
    policy = tiny_policy(tie_word_embeddings=False)
    good, stale = fakes(policy), fakes(policy)
    sampler = opened(policy, good, stale, canary=0.02)
    sampler.update(policy.model)
    stale.loads = fault
    shake(policy, scale)
    with pytest.raises(SamplingError) as caught:
        sampler.update(policy.model)
    differences = sampler.differences
    assert differences[good.url].mean < 1e-4 < 0.5 * differences[stale.url].mean
    said = str(caught.value)
    assert said.startswith("canary") and f"{stale.url}: mean {differences[stale.url].mean:.4g}" in said
    assert ("Unchanged to the last bit" in said) == (fault == "nothing")


def test_the_canary_passes_while_weights_stand_still(policy: Policy, fakes: Any, opened: Open) -> None:
    sampler = opened(policy, fakes())
    for _ in range(2):
        sampler.update(policy.model)


def test_a_server_that_cannot_load(policy: Policy, fakes: Any, opened: Open) -> None:
    server = fakes()
    sampler = opened(policy, server)
    server.loads = "error"
    with pytest.raises(SamplingError, match=rf"{server.url} could not load.*no such file"):
        sampler.update(policy.model)


def restart(fakes: Any, server: FakeVllm, base: Policy) -> FakeVllm:
    server.die()
    return fakes(base, server.server_address[1])  # type: ignore[no-any-return]


def test_killed_and_restarted_with_other_weights(policy: Policy, fakes: Any, opened: Open) -> None:
    """Its requests are asked elsewhere; it is given the present weights before it is asked again."""
    base = tiny_policy()
    shake(policy, 0.05)
    first, second = fakes(base), fakes(base)
    sampler = opened(policy, first, second, concurrency=3)
    sampler.update(policy.model)
    for server in (first, second):
        server.plan = lambda body, attempt: "slow"
    many = warm([Request([5, 6, 7], 8, 1.0, i, key=i) for i in range(150)])
    found, reborn = {}, None
    for c in sampler.sample(many):
        found[c.request.key] = c
        if len(found) == 10:
            reborn = restart(fakes, second, base)
        elif reborn is not None and len(reborn.used) > len(canary.QUESTIONS):
            first.plan = lambda body, attempt: "good"  # it is back: no need to wait on
    assert reborn is not None and len(found) == 150
    assert_ours(policy, found)  # also when a request reached the new process before it was noticed
    assert list(reborn.used).count(first.version) > len(canary.QUESTIONS)


def test_restarted_between_two_calls(policy: Policy, fakes: Any, opened: Open) -> None:
    base = tiny_policy()
    shake(policy, 0.05)
    server = fakes(base)
    sampler = opened(policy, server)
    sampler.update(policy.model)
    reborn = restart(fakes, server, base)
    assert_ours(policy, answers(sampler, warm()))
    assert "default" not in reborn.used


def test_a_restarted_server_that_stays_stale(policy: Policy, fakes: Any, opened: Open) -> None:
    base = tiny_policy()
    shake(policy, 0.05)
    server = fakes(base)
    sampler = opened(policy, server)
    sampler.update(policy.model)
    restart(fakes, server, base).loads = "nothing"
    with pytest.raises(SamplingError, match=r"came back.*still differ"):
        list(sampler.sample(REQUESTS))


def test_all_servers_gone(policy: Policy, fakes: Any, opened: Open) -> None:
    server = fakes()
    sampler = opened(policy, server, patience=0.5)
    sampler.update(policy.model)
    server.plan = lambda body, attempt: "slow"
    threading.Timer(0.1, server.die).start()
    with pytest.raises(SamplingError, match=r"no server has answered for 0 s|no server has answered for 1 s"):
        list(sampler.sample(REQUESTS * 10))


def test_down_while_publishing_is_waited_for(policy: Policy, fakes: Any, opened: Open) -> None:
    server = fakes()
    sampler = opened(policy, server)
    sampler.update(policy.model)
    server.die()
    shake(policy, 0.05)
    threading.Timer(0.5, lambda: fakes(tiny_policy(), server.server_address[1])).start()
    sampler.update(policy.model)
    assert_ours(policy, answers(sampler, warm()))


def test_closing_the_iterator_abandons_the_rest(policy: Policy, fakes: Any, opened: Open) -> None:
    server = fakes()
    sampler = opened(policy, server, concurrency=4)
    sampler.update(policy.model)
    asked = len(server.bodies)
    iterator = sampler.sample(REQUESTS)
    next(iterator)
    iterator.close()  # type: ignore[attr-defined]
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
