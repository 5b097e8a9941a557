"""Runs as tests start them: recipes written to files, commands, ranks, and what must not depend on chance."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import tiny_run
from acereason import runs
from acereason.files import file_hash

HERE = Path(__file__).parent


def acereason(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "acereason.cli", *arguments], capture_output=True, text=True, timeout=240
    )


def write_recipe(folder: Path, **changes: object) -> Path:
    """The tiny recipe as a TOML file."""
    data = {**tiny_run.RECIPE, **changes}
    path = folder / "tiny.toml"
    lines = [f"{k} = {json.dumps(v)}" for k, v in data.items() if not isinstance(v, dict | list)]
    lines += [f"{k} = {inline(v)}" for k, v in data.items() if isinstance(v, dict | list)]
    path.write_text("\n".join(lines))
    return path


def inline(value: object) -> str:
    """A value as inline TOML."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(k)} = {inline(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(inline(v) for v in value) + "]"
    return json.dumps(value)


def without_times(value: Any) -> Any:
    """Metrics less what a clock measured."""
    if isinstance(value, dict):
        return {k: without_times(v) for k, v in value.items() if k != "seconds"}
    return value


def outcome(folder: Path) -> dict[str, Any]:
    """Everything that must not depend on interruptions."""
    rows = [without_times(r) for r in runs.read_metrics(folder) if r["kind"] != "start"]
    files = [*(folder / "models").rglob("*.safetensors"), *(folder / "responses").glob("*.jsonl")]
    summary = json.loads((folder / "summary.json").read_text())
    return {
        "metrics": rows,
        "files": {str(f.relative_to(folder)): file_hash(f) for f in sorted(files)},
        "summary": without_times(summary),
    }


def torchrun(script: str, *arguments: str, ranks: int = 2) -> subprocess.Popen[str]:
    """A script on so many ranks of this machine."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}"]
    return subprocess.Popen(
        [*launcher, str(HERE / script), *arguments],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
