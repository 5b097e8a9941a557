"""Whole runs on two ranks: the responses of one rank, resuming on another number of ranks, a killed rank."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import tiny_run
from commands import outcome, write_recipe
from ranked import asked, finish, kill_after, one, rl_rows, texts, two

SFT = {"epochs": 3, "batch_tokens": 1280, "learning_rate": 5e-3, "evaluate_prompts": 0}
SIZES = {"steps": 6, "prompts": 7, "budget": 40, "overlong": "zero", "temperature": {"value": 0.8}}
STAGES = [{**tiny_run.RECIPE["stage"][0], **SIZES}]
CHANGES = {"sft": SFT, "stage": STAGES, "checkpoint_every": 2}


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on one rank that nobody interrupted."""
    folder = tmp_path_factory.mktemp("reference") / "run"
    finish(one(folder, "new", json.dumps(CHANGES)))
    return folder


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same on two ranks."""
    folder = tmp_path_factory.mktemp("both") / "run"
    finish(two(folder, "new", json.dumps(CHANGES)))
    return folder


@pytest.mark.slow
def test_two_ranks_ask_the_same_and_get_the_same_responses(reference: Path, both: Path) -> None:
    folder = both
    assert asked(folder) == asked(reference)
    mine, theirs = texts(folder), texts(reference)
    first = min(mine)
    assert mine[first] == theirs[first]
    equal = [a == b for step in mine for a, b in zip(mine[step], theirs[step], strict=True)]
    assert sum(equal) >= 0.9 * len(equal)  # rounding may draw another token where two are as likely
    rows = list(zip(rl_rows(folder), rl_rows(reference), strict=True))
    learned = [(a, b) for a, b in rows if b["gradient_norm"] is not None]
    assert len(learned) >= 3
    for key in ("reward", "H_T", "loss", "gradient_norm", "tokens", "learned_tokens"):
        assert learned[0][0][key] == pytest.approx(learned[0][1][key], rel=1e-3), key


@pytest.mark.slow
def test_a_run_goes_from_two_ranks_to_one_to_two_with_nothing_lost_or_doubled(
    reference: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    process = two(folder, "new", json.dumps(CHANGES))
    kill_after(process, folder, 2, "one")  # one rank dies in the middle of a step
    output, _ = process.communicate(timeout=200)
    assert process.returncode != 0, "the job went on without one of its ranks"
    assert len(rl_rows(folder)) < 6, output[-2000:]
    process_ = one(folder, "resume")
    kill_after(process_, folder, 4, "all")
    process_.communicate()
    finish(two(folder, "resume"))
    steps = [row["step"] for row in rl_rows(folder)]
    assert steps == [row["step"] for row in rl_rows(reference)]
    assert asked(folder) == asked(reference)
    mine, theirs = texts(folder), texts(reference)
    equal = [a == b for step in mine for a, b in zip(mine[step], theirs[step], strict=True)]
    assert sum(equal) >= 0.9 * len(equal)
    assert json.loads((folder / "summary.json").read_text())["stages"]


@pytest.mark.slow
def test_two_ranks_of_which_one_was_killed_end_with_the_same_bytes(both: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    process = two(folder, "new", json.dumps(CHANGES))
    kill_after(process, folder, 3, "one")
    process.communicate(timeout=200)
    finish(two(folder, "resume"))
    assert outcome(folder) == outcome(both)


@pytest.mark.slow
def test_one_process_in_bfloat16_resumes_to_the_same_bytes(tmp_path: Path) -> None:
    changes = json.dumps({**CHANGES, "placement": {"compute": "bfloat16"}})
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    finish(one(whole, "new", changes))
    process = one(killed, "new", changes)
    kill_after(process, killed, 3, "all")
    process.communicate()
    finish(one(killed, "resume"))
    assert outcome(killed) == outcome(whole)


@pytest.mark.slow
def test_ranks_without_a_launcher_stop_together_on_sigterm(tmp_path: Path) -> None:
    """As under Slurm: the ranks' environment is set by hand, and every rank gets the signal."""
    recipe = write_recipe(tmp_path, **{**CHANGES, "checkpoint_every": 100})
    folder, port = tmp_path / "run", str(20000 + os.getpid() % 20000)

    def start(*more: str) -> list[subprocess.Popen[str]]:
        command = [sys.executable, "-m", "acereason", "run", str(recipe), "--out", str(folder), "-q", *more]
        common = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        pipes: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
        places = [{"RANK": str(rank), "LOCAL_RANK": str(rank), "OMP_NUM_THREADS": "1"} for rank in range(2)]
        return [subprocess.Popen(command, env={**os.environ, **common, **p}, **pipes) for p in places]

    processes = start()
    while len(rl_rows(folder)) < 2:
        assert all(process.poll() is None for process in processes)
        time.sleep(0.01)
    for process in reversed(processes):  # the second rank hears of it first
        process.send_signal(signal.SIGTERM)
        time.sleep(0.2)
    said = [process.communicate(timeout=200)[1] for process in processes]
    assert [process.returncode for process in processes] == [75, 75], said
    done = rl_rows(folder)
    assert 2 <= len(done) < 6
    again = start("--resume")
    said = [process.communicate(timeout=280)[1] for process in again]
    assert [process.returncode for process in again] == [0, 0], said
    assert rl_rows(folder)[: len(done)] == done and len(rl_rows(folder)) == 6


@pytest.mark.slow
def test_the_command_line_runs_on_ranks_from_a_model_of_ones_own(reference: Path, tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path, **{**CHANGES, "stage": [{**STAGES[0], "steps": 1}]})
    model, folder = str(reference / "models" / "sft"), tmp_path / "run"
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    arguments = ["rl", str(recipe), "--model", model, "--out", str(folder)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}

    def go(*more: str) -> subprocess.CompletedProcess[str]:
        command = [*launch, "-m", "acereason", *arguments, *more]
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240)

    done = go("--set", "placement.compute=bfloat16", "--set", "placement.checkpoint_activations=true")
    assert done.returncode == 0, done.stderr[-3000:]
    assert [row["stage_step"] for row in rl_rows(folder)] == [1]
    config = json.loads((folder / "models" / "math" / "config.json").read_text())
    assert config["dtype"] == "bfloat16" and config["architectures"] == ["Qwen3ForCausalLM"]
    refused = go()  # the folder holds a run already
    assert refused.returncode != 0 and "already holds a run" in " ".join(refused.stderr.split())
