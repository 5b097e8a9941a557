"""A sampler that is not the trainer's model stops a run, without being asked to."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch

import tiny_run
from acereason import config, prepare, program, runs
from acereason.config import Rl, Sampling, Servers
from acereason.errors import TrainingError
from acereason.policy import halves
from acereason.policy.model import new_model
from acereason.policy.policy import Policy
from acereason.progress import Quiet
from acereason.sample.engines.embedded import EmbeddedSampler

MODEL = new_model("qwen3", 1, vocab_size=61, hidden_size=8, num_hidden_layers=1, intermediate_size=8)


@pytest.mark.parametrize(
    ("rl", "servers", "dtype", "limit"),
    [
        (Rl(), {}, torch.float32, prepare.K3_FLOAT32),
        (Rl(), {"servers": Servers(("http://one",))}, torch.float32, prepare.K3_HALF),
        (Rl(), {"servers": Servers(("http://one",), colocated=True)}, torch.float32, prepare.K3_HALF),
        (Rl(), {}, torch.bfloat16, prepare.K3_HALF),
        (Rl(max_k3=0.3), {}, torch.float32, 0.3),
        (Rl(updates=2), {}, torch.float32, None),
    ],
)
def test_the_limit_is_what_rounding_cannot_reach(
    rl: Rl, servers: dict[str, Any], dtype: torch.dtype, limit: float | None
) -> None:
    recipe = msgspec.structs.replace(config.parse(tiny_run.RECIPE), rl=rl, sampling=Sampling(**servers))
    assert prepare.guarded(recipe, Policy(MODEL.to(dtype), None, "plain")).rl.max_k3 == limit


def test_products_in_bfloat16_over_float32_weights_are_halves() -> None:
    model = new_model("qwen3", 1, vocab_size=61, hidden_size=8, num_hidden_layers=1, intermediate_size=8)
    halves.halve(model)
    recipe = config.parse(tiny_run.RECIPE)
    assert prepare.guarded(recipe, Policy(model, None, "plain")).rl.max_k3 == prepare.K3_HALF


def test_a_run_with_another_sampler_stops_with_the_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = EmbeddedSampler.sample

    def off(self: EmbeddedSampler, requests: Any) -> Iterator[Any]:
        for made in plain(self, requests):
            yield replace(made, logprobs=made.logprobs - 0.2)

    monkeypatch.setattr(EmbeddedSampler, "sample", off)
    with (
        tiny_run.coin(),
        runs.create(tmp_path / "run", config.parse(tiny_run.RECIPE)) as run,
        pytest.raises(
            TrainingError, match=r"k3\) of 0\.02\d+ nats a token.*mean difference 0\.2, largest 0\.2"
        ),
    ):
        program.run_all(run, Quiet())
