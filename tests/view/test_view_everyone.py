"""The page is everyone's: axe finds nothing, charts go by keyboard and fingers, right and wrong differ in
grey, telephones keep the first column, paper is white."""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from acereason.view.report import write_report
from browser import Browser, executable
from hacked import make
from view_run import make_run
from view_server import served

pytestmark = pytest.mark.skipif(executable() is None, reason="no Chromium found on PATH")
FINDINGS = Path(__file__).parents[2] / "docs" / "findings.json"
GROUP = f"#/run/demo-run/group/code-000270/{quote('code/1', safe='')}/1"
DRAWN = "document.documentElement.dataset.drawn > 1"
PAGES = {
    "#/": "document.querySelector('.overview tbody tr')",
    "#/run/hacked": f"{DRAWN} && document.querySelector('.finding')",
    "#/run/demo-run": DRAWN,
    "#/run/demo-run/responses": "document.querySelector('.listing tbody tr')",
    GROUP: "document.querySelector('.response')",
    "#/compare?run=demo-run&run=second": "charts.get('both-sft')?.plot",
    "#/studies": "document.querySelector('.study')",
    "#/run/hacked/desk": "document.querySelector('.queue tbody tr') && charts.get('desk-reward')?.plot",
}
RUN = (
    "axe.run(document, {resultTypes: ['violations']}).then(found => found.violations.flatMap("
    "one => one.nodes.map(node => `${one.id}: ${node.target.join(' ')}`)))"
)
DARK = {"name": "prefers-color-scheme", "value": "dark"}
WIDTH = "document.documentElement.scrollWidth - innerWidth"


def axe() -> str | None:
    """axe-core as a package has it that brings it as data."""
    for name in ("axe_playwright_python", "axe_core_python"):
        found = importlib.util.find_spec(name)
        if found is not None and found.origin is not None:
            return Path(found.origin).with_name("axe.min.js").read_text()
    return None


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("runs")
    make_run(folder / "demo-run")
    shutil.copytree(folder / "demo-run", folder / "second")
    make(folder / "hacked", hacked=True)
    shutil.copy(FINDINGS, folder / "findings.json")
    with served(folder) as one:
        yield one


def opened(page: Browser, url: str, ready: str = DRAWN) -> None:
    page.open("about:blank")
    page.open(url)
    page.until(ready)


def violations(page: Browser, script: str, where: str) -> list[str]:
    page.ask(script + "; 0")
    return [f"{where}: {one}" for one in page.ask(RUN)]


needs_axe = pytest.mark.skipif(axe() is None, reason="axe is not here: pip install axe-core-python")


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_report(make_run(tmp_path_factory.mktemp("report") / "demo-run")).as_uri()


@needs_axe
def test_axe_finds_nothing_on_any_page(page: Browser, address: str, report: str) -> None:
    script, found = axe() or "", []
    pages = {address + view: ready for view, ready in PAGES.items()}
    for url, ready in {**pages, report: DRAWN, report + GROUP: PAGES[GROUP]}.items():
        opened(page, url, ready)
        found += violations(page, script, url)
    assert found == []


@needs_axe
@pytest.mark.slow
@pytest.mark.parametrize(("dark", "width"), [(True, 1280), (False, 390), (True, 390)])
def test_nor_in_the_dark_nor_on_a_telephone(
    page: Browser, address: str, report: str, dark: bool, width: int
) -> None:
    page.look(width, 900, dark)
    test_axe_finds_nothing_on_any_page(page, address, report)


def press(page: Browser, *keys: str) -> None:
    for key in keys:
        for kind in ("rawKeyDown", "keyUp"):
            page.call("Input.dispatchKeyEvent", type=kind, key=key)


TAPS = (
    "for (const kind of ['pointerdown', 'pointerup', 'pointerdown', 'pointerup']) charts.get('entropy').plot"
    ".over.dispatchEvent(new PointerEvent(kind, {pointerType: 'touch', pointerId: 9, clientX: 200}))"
)
SPAN = "(one => one.max - one.min)(charts.get('{}').plot.scales.x)"


def test_a_chart_is_read_zoomed_and_followed_by_keyboard(page: Browser, address: str) -> None:
    opened(page, f"{address}#/run/demo-run", "charts.get('entropy')?.plot && " + DRAWN)
    host = "document.querySelector('[data-chart=reward] [role=application]')"
    told = "document.querySelector('[data-chart=reward] .reading').textContent"
    whole = page.ask(SPAN.format("reward"))
    page.ask(f"{host}.focus()")
    press(page, "Home", "ArrowRight", "ArrowRight")
    assert page.ask(told).startswith("step 123: ") and "each step" in page.ask(told)
    assert page.ask("charts.get('reward').plot.cursor.idx") == 2
    press(page, "+", "+")
    assert page.ask(SPAN.format("reward")) < whole / 2
    page.until(f"{SPAN.format('entropy')} < {whole} / 2")  # charts of one axis go together
    press(page, "End")
    assert page.ask("charts.get('reward').plot.scales.x.max") >= 270
    press(page, "Escape")
    assert page.ask(SPAN.format("reward")) == pytest.approx(whole, abs=1)
    assert page.ask(f"document.activeElement === {host}")
    press(page, "Enter")
    page.until("location.hash.includes('step=270')")


