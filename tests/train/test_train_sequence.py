"""Ranks that share sequences (Ulysses) learn what one process learns, with a share of its activations."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from acereason.errors import ConfigError
from acereason.policy import sequence
from acereason.policy.packing import Example, pack
from commands import torchrun

EXACT = 1e-6  # relative, in float32


def measured(folder: Path, ranks: int, size: int) -> list[dict[str, Any]]:
    process = torchrun("sequence_ranks.py", str(folder), str(size), ranks=ranks)
    output, _ = process.communicate(timeout=280)
    assert process.returncode == 0, output[-3000:]
    found: list[dict[str, Any]] = json.loads((folder / "numbers.json").read_text())
    return found


@pytest.mark.slow
@pytest.mark.parametrize(("ranks", "size"), [(2, 2), (4, 2), (4, 4)])
def test_they_learn_what_one_rank_learns(tmp_path: Path, ranks: int, size: int) -> None:
    for numbers in measured(tmp_path, ranks, size):
        for name in ("rl", "untied", "bonus", "mask", "teacher", "reference", "checkpointing", "sft", "lora"):
            assert max(numbers[name].values()) <= EXACT, (name, numbers[name])
        for kind, differences in numbers["kinds"].items():
            assert max(differences.values()) <= 5 * EXACT, (kind, differences)
        assert numbers["bfloat16"]["gradient"] < 0.05
        assert numbers["activations"]["share"] <= 1 / size + 0.1
        assert "a number of ranks that" in numbers["refused"][0]
        assert "7 attention heads evenly; take one of 1, 7" in numbers["refused"][1]


@given(st.sampled_from([1, 2, 4, 8, 16]), st.sampled_from([1, 2, 3, 4, 7, 8]), st.integers(1, 16))
def test_every_query_head_meets_its_own_key_value_head(kv: int, each: int, size: int) -> None:
    """However many ranks share the heads: after repeating, a rank's query heads stand beside their own."""
    queries = kv * each
    if queries % size:
        with pytest.raises(ConfigError, match="take one of 1"):
            sequence.check(queries, size)
        return
    sequence.check(queries, size)
    heads = torch.arange(kv).repeat_interleave(sequence.repeats(queries, kv, size))
    own = torch.arange(queries) // each
    assert len(heads) % size == 0
    for mine, theirs in zip(own.reshape(size, -1), heads.reshape(size, -1), strict=True):
        assert torch.equal(mine, theirs.repeat_interleave(len(mine) // len(theirs)))


@given(st.lists(st.integers(2, 20), min_size=1, max_size=6), st.integers(2, 9))
def test_slices_are_the_pack(lengths: list[int], size: int) -> None:
    packed = pack([Example([1], list(range(n - 1)), i) for i, n in enumerate(lengths)])
    parts = [sequence.Part(None, i, size) for i in range(size)]
    whole = parts[0].padded(packed)
    slices = [part.slice(whole) for part in parts]
    n = len(whole.tokens) // size
    assert len(whole.tokens) - len(packed.tokens) < size and whole.ends()[-1] == len(whole.tokens)
    assert torch.equal(torch.cat([s.tokens for s in slices])[: len(packed.tokens)], packed.tokens)
    assert torch.equal(torch.cat([s.positions for s in slices])[: len(packed.tokens)], packed.positions)
    chosen = torch.cat([s.chosen for s in slices])
    places = torch.cat([s.predictors + i * n for i, s in enumerate(slices)])
    assert sorted(chosen.tolist()) == list(range(len(packed.targets)))
    assert torch.equal(packed.predictors[chosen], places)
