"""Rule filters on questions of each kind, and tests judged by reference and known wrong
solutions."""

from __future__ import annotations

import pytest

from acereason.curate.rules import (
    CodeRules,
    MathRules,
    by_rules,
    code_reason,
    math_reason,
    sound_tests,
)
from acereason.problems import Problem, Test, Verdict

KEEP_MATH = [
    ("Let $f(a) = 2$ and $f(b) = 3$. Find $f(a) + f(b)$ when a = 1 (a prime).", "5"),
    ("Points $A$, $B$ and $C$ lie on a line. Which point lies between the others?", "B"),
    ("Find the number of ways to choose 3 of 10 people.", "120"),
    ("A true statement costs 3 coins, a false one 5. What do 4 false ones cost?", "20"),
    ("Improve the bound: what is the least $n$ with $2^n > 1000$?", "10"),
    ("The graph of $y = x^2$ is reflected in the line $y = x$. What is its area?", "1/3"),
    ("Compute $\\int_0^1 x\\,dx$.", "\\frac12"),
    ("What is 17 * 3 + 2?", "53"),
]
DROP_MATH = [
    ("(a) Find $x$. (b) Find $y$.", "3", "several parts"),
    ("Let x = 2.\n1. Find $x^2$.\n2. Find $x^3$.", "4", "several parts"),
    ("Suppose n is odd. (i) Find n mod 2. (ii) Find n^2 mod 8.", "1", "several parts"),
    ("What is 2+2? (A) 3 (B) 4 (C) 5 (D) 6", "4", "multiple choice"),
    ("What is 2+2?\nA. 3\nB. 4\nC. 5\nD. 6", "B", "multiple choice"),
    ("Which of the following numbers is prime: 4, 7, 9?", "7", "multiple choice"),
    ("What is the capital letter here?", "C", "multiple choice"),
    ("True or false: 7 is prime in the integers.", "True", "true or false"),
    ("Is 91 a prime number or not?", "No", "true or false"),
    ("Prove that $\\sqrt 2$ is irrational.", "x", "proof"),
    ("Show that there are infinitely many primes.", "x", "proof"),
    ("In the figure, find the angle ABC.", "30", "figure"),
    ("Find the area. [asy] draw((0,0)--(1,1)); [/asy]", "30", "figure"),
    ("求所有满足条件的整数 x 的和。", "3", "other language"),
    ("Encuentra el valor de x que es la suma de los enteros.", "3", "other language"),
    ("Bestimme die Summe der Zahlen und das Produkt.", "3", "other language"),
    ("Find x if 2x = 4.\nAnswer: 2", "2", "answer given in the question"),
    ("Find x.", "2", "over-short question"),
    ("Find the closed form of the sum over all n.", "x" * 101, "over-long answer"),
    ("Find the smallest positive integer.", "notfound", "no answer"),
    ("Find the smallest positive integer.", None, "no answer"),
]


def math(question: str, answer: str | None) -> Problem:
    return Problem("p", "math", question, answer)


@pytest.mark.parametrize(("question", "answer"), KEEP_MATH)
def test_math_that_stays(question: str, answer: str) -> None:
    assert math_reason(math(question, answer), MathRules()) is None


@pytest.mark.parametrize(("question", "answer", "reason"), DROP_MATH)
def test_math_that_goes(question: str, answer: str | None, reason: str) -> None:
    assert math_reason(math(question, answer), MathRules()) == reason


def test_rules_can_be_switched_off() -> None:
    off = MathRules(proofs=False)
    assert math_reason(math("Prove that 1 + 1 = 2 holds.", "2"), off) is None


SPECIAL = "special judge or several right answers"
TESTS = (Test("stdin", "1", "2"), Test("stdin", "2", "4"))


@pytest.mark.parametrize(
    ("question", "reason"),
    [
        ("Read n and print 2n.", None),
        ("You are given many integers. Print their sum.", None),
        ("This is an interactive problem. Guess the number.", "interactive"),
        ("After each query flush the output.", "interactive"),
        ("If there are multiple answers, print any of them.", SPECIAL),
        ("Return the pairs in any order.", SPECIAL),
        ("Your answer counts if the relative error is below 1e-6.", SPECIAL),
        ("Count the cells of the grid shown below.", "figure"),
    ],
)  # fmt: skip
def test_code(question: str, reason: str | None) -> None:
    assert code_reason(Problem("p", "code", question, tests=TESTS), CodeRules()) == reason


def test_code_needs_tests_and_no_checker() -> None:
    assert code_reason(Problem("p", "code", "Add."), CodeRules()) == "no tests"
    few = Problem("p", "code", "Add.", tests=TESTS)
    assert code_reason(few, CodeRules(min_tests=3)) == "fewer than 3 tests"
    checked = Problem("p", "code", "Add.", tests=TESTS, meta={"checker": "int main"})
    assert code_reason(checked, CodeRules()) == SPECIAL
    kept, funnel = by_rules([checked, few, Problem("s", "science", "Why?")], MathRules(), CodeRules())
    assert [p.id for p in kept] == ["p", "s"]
    assert funnel.reasons == {f"code: {SPECIAL}": 1}


def test_tests_must_tell_right_from_wrong() -> None:
    def judge(problem: Problem, program: str) -> Verdict:
        if program == "stuck":
            return Verdict("unjudged", None)
        right = program in problem.meta["passing"]
        return Verdict("correct", 1) if right else Verdict("wrong", 0)

    def code(name: str, passing: list[str], right: list[str], wrong: list[str]) -> Problem:
        meta = {"passing": passing, "solutions": right, "wrong_solutions": wrong}
        return Problem(name, "code", "q", tests=TESTS, meta=meta)

    problems = [
        code("good", ["a"], ["x", "a"], ["b"]),
        code("weak", ["a", "b"], ["a"], ["b"]),
        code("broken", [], ["a"], []),
        code("unjudged", [], ["stuck"], []),
        code("unknown", [], [], []),
    ]
    kept, funnel = sound_tests(problems, judge)
    assert [p.id for p in kept] == ["good", "unknown"]
    assert funnel.reasons == {
        "a wrong solution passes": 1,
        "no reference solution passes": 1,
        "could not judge": 1,
        "note: no reference solution": 1,
    }


@pytest.mark.timeout(60)
@pytest.mark.parametrize("unit", ["(a) ", "(A) ", "1. find\n", " A. ", "any valid ", "the ", "**"])
def test_hostile_questions_end(unit: str) -> None:
    text = unit * 50_000
    math_reason(math(text, "1"), MathRules(several_parts=True, multiple_choice=True))
    code_reason(Problem("p", "code", text, tests=TESTS), CodeRules())
