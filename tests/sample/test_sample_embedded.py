"""The embedded sampler: refill, budgets, weights updated in place, and what it refuses."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from acereason.errors import SamplingError
from acereason.native import build as compiled
from acereason.sample.engines import native as native_engine
from acereason.sample.engines.embedded import EmbeddedSampler
from acereason.sample.protocol import Request
from sample_models import ENGINES, answers, assert_numbers, bytes_of, group, make, sampler

engines = pytest.mark.parametrize("engine", ENGINES)


@engines
def test_requests_are_pulled_only_when_a_slot_is_free(engine: str) -> None:
    pulled: list[Any] = []

    def requests() -> Iterator[Request]:
        for request in group(prompts=4, each=5):
            pulled.append(request.key)
            yield request

    finished = 0
    for completion in sampler(make("qwen3"), engine, slots=3).sample(requests()):
        finished += 1
        assert len(pulled) <= 3 + finished
        assert completion.request.key in pulled
    assert finished == len(pulled) == 20


@engines
def test_responses_stream_as_they_end(engine: str) -> None:
    budgets = [40, 3, 9, 30, 1, 5]
    requests = [Request([1, 2], b, 1.0, b, key=b) for b in budgets]
    made = sampler(make("qwen3"), engine, slots=3, eos_ids=[])
    order = [c.request.key for c in made.sample(requests)]
    assert sorted(order) == sorted(budgets)
    assert order[0] == 3
    assert order[-1] in (30, 40)


@engines
def test_budget_and_end_token(engine: str) -> None:
    model = make("qwen3")
    found = list(sampler(model, engine).sample(group(each=10, budget=60)))
    assert {c.finish for c in found} == {"stop", "length"}
    for completion in found:
        *body, last = completion.tokens.tolist()
        assert 7 not in body
        assert (completion.finish == "stop") == (last == 7)
        assert completion.finish == "stop" or len(completion.tokens) == 60
        assert len({len(x) for x in (completion.tokens, completion.logprobs)}) == 1
    several = sampler(model, engine, eos_ids=[3, 7, 11]).sample(group(each=10, budget=60))
    assert {c.tokens[-1].item() for c in several if c.finish == "stop"} == {3, 7, 11}


@engines
def test_end_token_at_the_last_place_is_a_stop(engine: str) -> None:
    made = sampler(make("qwen3"), engine, eos_ids=list(range(61)))
    (completion,) = made.sample([Request([1], 1, 1.0, 0)])
    assert completion.finish == "stop" and len(completion.tokens) == 1


@engines
def test_update_takes_effect_and_forgets_the_prompt(engine: str) -> None:
    old, new, requests = make("qwen3", seed=1), make("qwen3", seed=2), group(prompts=1, each=4)
    made = sampler(old, engine)
    list(made.sample(requests))
    for weights in (new, {k: v.clone() for k, v in new.state_dict().items()}):
        made.update(old)
        made.update(weights)
        for completion in made.sample(requests):
            assert_numbers(new, completion)


@engines
def test_update_copies(engine: str) -> None:
    model, requests = make("qwen3"), group(prompts=1)
    made = sampler(model, engine)
    before = [bytes_of(c) for c in made.sample(requests)]
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    assert [bytes_of(c) for c in made.sample(requests)] == before


@engines
def test_iterator_closed_midway_leaves_the_sampler_usable(engine: str) -> None:
    model, requests = make("qwen3"), group(each=4)
    made = sampler(model, engine)
    whole = {c.request.key: c.tokens.tolist() for c in made.sample(requests)}
    started = iter(made.sample(requests))
    next(started)
    started.close()  # type: ignore[attr-defined]
    assert {c.request.key: c.tokens.tolist() for c in made.sample(requests)} == whole


@engines
def test_weights_updated_in_flight_are_an_error(engine: str) -> None:
    model = make("qwen3")
    made = sampler(model, engine)
    started = iter(made.sample(group(each=4)))
    next(started)
    made.update(model)
    with pytest.raises(SamplingError, match="weights were updated"):
        next(started)
    assert len(list(made.sample(group()))) == len(group())


@engines
def test_cache_grows_while_responses_are_written(engine: str) -> None:
    model = make("qwen3")
    short = [Request([1, 2, i], 50, 1.0, i, key=i) for i in range(4)]
    long = Request([(3 * t) % 61 for t in range(150)], 100, 1.0, 9, key="long")
    for completion in sampler(model, engine, eos_ids=[], slots=2).sample([*short[:2], long]):
        assert_numbers(model, completion)


@engines
def test_weights_that_diverged_are_named_and_mended(engine: str) -> None:
    good, bad = make("qwen3"), make("qwen3")
    with torch.no_grad():
        bad.model.layers[1].self_attn.v_proj.weight.fill_(float("nan"))
    made = sampler(good, engine)
    before = [bytes_of(c) for c in made.sample(group(prompts=2))]
    made.update(bad)
    with pytest.raises(SamplingError, match="not a finite number"):
        list(made.sample(group(prompts=2)))
    made.update(good)
    assert [bytes_of(c) for c in made.sample(group(prompts=2))] == before


@engines
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"prompt": []}, "prompt is empty"),
        ({"prompt": [1] * 600}, "context of 512"),
        ({"budget": 511}, "context of 512"),
        ({"budget": 0}, "budget is 0"),
        ({"temperature": 0.0}, "temperature is 0.0"),
        ({"temperature": float("nan")}, "temperature is nan"),
        ({"top_p": 0.0}, "top_p is 0.0"),
        ({"top_p": 1.5}, "top_p is 1.5"),
        ({"prompt": [61]}, "vocabulary"),
        ({"prompt": [-1]}, "vocabulary"),
    ],
)
def test_requests_that_cannot_be_answered(engine: str, change: dict[str, Any], message: str) -> None:
    good: dict[str, Any] = {"prompt": [1, 2], "budget": 4, "temperature": 1.0, "seed": 0}
    made = sampler(make("qwen3"), engine)
    with pytest.raises(SamplingError, match=message):
        list(made.sample([Request(**good | change)]))
    assert len(list(made.sample([Request(**good)]))) == 1


def test_models_that_the_faster_engines_do_not_know_go_by_their_own_class() -> None:
    dynamic = {"rope_parameters": {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 10000.0}}
    for kind, change in (
        *(("qwen3", {"hidden_act": "gelu"}), ("llama", {"attention_bias": True}), ("llama", dynamic)),
    ):
        model = make(kind, **change)
        made = EmbeddedSampler(model)
        assert made.engine == "torch"
        for completion in made.sample(group(prompts=3, each=2)):
            assert_numbers(model, completion)
    with pytest.raises(SamplingError, match="slots is 0"):
        EmbeddedSampler(make("qwen3"), slots=0)


@engines
def test_the_cache_is_held_only_while_somebody_asks(engine: str) -> None:
    """A trainer learns in between; the next call has its room at once, and draws the same."""
    made, requests = sampler(make("qwen3"), engine), group(prompts=2, each=4)
    first = answers(made, requests)
    inner: Any = made._engine
    assert inner._cache.nbytes == 0 if engine == "native" else inner._cache.length == 0
    for key, completion in answers(made, requests).items():
        assert bytes_of(completion) == bytes_of(first[key])
    held = made.sample(requests)
    next(held)
    assert made._length == made._longest >= max(len(r.prompt) + r.budget for r in requests)


@engines
def test_room_that_was_not_to_be_had_is_asked_for_again(engine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    made, requests = sampler(make("qwen3"), engine), group(prompts=2)
    before = [bytes_of(c) for c in made.sample(requests)]

    def refuse(length: int) -> None:
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(made._engine, "reserve", refuse)
        with pytest.raises(MemoryError):
            list(made.sample(requests))
    assert [bytes_of(c) for c in made.sample(requests)] == before


@engines
def test_weights_of_another_shape(engine: str) -> None:
    made = sampler(make("qwen3"), engine)
    with pytest.raises(SamplingError, match=r"\(90, 48\); \(70, 48\) was expected"):
        made.update(make("qwen3", intermediate_size=90))
    with pytest.raises(SamplingError, match="lack"):
        made.update({})
    with pytest.raises(SamplingError, match="found int"):
        made.update(3)  # type: ignore[arg-type]


def test_more_cache_than_memory() -> None:
    model = make("qwen3", max_position_embeddings=1 << 40)
    made = EmbeddedSampler(model, slots=4096)
    with pytest.raises(SamplingError, match="lower the budget"):
        list(made.sample([Request([1], 1 << 39, 1.0, 0)]))


def test_bfloat16_weights_are_decoded_in_float32() -> None:
    model = make("qwen3")
    for parameter in model.parameters():
        parameter.data = parameter.data.bfloat16()
    made = sampler(model, "torch")
    exact = make("qwen3")
    exact.load_state_dict(model.state_dict())
    for completion in made.sample(group(prompts=2)):
        assert_numbers(exact, completion)
        assert completion.logprobs.dtype == np.float32


def test_without_a_compiler_pytorch_takes_over_and_says_so(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    cases = {
        "ACEREASON_NATIVE": ("0", "ACEREASON_NATIVE=0"),
        "CXX": ("/missing", "no C++ compiler"),
    }
    for variable, (value, message) in cases.items():
        with monkeypatch.context() as patch, caplog.at_level(logging.WARNING):
            patch.setenv(variable, value)
            patch.setenv("ACEREASON_CACHE", str(tmp_path))
            native_engine._open.cache_clear()
            assert EmbeddedSampler(make("qwen3")).engine == "torch"
            assert message in caplog.records[-1].getMessage()
    native_engine._open.cache_clear()


def test_library_is_rebuilt_for_another_source_or_flag(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("ACEREASON_CACHE", str(tmp_path))
    if compiled.find_compiler("c") is None:
        pytest.skip("no compiler")
    one = compiled.build("x", "int f(void) { return 1; }", "c", ())
    assert compiled.build("x", "int f(void) { return 1; }", "c", ()).path == one.path
    assert compiled.build("x", "int f(void) { return 2; }", "c", ()).path != one.path
    assert compiled.build("x", "int f(void) { return 1; }", "c", ("-O2",)).path != one.path
    broken = compiled.build("x", "int f(", "c", ())
    assert broken.path is None and "status 1" in broken.reason
    library = compiled.load(one)
    assert library is not None and library.f() == 1
    damaged = compiled.build("x", "int f(void) { return 3; }", "c", ())
    assert damaged.path is not None
    damaged.path.write_bytes(b"not a library")
    assert compiled.load(damaged) is None
