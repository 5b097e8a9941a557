"""Weights sent without files: bytes and order, several servers, and what fails on the way."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from acereason.config import Servers
from acereason.errors import SamplingError
from acereason.policy.policy import Policy
from acereason.sample.protocol import Request
from acereason.sample.servers import direct
from acereason.sample.servers.server import ServerSampler
from acereason.sample.servers.stream import Channel, received
from fake_vllm import FakeVllm, shake, tiny_policy

pytest.importorskip("httpx2")
REQUESTS = [Request([5, 6, 7 + i % 4], 12, 0.9, 1000 + i, key=i) for i in range(8)]
TYPES = ["float32", "bfloat16", "float16", "float64"]


@pytest.fixture
def opened(fakes: list[FakeVllm], tmp_path: Path) -> Iterator[tuple[Policy, ServerSampler]]:
    policy = tiny_policy(seed=3)
    urls = tuple(fake.url for fake in fakes)
    how = Servers(urls, folder=str(tmp_path), canary=1e-4, deadline=60.0, transfer="stream")
    sampler = ServerSampler(policy, how, patience=20.0)
    yield policy, sampler
    sampler.close()


@given(
    st.lists(st.tuples(st.sampled_from(TYPES), st.lists(st.integers(0, 5), max_size=3)), max_size=6),
    st.integers(1, 4),
)
@settings(max_examples=15, deadline=None)
def test_every_worker_gets_every_byte_in_order(made: list[tuple[str, list[int]]], workers: int) -> None:
    chance = torch.Generator().manual_seed(len(made))
    tensors = {
        f"t{i}": torch.randn(shape, generator=chance).to(getattr(torch, dtype))
        for i, (dtype, shape) in enumerate(made)
    }
    channel, found = Channel(), list[list[tuple[str, torch.Tensor]]]()
    told = (list(tensors), [d for d, _ in made], [s for _, s in made])
    address = channel.address("127.0.0.1")
    threads = [
        threading.Thread(target=lambda: found.append(list(received(address, *told)))) for _ in range(workers)
    ]
    for thread in threads:
        thread.start()
    assert channel.expect(workers) == workers
    for tensor in tensors.values():
        channel.send(tensor)
    assert channel.finish() == workers and channel.bytes == sum(t.nbytes for t in tensors.values())
    for thread in threads:
        thread.join(10)
    channel.close()
    assert len(found) == workers
    for each in found:
        assert [name for name, _ in each] == list(tensors)
        assert all(torch.equal(t, tensors[name]) and t.dtype == tensors[name].dtype for name, t in each)


def test_a_stranger_gets_nothing_and_a_lost_worker_is_left_out() -> None:
    channel = Channel()
    address = channel.address("127.0.0.1")
    stranger = socket.create_connection((address["host"], address["port"]))
    stranger.sendall(b"x" * len(address["token"]))
    lost = socket.create_connection((address["host"], address["port"]))
    lost.sendall(address["token"].encode())
    told: list[Any] = [["a"], ["float32"], [[1 << 22]]]
    got: list[Any] = []
    good = threading.Thread(target=lambda: got.extend(received(address, *told)))
    good.start()
    assert channel.expect(2) == 2
    lost.close()
    channel.send(torch.ones(1 << 22))
    assert channel.finish() == 1
    good.join(10)
    assert len(got) == 1 and bool((got[0][1] == 1).all()) and stranger.recv(10) == b""
    stranger.close()
    channel.close()


def test_weights_come_without_files(
    fakes: list[FakeVllm], opened: tuple[Policy, ServerSampler], tmp_path: Path
) -> None:
    policy, sampler = opened
    for _ in range(3):
        shake(policy, 0.02)
        sampler.update(policy.model)
        assert all(d.mean < 1e-4 for d in sampler.differences.values()) and len(sampler.differences) == 2
        assert len(list(sampler.sample(REQUESTS))) == len(REQUESTS)
    assert sampler.published == sum(p.nbytes for p in policy.model.parameters())
    assert not list(tmp_path.iterdir())
    wanted = ["/pause", "/update_weight_version", "/collective_rpc", "/init_weight_transfer_engine"]
    wanted += ["/start_weight_update", "/update_weights", "/finish_weight_update", "/collective_rpc"]
    wanted += ["/reset_prefix_cache", "/update_weight_version", "/resume"]
    routes = fakes[0].routes
    first = routes.index("/pause")
    assert routes[first : first + len(wanted)] == wanted


def test_what_is_told_is_what_comes() -> None:
    policy = tiny_policy()
    from acereason.policy.state import full_tensors

    told = direct.told(policy.model, torch.bfloat16)
    coming = list(full_tensors(policy.model, torch.bfloat16))
    assert told["names"] == [n for n, _ in coming] and told["shapes"] == [list(t.shape) for _, t in coming]
    assert (
        set(told["dtype_names"]) == {"bfloat16"} == {str(t.dtype).removeprefix("torch.") for _, t in coming}
    )


def test_weights_that_did_not_take_are_found(
    fakes: list[FakeVllm], opened: tuple[Policy, ServerSampler]
) -> None:
    policy, sampler = opened
    fakes[1].loads = "nothing"
    with pytest.raises(SamplingError, match=rf"canary.*{fakes[1].url}"):
        sampler.update(policy.model)


def test_a_server_that_is_lost_on_the_way_is_left_out_until_the_next_weights(
    fakes: list[FakeVllm], opened: tuple[Policy, ServerSampler]
) -> None:
    policy, sampler = opened
    fakes[1].take = lambda coming: setattr(fakes[1], "fault", "ConnectionError: it is gone")  # type: ignore[method-assign]
    socket_ = threading.Thread(target=_come_and_go, args=(fakes[1],))
    socket_.start()
    sampler.update(policy.model)
    assert list(sampler.differences) == [fakes[0].url]
    assert len(list(sampler.sample(REQUESTS))) == len(REQUESTS) and set(fakes[1].used) == {"default"}
    del fakes[1].take
    socket_.join(10)
    shake(policy, 0.02)
    sampler.update(policy.model)
    assert set(sampler.differences) == {fake.url for fake in fakes}


def test_a_server_that_is_lost_before_the_way_is_left_out_and_all_are_let_go(
    fakes: list[FakeVllm], opened: tuple[Policy, ServerSampler], monkeypatch: pytest.MonkeyPatch
) -> None:
    policy, sampler = opened
    with monkeypatch.context() as patch:
        patch.setattr(fakes[1].engine, "begin", None)  # the connection breaks
        sampler.update(policy.model)
    assert list(sampler.differences) == [fakes[0].url]
    shake(policy, 0.02)
    sampler.update(policy.model)
    assert set(sampler.differences) == {fake.url for fake in fakes}
    with monkeypatch.context() as patch, pytest.raises(ZeroDivisionError):
        patch.setattr(sampler._direct.carrier, "carry", lambda *_: 1 / 0)  # type: ignore[union-attr]
        sampler.update(policy.model)
    for fake in fakes:
        assert fake.routes.count("/resume") == fake.routes.count("/pause") >= 3


def _come_and_go(fake: FakeVllm) -> None:
    """A worker that names itself and leaves."""
    while not (address := getattr(fake.engine, "address", None)):
        time.sleep(0.01)
    with socket.create_connection((address["host"], address["port"])) as connection:
        connection.sendall(address["token"].encode())


def test_a_server_without_the_engine_says_how(
    fakes: list[FakeVllm], opened: tuple[Policy, ServerSampler]
) -> None:
    fakes[0].engine = None
    with pytest.raises(SamplingError, match="--weight-transfer-config"):
        opened[1].update(opened[0].model)
