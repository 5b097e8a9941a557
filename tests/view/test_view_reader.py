"""The reader in Chromium: failed tests, programs, formulas, finding, keys, two steps, going back."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import msgspec
import numpy as np
import pytest

from acereason.problems import Problem, Response, Test
from acereason.sample.ask import Answer
from acereason.sample.protocol import Completion, Request
from acereason.verify import Judge
from acereason.view.report import write_report
from browser import Browser, executable
from contrast import CONTRAST
from view_run import HOSTILE, Row, lines, make_run
from view_server import served

pytestmark = pytest.mark.skipif(executable() is None, reason="no Chromium found on PATH")

SQUARES = Problem(
    "code/squares", "code", "Print the squares of $0$ to $n - 1$.", time_limit=1,
    tests=tuple(Test("stdin", f"{n}\n{HOSTILE}", "\n".join(str(i * i) for i in range(n))) for n in (3, 600)),
)  # fmt: skip
GOOD = "n = int(input())\nfor i in range(n):\n    print(i * i)"
PROGRAMS = [
    GOOD,
    f"print({HOSTILE!r})  # <b>bold</b>\nfor i in 'ab': print(i)",
    GOOD.replace("i * i", "i * i if i != 500 else 'x'"),
    "import sys\nsys.exit(3)",
    "while True: pass",
]
ONE = "#/run/demo-run/group/code-000270/code%2Fsquares/"
CHOSEN = "document.querySelector('.response.chosen').dataset.sample"
OPEN = "document.querySelectorAll('details').forEach(d => d.open = true)"


def rows(programs: list[str], judge: Judge) -> list[Row]:
    """Responses as a run writes them, judged."""
    made: list[Row] = []
    nothing = np.zeros(0, np.float32)
    for sample, code in enumerate(programs):
        text = (
            f"carry 7, so $x_1 = \\frac{{1}}{{2}}$\n</think>\nSquares, \\(s_i\\):\n\n```python\n{code}\n```\n"
        )
        completion = Completion(
            Request([1], 64, 0.9, 1), np.zeros(9, np.int32), nothing, nothing, nothing, "stop"
        )
        verdict = judge.verify(SQUARES, Response(SQUARES.id, sample, text))
        made.append(Answer(SQUARES, sample, completion, text, verdict).row(advantage=0.5, weight=1.0))
    return made


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = make_run(tmp_path_factory.mktemp("runs") / "demo-run")
    (run / "data" / "rl.jsonl").write_bytes(msgspec.json.encode(SQUARES) + b"\n")
    with Judge(workers=1) as judge:
        for step, programs in ((269, PROGRAMS[::-1]), (270, PROGRAMS)):
            with (run / "responses" / f"code-{step:06d}.jsonl").open("a") as file:
                file.write(lines(rows(programs, judge)))
    old: Row = {
        "problem_id": SQUARES.id,
        "sample": 0,
        "text": "x</think>```python\n1\n```",
        "outcome": "wrong",
        "reward": 0,
    }
    (run / "responses" / "code-000200.jsonl").write_text(
        lines([old | {"detail": "test 2 of 2: wrong answer"}])
    )
    return run


@pytest.fixture(scope="module")
def address(folder: Path) -> Iterator[str]:
    with served(folder.parent) as address:
        yield address


def opened(page: Browser, url: str) -> None:
    page.open("about:blank")
    page.open(url)
    page.until("document.querySelector('.response')")


def change(page: Browser, selector: str, value: str) -> None:
    """Choose a value, as a hand does."""
    page.ask(
        f"(c => (c.value = {value!r}, c.dispatchEvent(new Event('change', {{bubbles: true}}))))"
        f"(document.querySelector({selector!r}))"
    )


def press(page: Browser, key: str) -> None:
    page.call("Input.dispatchKeyEvent", type="keyDown", key=key, text=key if len(key) == 1 else "")
    page.call("Input.dispatchKeyEvent", type="keyUp", key=key)


def texts(page: Browser, selector: str) -> list[str]:
    return list(page.ask(f"[...document.querySelectorAll({selector!r})].map(e => e.textContent)"))


def test_a_failed_test_says_what_was_asked_expected_and_got_and_how_they_differ(
    page: Browser, address: str
) -> None:
    opened(page, f"{address}{ONE}2")
    failed = (
        "[...document.querySelectorAll('.response')].map(r => r.querySelector('.failed')?.innerText ?? '')"
    )
    page.ask(OPEN)
    right, hostile, far, left, slow = page.ask(failed)
    assert right == "" and "test 1 of 2: wrong answer" in hostile
    assert "</script><script>document.title='owned'</script>" in hostile and "␛[31m" in hostile
    assert (
        "test 2 of 2" in far and "− 250000" in far and "+ x" in far and "around the first difference" in far
    )
    assert "SystemExit: 3" in left and "(nothing)" in left
    assert "processor time" in slow and "It was stopped" in slow
    assert (
        len(far) < 12_000
        and page.ask("document.querySelectorAll('.response img, .response script, .failed b b').length") == 0
    )
    values = texts(page, ".response:nth-child(3) .value summary")
    assert [value.partition(",")[0] for value in values] == ["expected", "got"]
    opened(page, f"{address}#/run/demo-run/group/code-000200/code%2Fsquares/0")
    old = page.ask("document.querySelector('.failed').innerText")
    assert "test 2 of 2: wrong answer" in old and "was not recorded" in old and "expected, " in old


def test_programs_are_coloured_without_a_character_changed_and_raw_text_is_raw(
    page: Browser, address: str
) -> None:
    opened(page, f"{address}{ONE}1")
    assert {"print", "int", "input", "range"} <= set(texts(page, ".response .py-builtin"))
    assert {"for", "in", "while"} <= set(texts(page, ".response .py-keyword")) and "'ab'" in texts(
        page, ".py-string"
    )
    assert "# <b>bold</b>" in texts(page, ".py-comment")
    code = page.ask("document.querySelectorAll('.response .code')[2].textContent")
    assert code == f"```python\n{PROGRAMS[2]}\n```"
    page.ask("document.querySelector('[name=raw]').click()")
    page.until("document.querySelectorAll('.response .code, .katex').length === 0")
    assert "Squares, \\(s_i\\):" in page.ask("document.querySelector('.said').textContent")
    page.ask("document.querySelector('[name=raw]').click()")
    samples = [
        'f\'{x}\' + """a\nb',
        "'un\nclosed",
        "0x1F + 1_0.5e-3j # c",
        "@a.b\ndef f(self): ...",
        "x = 'a\\'b'",
        "ü = 'é' if ü else \"\\",
    ]
    assert page.ask(f"{json.dumps(samples)}.map(s => el('p', {{}}, python(s)).textContent)") == samples
    hostile = [
        "'\"'.repeat(1e5) + '\\\\'.repeat(1e5)",
        "'\\\\['.repeat(2e5)",
        "'```'.repeat(2e5)",
        "'\\\\boxed{'.repeat(1e5)",
        "'```' + '\\n'.repeat(2e5)",
        "'```\\n' + ' \\r'.repeat(1e5)",
    ]
    for text in hostile:  # what is read in a time that grows with its square would not end
        assert page.ask(f"python({text}).length && prose({text}).length && program({{answer: {text}}}) !== 0")


