"""Comparing answers: against naive references, at every boundary of pieces, and at little cost."""

from __future__ import annotations

import json
import re
import time
import tracemalloc
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from acereason.verify import compare, lcb
from acereason.verify.compare import Piece, same_output, same_result

NUMBER = re.compile(r"[+-]?(0|[1-9]\d*)?(\.\d*)?([eE][+-]?\d+)?", re.ASCII)


def naive_output(expected: str, answer: str) -> bool:
    """Line by line and word by word, all in memory."""

    def lines(text: str) -> list[list[str]]:
        split = [re.findall(r"[^ \t\r\f\v]+", line) for line in text.split("\n")]
        while split and not split[0]:
            split.pop(0)
        while split and not split[-1]:
            split.pop()
        return split

    def same(a: str, b: str) -> bool:
        numbers = all(NUMBER.fullmatch(word) and re.match(r"[+-]?\.?\d", word, re.ASCII) for word in (a, b))
        return a == b or (numbers and Decimal(a) == Decimal(b))

    ours, theirs = lines(expected), lines(answer)
    return len(ours) == len(theirs) and all(
        len(a) == len(b) and all(map(same, a, b)) for a, b in zip(ours, theirs, strict=True)
    )


WORDS = [
    "1",
    "1.0",
    "1.",
    ".5",
    "0.5",
    "01",
    "1e2",
    "100",
    "1_0",
    "+1",
    "-0",
    "0",
    "a",
    "é",
    "١",
    "٫",
    "1\u2028",
    "nan",
]
TEXTS = st.lists(
    st.sampled_from([*WORDS, " ", "  ", "\t", "\n", "\n\n", "\r\n", "\x0b", "\x85", "\xa0"]), max_size=12
)


@given(TEXTS, TEXTS, st.integers(1, 7))
def test_output_agrees_with_the_naive_reference(a: list[str], b: list[str], chunk: int) -> None:
    expected, answer = "".join(a), "".join(b)
    wanted = naive_output(expected, answer)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compare, "CHUNK", chunk)
        assert same_output(expected, answer.encode()) is wanted
        assert same_output(expected, expected.encode())
        data = answer.encode()
        assert same_output(expected, Piece(lambda s, n: data[s : s + n], len(data))) is wanted


@pytest.mark.parametrize(
    ("expected", "answer", "same"),
    [
        ("10", "1_0", False), ("7", "007", False), ("007", "7", False), ("007", "007", True),
        ("7", "٧", False),
        ("7", "７", False), ("inf", "Infinity", False), ("1 2", "1\xa02", False), ("1\n2", "1\x0c2", False),
        ("1\n2", "1\x1c2", False), ("1\n2", "1\u20282", False), ("1\n2", "1\r2", False),
        ("1\n2", "1\r\n2\r\n", True),
        ("1\n\n2", "1\n2", False), ("5", "+5", True), ("5", "5.", True), ("100", "1e2", True),
        ("0", "-0.0", True),
        ("1e5", "1e05", True), ("1", "1e9999999999999999999", False), ("1" * 5000, "1" * 5000 + ".0", True),
        ("x", "", False), ("", "\n\n", True), ("0x10", "16", False), ("1e2", "1E2", True), ("00", "0", False),
    ],
)  # fmt: skip
def test_choices_in_outputs(expected: str, answer: str, same: bool) -> None:
    assert same_output(expected, answer.encode()) is same


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


def typed(value: Any) -> Any:
    """A value whose == tells truth values from numbers."""
    if isinstance(value, bool):
        return ("truth", value)
    if isinstance(value, list):
        return [typed(item) for item in value]
    return {key: typed(item) for key, item in value.items()} if isinstance(value, dict) else value


@given(VALUES, VALUES, st.booleans(), st.sampled_from([None, 0, 1]))
def test_results_agree_with_the_naive_reference(a: Any, b: Any, ascii_only: bool, indent: int | None) -> None:
    expected = json.dumps(a, ensure_ascii=ascii_only)
    for value in (a, b):
        other = json.dumps(value, indent=indent, sort_keys=True)
        assert same_result(expected, other.encode()) is (typed(a) == typed(value)), (expected, other)


@pytest.mark.parametrize(
    ("expected", "answer", "same"),
    [
        ("1", "true", False), ("[0]", "[false]", False), ("true", "true", True), ("1", "1.0", True),
        (str(2**53 + 1), "9007199254740992.0", False), ("1e400", "1e500", False), ("[1,2]", "[1, 2]", True),
        ('{"a":1,"b":2}', '{"b": 2, "a": 1}', True), ('{"a":1}', '{"a":2,"a":1}', False), ("1", "01", False),
        ('"é"', '"\\u00e9"', True), ("null", "[]", False), ("[[1],[2]]", "[[1,2]]", False),
        ("[1]", "[1]]", False),
        ("9" * 6000, "9" * 6000 + ".0", False), ("9" * 6000, "9" * 5999 + "8", False),
        ("[]", "[" * 500, False),
        ('{"a":{"b":[1,{}]}}', '{"a": {"b": [1.0, {}]}}', True), ('{"a":1}', '{"a":1', False),
        ("1", "1 x", False),
    ],
)  # fmt: skip
def test_choices_in_results(expected: str, answer: str, same: bool) -> None:
    assert same_result(expected, answer.encode()) is same


SIZE = 16 << 20
LARGE = {
    "words": b"1 " * (SIZE // 2), "lines": b"1\n" * (SIZE // 2), "blank": b"\n" * SIZE,
    "one word": b"1" * SIZE,
    "zeros": b"1." + b"0" * (SIZE - 2), "wide": "1 \U0001f600 ".encode() * (SIZE // 7), "blanks": b" " * SIZE,
    "lists": b"[" + b"[]," * (SIZE // 3) + b"[]]", "open": b"[" * SIZE, "string": b'"' + b"\\n" * (SIZE // 2),
    "numbers": b"[" + b"1," * (SIZE // 2), "keys": b'{"a":' * (SIZE // 5),
}  # fmt: skip
EXPECTED = ["1", "1 " * 50, '[[], {"a": 1}]', '{"a": [1]}']


@pytest.mark.parametrize("kind", LARGE)
@pytest.mark.parametrize("rule", [same_output, same_result, lcb.same_output, lcb.same_result])
def test_a_large_answer_costs_little(kind: str, rule: Any) -> None:
    """The bytes lie in a file; what is read of them at a time, and all that is made of it, stays small."""
    data = LARGE[kind]
    answer = Piece(lambda start, count: data[start : start + count], len(data))
    tracemalloc.start()
    began = time.process_time()
    assert not any(rule(expected, answer) for expected in EXPECTED)
    spent, peak = time.process_time() - began, tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 32 << 20, f"{peak >> 20} MiB"
    assert spent < 8, f"{spent} s"  # blank lines have to be counted


@pytest.mark.parametrize("rule", [same_output, same_result])
def test_a_large_right_answer_costs_little_too(rule: Any) -> None:
    expected = json.dumps(list(range(2_000_000)))
    data = expected.encode()
    answer = Piece(lambda start, count: data[start : start + count], len(data))
    tracemalloc.start()
    assert rule(expected, answer)
    assert tracemalloc.get_traced_memory()[1] < 32 << 20
    tracemalloc.stop()
