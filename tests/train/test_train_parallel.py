"""Ranks: two gloo ranks do what one process does; what is divided among them; checkpoints of either kind."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file

from acereason import config, runs
from acereason.errors import CheckpointError, ConfigError
from acereason.policy import halves, shards
from acereason.policy import model as models
from acereason.policy.marks import marks_of
from acereason.policy.packing import Example, pack
from acereason.train import checkpoint, level, optimizers, parallel, sft
from acereason.train.checkpoint import Position
from commands import torchrun
from tiny_run import RECIPE

lengths = st.lists(st.integers(2, 300), min_size=1, max_size=60)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where two ranks have written what they measured."""
    where = tmp_path_factory.mktemp("ranks")
    process = torchrun("two_ranks.py", str(where))
    output, _ = process.communicate(timeout=240)
    assert process.returncode == 0, output[-3000:]
    return where


@pytest.fixture(scope="module")
def numbers(folder: Path) -> dict[str, Any]:
    both = json.loads((folder / "numbers.json").read_text())
    parts = ("rl", "streamed", "meanwhile", "sft", "replicated", "muon", "metrics", "checkpoint", "memory")
    for part in parts:
        assert both[0][part] == both[1][part], part
    first: dict[str, Any] = both[0]
    return first


@pytest.mark.parametrize("case", ["tied", "untied", "activations"])
def test_two_ranks_have_the_gradient_of_one(numbers: dict[str, Any], case: str) -> None:
    assert numbers["rl"][case] <= 1e-6
    assert numbers["rl"][f"{case} loss"] <= 1e-6 and numbers["rl"][f"{case} norm"] <= 1e-6


@pytest.mark.parametrize("case", ["bfloat16", "bfloat16 sums"])
def test_lower_precision_is_near(numbers: dict[str, Any], case: str) -> None:
    assert 1e-5 < numbers["rl"][case] < 2e-2


def test_groups_learned_as_they_come_on_two_ranks(numbers: dict[str, Any]) -> None:
    assert numbers["streamed"] <= 1e-6
    assert max(numbers["meanwhile"].values()) <= 1e-6


def test_fine_tuning_on_two_ranks(numbers: dict[str, Any]) -> None:
    assert max(numbers["sft"].values()) <= 1e-6
    assert numbers["muon"] < 2e-2  # Muon itself computes in bfloat16


def test_weights_go_from_every_ranks_gpu_into_a_server(numbers: dict[str, Any]) -> None:
    pytest.importorskip("httpx2")
    assert numbers["memory"]["difference"] < 1e-4 and not numbers["memory"]["files"]
    assert "GPUs without a rank of the trainer (1 of 3)" in numbers["memory"]["refused"]


def test_whole_models_share_what_one_rank_asked_and_frozen_layers_stay(numbers: dict[str, Any]) -> None:
    found = numbers["replicated"]
    assert found["whole"] <= 1e-6 and found["shards"] <= 1e-6
    one, other = found["whole learned"]
    assert min(one, other) > 0.7 * max(one, other)
    assert found["shards learned"][1] == 0


@given(st.lists(st.lists(st.integers(1, 400), max_size=12), min_size=1, max_size=4))
def test_groups_change_ranks_where_that_evens_them(costs: list[list[int]]) -> None:
    found = level.moves(costs)
    assert len({(m.source, m.group) for m in found}) == len(found)
    after = [sum(own) for own in costs]
    for move in found:
        assert move.source != move.target
        after[move.source] -= costs[move.source][move.group]
        after[move.target] += costs[move.source][move.group]
    if found:
        assert max(after) <= 0.95 * max(map(sum, costs))
        assert max(after) - min(after) <= max(c for own in costs for c in own)


def test_metrics_are_those_of_all_ranks(numbers: dict[str, Any]) -> None:
    assert numbers["metrics"] is True


