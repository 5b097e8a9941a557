"""What a run's training is told of its answers, and what its evaluations are told, are two things."""

from __future__ import annotations

from pathlib import Path

import msgspec

import tiny_run
from acereason import config, program, runs
from acereason.progress import Quiet
from acereason.runs import read_metrics


def test_a_judge_that_errs_errs_in_training_alone(tmp_path: Path) -> None:
    recipe = config.parse({**tiny_run.RECIPE, "rl": {"judges": 1, "false_positives": 1.0}})
    first = msgspec.structs.replace(recipe, stage=recipe.stage[1:])
    with runs.create(tmp_path / "run", first) as run:
        program.run_all(run, Quiet())
    rows = list(read_metrics(tmp_path / "run"))
    assert {r["reward"] for r in rows if r["kind"] == "rl"} == {1.0}  # nothing that it writes is right
    assert {r["accuracy"] for r in rows if r["kind"] == "evaluation"} == {0.0}


def test_the_start_of_a_run_without_sft_need_not_be_evaluated(tmp_path: Path) -> None:
    recipe = config.parse(tiny_run.RECIPE)
    recipe = msgspec.structs.replace(recipe, sft=None, stage=recipe.stage[1:])
    silent = msgspec.structs.replace(recipe.evaluation, start=False)
    told = {}
    for name, evaluation in (("with", recipe.evaluation), ("without", silent)):
        changed = msgspec.structs.replace(recipe, evaluation=evaluation)
        with runs.create(tmp_path / name, changed) as run:
            told[name] = program.run_all(run, Quiet())
    whole, short = told["with"], told["without"]
    assert whole is not None and short is not None
    assert [s["name"] for s in short["stages"]] == ["code"] and short["gain"] == {} and whole["gain"]
    assert short["stages"][0] == whole["stages"][1]
    assert not (tmp_path / "without" / "models" / "sft").exists()
