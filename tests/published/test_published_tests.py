"""Tests of programs in every published shape: right programs are right, and no shape is guessed."""

from __future__ import annotations

import base64
import json
import pickle
import zlib
from collections.abc import Callable
from typing import Any

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from acereason.errors import DataError
from acereason.problems import Problem, Response, Test
from acereason.published.tests import from_json, read_tests
from acereason.verify import verify
from acereason.verify.adapters import compute_score, trl_reward

ADD = "a = int(input())\nb = int(input())\nprint(a + b)"
DOUBLE = "def double(n):\n    return 2 * n"
METHOD = "class Solution:\n    def total(self, nums: List[int], k: int) -> int:\n        return sum(nums) - k"
QUESTION = "Complete:\nclass Solution:\n    def total(self, nums: List[int], k: int) -> int:\n"
KEYWORDS = "def check(candidate):\n    assert candidate(nums = [1, 2], k = 3) == 0\n\ncheck(Solution().total)"
STDIN = [{"input": "2\n3\n", "output": "5\n", "testtype": "stdin"}]
CALLED = {"fn_name": "double", "inputs": [[4], [6]], "outputs": [[8], [12]]}


def packed(tests: Any) -> str:
    return base64.b64encode(zlib.compress(pickle.dumps(json.dumps(tests)))).decode()


SHAPES: dict[str, tuple[str, Any]] = {
    "LiveCodeBench": (ADD, STDIN),
    "LiveCodeBench, packed": (ADD, packed(STDIN)),
    "LiveCodeBench, functional": (DOUBLE, [
        {"input": "4", "output": "8", "testtype": "functional", "metadata": {"func_name": "double"}}]),
    "columns": (ADD, {"inputs": ["2\n3\n"], "outputs": ["5\n"]}),
    "columns, empty name": (ADD, {"fn_name": "", "inputs": ["2\n3\n"], "outputs": ["5\n"]}),
    "columns, null name": (ADD, {"fn_name": None, "inputs": ["2\n3\n"], "outputs": ["5\n"]}),
    "columns of lists of lines": (ADD, {"inputs": [["2", "3"]], "outputs": [["5"]]}),
    "columns of lists of numbers": (ADD, {"inputs": [[2, 3]], "outputs": [[5]]}),
    "CodeContests": (ADD, {"input": ["2\n3\n"], "output": ["5\n"]}),
    "one test": (ADD, {"input": "2\n3\n", "output": "5\n"}),
    "a list of columns": (ADD, [{"inputs": ["2\n3\n"], "outputs": ["5\n"]}]),
    "codeforces": (ADD, [{"input": "2\n3\n", "output": "5"}]),
    "expected_output": (ADD, [{"input": "2\n3\n", "expected_output": "5"}]),
    "PrimeIntellect, stdin": (
        ADD, [{"type": "stdin_stdout", "input": "2\n3\n", "output": "5\n", "fn_name": None}]),
    "PrimeIntellect, calls": (DOUBLE, {"language": "python", "test_cases": [
        {"type": "function_call", "fn_name": "double", "input": [4], "output": [8]}]}),
    "wrapped once": (DOUBLE, CALLED),
    "wrapped once, in JSON twice": (DOUBLE, json.dumps(json.dumps(CALLED))),
    "not wrapped": (DOUBLE, {"fn_name": "double", "inputs": [4, 6], "outputs": [8, 12]}),
    "JSON in strings": (DOUBLE, {"fn_name": "double", "inputs": ["4", "[1]"], "outputs": ["8", "[1, 1]"]}),
    "arrays in arrays": (DOUBLE, {
        "fn_name": "double", "inputs": numpy.array([numpy.array([4])], dtype=object),
        "outputs": numpy.array([8])}),
    "check(candidate) of a method": (METHOD, {"functional": KEYWORDS}),
    "check(candidate) as text": (METHOD, KEYWORDS),
    "assertions": (DOUBLE, ["assert double(4) == 8", "assert double([1]) == [1, 1]"]),
    "assertions that are no literals": (DOUBLE, ["import math", "assert double((1,)) == (1, 1)"][1:]),
    "assertions of a check": (DOUBLE, "def check(candidate):\n    for n in range(9):\n"
                              "        assert candidate(n) == n + n\n\ncheck(double)"),
    "assert_case": (DOUBLE, {"assert_case": ["assert abs(double(2.5) - 5) < 1e-6"]}),
    "records": (DOUBLE, [{"type": "functional", "input": "[4]", "output": "8", "function": ""}]),
}  # fmt: skip


def told(program: str) -> str:
    return f"</think>\n```python\n{program}\n```"


@pytest.mark.parametrize("shape", SHAPES)
def test_right_programs_are_right_in_every_shape(shape: str) -> None:
    program, data = SHAPES[shape]
    wrong = program.replace("2 * n", "3 * n").replace("a + b", "a - b").replace("- k", "+ k")
    found = read_tests(data, "double" if shape == "records" else None, QUESTION)
    problem = Problem(id="p", question=QUESTION, **found.fields("p"))
    assert verify(problem, Response("p", 0, told(program))).outcome == "correct"
    assert verify(problem, Response("p", 0, told(wrong))).outcome == "wrong"


@pytest.mark.parametrize("shape", [s for s in SHAPES if s != "records"])
def test_both_adapters_read_every_shape(shape: str) -> None:
    program, data = SHAPES[shape]
    extra = {"index": 1, "question": QUESTION}
    assert compute_score("mine", told(program), data, extra) == 1.0
    assert trl_reward()([QUESTION], [told(program)], tests=[data], answer=[None]) == [1.0]