@pytest.mark.parametrize("tied", [True, False])
def test_a_checkpoint_goes_straight_onto_the_ranks_and_back(
    folder: Path, numbers: dict[str, Any], tied: bool
) -> None:
    found = numbers["loading"]
    assert found[f"equal {tied}"] and found[f"rotation {tied}"] and found[f"tied {tied}"] is tied
    assert found[f"held {tied}"] == pytest.approx(0.5, abs=0.01)
    assert len(list((folder / f"written-{tied}").glob("model-*.safetensors"))) > 1
    source, written = (models.load_model(folder / f"{name}-{tied}") for name in ("source", "written"))
    assert all(map(torch.equal, source.parameters(), written.parameters()))
    assert written.config.architectures == ["Qwen3ForCausalLM"]
    assert written.config.rope_parameters["rope_theta"] == 1e6
    assert written.generation_config.eos_token_id == 1
    assert "lm_head.weight" in found["refused"]


def test_a_checkpoint_of_two_ranks_is_read_by_two_and_by_one(folder: Path, numbers: dict[str, Any]) -> None:
    found = numbers["checkpoint"]
    assert found["weights"] and found["optimizer"] and found["step"] == 1.0
    assert found["position"] == [3, True]
    made = models.new_model("qwen3", 3, tie_word_embeddings=True, **_shape())
    optimizer = optimizers.for_rl(made, config.Rl())
    with runs.resume(folder / "run") as run:
        latest = checkpoint.latest(run)
    assert latest is not None
    checkpoint.load_weights(latest[0], made)
    checkpoint.load_optimizers(latest[0], optimizer)
    total = sum(p.detach().double().abs().sum() for p in made.parameters())
    assert float(total) == pytest.approx(found["sum"], rel=1e-12)
    assert len(optimizer[0].state) == len(list(made.parameters()))


def test_a_full_disk_is_said_and_keeps_the_checkpoint_before(numbers: dict[str, Any]) -> None:
    assert len(numbers["full disk"]) == 1 and "is full" in numbers["full disk"][0]


