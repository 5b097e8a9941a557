"""What a run of the procedural families learns from: seeds apart, nested shares, levels of each family."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

import tiny_run
from acereason import config
from acereason.chat import END_THINK
from acereason.curate import tasks
from acereason.errors import ConfigError
from acereason.files import write_jsonl
from acereason.problems import Problem, Response

BASE = {"sft_prompts": 80, "rl_prompts": 40, "held_out": 10}


def made(folder: Path, seed: int = 1, *, share: float = 1.0, **changes: Any) -> tasks.Data:
    math = {"families": ["chain", "largest"], **BASE, **changes}
    curate = {"tasks": {"math": math}, "sft_share": share, "overlap_share": 0.8}
    recipe = config.parse({**tiny_run.RECIPE, "curate": curate})
    return tasks.make(recipe.curate, seed, folder)[0]


def test_a_smaller_share_is_the_first_part_and_rl_asks_the_same(tmp_path: Path) -> None:
    whole, half, little = (made(tmp_path, share=share) for share in (1.0, 0.5, 0.01))
    assert [p.id for p in half.sft] == [p.id for p in whole.sft][: len(half.sft)]
    assert (len(whole.sft), len(half.sft), len(little.sft)) == (80, 40, 1)
    assert whole.rl == half.rl == little.rl and whole.held_out == half.held_out
    assert [t.text for t in half.traces] == [t.text for t in whole.traces][: len(half.traces)]


def test_a_family_may_have_levels_of_its_own(tmp_path: Path) -> None:
    data = made(tmp_path, min_level=1, max_level=2, levels={"chain": (5, 6)})
    levels = {(p.meta["family"], p.meta["level"]) for p in [*data.sft, *data.held_out]}
    assert levels == {("chain", 5), ("chain", 6), ("largest", 1), ("largest", 2)}
    with pytest.raises(ConfigError, match=r"levels names \['climb'\]"):
        made(tmp_path, levels={"climb": (1, 2)})


def test_some_traces_give_the_answer_at_once_and_the_others_stay(tmp_path: Path) -> None:
    worked, mixed, direct = (made(tmp_path, direct_share=share).traces for share in (0.0, 0.35, 1.0))
    short = [m.text for m, w in zip(mixed, worked, strict=True) if m != w]
    assert 15 < len(short) < 45  # of 80
    assert all(m in (w, d) for m, w, d in zip(mixed, worked, direct, strict=True))
    for d, w in zip(direct, worked, strict=True):
        assert d.text.startswith(END_THINK) and not w.text.startswith(END_THINK)
        assert w.text.endswith(d.text)


def test_files_are_shared_out_by_prompt_with_so_many_traces_of_each(tmp_path: Path) -> None:
    problems = [Problem(f"p{n}", "math", f"question {n}", answer="1") for n in range(20)]
    traces = [Response(p.id, n, f"trace {n}") for p in problems for n in range(5)]
    write_jsonl(tmp_path / "p", problems)
    write_jsonl(tmp_path / "t", traces)
    write_jsonl(tmp_path / "h", [Problem("h", "math", "another question", answer="1")])
    files = {"rl": str(tmp_path / "p"), "sft": str(tmp_path / "p"), "held_out": str(tmp_path / "h")}
    curate = config.Curate(files=config.Files(**files, traces=str(tmp_path / "t"), responses=2))
    half, _ = tasks.make(msgspec.structs.replace(curate, sft_share=0.5), 1, tmp_path)
    whole, _ = tasks.make(curate, 1, tmp_path)
    assert (len(half.sft), len(half.traces), len(whole.traces)) == (10, 20, 40)
    assert {p.id for p in half.sft} < {p.id for p in whole.sft} and half.rl == problems
    assert {t.problem_id for t in half.traces} == {p.id for p in half.sft}


def test_seeds_of_data_and_draws_default_to_the_seed() -> None:
    recipe = config.parse({**tiny_run.RECIPE, "seed": 5})
    other = config.parse({**tiny_run.RECIPE, "seed": 5, "data_seed": 7, "draw_seed": 9})
    assert (recipe.of_data, recipe.of_draws, other.of_data, other.of_draws) == (5, 5, 7, 9)
