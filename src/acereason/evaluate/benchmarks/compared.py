"""Two evaluations question by question, wherever they were made: by `evaluate`, or by a run after its stages.

tables(path)              an evaluation's folder; a run's, of its last evaluated stage; or one stage's file
                          RUN/evaluations/STAGE.json
compare(before, after)    the paired differences on the questions that both have
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from acereason import kinds
from acereason.errors import RunError
from acereason.evaluate.benchmarks import scores
from acereason.evaluate.benchmarks.scores import Compared, Rows, Table, Verdicts, of_score


class KeptScores(msgspec.Struct):
    """One benchmark of a run's `evaluations/STAGE.json`."""

    ids: list[str]
    right: list[Verdicts]


def tables(path: Path) -> list[Table]:
    """The benchmarks of an evaluation or a run; RunError when there are none."""
    if (path / "results.json").exists():
        return [of_score(score) for score in scores.read(path)]
    if path.is_file():
        return _of_stage(path)
    if (path / "evaluations").is_dir():
        return _of_stage(_last_stage(path))
    raise RunError(
        f"{path} holds no finished evaluation: expected an evaluation's folder with its results.json, a "
        f"run's, or RUN/evaluations/STAGE.json; found {kinds.said(path)}"
    )


def _last_stage(run: Path) -> Path:
    try:
        recipe = json.loads((run / "recipe.json").read_text())
        names = ["sft", *(str(stage["name"]) for stage in recipe["stage"])]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(f"{run} is not a run's folder: recipe.json cannot be read ({error})") from error
    files = [run / "evaluations" / f"{name}.json" for name in names]
    done = [file for file in files if file.exists()]
    if not done:
        raise RunError(f"{run} holds no finished evaluation of a stage yet; its stages: {', '.join(names)}")
    return done[-1]


def _of_stage(file: Path) -> list[Table]:
    try:
        by_benchmark = msgspec.json.decode(file.read_bytes(), type=dict[str, KeptScores])
    except (OSError, msgspec.DecodeError) as error:
        raise RunError(f"{file} is no stage's evaluation: {error}") from error
    return [
        Table(name, name, dict(zip(kept.ids, kept.right, strict=True))) for name, kept in by_benchmark.items()
    ]


def curve(table: Table) -> list[scores.PassAtK]:
    """pass@k over the questions all of whose samples were judged; empty when there are none."""
    whole: Rows = [row for row in table.rows.values() if None not in row and row]
    return scores.curve(whole, min(map(len, whole))) if whole else []


def noted(compared: Sequence[Compared]) -> list[str]:
    """What a table of comparisons needs said under it."""
    return [f"{c.title}: {c.left_out} questions stand in one of the two only" for c in compared if c.left_out]


def finite(compared: Sequence[Compared]) -> Any:
    """As JSON, which has no NaN: null stands for an error that one question cannot have."""
    rows = msgspec.to_builtins(compared)
    return [{k: None if isinstance(v, float) and np.isnan(v) else v for k, v in row.items()} for row in rows]
