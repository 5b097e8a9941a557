"""The page in Chromium, as one file and served: charts drawn, nothing asked of elsewhere, no console error.

Skipped, and said so, on a machine without a browser.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest

from acereason.view.report import write_report
from browser import Browser, executable
from view_run import HOSTILE, Row, lines, make_run
from view_server import served

pytestmark = pytest.mark.skipif(
    executable() is None, reason="no Chromium found on PATH: the page was not looked at in a browser"
)

CHARTS = {
    *("accuracy-math", "accuracy-code", "reward", "groups", "levels", "entropy", "temperature"),
    *("entropy-1", "length", "truncated", "outcomes", "gradient", "learning-rate", "overlap", "utilisation"),
    *("logprob-difference", "loss", "time", "speed", "sft-loss", "sft-lr", "sft-math", "sft-code"),
    *("calibration-0", "calibration-1"),
}
STATES = (
    "Object.fromEntries([...document.querySelectorAll('[data-chart]')].map("
    "figure => [figure.dataset.chart, figure.dataset.state]))"
)
COUNTS = "document.querySelector('[role=status].soft').textContent"
LABELS = "[...charts.values()].map(c => c.plot.axes.map(a => a.label))"
WIDTH = "document.documentElement.scrollWidth - innerWidth"


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str]]:
    """A folder of runs with its server."""
    folder = tmp_path_factory.mktemp("runs")
    make_run(folder / "demo-run")
    shutil.copytree(folder / "demo-run", folder / "nested" / "second")
    with served(folder) as address:
        yield folder, address


def test_what_the_pack_adds_has_charts_of_its_own(page: Browser, tmp_path: Path) -> None:
    """The pool's states, the entropy bonus's coefficient, KL to a second model, each domain's rule."""
    run = make_run(tmp_path / "demo-run")
    rows = [json.loads(row) for row in (run / "metrics.jsonl").read_text().splitlines()]
    for row in (row for row in rows if row["kind"] == "rl"):
        pool = {"prompts": 90, "dropped": row["step"], "retired": row["step"] // 2}
        row.update(pool=pool, coefficient=1e-4 * row["step"], kl=0.01)
        math = {"T": 1.0, "H_T": 0.3, "H_target": 0.3}
        code = {"T": 1.4, "H_T": 0.5, "H_target": None, "diversity": 0.6, "diversity_target": 0.7}
        row["by_domain"] = {"math": math, "code": code}
    (run / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    page.open(write_report(run).as_uri())
    page.until("document.documentElement.dataset.drawn")
    assert page.ask(STATES) == dict.fromkeys({*CHARTS, "pool", "coefficient", "kl", "diversity"}, "drawn")


def test_the_report_draws_every_chart_and_asks_nobody(page: Browser, tmp_path: Path) -> None:
    path = write_report(make_run(tmp_path / "demo-run"))
    page.open(path.as_uri())
    page.until("document.documentElement.dataset.drawn")
    assert page.ask(STATES) == dict.fromkeys(CHARTS, "drawn")
    for below, left in page.ask(LABELS):
        assert below and left
    assert page.ask("document.title") == "demo-run · acereason"
    assert "could not be drawn" not in page.ask("document.body.innerText")
    assert page.requests == [path.as_uri()]
    gains = page.ask("document.querySelector('#table .tables').innerText")
    assert "pass@8" in gains and "−5.0 (−8.0 to −2.0)" in gains and "+22.6 (+19.1 to +26.2)" in gains


def test_the_report_filters_and_links_its_responses(page: Browser, tmp_path: Path) -> None:
    path = write_report(make_run(tmp_path / "demo-run"))
    page.open(path.as_uri() + "#/run/demo-run/responses?outcome=no_answer")
    page.until("document.querySelectorAll('.listing tbody tr').length > 0")
    assert set(page.ask("[...document.querySelectorAll('.listing .outcome')].map(o => o.textContent)")) == {
        "no answer"
    }
    page.ask("document.querySelector('.listing tbody a').click()")
    page.until("document.querySelectorAll('.response').length === 8")
    text = page.ask("document.querySelector('.strip').textContent")
    assert "⟨U+202E⟩" in text and "␛[31m" in text
    assert page.ask("document.querySelectorAll('.view img, .view script').length") == 0
    assert page.ask("document.title") == "demo-run · acereason"


def test_a_run_with_next_to_nothing_is_a_page(page: Browser, tmp_path: Path) -> None:
    folder = tmp_path / "young"
    folder.mkdir()
    rows: list[Row] = [
        {"kind": "rl", "step": 1, "stage": "only", "reward": 0.5, "H_T": 0.3, "outcomes": {}},
        {"kind": "calibration", "stage": "only", "points": []},
        {"kind": "funnel", "name": "dedup"},
        {"kind": "evaluation", "stage": "only", "benchmark": "math", "accuracy": None},
    ]
    (folder / "metrics.jsonl").write_text(lines(rows) + '{"kind": "rl", "st')
    page.open(write_report(folder).as_uri())
    page.until("document.documentElement.dataset.drawn")
    text = page.ask("document.body.innerText")
    assert "could not be drawn" not in text and "the last line is not complete" in text
    assert page.ask(STATES)["reward"] == "drawn"


def test_from_the_overview_to_a_response(page: Browser, runs: tuple[Path, str]) -> None:
    page.open(runs[1])
    page.until("document.querySelectorAll('.overview tbody tr').length === 2")
    row = page.ask("document.querySelector('.overview tbody tr').innerText")
    assert "finished" in row and "54.0 ± 3.5" in row
    page.ask(
        "[...document.querySelectorAll('.overview a.name')].find(a => a.textContent === 'demo-run').click()"
    )
    page.until("document.querySelectorAll('[data-chart]').length > 20")
    assert page.ask(STATES) == dict.fromkeys(CHARTS, "drawn")
    page.ask("[...document.querySelectorAll('.tab')].find(a => a.textContent === 'responses').click()")
    page.until("document.querySelectorAll('.listing tbody tr').length === 50")
    page.ask(
        "const s = document.querySelector('[name=outcome]'); s.value = 'no_answer';"
        "s.dispatchEvent(new Event('change', {bubbles: true}))"
    )
    page.until(
        "[...document.querySelectorAll('.listing .outcome')].every(o => o.textContent === 'no answer')"
    )
    page.ask("document.querySelector('.listing tbody a').click()")
    page.until("document.querySelectorAll('.response').length === 8")
    assert "⟨U+202E⟩" in page.ask("document.querySelector('.strip').textContent")
    link = page.ask("document.querySelector('.response.chosen header a').href")
    assert link == page.ask("location.href")
    page.ask("[...document.querySelectorAll('.steps a')].find(a => a.textContent.includes('next')).click()")
    page.until(f"location.href !== {json.dumps(link)} && document.querySelector('.response.chosen')")
    page.ask("document.querySelector('.steps a').click()")
    page.until("document.querySelector('[name=outcome]')?.value === 'no_answer'")
    assert all(url.startswith(runs[1]) for url in page.requests)


def test_typing_a_text_finds_the_responses_that_hold_it(page: Browser, runs: tuple[Path, str]) -> None:
    page.open(f"{runs[1]}#/run/demo-run/responses")
    page.until("document.querySelector('[name=text]')")
    page.ask(
        "const t = document.querySelector('[name=text]'); t.focus(); t.value = 'is \\\\boxed{42}';"
        "t.dispatchEvent(new Event('input', {bubbles: true}))"
    )
    page.until("location.hash.includes('text=')")
    page.until(f"!{COUNTS}.startsWith('432') && /^[\\d,]+ of [\\d,]+ responses match$/.test({COUNTS})")
    matching, total = page.ask(f"{COUNTS}.match(/\\d+/g).map(Number)")
    assert 0 < matching < total == 9 * 48
    assert page.ask("document.activeElement.name") == "text"


def test_two_runs_are_compared(page: Browser, runs: tuple[Path, str]) -> None:
    page.open(f"{runs[1]}#/compare?run=demo-run&run={quote('nested/second', safe='')}")
    page.until("document.querySelectorAll('[data-chart=both-reward] canvas').length")
    page.until("charts.get('both-sft')?.plot")
    states = page.ask(STATES)
    assert set(states.values()) == {"drawn"} and {"both-H_T", "difference-math", "both-sft"} <= states.keys()
    text = page.ask("document.body.innerText")
    assert "not paired" in text and "all runs have one recipe" in text
    assert "undecided" in page.ask("document.querySelector('.verdicts').innerText")
    for below, left in page.ask(LABELS):
        assert below and left


def test_a_live_run_is_followed_with_its_zoom_kept(page: Browser, tmp_path: Path) -> None:
    folder = make_run(tmp_path / "live")
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    last = next(row for row in reversed(rows) if row["kind"] == "rl")
    with served(tmp_path) as address:
        page.open(f"{address}#/run/live")
        page.until("charts.get('reward')?.plot")
        page.ask("charts.get('reward').plot.setScale('x', {min: 150, max: 160})")
        canvas = "document.querySelector('[data-chart=reward] canvas')"
        page.ask(f"window.before = {canvas}")
        with (folder / "metrics.jsonl").open("a") as file:
            file.write(json.dumps({**last, "step": 271}) + "\n")
        page.until("charts.get('reward').plot.data[0].at(-1) === 271", seconds=10)
        assert page.ask(f"window.before === {canvas}")
        assert page.ask("charts.get('reward').plot.scales.x.max") == 160
        with (folder / "metrics.jsonl").open("a") as file:
            file.write('{"kind": "rl", "st')
        page.until("document.querySelector('.notes')?.textContent.includes('not complete')")


def test_a_run_deleted_and_a_server_gone_are_said_and_survived(page: Browser, tmp_path: Path) -> None:
    folder = make_run(tmp_path / "runs" / "shortlived")
    with served(tmp_path / "runs") as address:
        page.open(f"{address}#/run/shortlived")
        page.until("charts.get('reward')?.plot")
        folder.rename(tmp_path / "away")
        page.until("document.getElementById('trouble').textContent.includes('deleted')")
        assert page.ask("document.querySelectorAll('[data-chart] canvas').length") == len(CHARTS)
        (tmp_path / "away").rename(folder)
        page.until("document.getElementById('trouble').textContent === ''")
    page.until("document.getElementById('trouble').textContent.includes('No answer from the server')")
    assert page.ask("document.querySelectorAll('[data-chart] canvas').length") == len(CHARTS)
    page.console.clear()  # the browser itself reports what was refused: it has to


def test_a_megabyte_and_invalid_bytes_are_text(page: Browser, tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run")
    long = {"problem_id": "p", "sample": 0, "text": HOSTILE + "y" * 1_000_000 + "end", "outcome": "wrong"}
    data = (
        lines([long]).encode() + b'{"problem_id": "p", "sample": 1, "text": "a\xffb", "outcome": "wrong"}\n'
    )
    (folder / "responses" / "code-000300.jsonl").write_bytes(data)
    with served(tmp_path) as address:
        page.open(f"{address}#/run/run/group/code-000300/p/0")
        page.until("document.querySelectorAll('.response').length === 2")
        assert "a\ufffdb" in page.ask("document.querySelector('.strip').textContent")
        page.ask("document.querySelector('.response button').click()")
        page.until("document.querySelector('.response.chosen pre').textContent.length > 1000000")
        assert page.ask("document.querySelector('.response.chosen pre').textContent.endsWith('yend')")
        assert page.ask("document.querySelectorAll('.view img, .view script').length") == 0


@pytest.mark.parametrize("dark", [False, True])
def test_a_telephone_shows_every_view_without_scrolling_sideways(
    page: Browser, runs: tuple[Path, str], dark: bool
) -> None:
    page.look(390, 844, dark, 2)
    second = quote("nested/second", safe="")
    views = ["#/", "#/run/demo-run", "#/run/demo-run/responses", f"#/compare?first=demo-run&second={second}"]
    views.append(f"#/run/demo-run/group/code-000270/{quote('code/1', safe='')}/1")
    for view in views:
        page.open("about:blank")
        page.open(runs[1] + view)
        page.until("document.querySelector('.view table, .view .response')")
        assert page.ask(WIDTH) == 0, view
    background = page.ask("getComputedStyle(document.body).backgroundColor")
    assert background == ("rgb(22, 25, 28)" if dark else "rgb(253, 253, 252)")


def test_tokens_are_coloured_where_their_numbers_were_kept(page: Browser, runs: tuple[Path, str]) -> None:
    page.open(f"{runs[1]}#/run/demo-run/group/code-000270/{quote('code/0', safe='')}/0")
    page.until("document.querySelector('[aria-label=\"colour tokens by\"]')")
    page.ask(
        "const c = document.querySelector('[aria-label=\"colour tokens by\"]'); c.value = 'entropy';"
        "c.dispatchEvent(new Event('change'))"
    )
    parts = page.ask(
        "[...document.querySelectorAll('.shaded')[0].children].map(s => [s.textContent, s.className])"
    )
    assert parts[:3] == [["cár", "heat1"], ["ry ", "heat4"], ["0", "heat8"]]
    assert HOSTILE.count("script") and page.ask("document.querySelectorAll('.view script').length") == 0