def test_keys_and_finding_go_through_the_responses(page: Browser, address: str) -> None:
    opened(page, f"{address}{ONE}0")
    assert page.ask("document.querySelectorAll('.thinking[open]').length") == 0
    page.call("Runtime.evaluate", expression="document.body.focus()")
    for key, sample in (("ArrowRight", "1"), ("j", "2"), ("k", "1"), ("ArrowLeft", "0"), ("ArrowLeft", "0")):
        press(page, key)
        assert page.ask(CHOSEN) == sample and page.ask("location.hash").endswith(f"/{sample}")
        assert page.ask("document.activeElement.dataset.sample") == sample or sample == "0"
    press(page, "/")
    assert page.ask("document.activeElement.type") == "search"
    page.call("Input.insertText", text="carry  7, SO x_1")
    page.until("document.querySelector('.count').textContent === ' 0 found'")
    page.ask("document.activeElement.value = ''")
    page.call("Input.insertText", text="$ Squares, \\(S_I")  # from one formula to the next, and over a fold
    page.until("document.querySelector('.count').textContent === ' 0 found'")
    page.ask("document.activeElement.value = ''")
    page.call("Input.insertText", text="frac{1}{2}")
    page.until("document.querySelector('.count').textContent === ' 5 found'")
    press(page, "Enter")
    assert page.ask("document.querySelector('.count').textContent") == " 1 of 5"
    assert page.ask("document.querySelectorAll('.thinking[open]').length") == 1
    assert page.ask("[...CSS.highlights.get('here')][0].toString()").startswith("x")
    page.ask("document.activeElement.value = ''")
    page.call("Input.insertText", text="int(input())\nfor i in range")
    page.until("document.querySelector('.count').textContent === ' 2 found'")
    assert page.ask("[...CSS.highlights.get('found')][0].toString()") == "int(input())\nfor i in range"
    page.ask("document.activeElement.blur()")
    for key, place in (("N", " 2 of 2"), ("n", " 1 of 2")):
        press(page, key)
        assert page.ask("document.querySelector('.count').textContent") == place
    page.ask("document.querySelector('[name=shortcuts]').click(), document.activeElement.blur()")
    press(page, "ArrowRight")
    assert page.ask(CHOSEN) == "0"
    opened(page, page.ask("location.href"))
    assert page.ask("shortcuts.on") is False
    page.ask("document.querySelector('[name=shortcuts]').click()")
    assert page.ask("shortcuts.on") is True


