"""The later recipes: their published numbers stand as published, and each resolves and plans."""

from __future__ import annotations

from pathlib import Path

import pytest

import acereason
from acereason import config
from acereason.config import Filter, Readmit
from acereason.plan import shapes

RECIPES = Path(acereason.__file__).parent / "recipes"
PACK = ("justrl-1.5b", "polaris-4b", "cascade-8b", "scalerl", "prorl-v2", "dapo", "dr-grpo", "qwen3-0.6b")


def load(name: str) -> config.Recipe:
    return config.load(RECIPES / f"{name}.toml")


@pytest.mark.parametrize("name", PACK)
def test_each_resolves_and_its_model_has_a_known_shape(name: str) -> None:
    recipe = load(name)
    assert recipe.name == name and config.parse(config.resolved(recipe)) == recipe
    assert recipe.model.context is not None
    assert shapes.of(recipe.model).parameters > 5e8
    assert max(recipe.evaluation.budget, *(s.budget for s in recipe.stage)) < recipe.model.context


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("qwen3-0.6b", 596_049_920),
        ("polaris-4b", 4_022_468_096),
        ("cascade-8b", 8_190_735_360),
        ("scalerl", 8_030_261_248),
    ],
)
def test_shapes_are_those_of_the_released_models(name: str, parameters: int) -> None:
    assert shapes.of(load(name).model).parameters == parameters


def test_justrl_is_one_stage_with_nothing_scheduled() -> None:
    recipe = load("justrl-1.5b")
    (stage,) = recipe.stage
    assert (stage.prompts, stage.group, stage.budget, stage.steps, stage.warmup) == (256, 8, 15360, 4380, 10)
    assert (recipe.rl.updates, recipe.rl.clip, recipe.rl.weight_decay) == (4, (0.2, 0.28), 0.1)
    assert stage.learning_rate == 1e-6 and stage.temperature == config.Temperature("fixed", 1.0)
    asked = recipe.evaluation
    assert (asked.k, asked.temperature, asked.top_p, asked.budget) == (32, 0.7, 0.9, 31744)


def test_polaris_grows_hotter_and_longer() -> None:
    stages = load("polaris-4b").stage
    assert [(s.budget, s.temperature.value) for s in stages] == [(39936, 1.4), (48128, 1.45), (52224, 1.5)]
    assert {(s.prompts, s.group, s.filter.retire_above) for s in stages} == {(128, 8, 0.9)}


def test_cascade_drops_both_ends_and_lets_some_in_again() -> None:
    stages = load("cascade-8b").stage
    told = [(s.budget, s.temperature.value, s.overlong, s.learning_rate) for s in stages]
    expected = [(24576, 1.0, "mask"), (32768, 1.0, "zero"), (40960, 0.8, "zero")]
    assert told == [(*row, 2e-6) for row in expected]
    assert [sum(s.steps for s in stages[: i + 1]) for i in range(3)] == [190, 430, 500]
    assert {s.filter for s in stages} == {Filter(drop="both", readmit=Readmit(0.1, 0.01))}


def test_scalerl_dapo_and_dr_grpo_have_their_switches() -> None:
    scale, dapo, doctor, prorl = (load(name) for name in ("scalerl", "dapo", "dr-grpo", "prorl-v2"))
    rl = scale.rl
    assert (rl.advantage, rl.normalisation, rl.idle_groups) == ("batch", "group", "drop")
    assert (scale.stage[0].prompts, scale.stage[0].group, scale.stage[0].budget) == (48, 16, 14336)
    assert scale.stage[0].filter.retire_above == 0.9
    (stage,) = dapo.stage
    assert (stage.prompts, stage.group, dapo.rl.updates, dapo.rl.clip) == (512, 16, 16, (0.2, 0.28))
    assert (stage.budget, stage.overlong, stage.overlong_buffer) == (20480, "soft", 4096)
    assert stage.filter.refill
    assert (doctor.rl.advantage, doctor.rl.normalisation) == ("mean", "constant")
    assert (doctor.stage[0].prompts, doctor.stage[0].group, doctor.stage[0].budget) == (128, 8, 3000)
    assert (doctor.rl.updates, doctor.evaluation.budget, dapo.evaluation.top_p) == (8, 3000, 1.0)
    assert scale.stage[0].thinking is not None and scale.stage[0].thinking.budget == 12288
    assert prorl.rl.kl == config.Kl(1e-4, "k2") and prorl.stage[0].filter.refill == 10
    assert (prorl.stage[0].prompts, prorl.stage[0].group, prorl.stage[0].steps) == (512, 16, 3000)
    assert (prorl.rl.advantage, prorl.rl.clip, prorl.rl.sequence_mask) == ("batch", (0.2, 0.27), "geometric")


KNOWN = {  # of the keys that papers seldom tell, those that a script does
    "justrl-1.5b": {"context": 32768, "clip_gradient": 1.0, "micro_tokens": 32768},
    "polaris-4b": {"context": 53248, "micro_tokens": 53248},
    "scalerl": {"context": 16384},
    "prorl-v2": {"context": 9216, "micro_tokens": 32768},
    "dapo": {"context": 22528, "clip_gradient": 1.0, "micro_tokens": 22528},
    "dr-grpo": {"context": 4096},
}


@pytest.mark.parametrize("name", PACK)
def test_what_nobody_published_is_marked_as_ours_and_the_head_says_where_the_rest_is(name: str) -> None:
    text = (RECIPES / f"{name}.toml").read_text()
    assert ("# Published: " in text) != ("All numbers are ours" in text)
    told, rl = KNOWN.get(name, {}), load(name).rl
    found = {
        "context": load(name).model.context,
        "clip_gradient": rl.clip_gradient,
        "micro_tokens": rl.micro_tokens,
    }
    assert {key: found[key] for key in told} == told  # type: ignore[attr-defined]
    for line in text.splitlines():
        value, _, comment = line.partition("#")
        key = value.split("=")[0].strip()
        if key in {"seed", "checkpoint_every", "judges", *found}:
            assert ("ours" in comment) == (key not in told), line
