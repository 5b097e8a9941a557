"""The command line as people meet it: help, dry runs, and errors that fit one screen with status 2."""

from __future__ import annotations

import json
import shlex
import signal
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from acereason import config
from acereason.errors import ConfigError
from commands import acereason, write_recipe


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
        (["run", "dmeo"], "shipped: acereason-1.0-1.5b, acereason-1.1-7b, base,"),
        (
            ["run", "demo", "--dry-run", "-s", "sft.epoch=3"],
            "--set sft.epoch=3: unknown key sft.epoch; did you",
        ),
        (
            ["run", "demo", "--dry-run", "-s", "seed=2", "-s", "sft.epochs=x"],
            "error: ConfigError --set sft.epochs=x: ",
        ),
        (["run", "demo", "--dry-run", "-s", "sft.optimizer=x"], "known: adamw, muon"),
        (["run", "demo", "--dry-run", "-s", "health.stop=['x']"], "known: no_gradient, truncated,"),
        (
            ["run", "demo", "--dry-run", "-s", "stage.code.temperature.rule=x"],
            "known: fixed, epochs, calibrate, track",
        ),
        (["rl", "demo"], "give --model"),
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


def test_a_budget_that_does_not_fit_the_context_is_refused_before_sft(tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path)
    out = str(tmp_path / "run")
    shown = acereason("run", str(recipe), "--out", out, "-q", "--set", "stage.math.budget=250")
    assert shown.returncode == 2 and "more than the model's context of 256" in " ".join(shown.stderr.split())
    assert "lower stage.math.budget to at most" in " ".join(shown.stderr.split())
    assert not (tmp_path / "run" / "models" / "sft").exists()


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
    path = Path(config.__file__).parents[1] / "recipes" / "demo.toml"
    recipe = config.load(path, ["stage.code.steps=7", "model.format=plain", "sft.betas=[0.8, 0.9]"])
    assert recipe.stage[-1].steps == 7 and recipe.sft is not None and recipe.sft.betas == (0.8, 0.9)
    assert config.digest(recipe) != config.digest(config.load(path))
    assert config.parse(config.resolved(recipe)) == recipe
    with pytest.raises(ConfigError, match="key=value"):
        config.load(path, ["sft.epochs"])
    with pytest.raises(ConfigError, match="not a section"):
        config.load(path, ["seed.x=1"])


