"""Sampling from real vLLM servers on CPU: `make test-server`.

Two servers of a tiny random model are started, published to, killed and started again. They run in an
environment of their own, whose Python ACEREASON_TEST_SERVER_PYTHON names."""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from acereason.config import Servers
from acereason.errors import SamplingError
from acereason.policy.policy import Policy
from acereason.sample.protocol import Completion, Request
from acereason.sample.servers import canary, delta
from acereason.sample.servers.server import ServerSampler
from fake_vllm import shake, tiny_policy
from real_vllm import PYTHON, Served

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.skipif(not PYTHON, reason="set ACEREASON_TEST_SERVER_PYTHON, or run make test-server"),
]
BOUND = 1e-4  # nats; both sides compute in float32


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Checkpoints of the tiny model: `tied` is what the servers are started on."""
    folder = tmp_path_factory.mktemp("models")
    tiny_policy(seed=5).save(folder / "tied")
    tiny_policy(seed=5, tie_word_embeddings=False).save(folder / "untied")
    return folder


@pytest.fixture(scope="module")
def servers(folder: Path) -> Iterator[list[Served]]:
    started = [Served(folder / "tied", folder / f"{i}.log", i) for i in range(2)]
    try:
        for server in started:
            server.wait()
        yield started
    finally:
        for server in started:
            server.kill()


def opened(policy: Policy, folder: Path, *servers: Served, **changes: Any) -> ServerSampler:
    settings: dict[str, Any] = {
        "folder": str(folder / "weights"),
        "canary": BOUND,
        "deadline": 120.0,
    } | changes
    return ServerSampler(policy, Servers(tuple(s.url for s in servers), **settings), patience=200.0)


@pytest.fixture
def policy() -> Policy:
    """Other weights than those that the servers were started on."""
    return tiny_policy(seed=1)


@pytest.fixture
def sampler(policy: Policy, folder: Path, servers: list[Served]) -> Iterator[ServerSampler]:
    made = opened(policy, folder, *servers)
    made.update(policy.model)
    yield made
    made.close()


def requests(number: int, T: float = canary.TEMPERATURE, budget: int = 24) -> list[Request]:
    return [Request([5, 6, 7 + i % 5, 40], budget, T, 7000 + i, key=i) for i in range(number)]


def answers(sampler: ServerSampler, asked: list[Request]) -> dict[Any, Completion]:
    found = {c.request.key: c for c in sampler.sample(asked)}
    assert len(found) == len(asked)
    return found


def assert_ours(policy: Policy, found: dict[Any, Completion]) -> None:
    d = canary.difference(list(found.values()), canary.own_logprobs(policy, list(found.values())))
    assert d.largest < BOUND, d


def test_tokens_and_logprobs_agree_with_transformers(
    policy: Policy, sampler: ServerSampler, tmp_path: Path
) -> None:
    policy.save(tmp_path)
    model = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32)
    found = answers(sampler, requests(40, T=0.7))
    for c in found.values():
        prompt = list(c.request.prompt)
        with torch.no_grad():
            logits = model(torch.tensor([[*prompt, *c.tokens.tolist()]])).logits[0, len(prompt) - 1 : -1]
        own = (logits / 0.7).log_softmax(-1).gather(1, torch.from_numpy(c.tokens).long()[:, None])[:, 0]
        np.testing.assert_allclose(c.logprobs, own, rtol=0, atol=BOUND)
        assert (c.finish == "stop") == (int(c.tokens[-1]) in policy.end_ids)
        assert not set(c.tokens[:-1].tolist()) & set(policy.end_ids)
    assert {len(c.tokens) for c in found.values() if c.finish == "length"} == {24}


def test_seeds_reproduce(sampler: ServerSampler) -> None:
    asked = requests(60)
    first, again = answers(sampler, asked), answers(sampler, list(reversed(asked)))
    same = sum((first[k].tokens.tolist() == again[k].tokens.tolist()) for k in first)
    assert same >= 0.9 * len(asked)  # batching changes float sums, and rarely a draw
    assert len({tuple(c.tokens.tolist()) for c in first.values()}) > 0.9 * len(asked)


def test_every_publish_is_served_whole(policy: Policy, sampler: ServerSampler, folder: Path) -> None:
    for _ in range(3):
        shake(policy, 0.03)
        begun = time.perf_counter()
        sampler.update(policy.model)
        print(f"published in {time.perf_counter() - begun:.2f} s: {sampler.differences}")
        assert all(d.mean < BOUND for d in sampler.differences.values()) and len(sampler.differences) == 2
        assert_ours(policy, answers(sampler, requests(20)))
    assert len(list((folder / "weights").glob("run-*/w*"))) == 1


def test_the_canary_finds_a_reload_that_did_nothing(policy: Policy, sampler: ServerSampler) -> None:
    first = sampler._fleet.members[0].server

    async def nothing(folder: Path, version: str, *more: str) -> None:
        await first.rename(version)

    first.load = nothing  # type: ignore[method-assign, assignment]
    shake(policy, 1e-3)
    with pytest.raises(SamplingError, match=rf"canary.*Unchanged to the last bit.*{first.url}"):
        sampler.update(policy.model)


def test_the_canary_finds_a_stale_tied_head(policy: Policy, sampler: ServerSampler) -> None:
    """vLLM's own reload, without our extension, says that it succeeded."""
    first, second = (m.server for m in sampler._fleet.members)
    assert first.facts is not None and first.facts.extension
    first.facts = dataclasses.replace(first.facts, extension=False)
    shake(policy, 0.02)
    with pytest.raises(SamplingError, match="canary"):
        sampler.update(policy.model)
    stale, whole = sampler.differences[first.url], sampler.differences[second.url]
    print(f"stale head: {stale}; whole: {whole}")
    assert whole.mean < BOUND < 0.01 < stale.mean
    first.facts = dataclasses.replace(first.facts, extension=True)
    sampler.update(policy.model)
    assert_ours(policy, answers(sampler, requests(20)))


