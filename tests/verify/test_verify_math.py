"""The exact comparison: the project's cases, properties over generated numbers, a fuzzer, hostile
text."""

from __future__ import annotations

import json
import sys
import time
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from acereason.problems import Problem, Response, Verdict
from acereason.verify import Judge
from acereason.verify.answers import compat
from acereason.verify.answers.decide import decide, readable
from acereason.verify.workers import MathWorker

CASES = [
    json.loads(line)
    for line in (Path(__file__).with_name("data") / "math_cases.jsonl").read_text().splitlines()
]


def test_every_case() -> None:
    wrong = []
    for case in CASES:
        found = decide(case["answer"], case["boxed"])
        if (found is True) != case["equal"]:
            wrong.append((case["answer"], case["boxed"], found))
    assert len(CASES) >= 300
    assert wrong == []


def test_almost_nothing_is_left_undecided() -> None:
    undecided = [c for c in CASES if decide(c["answer"], c["boxed"]) is None]
    assert len(undecided) < len(CASES) / 50  # nearly all of them malformed on purpose


def test_whatever_is_equal_is_equal_to_itself() -> None:
    for case in CASES:
        if case["boxed"].strip() and case["equal"]:
            assert decide(case["boxed"], case["boxed"]) is True, case


@given(st.fractions(max_denominator=10**6), st.fractions(max_denominator=10**6))
def test_numbers_are_equal_exactly_when_their_values_are(a: Fraction, b: Fraction) -> None:
    for spelled in spellings(b):
        assert decide(str(a), spelled) is (a == b), spelled
    for spelled in spellings(a):
        assert decide(str(a), spelled) is True, spelled


def spellings(value: Fraction) -> list[str]:
    top, bottom = value.numerator, value.denominator
    found = [f"{top}/{bottom}", f"\\frac{{{top}}}{{{bottom}}}", f"\\dfrac{{{3 * top}}}{{{3 * bottom}}}"]
    if bottom == 1:
        found += [str(top), f"{top:,}", f"{top}.0", f"{top}\\text{{ cm}}", f"x = {top}", f"${top}$"]
    if value > 1 and bottom > 1:
        found.append(f"{top // bottom}\\frac{{{top % bottom}}}{{{bottom}}}")
    return found


@given(st.integers(-(10**30), 10**30), st.integers(1, 10**9))
def test_no_tolerance_however_large_the_number(number: int, difference: int) -> None:
    assert decide(str(number), str(number + difference)) is False
    assert decide(str(number), f"{number}.{difference:09d}"[:-1] + "1") is False


@given(st.lists(st.integers(-99, 99), min_size=2, max_size=5), st.randoms())
def test_sets_have_no_order_and_tuples_have(items: list[int], random: object) -> None:
    shuffled = list(items)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    ours, theirs = ", ".join(map(str, items)), ", ".join(map(str, shuffled))
    assert decide(f"\\{{{ours}\\}}", f"\\{{{theirs}\\}}") is True
    assert decide(f"({ours})", f"({theirs})") is (items == shuffled)
    assert decide(str(items[0]), theirs) is not True


POLYNOMIAL = st.recursive(
    st.sampled_from(["x", "y", "2", "3", "(x+1)", "(x-y)", "\\frac{1}{2}"]),
    lambda inner: st.tuples(inner, st.sampled_from(["+", "-", "\\cdot "]), inner).map(
        lambda parts: "(" + "".join(parts) + ")"
    ),
    max_leaves=6,
)


@given(POLYNOMIAL, st.integers(1, 9))
def test_expressions_equal_their_rearrangements_and_nothing_near(text: str, shift: int) -> None:
    assert decide(text, f"{shift}+{text}-{shift}") is True
    assert decide(text, f"{shift}\\cdot {text}-{shift - 1}\\cdot {text}") is True
    assert decide(text, f"{text}+{shift}") is False
    assert decide(text, f"{text}+2^{{61}}-1") is False


FRAGMENTS = st.sampled_from(
    ["\\frac", "{", "}", "(", ")", "[", "]", "\\{", "\\}", "^", "_", "1", "23", ".", ",", "x", "\\sqrt",
     "\\pm", "\\infty", "\\text{", "or", " ", "-", "+", "=", "<", "\\le", "\\cup", "\\in", "|", "!", "%",
     "\\pi", "e", "i", "\\sin", "\\log", "^\\circ", "\\begin{pmatrix}", "\\end{pmatrix}", "&", "\\\\", ":",
     ";", "'", "\\overline", "½", "√", "∞", "\u200b", "\0", "\ue000", "$", "\\mathrm{", "mod", "^{-1}"]
)  # fmt: skip


@settings(max_examples=400)
@given(st.lists(FRAGMENTS, max_size=14).map("".join), st.sampled_from(["5", "x^2", "(1,2)", "[0,1)"]))
def test_no_text_raises_or_hangs(text: str, reference: str) -> None:
    start = time.process_time()
    assert decide(reference, text) in (True, False, None)
    assert decide(text, reference) in (True, False, None)
    assert time.process_time() - start < 5


@given(st.text(max_size=60))
def test_no_unicode_raises(text: str) -> None:
    assert decide("5", text) in (True, False, None)