def test_fingers_zoom_and_two_taps_show_all(page: Browser, address: str) -> None:
    page.look(390, 844)
    page.call("Emulation.setTouchEmulationEnabled", enabled=True, maxTouchPoints=2)
    opened(page, f"{address}#/run/demo-run", "charts.get('entropy')?.plot && " + DRAWN)
    page.ask("document.querySelector('[data-chart=entropy]').scrollIntoView({block: 'center'})")
    box = page.ask(
        "(b => [b.left, b.top, b.width, b.height])(charts.get('entropy').plot.over.getBoundingClientRect())"
    )
    middle, y = box[0] + box[2] / 2, box[1] + box[3] / 2

    def touch(kind: str, *places: float) -> None:
        points = [{"x": x, "y": y, "id": at} for at, x in enumerate(places)]
        page.call("Input.dispatchTouchEvent", type=kind, touchPoints=points)

    whole = page.ask(SPAN.format("entropy"))
    touch("touchStart", middle - 20, middle + 20)
    touch("touchMove", middle - 80, middle + 80)
    touch("touchEnd")
    zoomed = page.ask(SPAN.format("entropy"))
    assert zoomed == pytest.approx(whole / 4, rel=0.05) and page.ask(SPAN.format("reward")) == zoomed
    first = page.ask("charts.get('entropy').plot.scales.x.min")
    touch("touchStart", middle)
    touch("touchMove", middle + 60)
    touch("touchEnd")
    assert page.ask("charts.get('entropy').plot.scales.x.min") < first
    page.ask(TAPS)
    assert page.ask(SPAN.format("entropy")) == pytest.approx(whole, abs=1)
    page.call("Emulation.setTouchEmulationEnabled", enabled=False)


def luminance(colour: str) -> float:
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return sum(weight * c for weight, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def lightness(colour: str) -> float:
    """L* of CIELAB, 0 (black) to 100."""
    return 116 * max(luminance(colour), 1e-9) ** (1 / 3) - 16  # type: ignore[no-any-return]


@pytest.mark.parametrize("dark", [False, True])
def test_right_and_wrong_differ_in_grey_and_by_their_marks(page: Browser, address: str, dark: bool) -> None:
    page.look(1280, 900, dark)
    opened(page, f"{address}#/run/demo-run/responses", "document.querySelector('.outcome.wrong')")
    named: dict[str, Any] = {
        name: page.ask(f"colour('{name}')") for name in ("green", "orange", "paper", "raised")
    }
    assert abs(lightness(named["green"]) - lightness(named["orange"])) > 14
    for name in ("green", "orange"):
        for under in ("paper", "raised"):
            low, high = sorted((luminance(named[name]), luminance(named[under])))
            assert (high + 0.05) / (low + 0.05) >= 4.5
    mark = "getComputedStyle(document.querySelector('.outcome.{}'), '::before').content"
    assert page.ask(mark.format("correct")) == '"✓ "' and page.ask(mark.format("wrong")) == '"✗ "'


def test_on_a_telephone_the_name_stays_while_the_rest_is_scrolled(page: Browser, address: str) -> None:
    page.look(390, 844)
    for view, cell in {"#/": ".overview .name", "#/run/hacked/desk": ".queue tbody a"}.items():
        opened(page, address + view, f"document.querySelector('{cell}')")
        assert page.ask(WIDTH) == 0
        left = f"document.querySelector('{cell}').getBoundingClientRect().left"
        before = page.ask(left)
        page.ask(f"document.querySelector('{cell}').closest('.scroll').scrollLeft = 300")
        assert page.ask(f"document.querySelector('{cell}').closest('.scroll').scrollLeft") > 100
        assert abs(page.ask(left) - before) < 14


def test_paper_is_white_and_has_no_buttons(page: Browser, address: str) -> None:
    page.look(1280, 900, dark=True)
    opened(page, f"{address}#/run/hacked/desk", PAGES["#/run/hacked/desk"])
    page.call("Emulation.setEmulatedMedia", media="print", features=[DARK])
    page.until("colour('ink') === '#1d2124'")
    assert page.ask("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    shown = (
        "[...document.querySelectorAll('.topbar, .tools, .taking, .take')].filter(e => e.offsetHeight).length"
    )
    mark = "document.querySelectorAll('[data-chart=desk-reward] .u-marker')[1].style.background"
    page.until(f"{mark} === 'rgb(0, 114, 178)'")  # the light scheme's blue
    assert page.ask(shown) == 0 and page.ask("document.querySelectorAll('.queue tbody tr').length") == 14
