"""Weights on servers: publishing, the canary, servers that come back."""

from __future__ import annotations

import resource
import threading
from pathlib import Path
from typing import Any

import pytest

from acereason.errors import SamplingError
from acereason.policy.policy import Policy
from acereason.sample.protocol import Request
from acereason.sample.servers import canary
from fake_vllm import FakeVllm, shake, tiny_policy
from served import REQUESTS, Open, answers, assert_ours, warm

pytest.importorskip("httpx2")


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
