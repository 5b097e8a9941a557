"""Less memory: 8-bit moments, and what rests in the machine's memory, against learning without them."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import Shard, distribute_tensor

from acereason.config import Placement, Rl, Sft
from acereason.errors import ConfigError
from acereason.policy import activations
from acereason.policy import model as models
from acereason.policy.marks import marks_of
from acereason.policy.packing import Example, pack
from acereason.train import eight_bit, held, optimizers, parallel, sft
from commands import torchrun
from sample_models import make

EXAMPLES = [Example([3, 9, 4], [11 + i, 5, 2 * i + 20, 7], i) for i in range(8)]


@given(st.integers(0, 10_000), st.integers(1, 5), st.integers(1, 700), st.floats(1e-6, 1e6), st.booleans())
def test_a_code_is_near_its_value(seed: int, rows: int, columns: int, size: float, signed: bool) -> None:
    """Within 1/140 of the block's largest, within 15 % of what is above a hundredth of it, signs kept; and
    what is positive stays so, for a step divides by its root."""
    chance = torch.Generator().manual_seed(seed)
    x = torch.randn(rows, columns, generator=chance) * torch.rand(rows, 1, generator=chance).square() * size
    x = x if signed else x.square()
    codes, most = eight_bit.packed(x, signed)
    again = eight_bit.unpacked(codes, most, signed)
    assert codes.shape == x.shape and codes.dtype == torch.uint8 and len(most) == rows
    for row, start in ((r, s) for r in range(rows) for s in range(0, columns, eight_bit.BLOCK)):
        a, b = (t[row, start : start + eight_bit.BLOCK].double() for t in (x, again))
        top = a.abs().max()
        assert ((a - b).abs() <= top / 140 + 1e-30).all()
        big = a.abs() > top / 100
        assert ((a - b).abs()[big] <= 0.15 * a.abs()[big]).all() and (a * b >= 0).all()
    assert signed or ((again > 0) == (x > 0)).all()


def learned(settings: Sft, steps: int = 40, prepared: tuple[str, ...] = ()) -> tuple[Any, list[float], Any]:
    model = make("qwen3")
    model.set_attn_implementation("acereason")
    marks_of(model).offload = prepared
    made = optimizers.for_sft(model, settings)
    optimizers.set_rates(made, [3e-3] * len(made))
    losses = []
    for _ in range(steps):
        losses.append(sft.learn(model, EXAMPLES, 1000))
        optimizers.step(model, made, 1.0)
    return model, losses, made


def test_eight_bits_learn_as_thirty_two() -> None:
    _, plain, one = learned(Sft(learning_rate=3e-3))
    _, ours, two = learned(Sft(learning_rate=3e-3, moments="8bit"))
    assert plain[-1] < 0.3 * plain[0]
    assert abs(ours[-1] - plain[-1]) < 0.1 * plain[0] and abs(ours[5] / plain[5] - 1) < 0.02
    sizes = [
        sum(v.nbytes for s in made[0].state.values() for v in s.values() if v.ndim == 2)
        for made in (one, two)
    ]
    assert sizes[1] < 0.3 * sizes[0]


@pytest.mark.parametrize("settings", [Sft(), Sft(moments="8bit"), Sft(optimizer="muon")])
def test_resting_moments_change_no_bit(settings: Sft) -> None:
    one, losses, _ = learned(settings, 5)
    two, again, made = learned(settings, 5, ("moments",))
    assert losses == again and all(map(torch.equal, one.parameters(), two.parameters()))
    assert all(group["params"] for optimizer in made for group in optimizer.param_groups)


def test_a_step_that_fails_leaves_the_optimizer_whole() -> None:
    model, _, made = learned(Sft(), 1, ("moments",))
    before = [list(group["params"]) for group in made[0].param_groups]
    sft.learn(model, EXAMPLES, 1000)
    next(iter(made[0].state.values()))["step"] = "not a number"
    with pytest.raises(Exception):  # noqa: B017 (whatever torch says)
        made[0].step()
    assert all(
        a is b
        for x, y in zip(before, made[0].param_groups, strict=True)
        for a, b in zip(x, y["params"], strict=True)
    )


def test_resting_activations_change_no_gradient_and_parameters_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACEREASON_NATIVE", "0")
    model, other = make("qwen3"), make("qwen3")
    for each in (model, other):
        each.set_attn_implementation("acereason")
    kept = activations.Kept(torch.device("cpu"), least=1)
    own = {p.data_ptr() for p in other.parameters()}
    moved: list[Tensor] = []

    def rest(tensor: Tensor) -> Any:
        found = kept.rest(tensor)
        moved.extend([tensor] if isinstance(found, tuple) else [])
        return found

    models.logprobs(model, pack(EXAMPLES))[0].sum().backward()
    with saved_tensors_hooks(rest, kept.fetch):
        loss = models.logprobs(other, pack(EXAMPLES))[0].sum()
    loss.backward()
    for one, two in zip(model.parameters(), other.parameters(), strict=True):
        assert torch.equal(one.grad, two.grad)
    assert kept.bytes > 0 and not own & {t.data_ptr() for t in moved}


def test_parameters_rest_only_where_they_are_sharded() -> None:
    from acereason.config import Placement
    from acereason.train import parallel

    with pytest.raises(ConfigError, match=r"placement\.offload of"):
        parallel.prepare(make("qwen3"), Placement(device="cpu", offload=("parameters",)))


@pytest.mark.slow
def test_on_two_ranks_parameters_rest_and_eight_bits_are_read_on_any_number(tmp_path: Path) -> None:
    process = torchrun("memory_ranks.py", str(tmp_path))
    output, _ = process.communicate(timeout=240)
    assert process.returncode == 0, output[-3000:]
    for numbers in json.loads((tmp_path / "numbers.json").read_text()):
        assert numbers["resting"] == 0.0 and numbers["one rank"] < 1e-6
        assert numbers["eight bits"] < 1e-4 and numbers["again"] is True
    import memory_ranks

    assert memory_ranks.read_alone(tmp_path)


@pytest.mark.gpu
@pytest.mark.parametrize("moments", ["float32", "8bit"])
def test_on_a_gpu_moments_rest_beside_it(moments: Any) -> None:
    """The same bits, and nothing of the state on the device between steps."""
    found = []
    for offload in ((), ("moments",)):
        torch.manual_seed(0)
        model = torch.nn.Sequential(*(torch.nn.Linear(1024, 1024) for _ in range(8))).cuda()
        marks_of(model).offload = offload
        made = optimizers.for_rl(model, Rl(moments=moments))
        optimizers.set_rates(made, [1e-3])
        for step in range(4):
            x = torch.full((4, 1024), 0.01 * step, device="cuda")
            model(x).square().mean().backward()
            optimizers.step(model, made, 1.0)
        devices = {v.device.type for s in made[0].state.values() for k, v in s.items() if k != "step"}
        assert devices == ({"cpu"} if offload else {"cuda"})
        found.append([p.detach().cpu() for p in model.parameters()])
    assert all(map(torch.equal, *found))


@pytest.mark.gpu
def test_on_a_gpu_activations_rest_beside_it() -> None:
    torch.manual_seed(0)
    plain = torch.nn.Sequential(*(torch.nn.Linear(2048, 2048) for _ in range(16))).cuda()
    resting = copy.deepcopy(plain)
    marks_of(resting).offload = ("activations",)
    x, kept = torch.randn(8192, 2048, device="cuda"), []
    for model in (plain, resting):
        torch.cuda.synchronize()
        before = torch.cuda.memory_allocated()
        with activations.resting(model):
            y = model(x)
        torch.cuda.synchronize()
        kept.append(torch.cuda.memory_allocated() - before)
        y.square().mean().backward()
        del y
    assert kept[1] < 0.3 * kept[0]
    for one, two in zip(plain.parameters(), resting.parameters(), strict=True):
        torch.testing.assert_close(one.grad, two.grad)


@pytest.fixture
def alone() -> Iterator[Any]:
    """A mesh of one rank."""
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)  # type: ignore[attr-defined]
    yield init_device_mesh("cpu", (1,))
    dist.destroy_process_group()


def test_a_part_stays_where_it_rests(alone: Any) -> None:
    """A sharded tensor's part may lie elsewhere than where its ranks compute."""
    like = distribute_tensor(torch.randn(6, 4), alone, [Shard(0)])
    part = torch.empty(6, 4, dtype=torch.uint8, device="meta")
    made: Any = held.laid_as(like, part)
    assert held.local(made).device.type == "meta" and made.dtype == torch.uint8
    assert made.shape == like.shape and made.placements == like.placements
    scale: Any = eight_bit.like(like, (6, 1))
    assert torch.equal(scale.full_tensor(), torch.zeros(6, 1)) and scale.placements == like.placements


@pytest.mark.gpu
@pytest.mark.parametrize("moments", ["float32", "8bit"])
def test_on_a_gpu_moments_of_a_sharded_model_rest_too(moments: Any) -> None:
    """Under FSDP2, whose tensors know the mesh that they compute on. Not run on a GPU since it was mended."""
    found = []
    for offload in ((), ("moments",)):
        model = make("qwen3", hidden_size=128, intermediate_size=192).cuda()
        placement = Placement(compute="bfloat16", offload=offload, kernels="torch")
        parallel.prepare(model, placement)
        parallel.shard(model, placement)
        made = optimizers.for_rl(model, Rl(moments=moments))
        optimizers.set_rates(made, [1e-3])
        for _ in range(3):
            sft.learn(model, EXAMPLES, 64)
            optimizers.step(model, made, 1.0)
        states = [v for s in made[0].state.values() for k, v in s.items() if k != "step"]
        assert {held.local(v).device.type for v in states} == ({"cpu"} if offload else {"cuda"})
        found.append([held.local(p).detach().cpu() for p in model.parameters()])
    assert all(map(torch.equal, *found))