def test_a_damaged_shard_is_noticed(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "run"
    subprocess.run(["cp", "-r", folder / "run", path], check=True)
    shard = next(path.glob("checkpoints/step-*/*.safetensors"))
    shard.write_bytes(shard.read_bytes()[:-8] + b"12345678")
    with runs.resume(path) as run, pytest.raises(CheckpointError, match="is whole"):
        checkpoint.latest(run)


def test_a_checkpoint_of_one_process_is_read_back_to_the_last_bit(tmp_path: Path) -> None:
    made = models.new_model("qwen3", 3, tie_word_embeddings=True, **_shape())
    optimizer = optimizers.for_sft(made, config.Sft(optimizer="muon"))
    sft.learn(made, [Example([1, 2], [3, 4, 5])], 100)
    optimizers.step(made, optimizer, 1.0)
    runs.create(tmp_path / "run", config.parse(RECIPE)).close()
    with runs.resume(tmp_path / "run") as run, checkpoint.Writer(run) as writer:
        writer.save(made, optimizer, Position())
        latest = checkpoint.latest(run)
    assert latest is not None
    assert set(load_file(latest[0] / "weights.safetensors")) == {n for n, _ in made.named_parameters()}
    other = models.new_model("qwen3", 4, tie_word_embeddings=True, **_shape())
    again = optimizers.for_sft(other, config.Sft(optimizer="muon"))
    checkpoint.load_weights(latest[0], other)
    checkpoint.load_optimizers(latest[0], again)
    for mine, theirs, a, b in zip(made.parameters(), other.parameters(), optimizer, again, strict=False):
        assert torch.equal(mine, theirs) and len(a.state) == len(b.state)
    for old, new in zip(optimizer, again, strict=True):
        for p, q in zip(old.param_groups[0]["params"], new.param_groups[0]["params"], strict=True):
            assert old.state[p].keys() == new.state[q].keys()
            assert all(torch.equal(old.state[p][k], new.state[q][k]) for k in old.state[p])


def test_weights_of_another_model_are_refused(tmp_path: Path) -> None:
    made = models.new_model("qwen3", 3, tie_word_embeddings=True, **_shape())
    runs.create(tmp_path / "run", config.parse(RECIPE)).close()
    with runs.resume(tmp_path / "run") as run, checkpoint.Writer(run) as writer:
        writer.save(made, [], Position())
        latest = checkpoint.latest(run)
    assert latest is not None
    other = models.new_model("qwen3", 3, tie_word_embeddings=True, **{**_shape(), "vocab_size": 62})
    with pytest.raises(CheckpointError, match="another model"):
        checkpoint.load_weights(latest[0], other)


def test_a_folder_without_weights_is_refused(tmp_path: Path) -> None:
    models.new_model("qwen3", 3, **_shape()).config.save_pretrained(tmp_path)
    made, where = models.empty_model(tmp_path, torch.float32, None, None)
    with pytest.raises(CheckpointError, match=r"neither model\.safetensors nor"):
        shards.fill(made, where, torch.device("cpu"))
    (tmp_path / "model.safetensors").write_bytes(b"12345678 no tensors")
    with pytest.raises(CheckpointError, match="cannot read the weights"):
        shards.fill(made, where, torch.device("cpu"))


@given(lengths, st.integers(1, 9))
def test_parts_hold_everything_once_and_are_balanced(sizes: list[int], parts: int) -> None:
    costs = [parallel.cost(size, 64) for size in sizes]
    groups = parallel.balanced(costs, parts)
    assert sorted(i for group in groups for i in group) == list(range(len(sizes)))
    totals = [sum(costs[i] for i in group) for group in groups]
    assert max(totals) - min(totals) <= max(costs)


@given(lengths, st.integers(1, 400))
def test_micro_batches_fit_the_budget(sizes: list[int], budget: int) -> None:
    groups = parallel.fitting(sizes, [parallel.cost(size, 64) for size in sizes], budget)
    assert sorted(i for group in groups for i in group) == list(range(len(sizes)))
    assert all(len(g) == 1 or sum(sizes[i] for i in g) <= budget for g in groups if g)


def test_a_device_that_is_not_there_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert parallel.device(config.Placement()).type == "cpu"
    with pytest.raises(ConfigError, match="no CUDA device"):
        parallel.device(config.Placement(device="cuda"))


def _shape() -> dict[str, Any]:
    return {
        "vocab_size": 61,
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "intermediate_size": 48,
        "max_position_embeddings": 256,
        "eos_token_id": 1,
    }


def test_liger_puts_in_what_it_knows_of_an_architecture(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its functions differ in what they take; only its heads, which know no temperature, are turned off."""
    met: list[dict[str, Any]] = []

    def gemma(rope=True, cross_entropy=False, fused_linear_cross_entropy=True, geglu=True, model=None):  # type: ignore[no-untyped-def]
        met.append({"heads": cross_entropy or fused_linear_cross_entropy, "gate": geglu})

    def granite(cross_entropy=True, swiglu=True, model=None):  # type: ignore[no-untyped-def]
        met.append({"heads": cross_entropy, "gate": swiglu})

    known = SimpleNamespace(MODEL_TYPE_TO_APPLY_LIGER_FN={"gemma3_text": gemma, "granite": granite})
    package = SimpleNamespace(monkey_patch=known)
    monkeypatch.setitem(sys.modules, "liger_kernel", SimpleNamespace(transformers=package))
    monkeypatch.setitem(sys.modules, "liger_kernel.transformers", package)
    for name in ("gemma3_text", "granite", "unknown"):
        parallel.fuse(SimpleNamespace(config=SimpleNamespace(model_type=name)))
    assert met == [{"heads": False, "gate": True}] * 2


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_bfloat16_products_are_of_float32_weights(
    dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Weights that are themselves halves compute in halves; nothing is put over them."""
    model: Any = models.new_model("qwen3", 1, dtype, vocab_size=61, hidden_size=64, num_hidden_layers=1)
    monkeypatch.setattr(halves, "available", lambda device: True)
    parallel.prepare(model, config.Placement(compute="bfloat16"))
    assert marks_of(model).halved == (dtype == torch.float32)
    logprob, _ = models.logprobs(model, pack([Example([3, 9, 4], [11, 5, 7], 0)]))
    logprob.sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
