"""Weights by NCCL and by shared GPU memory: what servers' engines get, what fails, which way is chosen, and
requests that are kept meanwhile. NCCL and GPUs are stood in for (`fake_engines`); the wire is vLLM's."""

from __future__ import annotations

import asyncio
import itertools
import logging
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import fake_engines
from acereason.config import Servers
from acereason.errors import SamplingError
from acereason.policy.policy import Policy
from acereason.sample.protocol import Request
from acereason.sample.servers import direct, ipc, nccl
from acereason.sample.servers.fleet import Fleet
from acereason.sample.servers.http import Busy
from acereason.sample.servers.server import ServerSampler
from acereason.sample.servers.vllm import Facts, Vllm
from fake_vllm import FakeVllm, shake, tiny_policy

pytest.importorskip("httpx2")
REQUESTS = [Request([5, 6, 7 + i % 4], 12, 0.9, 1000 + i, key=i) for i in range(4)]
Open = Callable[..., ServerSampler]


@pytest.fixture(autouse=True)
def stand_ins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ipc, "Buffer", fake_engines.SharedFile)
    monkeypatch.setattr(ipc, "LEAST", 4096)  # several parts
    if shutil.which("c++"):
        monkeypatch.setattr(nccl, "LIBRARY", str(fake_engines.nccl()))


@pytest.fixture
def policy() -> Policy:
    return tiny_policy(seed=3)


@pytest.fixture
def opened(fakes: list[FakeVllm], policy: Policy, tmp_path: Path) -> Iterator[Open]:
    made = []

    def open_(**changes: Any) -> ServerSampler:
        how = {"folder": str(tmp_path / "files"), "canary": 1e-4, "deadline": 60.0} | changes
        made.append(ServerSampler(policy, Servers(tuple(f.url for f in fakes), **how), patience=20.0))  # type: ignore[arg-type]
        return made[-1]

    yield open_
    for sampler in made:
        sampler.close()


def engines(way: str) -> list[fake_engines.Engine]:
    """Of two servers, the first with two workers."""
    if way == "nccl" and not shutil.which("c++"):
        pytest.skip("nothing compiles the stand-in for NCCL")
    return {
        "nccl": [fake_engines.Nccl(2), fake_engines.Nccl(1)],
        "ipc": [fake_engines.Ipc("GPU-0", "GPU-0"), fake_engines.Ipc("GPU-0")],
    }[way]  # type: ignore[return-value]


def routes(fake: FakeVllm) -> list[str]:
    return [r for r in fake.routes if "weight" in r and "version" not in r]


@pytest.mark.parametrize("way", ["nccl", "ipc"])
def test_weights_come_by_vllms_engines(
    fakes: list[FakeVllm], policy: Policy, opened: Open, tmp_path: Path, way: str
) -> None:
    for fake, engine in zip(fakes, engines(way), strict=True):
        fake.engine = engine
    sampler = opened(transfer=way)
    for _ in range(2):
        shake(policy, 0.02)
        sampler.update(policy.model)
        assert all(d.mean < 1e-4 for d in sampler.differences.values()) and len(sampler.differences) == 2
    assert len(list(sampler.sample(REQUESTS))) == len(REQUESTS)
    assert sampler.published == sum(p.nbytes for p in policy.model.parameters())
    assert not (tmp_path / "files").exists()
    inits = routes(fakes[0]).count("/init_weight_transfer_engine")
    assert inits == (1 if way == "nccl" else 2)  # a group stays
    if isinstance(engine := fakes[0].engine, fake_engines.Ipc):  # type: ignore[assignment]
        largest = max(p.nbytes for p in policy.model.parameters())
        assert len(engine.sizes) > 2 and max(engine.sizes) <= max(4096, largest)


def test_a_server_that_was_started_again_makes_a_new_group(
    fakes: list[FakeVllm], policy: Policy, opened: Open
) -> None:
    for fake, engine in zip(fakes, engines("nccl"), strict=True):
        fake.engine = engine
    sampler = opened(transfer="nccl")
    sampler.update(policy.model)
    fakes[1].engine, fakes[1].version = fake_engines.Nccl(1), "default"
    shake(policy, 0.02)
    sampler.update(policy.model)
    assert len(sampler.differences) == 2 and routes(fakes[0]).count("/init_weight_transfer_engine") == 2


