"""Micro-batches chosen by measurement: what is tried, what is taken, and that a run keeps it."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import tiny_run
from acereason import config, prepare, program, runs
from acereason.errors import ConfigError
from acereason.policy import attention
from acereason.policy.packing import Example
from acereason.progress import Quiet
from acereason.train import checkpoint, micro
from acereason.train.micro import Tried
from families import make_family

EXAMPLES = [Example([1, 2, 3], [5 + i % 40] * (10 + i % 25), i) for i in range(60)]
LONG = 1e6  # seconds: a busy machine leaves no size out


def model(native: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("ACEREASON_NATIVE", native)
    made = make_family("qwen3", use_sliding_window=False, layer_types=["full_attention"] * 2)
    made.set_attn_implementation(attention.NAME)
    return made


@pytest.mark.parametrize("native", ["0", "1"])
def test_sizes_are_timed_on_the_examples_and_nothing_is_learned(
    native: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = model(native, monkeypatch)
    before = [p.detach().clone() for p in made.parameters()]
    tried = micro.measure(made, EXAMPLES, LONG)
    assert [t.tokens for t in tried] == [256, 512, 1024, 2048] and all(t.rate > 0 for t in tried)
    assert all(p.grad is None for p in made.parameters())
    assert all(map(torch.equal, before, made.parameters()))


def test_sizes_that_do_not_fit_are_not_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of those that fit, not of all, the last few are."""
    made = model("0", monkeypatch)
    monkeypatch.setattr(micro, "MOST", 2)
    assert [t.tokens for t in micro.measure(made, EXAMPLES, LONG)] == [256, 2048]
    each = micro._bytes(made, EXAMPLES)
    assert each > 1000  # two layers of 32 and 48 wide in float32
    monkeypatch.setattr(
        micro, "_free", lambda _: micro._later(made) + 600 * each * micro.BACKWARD / micro.FREE
    )
    assert [t.tokens for t in micro.measure(made, EXAMPLES, LONG)] == [256, 512]
    monkeypatch.setattr(micro, "_free", lambda _: 0.0)
    assert [t.tokens for t in micro.measure(made, EXAMPLES, LONG)] == [256]


def test_it_takes_no_longer_than_it_may(monkeypatch: pytest.MonkeyPatch) -> None:
    made, clock = model("0", monkeypatch), iter(range(10_000))
    monkeypatch.setattr(micro.time, "perf_counter", lambda: 3.0 * next(clock))  # type: ignore[attr-defined]
    monkeypatch.setattr(micro, "MOST", 2)  # fewer than there are sizes for the batch
    assert [t.tokens for t in micro.measure(made, EXAMPLES, seconds=10.0)] == [256]


@given(st.lists(st.tuples(st.integers(1, 4096), st.floats(1, 1e6)), min_size=1, unique_by=lambda t: t[0]))
def test_the_smallest_of_the_quickest_is_taken(pairs: list[tuple[int, float]]) -> None:
    tried = [Tried(*pair) for pair in pairs]
    taken = micro.chosen(tried)
    rates = dict(pairs)
    assert rates[taken] >= micro.EQUAL * max(rates.values())
    assert all(rates[size] < micro.EQUAL * max(rates.values()) for size in rates if size < taken)


def test_a_run_keeps_what_was_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Sizes of micro-batches, and the slots that memory left its sampler."""
    data = copy.deepcopy(tiny_run.RECIPE)
    data["sft"] = {"epochs": 1, "batch_tokens": 800, "evaluate_prompts": 0, "micro_tokens": "measured"}
    data["rl"] = {"micro_tokens": "measured"}
    data["stage"] = [{**data["stage"][0], "steps": 1, "temperature": {}, "filter": {}}]
    answers = iter([[Tried(512, 9.0)], [Tried(256, 5.0), Tried(1024, 7.0)]])
    monkeypatch.setattr(micro, "measure", lambda *_: next(answers))
    with (
        tiny_run.coin(),
        runs.create(tmp_path / "run", config.parse(data)) as run,
        monkeypatch.context() as patch,
    ):
        patch.setattr(prepare, "lowered", lambda *_: 3)
        program.run_all(run, Quiet(), until="sft")
    with tiny_run.coin(), runs.resume(tmp_path / "run") as run:
        program.run_all(run, Quiet())
        last = checkpoint.latest(run)
    assert last is not None and last[1].micro == {"sft": 512, "rl": 1024} and last[1].slots == (3,)
    assert any(m.startswith("sampling 3 responses at a time instead of ") for m in caplog.messages)
    told = [row for row in runs.read_metrics(tmp_path / "run") if row.get("micro_tokens")]
    assert [row["micro_tokens"] for row in told] == [{"sft": 512}, {"rl": 1024}]
    assert next(answers, None) is None


def test_slots_of_a_run_that_goes_on() -> None:
    old = msgspec.json.decode(b"{}", type=checkpoint.Position)
    for asked, kept, slots in [
        (9, old.slots, 9),
        (9, (0,), 9),
        (9, (4,), 4),
        (3, (4,), 3),
        (9, (5, 0, 4), 4),
    ]:
        assert prepare._slots(asked, kept) == slots


def test_other_words_are_refused() -> None:
    with pytest.raises(ConfigError, match="micro_tokens"):
        config.parse({**copy.deepcopy(tiny_run.RECIPE), "rl": {"micro_tokens": "quick"}})
