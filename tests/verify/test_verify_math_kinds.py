"""What the judge of mathematics tells apart: measures, functions, named values; and what it puts to
math-verify."""

from __future__ import annotations

import itertools
import json
import os
import time
from pathlib import Path

import pytest

from acereason.problems import Problem, Response
from acereason.verify import Judge
from acereason.verify.answers.clean import clean, unboxed
from acereason.verify.answers.decide import decide
from acereason.verify.answers.units import _UNITS, conversion
from acereason.verify.answers.whole import for_math_verify

# One quantity of every measure; no two of them are the same.
MEASURES = (
    r"7\%", r"7^\circ", r"7\text{ radians}", r"\$7", r"€7", r"£7", r"7\text{ apples}", r"7\text{ cm}",
    r"7\text{ cm}^2", r"7\text{ cm^3}", r"7\text{ s}", r"7\text{ kg}", r"7\text{ m/s}", r"7\text{ m/s}^2",
    r"7^\circ\text{C}", r"7^\circ\text{F}",
)  # fmt: skip


@pytest.mark.parametrize(("ours", "theirs"), list(itertools.permutations(MEASURES, 2)))
def test_measures_differ(ours: str, theirs: str) -> None:
    degrees = {r"7^\circ"} & {ours, theirs} and {r"7^\circ\text{C}", r"7^\circ\text{F}"} & {ours, theirs}
    assert decide(ours, theirs) is bool(degrees)


def test_a_unit_converts_there_and_back() -> None:
    names = {spelling[0] for spelling in _UNITS.values()}
    for a, b in itertools.product(sorted(names), repeat=2):
        there, back = conversion(a, b), conversion(b, a)
        assert (there is None) == (back is None)
        assert there is None or back is None or there * back == 1 or "degree" in (a, b)


@pytest.mark.parametrize("command", ["text", "mbox", "textrm", "textbf", "hbox", "textnormal", "mathrm"])
@pytest.mark.parametrize("unit", [" m}^2", " m^2}", " m^{2}}", " m}^{2}", " square meters}", " sq. m}"])
def test_commands_for_text_are_one(command: str, unit: str) -> None:
    assert decide(r"20000\text{ cm}^2", rf"2\{command}{{{unit}") is True
    assert decide(r"2\text{ m}", rf"2\{command}{{{unit}") is False


@pytest.mark.parametrize(
    "text",
    [
        r"\text{all primes } p", "9 a.m.", "1 2 3", "0x10", r"\sum k \text{ or } 5", r"\sum_{k} k or 5", "x2",
        r"\begin{array}{cc} 1 & 2 \end{array}", r"\sum (f(2)", r"\hline", "5:6", r"\lim x'", "ab(3)",
    ],
)  # fmt: skip
def test_not_for_math_verify(text: str) -> None:
    assert for_math_verify(clean(text)) is None


@pytest.mark.parametrize("text", [r"\sum_{k=1}^{n} k", r"\int_0^1 x dx", "0.25", r"\gcd(12, 18)"])
def test_for_math_verify(text: str) -> None:
    assert for_math_verify(clean(text)) is not None


def test_math_verify_rounds_nothing() -> None:
    pytest.importorskip("math_verify")
    with Judge(1) as judge:
        for answer, reward in (
            (r"\frac{1}{3}", 1),
            ("0.333333", 0),
            ("0.3333333333333333", 0),
            ("1/3 cm", 0),
        ):
            problem = Problem("p", "math", "", answer=r"\int_0^1 x^2 dx")
            verdict = judge.verify(problem, Response("p", 0, f"</think>\\boxed{{{answer}}}"))
            assert verdict.reward == reward, answer


def test_boxes_of_a_reference() -> None:
    assert unboxed(r"so $\boxed{2}$, $\boxed{3}$ and \fbox{5}.") == "2, 3, 5"
    assert unboxed(r"\boxed{2} was wrong; rather it is \boxed{\frac{1}{3}}") == r"\frac{1}{3}"
    assert unboxed(r"\boxed{2} and \boxed{3") == "2"
    assert unboxed("{") == "{"


SINES = r"\{" + ",".join(rf"\sin {k}" for k in range(1, 65)) + r"\}"


def test_an_empty_reference_is_no_reference() -> None:
    with Judge(1) as judge:
        verdict = judge.verify(Problem("p", "math", "", answer=" "), Response("p", 0, r"</think>\boxed{5}"))
    assert verdict.outcome == "unjudged"


HOSTILE = (
    "9^{9^{9^{9}}}", "(10^8)!", r"\binom{10^9}{5\cdot 10^8}", r"(1+\sqrt2)^{10^6}", "9!!!!!!!!",
    "((((9!)!)!)!)", "1e-99999", "x^{10^9}", r"\sin(" * 38 + "x" + ")" * 38, "+".join(["2000!"] * 90),
    "+".join(rf"\sin({k}^{{{k}}})" for k in range(2, 40)), SINES.replace("64", "65"), r"\text{" * 300,
    "f(" * 400, "-" * 1900, r"\sqrt{" * 380, r"\begin{cases}" * 100, "1," * 900, "|x|+" * 99 + "1",
    r"\cup" * 400,
)  # fmt: skip
REFERENCES = (
    "5",
    "x^2+1",
    r"\sqrt{2}+\sqrt{3}",
    r"\{" + ",".join(rf"\sin {k}" for k in range(1, 65)) + r"\}",
    "e^x",
)


@pytest.mark.parametrize("reference", REFERENCES)
def test_hostile_answers_end_soon(reference: str) -> None:
    problem = Problem("p", "math", "", answer=reference)
    with Judge(1) as judge:
        for answer in HOSTILE:
            start = time.process_time()
            verdict = judge.verify(problem, Response("p", 0, f"</think>\\boxed{{{answer}}}"))
            assert verdict.reward == 0, (reference, answer)
            assert time.process_time() - start < 3, (reference, answer)


def shared() -> Path:
    """The folder of real data, when there is one."""
    return Path(os.environ.get("ACEREASON_SHARED", Path(__file__).parents[3] / "shared"))


@pytest.mark.skipif(not (shared() / "real" / "peers_math.jsonl").exists(), reason="no real data beside")
def test_pairs_of_other_projects() -> None:
    """No false positive, and at most four right answers refused, of those that need no math-verify."""
    rows = [json.loads(line) for line in (shared() / "real" / "peers_math.jsonl").read_text().splitlines()]
    wrong = {0: 0, 1: 0}
    with Judge(1) as judge:
        for row in rows:
            problem = Problem(row["id"], "math", "", answer=row["answer"])
            right = judge.verify(problem, Response(row["id"], 0, row["response"])).reward == 1
            wrong[row["expected"]] += right != bool(row["expected"])
    assert wrong[0] == 0
    assert wrong[1] <= 4
