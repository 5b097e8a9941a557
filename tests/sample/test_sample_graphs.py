"""Steps as CUDA graphs: rounding changes nothing, a step asks the device for nothing, and on a GPU graphs are
what runs."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from acereason.policy import halves
from acereason.sample.engines.embedded import EmbeddedSampler
from acereason.sample.engines.graphs import StepGraphs
from families import FAMILIES, WINDOW, make_family
from sample_models import assert_numbers, group

families = pytest.mark.parametrize("kind", FAMILIES)


def engine_of(sampler: EmbeddedSampler) -> Any:
    return sampler._engine


def rounding(model: Any, slots: int) -> EmbeddedSampler:
    """A sampler whose steps have the shapes of graphs, on a processor."""
    sampler = EmbeddedSampler(model, slots=slots, native=False)
    engine = engine_of(sampler)
    engine._graphs = StepGraphs(engine._step, torch.device("cpu"), capture=False)
    return sampler


@families
@pytest.mark.parametrize("slots", [1, 5])
def test_filler_changes_nothing(kind: str, slots: int) -> None:
    model = make_family(kind)
    made = rounding(model, slots)
    longest, rounded = 0, False
    for completion in made.sample(group(temperature=0.8) + group(top_p=0.9)):
        rounded |= bool(engine_of(made)._graphs._made)
        longest = max(longest, len(completion.tokens) + len(completion.request.prompt))
        assert_numbers(model, completion, slack=1e-4)
    assert longest > 2 * WINDOW and rounded == (slots > 1)


@pytest.mark.parametrize("half", [False, True])
def test_new_weights_are_what_is_drawn_from(half: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bfloat16 copies too are written where a graph reads them; on a processor others are laid out anew."""
    monkeypatch.setattr(halves, "_packs", lambda: False)
    one, two = make_family("gemma3_text", seed=1), make_family("gemma3_text", seed=2)
    if half:
        halves.halve(one)
    made = rounding(one, 5)
    list(made.sample(group()))
    places = [p.data_ptr() for p in engine_of(made)._model.parameters()]
    made.update(two)
    assert places == [p.data_ptr() for p in engine_of(made)._model.parameters()]
    for completion in made.sample(group()):
        assert_numbers(two, completion, slack=0.1 if half else 1e-4)


class Asking(TorchDispatchMode):
    """Refuses what makes a host wait for a device: a number of a tensor, or a shape that depends on one."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.name()
        assert not any(x in name for x in ("_local_scalar_dense", "nonzero", "unique", "masked_select")), name
        return func(*args, **(kwargs or {}))


@families
def test_a_step_asks_the_device_for_nothing(kind: str) -> None:
    made = rounding(make_family(kind), 5)
    list(made.sample(group()))
    engine_of(made).reserve(64)
    with Asking():  # type: ignore[no-untyped-call]
        engine_of(made)._step(torch.arange(5), torch.full((5,), 20), 64)


@pytest.mark.gpu
@families
def test_on_a_gpu_steps_are_graphs(kind: str) -> None:
    model = make_family(kind, initializer_range=0.1)
    made = EmbeddedSampler(copy.deepcopy(model).cuda(), slots=5, native=False)
    for weights in (model, make_family(kind, 3, initializer_range=0.1)):
        made.update(copy.deepcopy(weights).cuda())
        for completion in made.sample(group(temperature=0.8) + group(top_p=0.9)):
            assert_numbers(weights, completion, slack=1e-3)
    assert engine_of(made)._graphs._capture and engine_of(made)._graphs._made
