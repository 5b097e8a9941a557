"""The report in Chromium: every chart drawn, no console error, hostile responses inert.

Skipped, and said so, on a machine without a browser.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from acereason.view.report import write_report
from test_view_report import Row, lines, make_run

CHARTS = {
    *("accuracy-math", "accuracy-code", "reward", "groups", "levels", "entropy", "temperature"),
    *("entropy-1", "length", "truncated", "outcomes", "gradient", "learning-rate"),
    *("logprob-difference", "loss", "time", "speed", "sft-loss", "sft-lr", "sft-math", "sft-code"),
    *("calibration-0", "calibration-1"),
}


def browser() -> str:
    names = ("chromium", "chromium-browser", "google-chrome", "chrome")
    found = next(filter(None, map(shutil.which, names)), None)
    if found is None:
        pytest.skip("no Chromium found on PATH: the report was not looked at in a browser")
    return found


def opened(path: Path, profile: Path) -> tuple[str, list[str]]:
    """The document after its scripts ran, and what it said on the console."""
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--v=0"]
    flags += ["--enable-logging=stderr", "--virtual-time-budget=3000", f"--user-data-dir={profile}"]
    command = [browser(), *flags, "--dump-dom", path.as_uri()]
    done = subprocess.run(command, capture_output=True, timeout=120, check=True)
    console = [line for line in done.stderr.decode().splitlines() if "CONSOLE" in line]
    return re.sub(r"<script.*?</script>", "", done.stdout.decode(), flags=re.DOTALL), console


def test_a_browser_draws_every_chart_without_a_console_error(tmp_path: Path) -> None:
    document, console = opened(write_report(make_run(tmp_path / "demo-run")), tmp_path / "profile")
    assert console == []
    charts = dict(re.findall(r'data-chart="([^"]+)" data-state="([^"]+)"', document))
    assert charts == dict.fromkeys(CHARTS, "drawn")
    assert document.count("<canvas") == len(CHARTS)
    assert "could not be drawn" not in document
    assert "<title>demo-run · acereason</title>" in document
    assert "<img" not in document
    assert "⟨U+202E⟩" in document and "␛[31m" in document


def test_a_browser_draws_a_run_with_next_to_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "young"
    folder.mkdir()
    rows: list[Row] = [
        {"kind": "rl", "step": 1, "stage": "only", "reward": 0.5, "H_T": 0.3, "outcomes": {}},
        {"kind": "calibration", "stage": "only", "points": []},
        {"kind": "funnel", "name": "dedup"},
        {"kind": "evaluation", "stage": "only", "benchmark": "math", "accuracy": None},
    ]
    (folder / "metrics.jsonl").write_text(lines(rows) + '{"kind": "rl", "st')
    document, console = opened(write_report(folder), tmp_path / "profile")
    assert console == []
    assert "could not be drawn" not in document
    assert "the last line is not complete" in document
    assert re.search(r'data-chart="reward" data-state="drawn"', document)