UNKNOWN: list[Any] = [
    [{"in": "1", "out": "2"}],
    [["1", "2"]],
    {"inputs": ["1"]},
    {"inputs": ["1"], "outputs": []},
    [{"input": {"a": 1}, "output": "2"}],
    [{"type": "interactive", "input": "1", "output": "2"}],
    {"language": "cpp", "test_cases": [{"input": "1", "output": "2"}]},
    {"fn_name": "f", "inputs": ["abc"], "outputs": ["cba"]},
    {"fn_name": "f", "inputs": [{"x": 1}], "outputs": [2]},
    '{"inputs": ["1',
    "[]x",
    [],
    {},
    '{"reply": 4}',
]


@pytest.mark.parametrize("data", UNKNOWN, ids=repr)
def test_an_unknown_shape_is_one_error_that_shows_it(data: Any) -> None:
    attempts: list[Callable[[], Any]] = [lambda: compute_score("mine", told(ADD), data)]
    if data not in ([], {}):  # no tests: nothing that can be judged, for which TRL has a word
        attempts.append(lambda: trl_reward()(["q"], [told(ADD)], tests=[data]))
    else:
        assert trl_reward()(["q"], [told(ADD)], tests=[data]) == [None]
    for attempt in attempts:
        with pytest.raises(DataError, match=r"found|'\[\]x'|'\{\"inputs\": \[\"1'"):
            attempt()
    assert compute_score("mine", told(ADD), data, unjudged=-1.0) == -1.0


def test_results_are_unwrapped_only_where_all_are_wrapped() -> None:
    both = {
        "fn_name": "both",
        "inputs": [[[4, 9], [9, 4]], [[7], [7]], [[1], [2]]],
        "outputs": [[4, 9], [7], []],
    }
    assert [t.output for t in from_json(both)] == ["[4,9]", "[7]", "[]"]
    items = [{"fn_name": "f", "input": [i], "output": out} for i, out in enumerate([[4, 9], [7]])]
    assert [t.output for t in from_json(items)] == ["[4,9]", "[7]"]


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**9), 10**9) | st.text("ab\n\"'\\ é"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("ab"), inner, max_size=3),
    max_leaves=8,
)


@given(st.lists(st.tuples(st.lists(VALUES, min_size=1, max_size=3), VALUES), min_size=2, max_size=4))
def test_calls_mean_the_same_in_every_dress(calls: list[tuple[list[Any], Any]]) -> None:
    """Wrapped once, a JSON argument a line, records, and assertions of one set of calls."""
    wanted = [([*a], r) for a, r in calls]

    def said(data: Any) -> list[tuple[Any, Any]]:
        return [(json.loads(t.input), json.loads(t.output)) for t in read_tests(data).tests]

    wrapped = {"fn_name": "f", "inputs": [a for a, _ in calls], "outputs": [[r] for _, r in calls]}
    lines = [
        {"input": "\n".join(map(json.dumps, a)), "output": json.dumps(r), "testtype": "functional",
         "metadata": {"func_name": "f"}}
        for a, r in calls
    ]  # fmt: skip
    records = [{"type": "functional", "input": json.dumps(a), "output": json.dumps(r)} for a, r in calls]
    asserted = [f"assert f({', '.join(map(repr, a))}) == {r!r}" for a, r in calls]
    for data in (wrapped, json.dumps(wrapped), lines, records, asserted, "\n".join(asserted)):
        assert said(data) == wanted


@pytest.mark.parametrize(
    "line",
    [
        "assert f((1, 2)) == 3",  # a tuple is no list to a program
        "assert f({1}) == 1",
        "assert f(1) == {2: 3}",  # JSON has no such key
        "assert f(1) == float('nan')",
        "assert f(1) > 2",
        "assert f(a=1) == 2",  # the order of its parameters is not known
        "assert not f(1)",
        "assert g(f(1)) == 2",
        "x = 1\nassert f(x) == 2",
    ],
)
def test_assertions_that_are_no_plain_calls_stay_a_program(line: str) -> None:
    found = read_tests(line, "f")
    assert not found.tests and found.program == line


def test_keywords_follow_the_shown_signature() -> None:
    assert read_tests(KEYWORDS, question=QUESTION).tests == (Test("functional", "[[1,2],3]", "0"),)
    turned = QUESTION.replace("nums: List[int], k: int", "k: int, nums: List[int]")
    assert read_tests(KEYWORDS, question=turned).program == KEYWORDS
    assert read_tests(KEYWORDS).program == KEYWORDS


def test_answers_of_verl_in_their_dresses() -> None:
    right = "</think>\\boxed{204}"
    for truth in (
        "204",
        204,
        204.0,
        ["204"],
        numpy.array(["204"], dtype=object),
        "\\boxed{204}",
        "so\n#### 204",
    ):
        assert compute_score("aime", right, truth) == 1.0, truth
    for nothing in (None, "", float("nan"), ["1", "2"]):
        with pytest.raises(DataError):
            compute_score("aime", right, nothing)


def test_trl_needs_an_answer_or_tests() -> None:
    with pytest.raises(DataError, match="answer"):
        trl_reward()(["q"], ["</think>\\boxed{4}"], anwser=["4"])
    reward = trl_reward()
    assert reward(["q"], ["</think>\\boxed{4}"], solution=["so $\\boxed{4}$"]) == [1.0]
    assert reward(["q"], ["</think>\\boxed{4}"], ground_truth=[4]) == [1.0]
