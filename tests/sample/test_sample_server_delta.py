"""Files of what changed: patched copies are the weights to the bit, in few bytes; what is damaged, lost or of
other weights is found and sent whole."""

from __future__ import annotations

import fcntl
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from torch import Tensor

from acereason.config import Servers
from acereason.errors import SamplingError
from acereason.policy.policy import Policy
from acereason.sample.servers import delta
from acereason.sample.servers.http import Busy
from acereason.sample.servers.publish import Deltas
from acereason.sample.servers.server import ServerSampler
from acereason.sample.servers.vllm_worker import Published
from fake_vllm import FakeVllm, shake, tiny_policy

pytest.importorskip("httpx2")


@pytest.fixture(autouse=True)
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ACEREASON_COPIES", str(tmp_path / "copies"))
    return tmp_path / "copies"


@given(
    st.sampled_from(["float32", "bfloat16", "float16", "float64"]),
    st.lists(st.integers(0, 6), max_size=3),
    st.sampled_from([0.0, 0.02, 0.3, 1.0]),
    st.booleans(),
    st.integers(0, 1 << 16),
)
@settings(max_examples=80, deadline=None)
def test_a_change_makes_the_one_of_the_other(
    kind: str, shape: list[int], share: float, by_row: bool, seed: int
) -> None:
    chance = torch.Generator().manual_seed(seed)
    before = torch.randn(shape, generator=chance).to(getattr(torch, kind))
    moved = torch.rand(shape[:1] if by_row else shape, generator=chance) < share
    if by_row and len(shape) > 1:
        moved = moved.reshape(-1, *[1] * (len(shape) - 1)).expand(shape)
    other = torch.where(moved, torch.full_like(before, -0.0), before)
    made = delta.change(before, other)
    if made is None:
        assert torch.equal(_bits(before), _bits(other))
        return
    assert sum(part.nbytes for part in made.values()) <= other.nbytes
    assert torch.equal(_bits(_patched(before, made)), _bits(other))


def _bits(tensor: Tensor) -> Tensor:
    return tensor.contiguous().flatten().view(torch.uint8)


def _patched(before: Tensor, made: dict[str, Tensor]) -> Tensor:
    """By a loop over places."""
    if "" in made:
        return made[""]
    after, form = before.clone(), next(key for key in made if key != delta.VALUES)
    target = after.view(-1) if form == delta.AT else after
    for place, value in zip(made[form].tolist(), made[delta.VALUES], strict=True):
        target[place] = value
    return after


def weights(seed: int) -> dict[str, Tensor]:
    chance = torch.Generator().manual_seed(seed)
    shapes = {"embed": (50, 8), "layer.q": (8, 8), "norm": (8,)}
    return {name: torch.randn(shape, generator=chance).bfloat16() for name, shape in shapes.items()}


def held(folder: str) -> dict[str, Tensor]:
    return {k: v for file in sorted(Path(folder).glob("*.safetensors")) for k, v in load_file(file).items()}


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(_bits(a[k]), _bits(b[k])) for k in a)


def test_a_copy_follows_in_few_bytes(tmp_path: Path, places: Path) -> None:
    out, worker, now = Deltas(tmp_path / "out"), Published(), weights(0)
    sizes = []
    for step in range(4):
        now["embed"][step] += 1  # a row
        now["layer.q"][step, 3] = 7.0 + step  # an element
        folder, name = out.write(now.items())
        told = worker.patch_published(str(folder), "run-a")
        assert told["changed"] == (3 if step == 0 else 2) and same(held(told["folder"]), now)
        assert json.loads((folder / delta.ABOUT).read_text())["name"] == name == out.version
        sizes.append(sum(t.nbytes for t in held(str(folder)).values()))
        out.served(folder)
    assert sizes[0] == sum(t.nbytes for t in now.values()) and max(sizes[1:]) <= 26
    worker.drop_published()
    assert not list(places.iterdir())
    out.close()


def test_what_cannot_be_patched_says_so_and_is_replaced(tmp_path: Path, places: Path) -> None:
    out, worker, now = Deltas(tmp_path / "out"), Published(), weights(1)

    def told(folder: Path) -> dict[str, Any]:
        return worker.patch_published(str(folder), "run-a")

    first = out.write(now.items())[0]
    where = Path(told(first)["folder"])
    now["norm"][0] = 2.0
    second = out.write(now.items())[0]
    now["norm"][1] = 3.0
    third = out.write(now.items())[0]
    assert told(third) == {"missing": f"{out.name}-1"}  # it has not seen the second
    assert "folder" in told(second)
    patch = third / delta.FILE
    good = patch.read_bytes()
    patch.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))  # a bit on the way
    assert "norm" in told(third)["missing"] and not (where / delta.NAME).exists()
    assert told(third) == {"missing": "nothing"}  # what it has is nobody's now
    patch.write_bytes(good)
    assert same(held(told(out.whole())["folder"]), now)
    patch.write_bytes(b"{}")
    (where / delta.NAME).write_text(f"{out.name}-2")
    assert "error" in told(third) and not (where / delta.NAME).exists()
    worker.drop_published()
    out.close()