def test_a_worker_lost_in_the_middle_sends_these_weights_by_file(
    fakes: list[FakeVllm], policy: Policy, opened: Open, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first, second = engines("nccl")
    fakes[0].engine, fakes[1].engine = first, second
    sampler = opened(transfer="nccl")
    second.vanish = 0  # type: ignore[attr-defined]
    with caplog.at_level(logging.WARNING):
        sampler.update(policy.model)
    assert len(sampler.differences) == 2 and "these go by files" in caplog.text
    assert (tmp_path / "files").exists()
    second.vanish = -1  # type: ignore[attr-defined]
    shake(policy, 0.02)
    sampler.update(policy.model)  # a new group
    assert sampler.published == sum(p.nbytes for p in policy.model.parameters())
    assert len(sampler.differences) == 2


def test_what_fails_again_and_again_is_not_tried_for_ever(
    fakes: list[FakeVllm], policy: Policy, opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nccl, "LIBRARY", "libnccl-that-is-not-there.so")
    for fake in fakes:
        fake.engine = fake_engines.Nccl(1)
    sampler = opened(transfer="nccl")
    for _ in range(direct.PATIENCE + 1):
        shake(policy, 0.02)
        sampler.update(policy.model)
        assert len(sampler.differences) == 2
    assert fakes[0].routes.count("/pause") == 2 * direct.PATIENCE + 1  # tried, then by file


def test_a_gpu_without_a_rank_is_refused(fakes: list[FakeVllm], policy: Policy, opened: Open) -> None:
    fakes[0].engine, fakes[1].engine = fake_engines.Ipc("GPU-0"), fake_engines.Ipc("GPU-0", "GPU-1")
    with pytest.raises(SamplingError, match=r"GPUs without a rank.*1 of 2"):
        opened(transfer="ipc").update(policy.model)


@given(
    st.lists(st.tuples(st.sampled_from(["float32", "bfloat16"]), st.integers(0, 40)), max_size=12),
    st.integers(1, 64),
)
@settings(max_examples=25, deadline=None)
def test_parts_hold_every_tensor_in_order_and_fit(made: list[tuple[str, int]], least: int) -> None:
    sizes = [n * getattr(torch, kind).itemsize for kind, n in made]
    what = {
        "names": list(map(str, range(len(made)))),
        "dtype_names": [k for k, _ in made],
        "shapes": [[n] for _, n in made],
    }
    room = max([least, *sizes])
    found = list(ipc.parts(what, room))  # type: ignore[arg-type]
    assert [size for part in found for size in part.sizes] == sizes
    assert [part.first for part in found] == [sum(len(p.sizes) for p in found[:i]) for i in range(len(found))]
    assert all(sum(part.sizes) <= room for part in found)
    assert all(
        sum(a.sizes) + b.sizes[0] > room for a, b in itertools.pairwise(found)
    )  # no part could have been fuller


@pytest.mark.parametrize(
    ("engine", "colocated", "cuda", "alone", "way"),
    [
        ("nccl", False, True, False, "nccl"),
        ("nccl", True, True, False, "files"),
        ("nccl", False, False, False, "files"),
        ("ipc", True, True, False, "ipc"),
        ("ipc", False, True, False, "files"),
        ("acereason_stream", False, False, False, "stream"),
        ("acereason_stream", True, True, True, "files"),
        (None, False, True, False, "files"),
        ("sharded_rdt", False, True, False, "files"),
    ],
)
def test_placement_and_servers_choose_the_way(
    engine: str | None, colocated: bool, cuda: bool, alone: bool, way: str
) -> None:
    how = Servers(("http://a", "http://b"), transfer="auto", colocated=colocated)
    facts = Facts("tiny", 256, transfer=engine)
    assert direct.chosen(how, [facts, facts], cuda, alone) == way
    assert direct.chosen(how, [facts, Facts("tiny", 256, transfer="other")], cuda, alone) == "files"


def test_nobody_is_let_in_while_weights_come() -> None:
    """Who was being let in is waited for, since it is given the weights before; the next comes after."""
    said: list[str] = []

    async def admit(server: Vllm) -> None:
        said.append(f"{server.url} begins")
        await asyncio.sleep(0.05)
        said.append(f"{server.url} ends")

    async def told() -> None:
        fleet = Fleet([Vllm(None, url) for url in ("a", "b")], 1, 1.0, admit, admit)
        first, second = fleet.members
        fleet.failed(first, Busy("gone"))
        await asyncio.sleep(0.12)  # looked at again after 0.1
        await fleet.shut()
        said.append("weights")
        fleet.failed(second, Busy("gone"))
        await asyncio.sleep(0.2)
        said.append("there")
        fleet.reopen()
        await asyncio.gather(*fleet.tasks)

    asyncio.run(told())
    assert said == ["a begins", "a ends", "weights", "there", "b begins", "b ends"]


@pytest.mark.parametrize("way", ["files", "stream"])
def test_requests_in_flight_are_kept(fakes: list[FakeVllm], policy: Policy, opened: Open, way: str) -> None:
    """They wait while weights come, and go on with the new ones; aborted they end the iterator."""
    sampler = opened(transfer=way, in_flight="keep")
    sampler.update(policy.model)
    for fake in fakes:
        fake.plan = lambda body, attempt: "held" if body["max_tokens"] == 12 else "good"
    answers, got = sampler.sample(REQUESTS), list[Any]()
    reading = threading.Thread(target=lambda: got.extend(answers))
    reading.start()
    assert all(fake.reached.wait(20) for fake in fakes)
    before = fakes[0].version
    shake(policy, 0.02)
    sampler.update(policy.model)
    for fake in fakes:
        fake.free.set()
    reading.join(60)
    assert len(got) == len(REQUESTS)
    used = {name for fake in fakes for name in fake.used[-2:]}
    assert before not in used and used == {fakes[0].version}
