"""The plan's arithmetic against what is known: transformers' models, measured activations, public counts."""

from __future__ import annotations

import json
import math
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoConfig, AutoModelForCausalLM

from acereason import config
from acereason.errors import ConfigError
from acereason.plan import memory, plan, shapes, times
from acereason.plan.memory import GIB, Machine, Means
from acereason.plan.shapes import SHAPES
from acereason.plan.times import Rates
from acereason.policy.model import logprobs, new_model
from acereason.policy.packing import Example, pack
from acereason.shape import Shape

RECIPES = Path(config.__file__).parents[1] / "recipes"
DOCS = Path(__file__).parents[2] / "docs" / "cluster.md"
FULL = config.load(RECIPES / "acereason-1.1-7b.toml")
SMALL = SHAPES["qwen2.5-math-1.5b"]
CHECKPOINTING = Means(checkpointing=True)


def transformers_config(shape: Shape, kind: str = "qwen2") -> Any:
    return AutoConfig.for_model(
        kind,
        vocab_size=shape.vocab,
        hidden_size=shape.hidden,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads,
        head_dim=shape.head_dim,
        intermediate_size=shape.intermediate,
        tie_word_embeddings=shape.tied,
    )


@pytest.mark.parametrize(
    ("name", "published"),
    [
        ("qwen2.5-math-1.5b", 1_543_714_304),
        ("qwen2.5-math-7b", 7_615_616_512),
        ("qwen2.5-14b", 14_770_033_664),
        ("qwen2.5-32b", 32_763_876_352),
        ("deepseek-r1-distill-qwen-1.5b", 1_777_088_000),
        ("qwen2.5-0.5b", 494_032_768),
        ("smollm2-135m-instruct", 134_515_008),
        ("gemma-3-270m", 268_098_176),
    ],
)
def test_parameters_are_those_of_the_released_models(name: str, published: int) -> None:
    kind = {"smol": "llama", "gemm": "gemma3_text"}.get(name[:4], "qwen2")
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(transformers_config(SHAPES[name], kind))
    assert SHAPES[name].parameters == model.num_parameters() == published


@pytest.mark.parametrize("kind", ["qwen2", "qwen3", "llama"])
@pytest.mark.parametrize("tied", [True, False])
def test_a_new_models_shape_counts_its_parameters(kind: Any, tied: bool) -> None:
    new = config.NewModel(kind, 97, 48, 3, 6, 2, 16, 80, tied)
    shape = shapes.of(config.Model(new=new))
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(transformers_config(shape, kind))
    assert shape.parameters == model.num_parameters()


def test_a_folder_and_a_hub_id_name_a_shape(tmp_path: Path) -> None:
    transformers_config(SMALL).save_pretrained(tmp_path)
    assert shapes.named(str(tmp_path)) == SMALL == shapes.named("Qwen/Qwen2.5-Math-1.5B")
    (tmp_path / "config.json").write_text('{"model_type": "gpt2"}')
    with pytest.raises(ConfigError, match="does not describe"):
        shapes.named(str(tmp_path))
    with pytest.raises(ConfigError, match=r"known: qwen2.5-math-1.5b"):
        shapes.named("Qwen/Qwen9")


def test_cache_bytes_per_token() -> None:
    counts = {name: shape.kv_bytes for name, shape in SHAPES.items() if name.startswith("qwen2.5")}
    assert list(counts.values()) == [28_672, 57_344, 196_608, 262_144, 12_288]


@pytest.mark.parametrize(("length", "tokens_per_second"), [(8192, 43.6e3), (16384, 36.7e3)])
def test_half_the_datasheets_peak_is_the_known_speed(length: int, tokens_per_second: float) -> None:
    seconds = times.learning(SMALL, Machine(1, 141e9), Rates(), 1e6, length, 0.5, Means())
    assert 1e6 / seconds == pytest.approx(tokens_per_second, rel=0.01)


def test_decoding_at_sixty_percent_of_bandwidth_is_the_known_speed() -> None:
    """22.5 thousand tokens a second for responses of 8K tokens: caches are half full on average."""
    machine = Machine(1, 141e9, separate=1)
    seconds = times.decoding(SMALL, machine, Rates(), 512, 4096)
    assert 512 / seconds == pytest.approx(22.5e3, rel=0.1)


def saved_bytes(model: Any, tokens: int) -> int:
    """Bytes that the backward pass of one pack keeps, parameters left out."""
    parameters = {p.untyped_storage().data_ptr() for p in model.parameters()}
    kept: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in parameters:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    packed = pack([Example(list(range(8)), [i % 50 for i in range(tokens - 8)])])
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss, _ = logprobs(model, packed)
    del loss
    return sum(kept.values())


def test_activations_are_what_the_model_keeps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two and four layers in bfloat16: what each layer adds, per token, within a tenth. A GPU's attention
    keeps no copies in float32, as a processor's does."""
    monkeypatch.setattr("acereason.policy.attention.HALF", ())
    shape = Shape(64, 128, 2, 4, 4, 32, 384, tied=True)
    sizes = {}
    for layers in (2, 4):
        fields = transformers_config(replace(shape, layers=layers)).to_dict()
        names = (
            "vocab_size",
            "hidden_size",
            "num_hidden_layers",
            "num_attention_heads",
            "num_key_value_heads",
        )
        chosen = {k: fields[k] for k in (*names, "head_dim", "intermediate_size", "tie_word_embeddings")}
        sizes[layers] = saved_bytes(new_model("qwen2", 0, torch.bfloat16, **chosen), 512)
    measured = (sizes[4] - sizes[2]) / 2 / 512
    assert memory.activation(shape) == pytest.approx(measured, rel=0.1)


