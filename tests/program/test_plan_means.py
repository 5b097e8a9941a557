"""Plans of adapters, 8-bit moments, offloading and shared sequences; and the cheapest means that fit."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from acereason import config
from acereason.config import Lora, Recipe
from acereason.errors import ConfigError
from acereason.plan import means, memory, plan, shapes, times
from acereason.plan.memory import Machine, Means
from acereason.plan.shapes import SHAPES
from acereason.plan.times import Rates
from acereason.policy import lora
from acereason.policy.model import new_model

RECIPES = Path(config.__file__).parents[1] / "recipes"
OFFLOAD = st.lists(st.sampled_from(["moments", "activations", "parameters"]), unique=True).map(tuple)


def cut(name: str, budget: int) -> Recipe:
    """A shipped recipe, RL alone, with one stage of this budget and micro-batches to match."""
    whole = config.load(RECIPES / f"{name}.toml")
    stage = msgspec.structs.replace(whole.stage[0], budget=budget)
    evaluation = msgspec.structs.replace(whole.evaluation, budget=budget)
    rl = msgspec.structs.replace(whole.rl, micro_tokens=budget + times.LONGEST_PROMPT)
    files = whole.curate.files and msgspec.structs.replace(whole.curate.files, rl="rl.jsonl")
    curate = msgspec.structs.replace(whole.curate, files=files)
    return msgspec.structs.replace(
        whole, stage=(stage,), sft=None, rl=rl, evaluation=evaluation, curate=curate
    )


def changed(recipe: Recipe, better: means.Better) -> Recipe:
    found = better.means
    place = msgspec.structs.replace(
        recipe.placement, checkpoint_activations=found.checkpointing, offload=found.offload
    )
    micro = better.micro or recipe.rl.micro_tokens
    rl = msgspec.structs.replace(recipe.rl, moments=found.moments, micro_tokens=micro)
    adapters = Lora(found.rank) if found.rank else recipe.lora
    return msgspec.structs.replace(recipe, placement=place, rl=rl, lora=adapters)


@pytest.mark.parametrize(
    ("name", "budget", "memory_"), [("acereason-1.1-7b", 16384, 80e9), ("acereason-1.0-1.5b", 8192, 24e9)]
)
def test_one_card_is_enough_by_the_means_that_are_proposed(name: str, budget: int, memory_: float) -> None:
    recipe, machine = cut(name, budget), Machine(1, memory_)
    shape = shapes.of(recipe.model)
    with pytest.raises(ConfigError, match=r"cheapest means with which it fits: .*% of the time"):
        plan.plan(recipe, shape, machine, Rates())
    better = means.cheapest(recipe, shape, machine, Rates())
    assert better is not None and better.means.moments == "float32" and not better.means.rank
    found = plan.plan(changed(recipe, better), shape, machine, Rates())
    assert found.stages[0].step.total * found.stages[0].stage.steps == pytest.approx(better.seconds)
    assert 1.0 < better.seconds / better.unbound < 2.0


@pytest.mark.parametrize("size", [16e9, 24e9, 40e9, 60e9, 80e9, 141e9])
def test_nothing_cheaper_fits(size: float) -> None:
    """Against all sets of means: what is proposed fits, and no quicker one of its kind does."""
    recipe, machine, rates = cut("acereason-1.0-1.5b", 16384), Machine(1, size), Rates()
    shape, own = shapes.of(recipe.model), memory.means_of(cut("acereason-1.0-1.5b", 16384))
    better = means.cheapest(recipe, shape, machine, rates)
    every = [
        replace(own, checkpointing=c, offload=tuple(o))
        for c in (own.checkpointing, True)
        for o in ([], ["moments"], ["parameters"], ["activations"], ["moments", "activations"])
    ]
    quick = [
        means._seconds(recipe, shape, machine, rates, m)
        for m in every
        if means._fits(recipe, shape, machine, m)
    ]
    if quick:
        assert better is not None and better.seconds <= min(quick) + 1e-6
        assert means._fits(recipe, shape, machine, better.means)
    if size == 141e9:
        assert better is not None and not better.changes() and "next to no time" in better.said()


@given(
    st.sampled_from(sorted(SHAPES)),
    st.sampled_from([1, 2, 8]),
    st.booleans(),
    st.sampled_from(["float32", "8bit"]),
    OFFLOAD,
    st.sampled_from([0, 16]),
    st.sampled_from([1, 2, 4]),
)
@settings(max_examples=150)
def test_every_means_takes_no_more(
    name: str,
    gpus: int,
    checkpointing: bool,
    moments: str,
    offload: tuple[str, ...],
    rank: int,
    sequence: int,
) -> None:
    shape, machine = SHAPES[name], Machine(gpus, 80e9)
    own = Means(checkpointing, moments, offload, rank, sequence=sequence)

    def need(m: Means) -> float:
        return sum(memory.learning(shape, machine, 8192, m).values())

    for less in (
        {"moments": "8bit"},
        {"offload": ("moments", "activations", "parameters")},
        {"sequence": 2 * sequence},
    ):
        assert need(replace(own, **less)) <= need(own)
    tokens = memory.fitting(shape, machine, own)
    assert not tokens or sum(memory.learning(shape, machine, tokens, own).values()) <= machine.memory


def test_adapters_are_counted_as_they_are() -> None:
    shape = shapes.of(config.Model(new=config.NewModel("qwen3", 97, 48, 3, 6, 2, 16, 80, True)))
    made: Any = new_model(
        "qwen3", 0, vocab_size=97, hidden_size=48, num_hidden_layers=3, num_attention_heads=6,
        num_key_value_heads=2, head_dim=16, intermediate_size=80, tie_word_embeddings=True,
    )  # fmt: skip
    lora.adapt(made, Lora(4))
    assert memory.adapters(shape, 4) == sum(p.numel() for p in made.parameters() if p.requires_grad)
    assert torch.is_tensor(next(made.parameters()))


def test_a_recipe_with_adapters_needs_little_and_publishes_little() -> None:
    recipe = cut("acereason-1.1-7b", 16384)
    shape, machine = shapes.of(recipe.model), Machine(8, 80e9)
    whole = plan.plan(recipe, shape, machine, Rates())
    adapted = plan.plan(msgspec.structs.replace(recipe, lora=Lora(16)), shape, machine, Rates())
    assert adapted.learning["states"] < 0.3 * whole.learning["states"]
    assert adapted.stages[0].step.publish < 0.1 * whole.stages[0].step.publish
    assert adapted.stages[0].step.learn < whole.stages[0].step.learn