@pytest.mark.parametrize("size", [10_000, 1_000_000])
@pytest.mark.parametrize("unit", ["(", "x+", "\\frac{1}{", "{", "1,", "\\text{", "a_{", "9^", "<1"])
def test_long_answers_are_refused_at_once(unit: str, size: int) -> None:
    problem = Problem("p", "math", "", answer="5")
    text = "</think> \\boxed{" + unit * (size // len(unit)) + "}"
    with Judge(1) as judge:
        assert judge.verify(problem, Response("p", 0, text)).reward == 0


def judged(answer: str, boxed: str, **options: object) -> Verdict:
    with Judge(1, **options) as judge:  # type: ignore[arg-type]
        problem = Problem("p", "math", "", answer=answer)
        return judge.verify(problem, Response("p", 0, f"</think> \\boxed{{{boxed}}}"))


def test_the_published_toolkits_mistakes_are_in_its_mode_only() -> None:
    for reference, answer in (("123456", "123457"), ("5", "500"), ("-123", "-118")):
        assert compat.decide(reference, answer) is True
        assert judged(reference, answer, mode="acereason").outcome == "correct"
        assert judged(reference, answer).outcome == "wrong"


def test_what_is_undecided_goes_to_math_verify() -> None:
    pytest.importorskip("math_verify")
    assert judged("\\int_0^1 x dx", "\\frac{1}{2}").outcome == "correct"
    assert judged("\\int_0^1 x dx", "\\frac{1}{3}").outcome == "wrong"


def test_without_math_verify_undecided_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("acereason.verify.domains.available", lambda: False)
    row = "\\begin{pmatrix} 1 & 2 \\end{pmatrix}"
    verdict = judged(row, f"{row} + {row}")
    assert verdict.outcome == "wrong"
    assert "math-verify" in verdict.detail
    assert judged("\\int_0^1 x dx", "0.5").outcome == "unjudged"


def test_a_worker_that_hangs_is_replaced() -> None:
    pytest.importorskip("math_verify")
    worker = MathWorker()
    try:
        assert worker.ask("5", "9^{9^{9^{9}}}", seconds=0.5) in ("timeout", "starved")  # on a busy machine
        assert worker.ask("x+1", "1+x", seconds=30) == "equal"
        assert worker.ask("x+1", "2+x", seconds=30) == "different"
    finally:
        worker.close()


def stand_in(monkeypatch: pytest.MonkeyPatch, folder: Path, body: str) -> None:
    """Another process in place of math-verify's, that does `body` when asked."""
    script = folder / "worker.py"
    script.write_text(
        "import os, signal, sys, time\nchannel = open(int(sys.argv[1]), 'r+b', buffering=0)\n"
        f"channel.write(b'\"ready\"\\n')\nwhile channel.readline():\n    {body}\n"
    )
    monkeypatch.setattr("acereason.verify.workers.MathWorker.script", script)
    monkeypatch.setattr("acereason.verify.domains.available", lambda: True)


@pytest.mark.parametrize(
    ("body", "outcome", "detail"),
    [
        ("os._exit(0)", "unjudged", "ended from outside"),
        ("os.kill(os.getpid(), signal.SIGKILL)", "unjudged", "ended from outside"),
        ("time.sleep(60)", "unjudged", "too busy"),
        ("os.abort()", "wrong", "broke down"),
        ("while True: pass", ("timeout", "unjudged"), "math-verify"),
        ("channel.write(b'\"equal\"\\n')", "correct", ""),
    ],
)
def test_what_is_our_own_fault_is_no_reward(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, body: str, outcome: str, detail: str
) -> None:
    stand_in(monkeypatch, tmp_path, body)
    verdict = judged("\\int_0^x t dt", "\\sum_1^x t dt")
    assert verdict.outcome in outcome, verdict
    assert detail in verdict.detail


@pytest.mark.skipif(sys.platform != "linux", reason="seccomp")
def test_the_worker_is_confined() -> None:
    pytest.importorskip("math_verify")
    worker = MathWorker()
    try:
        assert worker.ask("x+1", "1+x", seconds=30) == "equal"
        assert worker._process is not None
        status = Path(f"/proc/{worker._process.pid}/status").read_text()
        assert "Seccomp:\t2" in status and "NoNewPrivs:\t1" in status
    finally:
        worker.close()


@pytest.mark.slow
def test_agrees_with_math_verify_where_both_decide() -> None:
    """On plain numbers, fractions, surds and polynomials the two judges say the same."""
    pytest.importorskip("math_verify")
    plain = {"integer", "fraction", "algebra"}
    cases = [c for c in CASES if c["category"] in plain and c["boxed"].isascii()][:150]
    worker = MathWorker()
    differ = []
    try:
        for case in cases:
            found = worker.ask(case["answer"], case["boxed"], seconds=20)
            if found == "equal" and not case["equal"]:
                differ.append((case["answer"], case["boxed"]))
    finally:
        worker.close()
    # math-verify drops words and rounds floats to six places; nothing else may differ
    assert all("text" in boxed or "." in boxed or "=" in boxed for _, boxed in differ), differ


def test_readable_references() -> None:
    assert readable("\\frac{1}{2}")
    assert not readable("\\int_0^1 x dx")