def test_what_is_copied_is_what_was_written(page: Browser, address: str, folder: Path) -> None:
    opened(page, f"{address}{ONE}1")
    page.ask("navigator.clipboard.writeText = (text) => (window.taken = text, Promise.resolve())")
    page.ask("document.querySelector('.chosen .copies button').click()")
    page.until("window.taken && document.querySelector('.chosen .copies button').textContent === 'copied'")
    kept = [
        json.loads(line) for line in (folder / "responses" / "code-000270.jsonl").read_text().splitlines()
    ]
    assert page.ask("window.taken") == next(
        r["text"] for r in kept if r["problem_id"] == SQUARES.id and r["sample"] == 1
    )
    page.ask("document.querySelectorAll('.chosen .copies button')[1].click()")
    page.until(f"window.taken === {json.dumps(PROGRAMS[1] + chr(10))}")


@pytest.mark.parametrize("width", [1600, 390])
def test_two_steps_of_one_problem_stand_beside_each_other(page: Browser, address: str, width: int) -> None:
    page.look(width, 900)
    opened(page, f"{address}{ONE}0?read=one")
    assert len(texts(page, ".response")) == 1
    change(page, "[name=with]", "code-000269")
    page.until("document.querySelectorAll('.pane .response').length === 2")
    assert texts(page, ".pane h2") == ["code, step 270 1 of 5 right", "code, step 269 1 of 5 right"]
    box = "document.querySelectorAll('.pane')[{}].getBoundingClientRect().top"
    assert page.ask(f"{box.format(0)} === {box.format(1)}") is (width == 1600)
    page.ask("document.querySelectorAll('.pane')[1].querySelectorAll('.pick')[4].click()")
    assert page.ask("[...document.querySelectorAll('.response')].map(r => r.dataset.sample)") == ["0", "4"]
    press(page, "ArrowLeft")
    assert page.ask("[...document.querySelectorAll('.response')].map(r => r.dataset.sample)") == ["0", "3"]
    link = page.ask("location.href")
    assert link.endswith("/0?read=one&with=code-000269&other=3")
    opened(page, link)
    page.until("document.querySelectorAll('.response').length === 2")
    assert page.ask("[...document.querySelectorAll('.response')].map(r => r.dataset.sample)") == ["0", "3"]
    assert page.ask("document.documentElement.scrollWidth - innerWidth") == 0