machines = st.builds(
    Machine,
    gpus=st.sampled_from([1, 2, 4, 8, 16, 64]),
    memory=st.floats(24e9, 200e9),
    separate=st.sampled_from([0, 4]),
)


@given(st.sampled_from(sorted(SHAPES)), machines, st.booleans())
@settings(max_examples=200)
def test_what_fits_fits_and_more_does_not(name: str, machine: Machine, checkpointing: bool) -> None:
    shape = SHAPES[name]
    means = Means(checkpointing)
    tokens = memory.fitting(shape, machine, means)

    def need(count: int) -> float:
        return sum(memory.learning(shape, machine, count, means).values())

    if tokens:
        assert need(tokens) <= machine.memory
    assert need(tokens + memory.STEP) > machine.memory
    if machine.gpus > 1:
        more = replace(machine, gpus=2 * machine.gpus)
        assert memory.fitting(shape, more, means) >= tokens
    assert memory.fitting(shape, machine, CHECKPOINTING) >= memory.fitting(shape, machine, Means()) // 2


def test_checkpointing_pays_beyond_one_layer() -> None:
    for shape in SHAPES.values():
        assert memory.per_token(shape, CHECKPOINTING) < memory.per_token(shape, Means()) / 4


def refusal(**machine: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        plan.plan(FULL, shapes.of(FULL.model), Machine(**machine), Rates())
    return str(caught.value)


def test_a_refusal_names_a_change_that_helps() -> None:
    shape = shapes.of(FULL.model)
    text = refusal(gpus=2, memory=80e9)
    assert "36,864 tokens take" in text
    (gpus,) = re.findall(r"--gpus (\d+)", text)
    assert plan.plan(FULL, shape, Machine(int(gpus), 80e9), Rates()).fitting >= 36864
    with pytest.raises(ConfigError):
        plan.plan(FULL, shape, Machine(int(gpus) // 2, 80e9), Rates())


def test_a_refusal_of_sampling_names_tensor_parallel_and_separate() -> None:
    shape = SHAPES["qwen2.5-32b"]
    machine = Machine(64, 80e9)
    (text,) = plan.refusals(shape, machine, CHECKPOINTING, 33792, 33792)
    assert "--tensor-parallel 2" in text and "cache of" in text
    assert not plan.refusals(shape, replace(machine, tensor_parallel=2), CHECKPOINTING, 33792, 33792)


def test_without_checkpointing_the_refusal_says_so() -> None:
    placement = config.Placement(compute="bfloat16")
    recipe = replace_recipe(placement=placement)
    with pytest.raises(ConfigError, match=r"placement\.checkpoint_activations = true"):
        plan.plan(recipe, shapes.of(recipe.model), Machine(8, 141e9), Rates())


def replace_recipe(**changes: Any) -> config.Recipe:
    import msgspec

    changed: config.Recipe = msgspec.structs.replace(FULL, **changes)
    return changed


def test_times_follow_the_rates() -> None:
    shape = shapes.of(FULL.model)
    base = plan.plan(FULL, shape, Machine(8, 141e9), Rates())
    half = plan.plan(FULL, shape, Machine(8, 141e9), Rates(mfu_rl=0.2, mfu_sft=0.25))
    assert base.sft is not None and half.sft == pytest.approx(2 * base.sft)
    for a, b in zip(base.stages, half.stages, strict=True):
        assert b.step.learn == pytest.approx(2 * a.step.learn)
        assert math.isclose(a.total, a.measuring + a.stage.steps * a.step.total)
    budgets = [s.step.sample / s.stage.group_in(0) for s in base.stages if s.stage.domain == "math"]
    assert budgets == sorted(budgets)
    code = {s.stage.name: s.step for s in base.stages}["code-24k"]
    assert code.judge == pytest.approx(552.0)  # the published time with its 64 workers


def acereason(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "acereason.cli", "plan", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


def test_the_verb_plans_refuses_and_prints_json() -> None:
    shown = acereason("acereason-1.1-7b", "--gpus", "8", "--json", "--rate", "fill=0.25")
    assert shown.returncode == 0, shown.stderr
    data = json.loads(shown.stdout)
    assert data["parameters"] == 7_615_616_512 and data["rates"]["fill"] == 0.25
    assert [s["name"] for s in data["stages"]] == [s.name for s in FULL.stage]
    shown = acereason("acereason-1.1-7b", "--gpus", "1", "--memory", "24")
    assert shown.returncode == 2 and "this cannot fit" in shown.stderr
    shown = acereason("acereason-1.1-7b", "--rate", "speed=3")
    assert shown.returncode == 2 and "mfu_rl" in shown.stderr


def test_every_shipped_recipe_plans() -> None:
    for name in ("acereason-1.1-7b", "acereason-1.0-1.5b", "demo"):
        shown = acereason(name, "--gpus", "8")
        assert shown.returncode == 0 and "assumed" in shown.stdout, shown.stderr


def test_the_documents_table_is_the_tools() -> None:
    text = DOCS.read_text()
    assert plan.table() in text, "docs/cluster.md is out of date: acereason plan --table"
    assert f"{plan.H200 / GIB:.0f}" == "131"
