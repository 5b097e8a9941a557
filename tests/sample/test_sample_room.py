"""Caches in bounded memory: fewer slots instead of an end by the kernel, and the same answers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from acereason import machine
from acereason.errors import SamplingError
from acereason.policy.causal import LayerRule
from acereason.sample.engines import room
from acereason.sample.engines.cache import SlotCache
from acereason.sample.engines.embedded import EmbeddedSampler
from acereason.sample.engines.room import RowSize
from acereason.sample.protocol import Request
from families import make_family
from sample_models import assert_numbers, make

SHORT = [Request([1, 2, i], 40, 1.0, i, key=i) for i in range(7)]
LONG = [Request([(3 * t + i) % 61 for t in range(90)], 60, 1.0, i, key=f"long {i}") for i in range(3)]


@pytest.mark.parametrize("native", [True, False])
def test_slots_are_lowered_to_what_fits(native: bool, monkeypatch: pytest.MonkeyPatch, caplog: Any) -> None:
    """Room for 4 short rows, and so for 2 long ones, while 6 slots are asked for."""
    model = make("qwen3")
    row = RowSize.of(model.config, False).row
    free = EmbeddedSampler(model, slots=6, eos_ids=[], native=native)
    wanted = {c.request.key: c.tokens.tolist() for c in free.sample([*SHORT, *LONG, *SHORT])}
    monkeypatch.setattr(machine, "available", lambda: int(4.5 * row(64) / room.SHARE))
    small = EmbeddedSampler(model, slots=6, eos_ids=[], native=native)
    found = list(small.sample(SHORT))
    assert small._slots.number == 3 and caplog.messages[-1].startswith("sampling 3 responses at a time ")
    monkeypatch.setattr(machine, "available", lambda: int(2.5 * row(192) / room.SHARE))
    found += list(small.sample([*SHORT[:2], *LONG, *SHORT]))
    assert small._slots.number == 1 and len(caplog.messages) == 2
    assert {c.request.key: c.tokens.tolist() for c in found} == wanted
    for completion in found[-6:]:
        assert_numbers(model, completion)


def test_a_response_that_no_cache_holds_is_refused_and_others_are_answered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = make("qwen3")
    made = EmbeddedSampler(model, slots=4, eos_ids=[])
    monkeypatch.setattr(machine, "available", lambda: 3 * RowSize.of(model.config, False).row(64))
    with pytest.raises(SamplingError, match="one response of 192 positions needs"):
        list(made.sample(LONG))
    assert len(list(made.sample(SHORT))) == len(SHORT)


def test_a_little_longer_finds_the_length_that_was_spared(
    monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    """Room for 3 rows of 448 positions, then for none: what grows up to that needs no new cache."""
    model = make("qwen3")
    made = EmbeddedSampler(model, slots=6, eos_ids=[], native=False)
    monkeypatch.setattr(machine, "available", lambda: int(3.5 * made._row.row(448) / room.SHARE))

    def asked() -> Iterator[Request]:
        yield from [Request([1] * 370, 5, 1.0, i) for i in range(3)]
        monkeypatch.setattr(machine, "available", lambda: 0)
        yield from [Request([2] * n, 5, 1.0, i) for i, n in enumerate([400, 443, 380])]

    assert len(list(made.sample(asked()))) == 6
    assert made.slots == 2 and len(caplog.messages) == 1


def test_windowed_layers_keep_their_window_alone() -> None:
    model = make_family(
        "gemma3_text", num_hidden_layers=3, layer_types=["sliding_attention"] * 2 + ["full_attention"]
    )
    made = EmbeddedSampler(model, slots=2, eos_ids=[], native=False)
    asking = made.sample([Request([1, 2, 3], 100, 1.0, i) for i in range(3)])
    next(asking)  # the cache is given back when all have ended
    cache: SlotCache = made._engine._cache  # type: ignore[attr-defined]
    assert [cache._keys[i].shape[2] for i in range(3)] == [6, 6, 128]
    held = sum(4 * x.numel() for part in (cache._keys, cache._values) for x in part.values())
    assert held == 3 * RowSize.of(model.config, True).row(128)
    assert len(list(asking)) == 2


@pytest.mark.parametrize("window", [1, 4, 7, 64, None])
def test_a_ring_of_places_attends_as_whole_rows_do(window: int | None) -> None:
    """Prompts in parts of any size, rows that grow and move, steps: as one pass over everything."""
    torch.manual_seed(0)
    rule, length, device = LayerRule(window=window), 40, torch.device("cpu")
    q, k, v = (torch.randn(1, heads, length, 8) for heads in (4, 2, 2))
    whole = SlotCache(2, device)
    whole.reserve(64)
    whole.begin(slice(0, 1), torch.arange(length), length)
    wanted = whole.attend(0, q, k, v, rule)
    cache = SlotCache(3, device)
    cache.reserve(16)
    for start, stop in ((0, 5), (5, 6), (6, 14)):
        cache.begin(slice(2, 3), torch.arange(start, stop), stop)
        found = cache.attend(0, *(x[:, :, start:stop] for x in (q, k, v)), rule)  # type: ignore[arg-type, call-arg]
        torch.testing.assert_close(found, wanted[:, start:stop])
    cache.reserve(64)
    for row in (0, 1):
        cache.move(2, row, 14)
    for at in range(14, length):
        cache.begin(slice(0, 2), torch.tensor([at, at]), at + 1)
        step = [torch.cat([x[:, :, at : at + 1]] * 2, 2) for x in (q, k, v)]
        found = cache.attend(0, step[0], step[1], step[2], rule)
        torch.testing.assert_close(found, wanted[:, [at, at]])


def test_a_containers_limit_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "meminfo").write_text("MemTotal:  900000 kB\nMemAvailable:   500000 kB\n")
    monkeypatch.setattr(machine, "MEMINFO", tmp_path / "meminfo")
    monkeypatch.setattr(machine, "CGROUP", tmp_path)
    assert machine.available() == 500_000 * 1024
    (tmp_path / "memory.max").write_text("max\n")
    assert machine.available() == 500_000 * 1024
    (tmp_path / "memory.max").write_text("1000000\n")
    (tmp_path / "memory.current").write_text("700000\n")
    (tmp_path / "memory.stat").write_text("anon 1\ninactive_file 50000\n")
    assert machine.available() == 350_000 and machine.memory() == 1_000_000


@pytest.mark.parametrize("windows", [(None, None), (6, None), (6, 6)])
def test_longest_is_the_most_that_fits(windows: tuple[int | None, ...]) -> None:
    size = RowSize(10, windows)
    for room_for in (0, 100, 1_300, 10_000, 10**9):
        found = size.longest(room_for, 1000)
        assert found % 64 == 0 and (not found or size.row(found) <= room_for)
        assert found >= 1000 or size.row(found + 64) > room_for
