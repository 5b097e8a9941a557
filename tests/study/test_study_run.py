"""A study from beginning to end at a tiny size: shared arms once, killed and gone on, failures told."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import pytest
from typer.testing import CliRunner

from acereason.cli import app
from acereason.errors import RunError
from acereason.files import lock
from acereason.study import findings, plan, runner, spec
from acereason.study.records import Results, model_of

STUDY = """
name = "mini"
title = "A small claim"
claim = "after is better than before"
paper = "none"
seeds = [101, 102, 103]
use = ["sft"]

[[arm]]
name = "after{n}"
phase = "rl"
start = "sft"
stages = ["math"]
set = ["stage.math.budget={n}", "stage.math.prompts=4", "stage.math.group=4"]
each = [{ n = 16 }, { n = 24 }]

[[arm]]
name = "again"   # the same as after16, by another name
phase = "rl"
start = "sft"
stages = ["math"]
set = ["stage.math.budget=16", "stage.math.prompts=4", "stage.math.group=4"]

[[effect]]
name = "after − before"
kind = "contrast"
terms = { after16 = 1, sft = -1 }
delta = 1.0

[figure]
x = "budget"
[[figure.lines]]
label = "after"
arms = ["after16", "after24"]
x = [16, 24]
"""


def planned(path: Path, text: str = STUDY) -> tuple[spec.Study, plan.Plan, plan.Ground]:
    (path / "mini.toml").write_text(text)
    study = spec.load(str(path / "mini.toml"))
    ground = plan.Ground(spec.load_lab(), "tiny", "dev")
    return study, plan.plan([study], ground), ground


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """The study run once, and what was said."""
    path = tmp_path_factory.mktemp("study")
    _, jobs, _ = planned(path)
    said: list[str] = []
    folders = runner.Folders(path / "runs", path / "results")
    assert runner.run(runner.missing(jobs, folders), folders, 2, said.append) == {}
    return path, said


def test_every_arm_is_run_once_and_kept_small(done: tuple[Path, list[str]]) -> None:
    path, said = done
    study, jobs, ground = planned(path)
    kept = sorted(p.stem for p in (path / "results").iterdir())
    assert kept == sorted(jobs.jobs) and len(kept) == len(said) == 8  # base, sft and two arms, two seeds
    assert all(p.stat().st_size < 8000 for p in (path / "results").iterdir())
    assert said[-1].startswith("100%") and not (path / "runs" / kept[0] / "checkpoints").exists()
    results = Results(path / "results")
    record = results.get(jobs.arms["mini"]["after24", 101])
    assert record is not None and record.training["math"].steps == 2 and record.seconds > 0
    assert set(record.outcomes) == {"math"} and set(record.outcomes["math"]) == {"math", "code"}
    verdicts = findings.write([study], ground, results, path / "docs")
    assert verdicts[0].verdict in ("supported", "contradicted", "undecided")
    text = (path / "docs" / "findings.md").read_text()
    hours = sum(found.seconds for a in kept if (found := results.get(a))) / 3600
    assert "A small claim" in text
    assert f"8 of 8 arms; {hours:.1f} processor hours" in text
    assert json.loads((path / "docs" / "findings.json").read_text())[0]["stated"] == spec.digest(study)
    assert "<svg" in (path / "docs" / "findings" / "mini.svg").read_text()


def test_a_record_says_which_copy_of_its_start_it_began_from(done: tuple[Path, list[str]]) -> None:
    _, jobs, _ = planned(done[0])
    results = Results(done[0] / "results")
    records = [record for address in jobs.jobs if (record := results.get(address))]
    left = {record.address: record.weights for record in records}
    assert all(left.values()) and len(set(left.values())) == len(records)
    assert all(record.began == left.get(str(record.start), "") for record in records)


def test_another_machine_goes_on_from_the_records(done: tuple[Path, list[str]], tmp_path: Path) -> None:
    path, _ = done
    _, jobs, _ = planned(path)
    folders = runner.Folders(tmp_path / "empty", path / "results")
    assert runner.missing(jobs, folders) == []
    arm = jobs.arms["mini"]["after24", 102]
    first = (path / "results" / f"{arm}.json").read_bytes()
    other = tmp_path / "results"
    other.mkdir()
    for record in (path / "results").iterdir():
        if record.stem != arm:
            (other / record.name).write_bytes(record.read_bytes())
    start = str(jobs.jobs[arm].start)
    elsewhere = Results(other).get(start)
    assert elsewhere is not None
    (other / f"{start}.json").unlink()
    Results(other).put(msgspec.structs.replace(elsewhere, weights="ab"))  # another machine's digits
    folders = runner.Folders(tmp_path / "empty", other)
    again = runner.missing(jobs, folders)
    assert [job.name for job in again] == ["base", "sft", "after24"]  # only for the model that it starts from
    assert runner.run(again, folders, 1, lambda _: None) == {}
    same = [json.loads(data)["outcomes"] for data in (first, (other / f"{arm}.json").read_bytes())]
    assert same[0] == same[1]
    kept = Results(other).copy(start, elsewhere.weights)
    assert kept is not None and kept.outcomes == elsewhere.outcomes
    assert getattr(Results(other).get(start), "weights", "") == "ab"


def test_a_failed_arm_is_told_and_the_others_are_run(tmp_path: Path) -> None:
    text = STUDY.replace("budget={n}", "budget={n}000").replace('"stage.math.budget=16",', "")
    study, jobs, ground = planned(tmp_path, text)  # 16,000 tokens do not fit into the context
    folders = runner.Folders(tmp_path / "runs", tmp_path / "results")
    said: list[str] = []
    failed = runner.run(runner.missing(jobs, folders), folders, 2, said.append)
    assert {jobs.jobs[a].name for a in failed} == {"after16", "after24"} and len(failed) == 4
    assert sum("FAILED" in line for line in said) == 4
    results = Results(tmp_path / "results")
    told = findings.write([study], ground, results, tmp_path / "docs")[0]
    assert told.verdict == "not run yet" and set(told.failed) >= {"after16, seed 101", "after24, seed 102"}
    assert "context" in told.failed["after16, seed 101"]
    assert str(tmp_path) not in (tmp_path / "docs" / "findings.md").read_text()
    assert "**Failed**: after16, seed 101" in (tmp_path / "docs" / "findings.md").read_text()


def test_what_starts_from_a_failed_arm_is_not_run(tmp_path: Path) -> None:
    diverges = 'name = "sft"\nphase = "sft"\nstart = "base"\nset = ["sft.learning_rate=1e30"]'
    text = STUDY.replace('use = ["sft"]', "").replace("[[effect]]", f"[[arm]]\n{diverges}\n\n[[effect]]")
    _, jobs, _ = planned(tmp_path, text)
    folders = runner.Folders(tmp_path / "runs", tmp_path / "results")
    failed = runner.run(runner.missing(jobs, folders), folders, 2, lambda _: None)
    names = {jobs.jobs[a].name: why for a, why in failed.items()}
    assert set(names) == {"sft", "after16", "after24"} and "its start failed" in names["after16"]


def test_no_arm_lives_on_when_the_command_is_killed(tmp_path: Path) -> None:
    long = '[[arm]]\nname = "base"\nphase = "base"\nset = ["sft.epochs=100000"]\n\n[[effect]]'
    planned(tmp_path, STUDY.replace("[[effect]]", long, 1))
    command = [sys.executable, "-m", "acereason", "study", "run", str(tmp_path / "mini.toml")]
    command += ["--size", "tiny", "-o", str(tmp_path / "out")]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    while (
        not (rows := list((tmp_path / "out").glob("*/metrics.jsonl"))) or b"sft" not in rows[0].read_bytes()
    ):
        time.sleep(0.1)
    held = rows[0].with_name(".lock")
    with pytest.raises(RunError):
        lock(held)
    process.kill()
    process.wait()
    for _ in range(200):
        time.sleep(0.1)
        with contextlib.suppress(RunError):
            return lock(held).close()
    raise AssertionError("the arm lives on")


@pytest.mark.slow
def test_killed_at_any_moment_the_same_command_goes_on(done: tuple[Path, list[str]], tmp_path: Path) -> None:
    """SIGKILL to the command, three times; arms must not live on beside the next attempt."""
    path, _ = done
    command = [sys.executable, "-m", "acereason", "study", "run", str(path / "mini.toml"), "--size", "tiny"]
    command += ["-o", str(tmp_path / "out"), "-w", "2"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    for wait in (6.0, 8.0, 10.0):
        process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, stdout=subprocess.PIPE)
        time.sleep(wait)
        process.send_signal(signal.SIGKILL)
        process.communicate()
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=200)
    assert ended.returncode == 0, ended.stderr
    kept = tmp_path / "out" / "findings" / "arms"
    for record in (path / "results").iterdir():
        whole, killed = (
            json.loads((folder / record.name).read_text()) for folder in (path / "results", kept)
        )
        assert whole["outcomes"] == killed["outcomes"] and whole["training"] == killed["training"]
    assert model_of(tmp_path / "out", record.stem)


def test_an_arm_whose_process_is_killed_is_told_and_tried_again(tmp_path: Path) -> None:
    _, jobs, _ = planned(tmp_path)
    folders = runner.Folders(tmp_path / "runs", tmp_path / "results")
    wanted = [job for job in runner.missing(jobs, folders) if job.phase == "base"][:1]
    crew = runner.Crew(list(wanted), folders, 1, lambda _: None)
    crew.begin()
    process = next(iter(crew.going.values()))[0]
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    crew.end()
    assert crew.failed == {wanted[0].address: "its process ended with status -9"}
    assert "status -9" in str(Results(tmp_path / "results").failure(wanted[0].address))
    assert runner.run(runner.missing(jobs, folders)[:1], folders, 1, lambda _: None) == {}
    assert Results(tmp_path / "results").failure(wanted[0].address) is None


def test_a_file_that_is_not_there_is_said_before_anything_is_run(tmp_path: Path) -> None:
    model = tmp_path / "model"
    model.mkdir()
    (model / "model.safetensors").write_bytes(b"weights")
    (tmp_path / "rl.jsonl").write_text("{}\n")
    lost = tmp_path / "r1.jsonl"
    files = ["--data", f"rl={lost}", "--data", f"held_out={lost}"]
    done = CliRunner().invoke(
        app, ["study", "run", "F6", "-m", str(model), *files, "-o", str(tmp_path / "runs")]
    )
    assert str(done.exception).startswith(f"--data rl: expected a file, {lost} is nothing; near: ")
    assert str(tmp_path / "rl.jsonl") in str(done.exception) and not (tmp_path / "runs").exists()
