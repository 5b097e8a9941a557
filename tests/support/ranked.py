"""Tiny runs on one rank and on two, looked at while they go and killed on the way."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import tiny_run
from acereason import runs
from commands import torchrun


def one(folder: Path, *how: str) -> subprocess.Popen[bytes]:
    """The run in one process, with PyTorch's passes, as ranks have them."""
    script = str(Path(tiny_run.__file__))
    environment = {**os.environ, "ACEREASON_NATIVE": "0", "OMP_NUM_THREADS": "1"}
    return subprocess.Popen([sys.executable, script, str(folder), *how], env=environment)


def two(folder: Path, *how: str) -> subprocess.Popen[str]:
    return torchrun("tiny_run.py", str(folder), *how)


def finish(process: subprocess.Popen[Any]) -> None:
    output, _ = process.communicate(timeout=280)
    assert process.returncode == 0, (output or "")[-3000:]


def rl_rows(folder: Path) -> list[dict[str, Any]]:
    return [row for row in runs.read_metrics(folder) if row["kind"] == "rl"]


def asked(folder: Path) -> dict[str, list[tuple[str, int]]]:
    """Which prompts and samples each step asked, in order."""
    found = {}
    for file in sorted((folder / "responses").glob("math-*.jsonl")):
        rows = [json.loads(line) for line in file.read_text().splitlines()]
        found[file.name] = [(row["problem_id"], row["sample"]) for row in rows]
    return found


def texts(folder: Path) -> dict[str, list[str]]:
    return {
        file.name: [json.loads(line)["text"] for line in file.read_text().splitlines()]
        for file in sorted((folder / "responses").glob("math-*.jsonl"))
    }


def kill_after(process: subprocess.Popen[Any], folder: Path, rows: int, victim: str) -> None:
    """SIGKILL `victim` once so many RL steps are recorded."""
    deadline = time.monotonic() + 200
    while len(rl_rows(folder)) < rows:
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    if victim == "all":
        children = _children(process.pid)
        process.kill()
        for child in children:
            os.kill(child, signal.SIGKILL)
    else:
        os.kill(_children(process.pid)[-1], signal.SIGKILL)


def _children(pid: int) -> list[int]:
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [int(child) for child in text.split()]
