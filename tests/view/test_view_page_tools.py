"""What the page does beside drawing: what is wrong, formulas, honest intervals, files to take along."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import pytest

from browser import Browser, executable
from doctored import DOCTORED
from view_run import lines, make_run
from view_server import served

pytestmark = pytest.mark.skipif(executable() is None, reason="no Chromium found on PATH")
QUESTION = r"What is \(\frac{1}{2}\) of $x^2$? It costs $5 and $6. \[\sum_i i\] <b>no</b> \(\badmacro\)"


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str]]:
    folder = tmp_path_factory.mktemp("runs")
    make_run(folder / "demo-run")
    for name, (rows, _) in DOCTORED.items():
        (folder / name).mkdir()
        (folder / name / "metrics.jsonl").write_text(lines(rows))
    (folder / "dead" / "responses").mkdir()
    answers = [
        {"problem_id": "p", "sample": i, "question": QUESTION, "text": r"so \(y\)", "outcome": "correct",
         "tokens": tokens, "finish": "stop"}
        for i, tokens in enumerate((100, 100, 5))
    ]  # fmt: skip
    (folder / "dead" / "responses" / "math-000139.jsonl").write_text(lines(answers))
    with served(folder) as address:
        yield folder, address


def test_every_run_is_told_what_is_wrong_with_it(page: Browser, runs: tuple[Path, str]) -> None:
    page.open(runs[1])
    page.until(f"document.querySelectorAll('.overview tbody tr').length === {len(DOCTORED) + 1}")
    page.until(f"document.querySelectorAll('.overview .severity').length >= {len(DOCTORED) - 1}")
    told = page.ask(
        "[...document.querySelectorAll('.overview tbody tr')].map(r => [r.querySelector('.name').textContent,"
        "r.querySelector('.severity')?.textContent ?? ''])"
    )
    assert {n for n, severity in told if severity} - {"demo-run"} == DOCTORED.keys() - {"healthy"}
    page.ask(
        "const i = document.querySelector('input[type=search]'); i.value = 'mism';"
        "i.dispatchEvent(new Event('input'))"
    )
    assert page.ask("[...document.querySelectorAll('.overview tbody tr')].filter(r => !r.hidden).length") == 1
    page.open(f"{runs[1]}#/run/hacked")
    page.until("document.documentElement.dataset.drawn && document.querySelectorAll('.finding').length")
    rules = page.ask("[...document.querySelectorAll('.finding')].map(f => f.dataset.rule)")
    assert set(rules) == DOCTORED["hacked"][1]
    page.until("document.querySelector('[data-chart=reward]')")
    page.ask("document.querySelector('[data-rule=held_out] button').click()")
    assert page.ask("document.querySelector('.pointed').dataset.chart") == "reward"
    assert page.ask("charts.get('reward').live.series.some(s => s.name === 'held-out' && s.errors)")
    hidden = page.ask("[...document.querySelectorAll('section')].filter(s => s.hidden).map(s => s.id)")
    assert {"sft", "calibration", "funnel"} <= set(hidden)
    assert page.ask("document.querySelector('.now').innerText").startswith("stage")
    rows = page.ask("chartRows(charts.get('reward').live)")
    assert rows[0][-3:] == ["held-out", "held-out low", "held-out high"] and len(rows) == 41
    svg = ElementTree.fromstring(page.ask("chartSvg(charts.get('reward'))"))
    assert "held-out" in [node.text for node in svg.iter("{http://www.w3.org/2000/svg}text")]
    assert "lowest" in page.ask("document.querySelector('[data-chart=reward]').getAttribute('aria-label')")


def test_formulas_are_drawn_and_money_and_markup_are_not(page: Browser, runs: tuple[Path, str]) -> None:
    page.open(f"{runs[1]}#/run/dead/group/math-000139/p/0")
    page.until("document.querySelectorAll('.question .katex').length === 3")
    text = page.ask("document.querySelector('.question').textContent")
    assert "It costs $5 and $6." in text and r"\(\badmacro\)" in text and "<b>no</b>" in text
    assert page.ask("document.querySelector('.question b')") is None
    page.ask("document.querySelector('[name=raw]').click()")
    page.until("document.querySelectorAll('.katex').length === 0")
    assert page.ask("document.querySelector('.question').textContent") == QUESTION
    assert all(url.startswith(runs[1]) for url in page.requests)


def test_shares_at_the_ends_have_intervals(page: Browser, runs: tuple[Path, str]) -> None:
    page.open(runs[1])
    page.until("document.querySelector('.overview')")
    assert page.ask("withError({accuracy: 0, se: 0, n: 24, k: 1}).textContent") == "0.0 (0 to 14)"
    assert page.ask("withError({accuracy: 0.5, se: 0.02, n: 400, k: 8}).textContent") == "50.0 ± 3.9"
    low, high = page.ask("bounds({accuracy: 1, se: 0, n: 24, k: 8})")
    assert high == 1 and low == pytest.approx(1 - 0.138, abs=1e-3)
    assert (
        page.ask("csv([['a,b', '=1+1', -2, null], ['\"', 1, 2, 3]])") == '"a,b",\'=1+1,-2,\r\n"""",1,2,3\r\n'
    )
