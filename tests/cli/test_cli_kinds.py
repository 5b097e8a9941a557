"""Every verb on every kind of file or folder that it does not take: an error that says what was found, on one
screen, and nothing is left behind."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from acereason import kinds
from acereason.cli import app
from acereason.errors import AceReasonError

RUNNER = CliRunner()
SAID = {
    "run": "a run's folder",
    "export": "a model exported from a run",
    "export/acereason": "what an export tells of its run; the model is",
    "run/checkpoints/step-000002-1": "a checkpoint, which only its run can open",
    "adapter": "an adapter without the weights",
    "evaluation": "a finished evaluation",
    "runs": "a folder of runs: ",
    "studies": "findings of studies",
    "data": "a folder with data files: held_out.jsonl, rl.jsonl",
    "other": "a folder with notes",
    "empty": "an empty folder",
    "file.txt": "a file",
    "rows.jsonl": "a file of data",
    "nowhere": "nothing",
}
FILES = {
    **dict.fromkeys(
        ("run/recipe.json", "run/metrics.jsonl", "runs/a/b/recipe.json", "export/config.json"), "{}"
    ),
    **{f"export/acereason/{name}.json": "{}" for name in ("recipe", "manifest", "evaluations")},
    "run/checkpoints/step-000002-1/position.json": "{}",
    "run/models/sft/config.json": "{}",
    "adapter/adapter_config.json": "{}",
    "evaluation/results.json": "[]",
    "studies/findings.json": "[]",
    "data/rl.jsonl": '{"question": "What is 1 + 1?", "answer": "2"}\n',
    "data/held_out.jsonl": '{"question": "What is 1 + 2?", "answer": "3"}\n',
    "rows.jsonl": '{"question": "What is 1 + 1?", "answer": "2"}\n',
    "other/notes": "n",
    "file.txt": "hello\n",
}
MODELS, RUNS = ("export", "run/models/sft"), ("run",)
FOLDERS = [name for name in SAID if "." not in name and name != "nowhere"]
WRONG: dict[str, tuple[list[str], tuple[str, ...]]] = {  # a verb with what it takes
    "report": (["report", "IT"], RUNS),
    "plot": (["plot", "IT", "-o", "new.svg"], RUNS),
    "view": (["view", "IT", "--port", "0"], ("run", "runs", "studies")),
    "compare": (["compare", "IT", "IT"], ("run", "evaluation")),
    "export": (["export", "IT", "-o", "new"], RUNS),
    "resume": (["run", "--resume", "-o", "IT"], RUNS),
    "chat": (["chat", "IT"], MODELS),
    "serve": (["serve", "IT", "--port", "0"], MODELS),
    "generate": (["generate", "IT", "rows.jsonl", "-o", "new"], MODELS),
    "evaluate": (["evaluate", "IT", "-p", "rows.jsonl", "-o", "new"], MODELS),
    "calibrate": (["calibrate", "IT", "-p", "rows.jsonl", "--budget", "4"], MODELS),
    "rl": (["rl", "demo", "-m", "IT", "-o", "new"], MODELS),
    "convert": (["convert", "IT", "-o", "new"], ()),
    "check": (["check", "IT"], ()),
    "plan": (["plan", "IT"], ()),
    "curate": (["curate", "IT", "-o", "new"], ()),
    "problems": (["evaluate", "--responses", "rows.jsonl", "-p", "IT", "-o", "new"], ("rows.jsonl",)),
    "responses": (["evaluate", "--responses", "IT", "-p", "rows.jsonl", "-o", "new"], ("rows.jsonl",)),
    "verify": (["verify", "IT", "-o", "new"], ("rows.jsonl",)),
    "findings": (["study", "report", "-o", "IT"], ()),
    "study": (["study", "run", "F3", "-m", "IT", "--data", "rl=r", "--data", "held_out=h"], MODELS),
}  # fmt: skip


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("kinds")
    for name, text in FILES.items():
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_text(text)
    (place / "empty").mkdir()
    return place


@pytest.mark.parametrize("name", SAID)
def test_each_kind_is_named(place: Path, name: str) -> None:
    assert kinds.said(place / name).startswith(SAID[name])


@pytest.mark.parametrize("verb", WRONG)
def test_a_verb_says_what_it_does_not_take(place: Path, verb: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)
    words, takes = WRONG[verb]
    before = sorted(str(p) for p in place.rglob("*"))
    for name in SAID:
        if name in takes:
            continue
        shown = RUNNER.invoke(app, [name if word == "IT" else word for word in words])
        said = f"{shown.output} {shown.exception or ''}"
        assert shown.exit_code and isinstance(shown.exception, AceReasonError | SystemExit), (name, said)
        assert len(said) < 1500 and "Traceback" not in said, name
        if name in FOLDERS:
            assert " ".join(SAID[name].split()) in " ".join(said.split()), (name, said)
    assert sorted(str(p) for p in place.rglob("*")) == before


def test_the_page_shows_an_exports_run_and_not_the_export(place: Path) -> None:
    assert list(kinds.runs_below(place)) == [place / "run", place / "runs" / "a" / "b"]


def test_near_names_are_told(place: Path) -> None:
    assert kinds.near(place / "exprot") == f"; near: {place / 'export'}"
    assert kinds.near(place / "row.jsonl") == f"; near: {place / 'rows.jsonl'}"
    assert kinds.near(place / "no" / "such") == ""


@given(names=st.sets(st.sampled_from([*kinds.MARKS, kinds.CARD, "config.json", "position.json", "a.jsonl"])))
def test_any_mix_of_files_has_a_name_and_a_run_is_one_by_its_marks(
    tmp_path_factory: pytest.TempPathFactory, names: set[str]
) -> None:
    folder = tmp_path_factory.mktemp("mix")
    for name in names:
        (folder / name).write_text(json.dumps({}))
    assert kinds.said(folder)
    assert kinds.is_run(folder) == bool(names & set(kinds.MARKS) and kinds.CARD not in names)


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_folder_that_cannot_be_read(tmp_path: Path) -> None:
    tmp_path.chmod(0)
    try:
        assert kinds.said(tmp_path) == "a folder that cannot be read"
    finally:
        tmp_path.chmod(0o700)