def test_going_back_leads_to_where_one_was(page: Browser, address: str) -> None:
    page.look(1280, 500)
    page.open("about:blank")
    page.open(f"{address}#/run/demo-run")
    page.until("document.documentElement.dataset.drawn && document.body.scrollHeight > 3000")
    page.ask("scrollTo(0, 1500)")
    page.ask("location.hash = '#/run/demo-run/responses'")
    page.until("document.querySelector('.listing') && scrollY === 0")
    page.ask("history.back()")
    page.until("document.querySelector('[data-chart]') && scrollY === 1500")
    page.open("about:blank")
    page.open(f"{address}#/run/demo-run/responses")
    page.until("document.querySelectorAll('.listing tbody tr').length === 50")
    change(page, "[name=stage]", "code")
    page.until(
        "[...document.querySelectorAll('.listing tbody tr')].every(r => r.cells[1].innerText === 'code')"
    )
    page.ask("scrollTo(0, 700)")
    page.ask("document.querySelectorAll('.listing tbody a')[20].click()")
    page.until("document.querySelector('.response') && scrollY < 700")
    press(page, "j")
    page.until("document.querySelector('.response') && location.hash.includes('/group/')")
    page.ask("history.back()")
    page.until("document.querySelector('.listing') && scrollY === 700")
    page.ask("document.querySelectorAll('.listing tbody a')[20].click()")
    page.until("document.querySelector('.steps a')")
    page.ask("document.querySelector('.steps a').click()")
    page.until("document.querySelector('.listing') && scrollY === 700")
    page.ask("window.before = true")
    page.call("Page.reload")
    page.until("!window.before && document.querySelector('.listing') && scrollY === 700")


def test_long_answers_are_read_whole_one_at_a_time_in_a_file_too(
    page: Browser, folder: Path, tmp_path: Path
) -> None:
    run = make_run(tmp_path / "long")
    text = "word " * 8000 + "</think>the end"
    long: list[Row] = [
        {"problem_id": "p", "sample": i, "text": text, "tokens": 8000, "outcome": "wrong"} for i in (0, 1)
    ]
    (run / "responses" / "code-000300.jsonl").write_text(lines(long))
    with served(tmp_path) as address:
        opened(page, f"{address}#/run/long/group/code-000300/p/0")
        page.until("document.querySelector('.thinking pre').textContent === 'word '.repeat(8000)")
        assert len(texts(page, ".response")) == 1
        page.ask("document.querySelector('[name=thinking]').click()")
        lines_of = page.ask("Math.round(document.querySelector('.thinking pre').clientWidth / 7.8)")
        assert 80 <= lines_of <= 120
        press(page, "ArrowRight")
        assert page.ask("document.querySelectorAll('.thinking[open]').length") == 1
    page.open(write_report(folder).as_uri() + ONE + "2")
    page.until("document.querySelector('.chosen .failed .diff')")
    press(page, "ArrowRight")
    assert page.ask(CHOSEN) == "3" and page.ask("location.hash").endswith("/3")


@pytest.mark.parametrize("dark", [False, True])
def test_every_text_has_contrast_and_outcomes_differ_in_lightness_and_mark(
    page: Browser, address: str, dark: bool
) -> None:
    page.look(1280, 900, dark)
    opened(page, f"{address}{ONE}1?with=code-000269")
    page.ask(OPEN)
    ratio, text = page.ask(CONTRAST)
    assert ratio >= 4.5, text
    page.until(
        "[...document.querySelectorAll('pre')].every(e => !e.tabIndex || e.scrollHeight < e.clientHeight + 2)"
    )
    opened(page, f"{address}#/run/demo-run/group/code-000270/{quote('code/0', safe='')}/0")
    change(page, '[aria-label="colour tokens by"]', "entropy")
    ratio, text = page.ask(CONTRAST)
    assert ratio >= 4.5, text
    page.ask("colouring.by = ''")
    style = "getComputedStyle(document.querySelector('.pick.' + o)"
    marks = page.ask(
        f"['correct', 'wrong'].map(o => [{style}, '::before').content, {style}).borderLeftColor])"
    )
    grey = [
        sum(weight * int(c) for weight, c in zip((0.21, 0.72, 0.07), colour[4:-1].split(","), strict=True))
        for _, colour in marks
    ]
    assert marks[0][0] != marks[1][0] and abs(grey[0] - grey[1]) > 40
