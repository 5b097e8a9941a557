"""A page that is read while the run goes on: no row moves under the pointer, no focus is taken, a click on a
step leads to its responses, and recorded runs with one fault each are named on the page."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from browser import Browser, executable
from recorded import DOCTORED, recorded
from view_run import lines
from view_server import served

pytestmark = pytest.mark.skipif(executable() is None, reason="no Chromium found on PATH")
TOP = "document.querySelector({!r}).getBoundingClientRect().top"


def point(page: Browser, selector: str, click: bool = False) -> None:
    """Put the pointer on the middle of an element, and click it."""
    box = page.ask(f"(({{x, y, width, height}}) => [x + width / 2, y + height / 2])"
                   f"(document.querySelector({selector!r}).getBoundingClientRect())")  # fmt: skip
    at = {"x": box[0], "y": box[1]}
    page.call("Input.dispatchMouseEvent", type="mouseMoved", **at)
    for kind in ("mousePressed", "mouseReleased") if click else ():
        page.call("Input.dispatchMouseEvent", type=kind, button="left", clickCount=1, **at)


def live(folder: Path) -> tuple[Path, list[dict[str, Any]]]:
    """A run in its first RL stage, and the rows that are still to come."""
    rows = recorded("demo-3")
    at = next(i for i, row in enumerate(rows) if row["kind"] == "rl") + 12
    stages = [{"name": name, "steps": steps, "group": 8, "prompts": 32, "budget": budget}
              for name, steps, budget in (("math-short", 45, 48), ("math-long", 50, 96))]  # fmt: skip
    folder.mkdir(parents=True)
    (folder / "recipe.json").write_text(json.dumps({"name": "demo", "stage": stages}))
    (folder / "metrics.jsonl").write_text(lines(rows[:at]))
    return folder, rows[at:]


def append(folder: Path, row: dict[str, Any]) -> None:
    with (folder / "metrics.jsonl").open("a") as file:
        file.write(json.dumps(row) + "\n")


def answers(folder: Path, step: int) -> None:
    (folder / "responses").mkdir(exist_ok=True)
    rows = [{"problem_id": f"p{i}", "sample": 0, "text": f"step {step}", "outcome": "wrong", "tokens": 3}
            for i in range(4)]  # fmt: skip
    (folder / "responses" / f"math-short-{step:06d}.jsonl").write_text(lines(rows))


def test_six_recorded_faults_are_named_on_the_page_and_a_healthy_run_is_well(
    page: Browser, tmp_path: Path
) -> None:
    for name, (rows, _) in DOCTORED.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "metrics.jsonl").write_text(lines(rows))
    with served(tmp_path) as address:
        page.open(address)
        page.until(f"document.querySelectorAll('.overview tbody tr').length === {len(DOCTORED)}")
        row = (
            "[...document.querySelectorAll('.overview tbody tr')].find(r => r.dataset.run === {!r}).innerText"
        )
        page.until(f"{row.format('healthy')}.includes('well')")
        for name, (_, expected) in DOCTORED.items():
            page.open(f"{address}#/run/{name}")
            page.until(
                f"document.querySelector('h1')?.innerText.startsWith({name!r}) && charts.get('reward')"
            )
            page.until("document.documentElement.dataset.drawn")
            rules = page.ask("[...document.querySelectorAll('.finding')].map(f => f.dataset.rule)")
            assert set(rules) == expected, name
            assert page.ask("document.querySelector('#health').hidden") is (not expected)


def test_no_run_moves_under_the_pointer_and_the_search_keeps_its_focus(page: Browser, tmp_path: Path) -> None:
    for name, when in (("a", 3000), ("b", 2000), ("c", 1000)):
        folder, _ = live(tmp_path / name)
        os.utime(folder / "metrics.jsonl", (when, when))
        os.utime(folder / "recipe.json", (when, when))
    with served(tmp_path) as address:
        page.open(address)
        page.until("document.querySelectorAll('.overview tbody tr').length === 3")
        order = "[...document.querySelectorAll('.overview tbody tr')].map(r => r.dataset.run).join('')"
        assert page.ask(order) == "abc"
        point(page, ".overview tbody tr:nth-child(2) .name")
        step = "document.querySelector('[data-run=c]').cells[5].innerText"
        before = page.ask(step)
        append(tmp_path / "c", recorded("demo-3")[-30] | {"kind": "rl", "step": 9000})
        page.until(f"{step} !== {before!r}")
        assert page.ask(order) == "abc"
        page.call("Input.dispatchMouseEvent", type="mouseMoved", x=900, y=5)
        page.until(f"{order} === 'cab'")
        page.ask("document.querySelector('input[type=search]').focus()")
        append(tmp_path / "b", recorded("demo-3")[-30] | {"kind": "rl", "step": 9001})
        page.until(f"{order} === 'bca'")
        assert page.ask("document.activeElement.type") == "search"


def test_a_run_that_goes_on_takes_no_focus_and_tells_what_is_left(page: Browser, tmp_path: Path) -> None:
    folder, later = live(tmp_path / "run")
    answers(folder, 1872)
    with served(tmp_path) as address:
        page.open(f"{address}#/run/run")
        page.until("charts.get('truncated')?.plot && document.querySelector('.now')")
        page.until("document.documentElement.dataset.drawn > 10")
        now = page.ask("document.querySelector('.now').innerText")
        assert "12 of 45" in now and "left in all, about" in now
        assert page.ask(
            "[...document.querySelectorAll('[data-chart]')].every(f => f.dataset.state === 'drawn')"
        )
        page.ask("document.querySelector('[data-chart=reward] .take').focus()")
        point(page, "[data-chart=entropy] .u-over")
        top = page.ask(TOP.format("[data-chart=entropy]"))
        append(folder, later[0])
        last = later[0]["step"]
        page.until(f"charts.get('reward').plot.data[0].at(-1) === {last}")
        assert page.ask("document.activeElement.getAttribute('aria-label')") == "reward as CSV"
        assert page.ask(TOP.format("[data-chart=entropy]")) == top


def test_a_click_on_a_step_leads_to_its_responses_and_new_ones_wait(page: Browser, tmp_path: Path) -> None:
    folder, _ = live(tmp_path / "run")
    steps = [row["step"] for row in recorded("demo-3") if row["kind"] == "rl"][:12]
    for step in steps:
        answers(folder, step)
    with served(tmp_path) as address:
        page.open(f"{address}#/run/run")
        page.until("charts.get('reward')?.plot && document.documentElement.dataset.drawn > 10")
        page.ask("document.querySelector('[data-chart=reward]').scrollIntoView({block: 'center'})")
        point(page, "[data-chart=reward] .u-over", click=True)
        page.until("location.hash.includes('step=')")
        step = int(page.ask("new URLSearchParams(location.hash.split('?')[1]).get('step')"))
        assert step in steps
        page.until("document.querySelectorAll('.listing tbody tr').length === 4")
        page.open(f"{address}#/run/run/responses")
        page.until("document.querySelectorAll('.listing tbody tr').length === 48")
        point(page, ".listing tbody tr:nth-child(3)")
        first = "document.querySelector('.listing tbody tr').innerText"
        before = page.ask(first)
        answers(folder, 1999)
        page.until("document.querySelector('.fresh')")
        assert page.ask(first) == before
        page.ask("document.querySelector('.fresh').click()")
        page.until(
            "document.querySelectorAll('.listing tbody tr').length > 48 || !document.querySelector('.fresh')"
        )
        page.until(f"{first}.startsWith('1,999')")