@pytest.fixture(scope="module")
def fine_tuned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that stopped after SFT."""
    folder = tmp_path_factory.mktemp("sft")
    shown = acereason("sft", str(write_recipe(folder)), "--out", str(folder / "run"), "-q")
    assert shown.returncode == 0, shown.stderr
    return folder / "run"


def test_rl_starts_from_any_checkpoint_folder(fine_tuned: Path, tmp_path: Path) -> None:
    recipe, model = write_recipe(tmp_path), fine_tuned / "models" / "sft"
    out = tmp_path / "run"
    shown = acereason(
        "rl", str(recipe), "-m", str(model), "--out", str(out), "-q", "--set", "stage.code.steps=1"
    )
    assert shown.returncode == 0, shown.stderr
    summary = json.loads((out / "summary.json").read_text())
    assert [s["steps"] for s in summary["stages"]] == [0, 5, 1]


def test_rl_needs_no_model_in_its_recipe(fine_tuned: Path, tmp_path: Path) -> None:
    """`-m` says where to start; the recipe may name a model, make one, or neither."""
    model = str(fine_tuned / "models" / "sft")
    for given in ({}, {"path": "elsewhere"}, {"new": {"vocab_size": 300}}):
        recipe = write_recipe(tmp_path, model={"format": "plain", **given})
        shown = acereason("rl", str(recipe), "-m", model, "--dry-run")
        assert shown.returncode == 0, shown.stderr
        found = json.loads(shown.stdout.rpartition("hash ")[0])
        assert (found["model"]["path"], found["model"]["new"], found["sft"]) == (model, None, None)


def test_the_version_is_printed() -> None:
    assert acereason("--version").stdout == f"acereason {version('acereason')}\n"


def test_an_interruption_says_what_goes_on(tmp_path: Path) -> None:
    recipe, out = write_recipe(tmp_path), tmp_path / "run of mine"
    command = [sys.executable, "-m", "acereason", "run", str(recipe), "--out", str(out), "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stderr is not None
        for line in process.stdout:
            if '"kind":"sft"' in line.replace(" ", ""):
                process.send_signal(signal.SIGINT)
                break
        process.stdout.read()
        said = process.stderr.read()
    assert process.returncode == 130 and "Traceback" not in said
    again = shlex.split(said.split("it goes on with:")[1])
    assert again == [sys.executable, "-m", "acereason", "run", "--resume", "--out", str(out)]
    shown = subprocess.run([*again, "-q"], capture_output=True, text=True, timeout=240)
    assert shown.returncode == 0 and (out / "summary.json").exists()


def test_evaluate_and_calibrate_take_a_model_and_problems(fine_tuned: Path, tmp_path: Path) -> None:
    model, problems = str(fine_tuned / "models" / "sft"), str(fine_tuned / "data" / "held_out.jsonl")
    common = ["-p", problems, "--budget", "24", "--format", "plain"]
    shown = acereason("evaluate", model, *common, "-k", "2", "--json")
    assert shown.returncode == 0, shown.stderr
    scores = json.loads(shown.stdout)
    assert {d: (s["n"], s["k"]) for d, s in scores.items()} == {"math": (6, 2), "code": (4, 2)}
    shown = acereason("calibrate", model, *common, "--target", "2.0", "--candidates", "0.3,0.6,0.9")
    assert shown.returncode == 0, shown.stderr
    assert "target 2.0" in shown.stdout


def test_curate_prints_its_funnel(tmp_path: Path) -> None:
    shown = acereason("curate", str(write_recipe(tmp_path)), "--out", str(tmp_path / "data"))
    assert shown.returncode == 0, shown.stderr
    assert "dedup exact" in shown.stdout and "decontaminate" in shown.stdout
    assert {p.name for p in (tmp_path / "data").glob("*.jsonl")} == {
        "contamination-code.jsonl",
        "contamination-math.jsonl",
        "sft.jsonl",
        "rl.jsonl",
        "traces.jsonl",
        "held_out.jsonl",
    }


def test_verify_judges_a_file(tmp_path: Path) -> None:
    rows = [
        {"id": "a", "domain": "math", "question": "?", "answer": "4", "response": "x</think>\\boxed{4}"},
        {"id": "b", "domain": "math", "question": "?", "answer": "4", "response": "\\boxed{4}"},
    ]
    source = tmp_path / "in.jsonl"
    source.write_text("\n".join(json.dumps(r) for r in rows))
    shown = acereason("verify", str(source), "--out", str(tmp_path / "out.jsonl"))
    assert shown.returncode == 0, shown.stderr
    verdicts = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [v["outcome"] for v in verdicts] == ["correct", "no_answer"]


def test_verify_sets_a_row_aside_and_says_so(tmp_path: Path) -> None:
    good = {"id": "a", "domain": "math", "question": "?", "answer": "4", "response": "\\boxed{4}"}
    source, target = tmp_path / "in.jsonl", tmp_path / "new" / "out.jsonl"
    source.write_text("\n".join([json.dumps(good), '{"id": "b"', json.dumps({"id": "c"}), json.dumps(good)]))
    shown = acereason("verify", str(source), "--out", str(target), "--no-thinking")
    assert shown.returncode == 1 and "correct 2" in shown.stdout
    assert "2 rows" in shown.stderr and "line 2: not a JSON object" in shown.stderr
    found = [json.loads(line) for line in target.read_text().splitlines()]
    assert [v["outcome"] for v in found] == ["correct", "unjudged", "unjudged", "correct"]
    assert found[2]["reward"] is None and found[2]["detail"].startswith("line 3: ")
