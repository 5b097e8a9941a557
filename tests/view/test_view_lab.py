"""Runs grouped by recipe over seeds: in the terminal, and in Chromium with links to both responses."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from acereason.cli.compare import compare
from acereason.view.lab import differing, flat, member, table
from browser import Browser, executable
from view_run import lines
from view_server import served

IDS = [f"q{n}" for n in range(120)]


def make(folder: Path, seed: int, steps: int, gain: float) -> None:
    """A run of a stage: recipe, verdicts, a curve, and the responses of the evaluation."""
    random = np.random.default_rng(seed)
    recipe = {"name": "lab", "seed": seed, "model": {"path": "m"}, "stage": [{"name": "one", "domain": "math",
              "steps": steps, "budget": 64, "group": 8, "prompts": 4, "learning_rate": 1e-4}]}  # fmt: skip
    (folder / "evaluations").mkdir(parents=True)
    (folder / "recipe.json").write_text(json.dumps(recipe))
    hard = np.random.default_rng(0).random(120)
    right = (random.random((120, 8)) < np.clip(hard + gain, 0, 1)[:, None]).tolist()
    (folder / "evaluations" / "one.json").write_text(json.dumps({"math": {"ids": IDS, "right": right}}))
    rows: list[dict[str, Any]] = [
        {"kind": "rl", "stage": "one", "step": at + 1, "reward": min(1.0, 0.2 + gain + at / 40), "H_T": 0.3}
        for at in range(steps)
    ]
    (folder / "metrics.jsonl").write_text(lines(rows))
    (folder / "responses").mkdir()
    answers = [
        {"problem_id": name, "sample": k, "text": f"{name} of seed {seed}", "tokens": 5, "finish": "stop",
         "outcome": "correct" if ok else "wrong"}
        for name, row in zip(IDS, right, strict=True) for k, ok in enumerate(row)
    ]  # fmt: skip
    (folder / "responses" / "evaluation-math-one-000020.jsonl").write_text(lines(answers))


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    for seed in (1, 2, 3):
        make(folder / f"short-{seed}", seed, 20, 0.0)
        make(folder / f"long-{seed}", 10 + seed, 30, 0.15)
    return folder


def test_runs_are_groups_by_recipe_and_the_better_one_is_named(runs: Path) -> None:
    names = [f"{kind}-{seed}" for kind in ("short", "long") for seed in (1, 2, 3)]
    found = table([member(name, runs / name) for name in names])
    assert [[run["seed"] for run in g["runs"]] for g in found["groups"]] == [
        ["1", "2", "3"],
        ["11", "12", "13"],
    ]
    assert [(row["key"], row["values"]) for row in found["differs"]] == [("stage.one.steps", [20, 30])]
    average = found["comparisons"][0]
    assert (
        average["verdict"].startswith("math: B beats A by ")
        and "3 seeds × 120 questions" in average["verdict"]
    )
    flip = average["flips"]["rows"][0]
    assert [one["file"] for one in flip["answers"]] == ["evaluation-math-one-000020"] * 2
    again = table(
        [member("a", runs / "short-1"), member("b", runs / "short-1"), member("c", runs / "long-1")]
    )
    assert again["notes"] == ["b is left out: recipe and seed are those of a"]


def test_keys_of_recipes() -> None:
    recipe = {"seed": 1, "rl": {"a": [1, 2]}, "stage": [{"name": "x", "steps": 3}]}
    assert dict(flat(recipe)) == {"seed": 1, "rl.a": [1, 2], "stage": ["x"], "stage.x.steps": 3}
    other = {"seed": 2, "rl": {"a": [1, 3]}, "stage": [{"name": "x", "steps": 3}, {"name": "y", "steps": 9}]}
    assert differing([recipe, other]) == {"rl.a": [[1, 2], [1, 3]], "stage": [["x"], ["x", "y"]]}
    assert differing([recipe, None])["rl.a"] == [[1, 2], None] and differing([]) == {}


def test_the_terminal_says_the_same(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    compare([runs / n for n in ("short-1", "short-2", "short-3", "long-1", "long-2", "long-3")], flips=1)
    said = capsys.readouterr().out
    assert "A  lab: short-1 (seed 1)" in said and "stage.one.steps" in said
    assert "math: B beats A by" in " ".join(said.split()) and "  gained  q" in said
    compare([runs / n for n in ("short-1", "short-2", "long-1")], as_json=True)
    assert json.loads(capsys.readouterr().out)["comparisons"][0]["difference"]["seeds"] == [2, 1]


def test_the_page_is_served_without_the_libraries_of_models() -> None:
    code = (
        "import sys, acereason.view.server; print([m for m in ('torch', 'transformers') if m in sys.modules])"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"


@pytest.mark.skipif(executable() is None, reason="no Chromium found on PATH")
def test_from_the_overview_to_a_verdict_and_to_both_responses(page: Browser, runs: Path) -> None:
    with served(runs) as address:
        page.open(address)
        page.until("document.querySelectorAll('.overview tbody tr').length === 6")
        assert "stage.one.steps" in page.ask("document.querySelector('.overview thead').innerText")
        heads = page.ask("[...document.querySelectorAll('.overview th')].map(h => h.innerText)")
        at = heads.index("stage.one.steps")
        shown = page.ask(
            f"[...document.querySelectorAll('.overview tbody tr')].map(r => r.cells[{at}].innerText)"
        )
        assert sorted(shown) == ["20"] * 3 + ["30"] * 3
        ends = page.ask(
            "[...document.querySelectorAll('.spark polyline')].map(p => p.getAttribute('points'))"
        )
        assert len(set(ends)) == 2  # equal curves are drawn equally, and a higher one higher: one scale
        page.ask("document.querySelectorAll('.overview tbody input').forEach(i => i.click())")
        page.until("document.querySelector('a.button[href]')?.textContent === 'compare 6 runs'")
        page.ask("document.querySelector('a.button').click()")
        page.until("document.querySelector('.verdicts .decided')")
        assert "beats" in page.ask("document.querySelector('.verdicts .decided').innerText")
        page.until("charts.get('both-reward')?.plot")
        names = page.ask("charts.get('both-reward').live.series.map(s => s.name)")
        assert len(names) == 8 and {"A, mean", "B, mean"} <= set(names)
        links = page.ask(
            "[...document.querySelectorAll('.flips tbody tr')[0].querySelectorAll('a')].map(a => a.href)"
        )
        assert len(links) == 2 and links[0] != links[1]
        page.ask("[...document.querySelectorAll('.flips tbody a')][1].click()")
        page.until("document.querySelectorAll('.response').length === 8")
        assert "of seed " in page.ask("document.querySelector('.strip').textContent")
