"""`check`: each thing that is wrong is said in one line, before a folder is made; 2 is its exit status."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from acereason.cli import app
from acereason.errors import ConfigError

RUNNER = CliRunner()
HELD = [{"id": "h", "domain": "math", "question": "How many legs has an ant?", "answer": "6"}]
ROWS = [
    {
        "id": f"p{i}",
        "domain": "math",
        "question": f"What is {i} + {i}?",
        "answer": "4",
        "meta": {"level": i + 1},
    }
    for i in range(4)
]


def write(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def recipe(folder: Path, rl: list[dict[str, Any]] = ROWS, stage: str = "", more: str = "") -> str:
    text = f"""
name = "t"
[model.new]
max_position_embeddings = 256
[curate.files]
rl = "{write(folder / "rl.jsonl", rl)}"
held_out = "{write(folder / "held.jsonl", HELD)}"
[evaluation]
budget = 64
[[stage]]
name = "m"
domain = "math"
budget = 64
steps = 1
prompts = 4
{stage}
{more}
"""
    path = folder / "recipe.toml"
    path.write_text(text)
    return str(path)


def test_a_recipe_with_nothing_wrong(tmp_path: Path) -> None:
    shown = RUNNER.invoke(app, ["check", recipe(tmp_path), "-o", str(tmp_path / "run")])
    assert shown.exit_code == 0 and "nothing is wrong" in shown.stdout and "4 rows, 4 taken" in shown.stdout
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (["stage.m.domain=Math"], "unknown domain 'Math'; did you mean 'math'"),
        (["stage.m.domain=code"], "no prompt of domain 'code'; there are: math"),
        (["stage.m.budget=256"], "leave no room for a prompt in the context of 256"),
        (["evaluation.budget=9999"], "9,999 tokens leave no room"),
        (["stage.m.filter.levels=[7,9]"], "no prompt has a level from 7 to 9; there are 1 to 4"),
        (["curate.files.rl=nowhere.jsonl"], "there is no file nowhere.jsonl"),
        (["curate.files="], "no data"),
        (["model.new=", "model.path=./nowhere"], "there is no folder ./nowhere"),
        (['sampling.servers.urls=["http://127.0.0.1:9"]'], "http://127.0.0.1:9 does not answer"),
        (["model.new.hidden_size=65536", "model.new.num_hidden_layers=400"], "GB are needed"),
    ],
)
def test_what_is_wrong_is_said_and_the_run_refused(tmp_path: Path, changes: list[str], words: str) -> None:
    sets = [part for change in changes for part in ("--set", change)]
    path, out = recipe(tmp_path), str(tmp_path / "run")
    shown = RUNNER.invoke(app, ["check", path, "-o", out, *sets])
    assert shown.exit_code == 2 and words in shown.stdout, shown.stdout
    dry = RUNNER.invoke(app, ["run", path, "--dry-run", "-o", out, *sets])
    assert dry.exit_code == 0 and words in dry.stderr and "error" not in dry.stderr.split()
    with pytest.raises(ConfigError) as refused:
        RUNNER.invoke(app, ["run", path, "-o", out, *sets], catch_exceptions=False)
    assert words in str(refused.value) and not Path(out).exists()


def test_faults_of_rows_are_errors_and_losses_warnings(tmp_path: Path) -> None:
    shown = RUNNER.invoke(app, ["check", recipe(tmp_path, [*ROWS, ROWS[0]])])
    assert shown.exit_code == 2 and "line 5: the id 'p0' is also that of line 1" in shown.stdout
    typo = {"id": "t", "domain": "math", "question": "What is 9 + 1?", "anwser": "10"}
    shown = RUNNER.invoke(app, ["check", recipe(tmp_path, [*ROWS, typo])])
    assert shown.exit_code == 0 and "warning" in shown.stdout and "set aside: 1 no answer" in shown.stdout


def test_a_curation_is_checked_too(tmp_path: Path) -> None:
    path = tmp_path / "curation.toml"
    source = f'[[sources]]\nname = "mine"\npath = "{write(tmp_path / "rows.jsonl", ROWS)}"\n'
    path.write_text(source)
    shown = RUNNER.invoke(app, ["check", str(path)])
    assert shown.exit_code == 0 and "the first 4 rows can be used" in shown.stdout
    path.write_text(source + 'columns = { question = "text" }\n')
    shown = RUNNER.invoke(app, ["check", str(path)])
    assert shown.exit_code == 2 and "missing: text" in shown.stdout


def test_ranks_that_cannot_share_the_heads_are_refused(tmp_path: Path) -> None:
    path = recipe(tmp_path, more="[placement]\nsequence = 3")
    shown = RUNNER.invoke(app, ["check", path, "-o", str(tmp_path / "run")])
    assert shown.exit_code == 2 and "3 ranks cannot share the model's 4 attention heads" in " ".join(
        shown.output.split()
    )
