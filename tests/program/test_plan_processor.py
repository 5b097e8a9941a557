"""The plan for processors: against what was measured, by what must hold, and on the command line."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from msgspec.structs import replace as changed
from typer.testing import CliRunner

from acereason import cli, config
from acereason.plan import processor, rating, shapes
from acereason.plan.memory import GIB, means_of
from acereason.plan.processor import Processors, Rates
from acereason.policy import attention, halves
from acereason.policy.packing import Example
from acereason.shape import Shape
from acereason.train import micro
from families import make_family

RECIPES = Path(config.__file__).parents[1] / "recipes"
BASE = config.load(RECIPES / "base.toml")
CUT = replace(shapes.named("package:gemma-3-270m"), vocab=3_700)
CORES = Rates(1085e9, 7e9, *processor.SHARES["bfloat16"])


def test_what_was_measured_with_the_base_recipe() -> None:
    """Two cores, two ranks: a step of RL sampled for 3.3 s and learned for 5.5, one of SFT took 3.3 s;
    7.7 GiB."""
    planned = processor.plan(BASE, CUT, Processors(2, 2, 24e9), CORES)
    ((_, step),) = planned.stages
    assert step.sample == pytest.approx(3.3, rel=0.25) and step.learn == pytest.approx(5.5, rel=0.25)
    assert planned.sft == pytest.approx(3.3, rel=0.25)
    assert 5.5 * GIB < planned.memory < 9 * GIB


@pytest.mark.parametrize("half", [True, False])
def test_activations_are_those_that_autograd_keeps(half: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACEREASON_NATIVE", "0")
    wide = {"hidden_size": 96, "head_dim": 32, "intermediate_size": 256}
    model = make_family("gemma3_text", num_hidden_layers=3, layer_types=["full_attention"] * 3, **wide)  # type: ignore[arg-type]
    model.set_attn_implementation(attention.NAME)
    if half:
        halves.halve(model)
    kept = [micro._kept(model, [Example([1], [2] * 63, i) for i in range(n)]) for n in (4, 8)]
    found = (kept[1] - kept[0]) / (4 * 64) / 3
    assert found == pytest.approx(processor.activation(Shape.read(model.config), half), rel=0.3)


def test_more_of_everything() -> None:
    place, means = Processors(2, 1, 24e9), means_of(BASE)
    frozen = changed(BASE, model=changed(BASE.model, frozen_layers=9))
    whole, part = (processor.plan(r, CUT, place, CORES) for r in (BASE, frozen))
    assert part.memory < whole.memory and part.stages[0][1].learn < whole.stages[0][1].learn
    assert (
        part.rank["weights"] == whole.rank["weights"]
        and part.stages[0][1].sample == whole.stages[0][1].sample
    )
    four = processor.plan(BASE, CUT, replace(place, cores=4), CORES)
    assert four.stages[0][1].learn == pytest.approx(whole.stages[0][1].learn / 2)
    assert processor.memory(BASE, CUT, replace(means, moments="8bit"))["moments"] < whole.rank["moments"] / 3


def test_a_core_is_measured_in_about_a_second() -> None:
    flops, bandwidth = rating.core("bfloat16")
    assert 1e8 < flops < 1e14 and 1e7 < bandwidth < 1e13
    assert rating.product_type("float32") == "float32" and torch.get_num_threads() >= 1


def said(*arguments: str) -> Any:
    return CliRunner().invoke(cli.app, ["plan", "base", "--cpu", "--rate", "flops=1e12", *arguments])


def test_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    own = ["--rate", "bandwidth=7e9", "--cores", "2", "--ranks", "2"]
    shown = said(*own, "--memory", "24")
    assert shown.exit_code == 0 and "all ranks:" in shown.output and "a step of math:" in shown.output
    data = json.loads(said(*own, "--json").output)
    assert data["memory"] == pytest.approx(2 * sum(data["rank"].values()))
    small = said(*own, "--memory", "4")
    assert small.exit_code != 0 and "--ranks 1" in str(small.output) + str(small.exception)
    few = said(*own, "--ranks", "3")
    assert few.exit_code != 0 and "3 ranks need as many processors" in str(few.output) + str(few.exception)
