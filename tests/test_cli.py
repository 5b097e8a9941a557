"""The command line as people meet it: help, dry runs, and errors that fit one screen with status 2."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

import tiny_run
from acereason import config
from acereason.errors import ConfigError


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


def test_every_verb_has_help() -> None:
    shown = acereason("--help")
    assert shown.returncode == 0
    for verb in ("demo", "run", "curate", "sft", "calibrate", "rl", "evaluate", "verify", "report"):
        assert verb in shown.stdout
    assert "stage.NAME.steps" in acereason("run", "--help").stdout


@pytest.mark.parametrize("name", ["demo", "acereason-1.1-7b", "acereason-1.0-1.5b"])
def test_shipped_recipes_resolve(name: str) -> None:
    shown = acereason("run", name, "--dry-run")
    assert shown.returncode == 0, shown.stderr
    text, _, digest = shown.stdout.rpartition("hash ")
    assert json.loads(text)["name"] == name and len(digest.strip()) == 16


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "nowhere.toml"], "cannot read the recipe nowhere.toml"),
        (["run", "dmeo"], "shipped: acereason-1.0-1.5b, acereason-1.1-7b, demo"),
        (["run", "demo", "--dry-run", "--set", "sft.epoch=3"], "did you mean epochs?"),
        (["run", "demo", "--dry-run", "--set", "stage.code.group=1"], "Expected `int` >= 2"),
        (["run", "demo", "--dry-run", "--set", "stage.cod.group=4"], "math-short, math-long, code"),
        (["run", "--resume", "--out", "/nonexistent"], "is not a run's folder"),
        (["evaluate", "/nonexistent", "-p", "x.jsonl"], "config.json"),
        (["verify", "x.jsonl"], "--out"),
    ],
)
def test_errors_are_clear_and_short(arguments: list[str], message: str) -> None:
    shown = acereason(*arguments)
    assert shown.returncode == 2
    assert message in " ".join(shown.stderr.split())
    assert "Traceback" not in shown.stderr and len(shown.stderr.splitlines()) < 24


def test_a_budget_that_does_not_fit_the_context_leaves_a_run_that_resumes(tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path)
    out = str(tmp_path / "run")
    shown = acereason("run", str(recipe), "--out", out, "-q", "--set", "stage.math.budget=250")
    assert shown.returncode == 2 and "more than the model's context of 256" in " ".join(shown.stderr.split())
    again = acereason("run", "--resume", "--out", out, "-q")
    assert again.returncode == 2 and "context" in again.stderr
    assert (tmp_path / "run" / "models" / "sft" / "config.json").exists()


def test_a_full_disk_is_said_and_the_run_resumes(tmp_path: Path) -> None:
    """A file-size limit stands in for a full disk: the write fails in the same place."""
    recipe = write_recipe(tmp_path)
    out = tmp_path / "run"
    command = f"ulimit -f 40; exec {sys.executable} -m acereason.cli run {recipe} --out {out} -q"
    shown = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=240)
    assert shown.returncode != 0
    assert "cannot write into" in shown.stderr or "disk" in shown.stderr, shown.stderr[-2000:]
    assert acereason("run", "--resume", "--out", str(out), "-q").returncode == 0
    assert (out / "summary.json").exists()


def test_set_reaches_stages_by_name_and_keeps_types() -> None:
    path = Path(config.__file__).parent / "recipes" / "demo.toml"
    recipe = config.load(path, ["stage.code.steps=7", "model.format=plain", "sft.betas=[0.8, 0.9]"])
    assert recipe.stage[-1].steps == 7 and recipe.sft is not None and recipe.sft.betas == (0.8, 0.9)
    assert config.digest(recipe) != config.digest(config.load(path))
    assert config.parse(config.resolved(recipe)) == recipe
    with pytest.raises(ConfigError, match="key=value"):
        config.load(path, ["sft.epochs"])
    with pytest.raises(ConfigError, match="not a section"):
        config.load(path, ["seed.x=1"])
