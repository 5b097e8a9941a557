"""A run's evaluation: what cannot be judged, single questions and mixed families spoil nothing."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import numpy as np
from rich.console import Console

import tiny_run
from acereason import config, runs
from acereason.evaluate import held_out, summary
from acereason.problems import Problem, Verdict
from acereason.sample.ask import Answer, Groups
from acereason.sample.protocol import Completion, Request
from acereason.view.terminal.summary import table

RECIPE = {**tiny_run.RECIPE, "stage": tiny_run.RECIPE["stage"][:1]}


def groups(*rows: str, families: tuple[object, ...] = (), k: int = 4) -> Groups:
    """A row a problem: 1 right, 0 wrong, ? not judged."""
    one = np.zeros(1, np.float32)
    completion = Completion(Request([1], 4, 1.0, 1), np.zeros(1, np.int32), one, one, one, "stop")
    verdicts = {"1": Verdict("correct", 1), "0": Verdict("wrong", 0), "?": Verdict("unjudged", None)}
    found = []
    for number, row in enumerate(rows):
        family = families[number] if number < len(families) else None
        meta = {} if family is None else {"family": family}
        problem = Problem(f"p{number}", "math", "?", "1", meta=meta)
        found.append([Answer(problem, j, completion, "x", verdicts[mark]) for j, mark in enumerate(row)])
    return found


def test_what_could_not_be_judged_is_counted_apart() -> None:
    row = held_out.summarise(groups("1100", "????", "1???", "1111"))
    assert (row["accuracy"], row["n"], row["k"]) == ((0.5 + 1 + 1) / 3, 3, 4)
    assert row["unjudged"] == {"samples": 7, "problems": 1}
    assert row["pass_at_k"] == {"1": 0.75, "4": 1.0}
    assert "7 answers could not be judged" in held_out.said(row)
    nothing = held_out.summarise(groups("????"))
    assert nothing["accuracy"] is None and nothing["n"] == 0 and nothing["pass_at_k"] == {}
    assert "could be judged" in held_out.said(nothing)


def test_families_may_be_mixed_missing_or_of_any_type() -> None:
    row = held_out.summarise(groups("10", "11", "00", families=("mine", None, 3)))
    assert {name: part["accuracy"] for name, part in row["by_family"].items()} == {"3": 0.0, "mine": 0.5}
    assert row["accuracy"] == 0.5


def finished(folder: Path, before: Groups, after: Groups) -> dict[str, object]:
    """summary.json of a run with two stages of these answers."""
    with runs.create(folder, config.parse(RECIPE)) as run:
        for stage, asked in (("sft", before), ("math", after)):
            row = held_out.summarise(asked)
            run.record("evaluation", step=1, stage=stage, benchmark="math", **row)
            summary.keep(run, stage, {"math": summary.Result.of(asked)})
        summary.write(run)

    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is no JSON")

    found = json.loads((folder / "summary.json").read_text(), parse_constant=refuse)
    Console(quiet=True).print(table(found))
    return found  # type: ignore[no-any-return]


def test_one_question_has_no_error_and_the_summary_is_json(tmp_path: Path) -> None:
    found = finished(tmp_path / "run", groups("1000"), groups("1111"))
    assert found["gain"] == {"math": {"mean": 0.75, "se": None, "low": None, "high": None}}
    rows = msgspec.json.decode(msgspec.json.encode(found["stages"]))
    assert rows[0]["evaluation"]["math"]["se"] is None


def test_questions_judged_on_one_side_only_are_not_paired(tmp_path: Path) -> None:
    families = ("a", "b", None)
    before = groups("10??", "????", "0000", families=families)
    found = finished(tmp_path / "run", before, groups("1111", "1111", "????", families=families))
    assert found["gain"]["math"]["mean"] == 0.5  # type: ignore[index]
    assert set(found["decomposition"]["math"]["families"]) == {"a"}  # type: ignore[index]
    nothing = finished(tmp_path / "other", before, groups("????", "????", "????", families=families))
    assert nothing["gain"]["math"]["mean"] is None  # type: ignore[index]
    assert nothing["decomposition"] == {}
