"""What a run's folder survives, and what it refuses: starts, stages that are over, changes, deletions."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import tiny_run
from acereason import changes, config, program, runs
from acereason.errors import ConfigError, RunError
from acereason.progress import Quiet
from acereason.sample.engines.embedded import EmbeddedSampler
from acereason.train import rl
from acereason.train.checkpoint import Saver
from commands import outcome

ONE: dict[str, Any] = {
    **tiny_run.RECIPE,
    "sft": {**tiny_run.RECIPE["sft"], "epochs": 1, "evaluate_prompts": 0},
    "stage": [{**tiny_run.RECIPE["stage"][0], "steps": 3}],
}


class Killed(BaseException):
    pass


class Told(Quiet):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, text: str) -> None:
        self.lines.append(text)


def go(run: runs.Run, until: str | None = None) -> list[str]:
    told = Told()
    with tiny_run.coin(), run:
        program.run_all(run, told, until)
    return told.lines


def rows(folder: Path, kind: str) -> list[dict[str, Any]]:
    return [r for r in runs.read_metrics(folder) if r["kind"] == kind]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("finished") / "run"
    go(runs.create(folder, config.parse(ONE)))
    return folder


@pytest.fixture
def folder(finished: Path, tmp_path: Path) -> Path:
    """A copy to spoil."""
    shutil.copytree(finished, tmp_path / "run")
    return tmp_path / "run"


def test_every_start_stays_in_the_metrics(tmp_path: Path, finished: Path) -> None:
    folder = tmp_path / "run"
    go(runs.create(folder, config.parse(ONE)), until="sft")
    go(runs.resume(folder))
    go(runs.resume(folder))
    steps = [r["step"] for r in rows(folder, "sft")]
    assert [r["step"] for r in rows(folder, "start")] == [0, max(steps), max(steps) + 3]
    assert outcome(folder) == outcome(finished)
    for line in (folder / "metrics.jsonl").read_text().splitlines():
        json.loads(line)


def test_until_a_stage_that_is_over_or_unknown_is_refused(folder: Path, tmp_path: Path) -> None:
    before = outcome(folder)
    with runs.resume(folder) as run, pytest.raises(RunError, match=r"'sft' of .* is finished already"):
        program.run_all(run, Quiet(), until="sft")
    with runs.resume(folder) as run, pytest.raises(ConfigError, match=r"no stage 'maths'.*sft, math"):
        program.run_all(run, Quiet(), until="maths")
    assert outcome(folder) == before


@pytest.mark.parametrize("made", [0, 2, 7])
def test_killed_before_the_recipe_was_written_it_begins(tmp_path: Path, made: int) -> None:
    """Right after mkdir, between two folders, and before recipe.json."""
    folder, recipe = tmp_path / "run", config.parse(ONE)
    runs.create(folder, recipe).close()
    whole = sorted(
        p.name for p in folder.iterdir() if p.name not in ("recipe.json", "metrics.jsonl", ".lock")
    )
    shutil.rmtree(folder)
    folder.mkdir()
    for name in whole[:made]:
        (folder / name).touch() if name == "manifest.json" else (folder / name).mkdir()
    (folder / ".recipe.json.77.tmp").write_text("{")
    with pytest.raises(RunError, match="give the recipe, too"):
        runs.resume(folder)
    runs.resume(folder, recipe).close()
    with runs.resume(folder) as run:
        assert run.recipe == recipe
    shutil.rmtree(folder)
    folder.mkdir()
    runs.create(folder, recipe).close()


def test_a_folder_with_other_things_is_no_new_run(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    with pytest.raises(RunError, match="already holds a run"):
        runs.create(tmp_path, config.parse(ONE))
    with pytest.raises(RunError, match="not a run's folder"):
        runs.resume(tmp_path, config.parse(ONE))


def edit(path: Path, **changed: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changed}))


def test_a_recipe_or_manifest_changed_since_is_refused_with_the_difference(folder: Path) -> None:
    recipe = json.loads((folder / "recipe.json").read_text())
    stage = {**recipe["stage"][0], "learning_rate": 0.5}
    edit(folder / "recipe.json", stage=[stage], seed=1)
    with pytest.raises(
        RunError, match=r"differs in: seed \(7 → 1\); stage\.math\.learning_rate \(0\.001 → 0\.5\)"
    ):
        runs.resume(folder)
    edit(folder / "recipe.json", **recipe)
    edit(folder / "manifest.json", resolved={**recipe, "seed": 1})
    with pytest.raises(RunError, match=r"manifest\.json was changed"):
        runs.resume(folder)


@pytest.mark.parametrize("name", ["rl.jsonl", "held_out.jsonl", "traces.jsonl"])
def test_data_changed_since_are_refused_with_the_difference(folder: Path, name: str) -> None:
    file = folder / "data" / name
    text = file.read_text()
    file.write_text(text.replace("a", "b", 1))
    with runs.resume(folder) as run, pytest.raises(RunError, match=rf"{name} had .* sha256"):
        program.run_all(run, Quiet())
    file.write_text(text + text.splitlines()[0] + "\n")
    with runs.resume(folder) as run, pytest.raises(RunError, match=rf"{name} had \d+ lines.*has \d+ lines"):
        program.run_all(run, Quiet())
    file.unlink()
    with runs.resume(folder) as run, pytest.raises(RunError, match=f"{name} is gone"):
        program.run_all(run, Quiet())


def test_deleted_responses_and_evaluations_are_said_and_not_fatal(folder: Path) -> None:
    shutil.rmtree(folder / "responses")
    (folder / "evaluations" / "sft.json").unlink()
    lines = go(runs.resume(folder))
    assert any("responses of 3 steps are not in" in line for line in lines)
    summary = json.loads((folder / "summary.json").read_text())
    assert len(summary["stages"]) == 2 and summary["gain"] == {}


def test_what_no_weight_depends_on_may_change(folder: Path) -> None:
    evaluation = {**ONE["evaluation"], "k": 3}
    other = config.parse({**ONE, "evaluation": evaluation, "keep": {"responses": 2}, "checkpoint_every": 7})
    runs.resume(folder, other).close()
    with runs.resume(folder) as run:
        assert (run.recipe.evaluation.k, run.recipe.checkpoint_every) == (3, 7)
    for bound in ({"seed": 1}, {"sft": {**ONE["sft"], "epochs": 2}}, {"rl": {"weight_decay": 0.1}}):
        with pytest.raises(RunError, match="differs in"):
            runs.resume(folder, config.parse({**ONE, **bound}))


def test_every_free_key_is_one_of_the_recipe() -> None:
    known = config.resolved(config.parse(ONE))
    for key in changes.FREE:
        section, _, name = key.partition(".")
        assert section in known and (not name or name in known[section]), key


def test_an_earlier_schema_is_read_or_refused_in_words(folder: Path) -> None:
    old = {k: v for k, v in ONE.items() if k != "schema"}
    assert config.parse({**old, "keep_responses": False}).keep.responses == 0
    with pytest.raises(ConfigError, match="schema 99; this acereason reads up to"):
        config.parse({**ONE, "schema": 99})
    manifest = json.loads((folder / "manifest.json").read_text())
    del manifest["schema"]
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(RunError, match="in schema 1 of runs; this one goes on with schema 2"):
        runs.resume(folder)


def test_only_so_many_checkpoints_and_responses_are_kept(tmp_path: Path, finished: Path) -> None:
    keep = {"keep": {"checkpoints": 1, "responses": 2}, "checkpoint_every": 1}
    go(runs.create(tmp_path / "run", config.parse({**ONE, **keep})))
    assert len(list((tmp_path / "run" / "checkpoints").iterdir())) == 1
    named = sorted(p.name for p in (tmp_path / "run" / "responses").glob("math-*"))
    every = sorted(p.name for p in (finished / "responses").glob("math-*"))
    assert len(every) == 3 and named == every[1:]
    assert list((tmp_path / "run" / "responses").glob("evaluation-*"))
    none = tmp_path / "none"
    go(runs.create(none, config.parse({**ONE, "keep": {"responses": 0}})))
    assert not list((none / "responses").iterdir())


def test_filter_and_calibration_are_asked_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, finished: Path
) -> None:
    asked = 0
    sample, step = EmbeddedSampler.sample, rl._step

    def counted(self: Any, requests: Any) -> Any:
        nonlocal asked
        for completion in sample(self, requests):
            asked += 1
            yield completion

    def killed(*_: Any) -> None:
        raise Killed

    go(runs.create(tmp_path / "run", config.parse(ONE)), until="sft")
    monkeypatch.setattr(EmbeddedSampler, "sample", counted)
    monkeypatch.setattr(rl, "_step", killed)
    counts = []
    for _ in range(2):
        asked = 0
        with pytest.raises(Killed):
            go(runs.resume(tmp_path / "run"))
        counts.append(asked)
    assert counts[0] > 0 and counts[1] == 0
    monkeypatch.setattr(rl, "_step", step)
    go(runs.resume(tmp_path / "run"))
    assert outcome(tmp_path / "run") == outcome(finished)


def test_a_stage_that_its_rule_ended_takes_no_further_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed between the checkpoint of the last step and that of the stage's end."""
    stage = {**ONE["stage"][0], "steps": 12, "stop": {"truncated_below": 1.0}}
    recipe = config.parse({**ONE, "stage": [stage], "checkpoint_every": 1})
    go(runs.create(tmp_path / "a", recipe))
    save = Saver.__call__

    def killed(self: Saver) -> None:
        if self._position.stage == 1 and self._position.finished:
            raise Killed
        save(self)

    monkeypatch.setattr(Saver, "__call__", killed)
    with pytest.raises(Killed):
        go(runs.create(tmp_path / "b", recipe))
    monkeypatch.setattr(Saver, "__call__", save)
    go(runs.resume(tmp_path / "b"))
    assert 5 <= len(rows(tmp_path / "a", "rl")) < 12, "the rule did not end the stage"
    assert outcome(tmp_path / "b") == outcome(tmp_path / "a")


def test_the_disk_that_is_needed_is_said_and_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = go(runs.create(tmp_path / "a", config.parse(ONE)), until="sft")
    assert any(line.startswith("on the disk: at most") and "checkpoints" in line for line in lines)
    full = SimpleNamespace(total=10**9, used=10**9, free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: full)
    with pytest.raises(RunError, match=r"does not fit on the disk.*free: 1000 B.*keep\.checkpoints"):
        go(runs.create(tmp_path / "b", config.parse(ONE)))
