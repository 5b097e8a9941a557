"""The studies tab: result files only, whatever they hold, drawn as text and intervals."""

from __future__ import annotations

import json
from pathlib import Path
from urllib.request import urlopen

import msgspec
import pytest

from acereason.study.verdicts import Told, Verdict
from acereason.view.studies import studies
from browser import Browser, executable
from view_run import HOSTILE, make_run
from view_server import served

EFFECTS = [
    Told("gain", 4.0, 2.5, 5.5, 0.7, 0.01, (3.0, 5.0), 1.0, True, "points"),
    Told("the best", float("nan"), float("nan"), float("nan"), 0.0, 1.0, (), 0.0, False, "nats"),
]
VERDICT = Verdict(
    "F3", "Stronger starts end higher", HOSTILE, "a figure", "supported", EFFECTS, (1, 2, 3), "full", "test",
    "abcdef", 9, 9, 60.0, {"rl, seed 3": HOSTILE},
)  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    make_run(folder / "demo")
    (folder / "studies").mkdir()
    (folder / "studies" / "findings.json").write_bytes(msgspec.json.encode([VERDICT]))
    return folder


def test_findings_are_looked_for_a_few_folders_down_and_broken_ones_left_out(folder: Path) -> None:
    for name, text in (("torn", "[{"), ("other", '{"a": 1}'), ("text", "3")):
        (folder / name).mkdir()
        (folder / name / "findings.json").write_text(text)
    (folder / "folder" / "findings.json").mkdir(parents=True)
    found = studies(folder)["findings"]
    assert [f["place"] for f in found] == ["studies"] and found[0]["studies"][0]["study"] == "F3"
    assert studies(folder / "studies")["findings"][0]["place"] == "."
    assert studies(folder / "demo")["findings"] == []


@pytest.mark.skipif(executable() is None, reason="no Chromium found on PATH")
def test_the_tab_shows_verdicts_and_intervals(page: Browser, folder: Path) -> None:
    with served(folder) as address:
        assert json.loads(urlopen(f"{address}api/studies").read())["findings"]
        page.open(address)
        page.until("document.querySelectorAll('.tab').length == 2")
        page.ask("[...document.querySelectorAll('.tab')].find(a => a.textContent === 'studies').click()")
        page.until("document.querySelector('.study') !== null")
        text = page.ask("document.querySelector('.study').textContent")
        assert "F3 Stronger starts end higher: supported" in text and "4.0 (2.5 to 5.5) points" in text
        assert "none inside the range" in text and "Failed: rl, seed 3" in text
        assert page.ask("document.querySelectorAll('.interval circle').length") == 1