def test_copies_of_dead_servers_are_swept_and_those_of_living_ones_not(tmp_path: Path, places: Path) -> None:
    out, living, dead = Deltas(tmp_path / "out"), Published(), Published()
    folder = str(out.write(weights(2).items())[0])
    for worker, name in ((living, "run-a"), (dead, "run-b")):
        assert "folder" in worker.patch_published(folder, name)
    assert len(list(places.iterdir())) == 2
    dead._copy._used.close()  # what the kernel does when a process is killed
    third = Published()
    third.patch_published(folder, "run-c")
    assert {p.name for p in places.iterdir()} == {f"{delta.PREFIX}run-a", f"{delta.PREFIX}run-c"}
    for worker in (living, third):
        worker.drop_published()
    out.close()


def test_a_copy_that_is_swept_while_it_is_made_is_made_anew(
    places: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another server's sweep comes between opening and locking, once for the owner and once for a sweeper."""
    where, flock, made = delta.place("run-a"), fcntl.flock, list[delta.Copy]()

    def late(file: Any, how: int) -> None:
        if how == fcntl.LOCK_SH and not made:
            made.append(None)  # type: ignore[arg-type]
            delta.sweep(delta.place("run-b"))
            assert not where.exists()
        if how & fcntl.LOCK_EX and len(made) == 2:
            made.append(None)  # type: ignore[arg-type]
            made[1].drop()
            made.append(delta.Copy(where))
        flock(file, how)

    monkeypatch.setattr(fcntl, "flock", late)
    made.append(delta.Copy(where))
    delta.sweep(delta.place("run-b"))
    assert len(made) == 4 and (where / "used").exists()
    made[3].drop()


@pytest.fixture
def opened(fakes: list[FakeVllm], tmp_path: Path) -> Iterator[tuple[Policy, ServerSampler]]:
    policy = tiny_policy(seed=3)
    how = Servers(tuple(f.url for f in fakes), folder=str(tmp_path / "out"), canary=1e-4, transfer="delta")
    sampler = ServerSampler(policy, how, patience=20.0)
    yield policy, sampler
    sampler.close()


def nudge(policy: Policy) -> None:
    """A step that moves one matrix."""
    with torch.no_grad():
        policy.model.model.layers[0].mlp.up_proj.weight.add_(0.05)


def test_servers_follow_and_one_started_again_gets_all(
    fakes: list[FakeVllm], opened: tuple[Policy, ServerSampler], places: Path
) -> None:
    policy, sampler = opened
    sampler.update(policy.model)
    everything = sampler.published
    nudge(policy)
    sampler.update(policy.model)
    assert everything and sampler.published and sampler.published < everything / 3
    fakes[1].worker.drop_published()  # started again: no copy, other weights
    fakes[1].version = "default"
    fakes[1].model.load_state_dict(tiny_policy().model.state_dict())
    nudge(policy)
    sampler.update(policy.model)
    assert set(sampler.differences) == {fake.url for fake in fakes}
    assert all(d.mean < 1e-4 for d in sampler.differences.values()) and len(list(places.iterdir())) == 2
    sampler.close()
    assert not list(places.iterdir())


def test_the_canary_watches_deltas_too(fakes: list[FakeVllm], opened: tuple[Policy, ServerSampler]) -> None:
    policy, sampler = opened
    sampler.update(policy.model)
    fakes[1].loads = "nothing"
    shake(policy, 0.02)
    with pytest.raises(SamplingError, match=rf"canary.*{fakes[1].url}"):
        sampler.update(policy.model)


def test_a_rank_without_the_weights_leaves_a_server_to_the_first_rank(
    fakes: list[FakeVllm], opened: tuple[Policy, ServerSampler]
) -> None:
    """What is in the folder is what changed, which only the first rank can make whole."""
    policy, first = opened
    other = ServerSampler(policy, first.settings, patience=20.0)
    for _ in range(2):
        nudge(policy)
        first.update(policy.model)
    other._weights, other._canaries.reference = first._weights, first._canaries.reference
    fakes[1].version = "default"  # started again
    fakes[1].worker.drop_published()
    before, server = fakes[1].routes.count("/pause"), other._fleet.members[1].server
    with pytest.raises(Busy, match="the first rank"):
        other._run(other._admit(server))
    assert fakes[1].routes.count("/pause") == before
    first._run(first._admit(first._fleet.members[1].server))
    other._run(other._admit(server))
    assert first._weights and fakes[1].version == first._weights[1]
    other.close()