def test_colocated_servers(policy: Policy, folder: Path, servers: list[Served]) -> None:
    sampler = opened(policy, folder, *servers, colocated=True)
    for _ in range(2):
        shake(policy, 0.02)
        sampler.update(policy.model)
        assert_ours(policy, answers(sampler, requests(20)))
    sampler.close()


def test_weights_are_streamed_without_files(policy: Policy, folder: Path, servers: list[Served]) -> None:
    """By vLLM's weight-transfer API; a tied head is not left behind, and files go on afterwards."""
    sampler = opened(policy, folder, *servers, transfer="stream")
    for _ in range(3):
        shake(policy, 0.02)
        begun = time.perf_counter()
        sampler.update(policy.model)
        print(f"{sampler.published} bytes in {time.perf_counter() - begun:.2f} s: {sampler.differences}")
        assert all(d.mean < BOUND for d in sampler.differences.values()) and len(sampler.differences) == 2
        assert_ours(policy, answers(sampler, requests(20)))
    sampler.close()
    again = opened(policy, folder, *servers)
    shake(policy, 0.02)
    again.update(policy.model)
    assert_ours(policy, answers(again, requests(20)))
    again.close()


def test_deltas_patch_what_servers_hold(policy: Policy, folder: Path, servers: list[Served]) -> None:
    """What changed is loaded, and a server that lost its copy gets everything; the pause keeps requests."""
    made = opened(policy, folder, *servers, transfer="delta", in_flight="keep")
    sizes = []
    for step in range(3):
        with torch.no_grad():
            policy.model.model.layers[0].mlp.up_proj.weight.add_(0.05)
        if step == 2:
            made._run(made._fleet.members[1].server.remote("drop_published"))
        made.update(policy.model)
        assert all(d.mean < BOUND for d in made.differences.values()) and len(made.differences) == 2
        assert_ours(policy, answers(made, requests(20)))
        sizes.append(made.published)
    made.close()
    assert sizes[0] and sizes[1] == sizes[2] and sizes[1] < sizes[0] / 3  # type: ignore[operator]
    assert not list(Path("/dev/shm").glob(f"{delta.PREFIX}*"))


def test_context_too_small(sampler: ServerSampler) -> None:
    with pytest.raises(SamplingError, match="--max-model-len"):
        list(sampler.sample([Request([5] * 200, 57, 1.0, 1)]))


def test_two_servers_one_killed_and_started_again(
    policy: Policy, sampler: ServerSampler, folder: Path, servers: list[Served]
) -> None:
    """No response is lost or doubled, and none comes of the weights that the new process starts with."""
    second = sampler._fleet.members[1]
    found: dict[Any, Completion] = {}
    for c in sampler.sample(requests(400, budget=60)):
        found[c.request.key] = c
        if len(found) == 20:
            assert second.calls
            servers[1].kill()
            servers[1].start(folder / "tied")
    assert len(found) == 400
    assert_ours(policy, found)
    shake(policy, 0.02)
    sampler.update(policy.model)
    assert_ours(policy, answers(sampler, requests(20)))
    servers[1].wait()
    until = time.monotonic() + 120
    while not second.up and time.monotonic() < until:
        time.sleep(0.2)
    assert second.up
    again = asyncio.run_coroutine_threadsafe(second.server.version(), sampler._loop).result()
    assert sampler._weights is not None and again == sampler._weights[1]
    assert_ours(policy, answers(sampler, requests(40)))


def test_down_or_another_model_at_the_start(folder: Path, servers: list[Served]) -> None:
    """The last test: it leaves the second server with an untied model, which a plain reload serves whole."""
    policy = tiny_policy(seed=2)
    servers[1].kill()
    with pytest.raises(SamplingError, match="cannot be sampled from"):
        opened(policy, folder, *servers)
    servers[1].start(folder / "untied")
    servers[1].wait()
    with pytest.raises(SamplingError, match=r"another model.*tie_word_embeddings False, ours True"):
        opened(policy, folder, *servers)
    untied = tiny_policy(seed=2, tie_word_embeddings=False)
    sampler = opened(untied, folder, servers[1])
    server = sampler._fleet.members[0].server
    assert server.facts is not None
    server.facts = dataclasses.replace(server.facts, extension=False)
    sampler.update(untied.model)
    print(f"untied, vLLM's own reload: {sampler.differences}")
    assert_ours(untied, answers(sampler, requests(20)))
    sampler.close()
