"""Tests of programs in every shape that data sets and trainers use; one reader for all of them.

    [{input, output, testtype}, …]   functional ones hold a JSON argument a line      LiveCodeBench, DeepCoder
    [{type, input, output, fn_name}] arguments in a list, the result wrapped once     PrimeIntellect
    {inputs, outputs, fn_name}       lists of arguments, results wrapped once or not  TACO, APPS, verl
    {inputs, outputs}                texts, or lists of lines                         the same
    {input: […], output: […]}        texts                                            CodeContests
    def check(candidate): …          also {functional: …}                             HumanEval, LeetCode
    ["assert f(1) == 2", …]          also {assert_case: […]}                          MBPP, AceCode
    [{type, input, output}, …]       a JSON list of arguments                         this project's records

Any of them as JSON in a string, in LiveCodeBench's packing (`packed.py`), or in the arrays that Parquet
gives. Results are unwrapped only where every one is wrapped. A shape that is none of these is a DataError
that shows it: a guess would be a reward of 0 for right programs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal, NamedTuple

import msgspec

from acereason.errors import DataError
from acereason.problems import Test
from acereason.published import assertions
from acereason.published.packed import LIMIT, json_in, pickled_string, plain, shown, unpacked

__all__ = ["Checks", "from_json", "function_name", "pickled_string", "private_tests", "read_tests", "tests"]

Kind = Literal["stdin", "functional"]
_KINDS: Mapping[str, Kind] = {
    **dict.fromkeys(("stdin", "stdin_stdout", "standard_input", "stdio", "io"), "stdin"),
    **dict.fromkeys(("functional", "function_call", "function", "call"), "functional"),
}
_INNER = ("test_cases", "tests", "unit_tests", "ground_truth")  # a dict around the tests
_ASSERTED = ("functional", "assert_case", "test_list", "asserts", "assertions", "test_code", "test")
_NAMES = ("fn_name", "func_name", "function_name", "entry_point", "function")
_GIVEN, _WANTED = ("inputs", "input", "stdin"), ("outputs", "output", "expected_output", "expected", "stdout")


class Checks(NamedTuple):
    """What judges a program: `tests`, calling `function` when they are functional; or a `program` of
    assertions that runs after it. Nothing of either: there are no tests."""

    tests: tuple[Test, ...] = ()
    function: str | None = None
    program: str | None = None

    def __bool__(self) -> bool:
        return bool(self.tests or self.program)

    def fields(self, name: str) -> dict[str, Any]:
        """The fields of a `Problem` of this id that is judged so."""
        if self.program:
            return assertions.fields(name, self.program)
        return {"domain": "code", "tests": self.tests, "function": self.function}


class _Case(NamedTuple):
    """One test before it is written as a record. `typed`: functional, with JSON in strings."""

    given: Any
    wanted: Any
    kind: Kind
    typed: bool


def read_tests(data: Any, function: str | None = None, question: str = "") -> Checks:
    """The tests in `data`, of whatever shape.

    function: what functional tests call, where it stands beside the tests; theirs goes first. question: where
    the signature is looked up when assertions name their arguments. DataError: no shape that is known."""
    data = plain(data)
    for _ in range(3):  # JSON in a string, perhaps in a string again
        if not isinstance(data, str):
            break
        if not data.strip():
            return Checks()
        if assertions.is_program(data):
            return _asserted(data, function, question)
        data = plain(unpacked(data))
    if isinstance(data, dict) and (inner := _inner(data)) is not None:
        return read_tests(inner, function_name(data) or function, question)
    if (program := _program(data)) is not None:
        return _asserted(program, function_name(data) or function, question)
    name = function_name(data) or function or None
    if isinstance(data, list) and data and all(isinstance(item, Test) for item in data):
        return Checks(tuple(data), name)
    try:
        cases = list(_cases(data, name))
        cases_read = tuple(_records(cases))
        return Checks(cases_read, name if any(test.type == "functional" for test in cases_read) else None)
    except DataError as error:
        raise DataError(f"tests of a shape that is not known: {error}; found {shown(data)}") from error


def from_json(data: Any) -> list[Test]:
    """Tests with inputs and outputs from decoded JSON; DataError for assertions too."""
    checks = read_tests(data)
    if checks.program:
        raise DataError(f"expected tests with inputs and outputs, found assertions: {shown(data)}")
    return list(checks.tests)


def private_tests(text: str, limit: int = LIMIT) -> list[Test]:
    """LiveCodeBench's `private_test_cases`: JSON, or base64 of zlib of a pickled JSON string."""
    return from_json(unpacked(text, limit))


def tests(text: str, limit: int = LIMIT) -> list[Test]:
    """Tests from JSON in a string."""
    if len(text) > limit:
        raise DataError(f"expected at most {limit:,} characters of tests, found {len(text):,}")
    return from_json(json_in(text))


def function_name(data: Any) -> str | None:
    """The function that functional tests call, wherever the tests name it."""
    for item in data if isinstance(data, list) else [data]:
        for place in (item, item.get("metadata")) if isinstance(item, dict) else ():
            if isinstance(place, dict):
                for name in _NAMES:
                    if isinstance(place.get(name), str) and place[name].strip():
                        return str(place[name]).strip()
    return None


def _inner(data: dict[str, Any]) -> Any:
    """The tests that a dict holds under one name, such as {"language": "python", "test_cases": […]}."""
    if not str(data.get("language") or "python").lower().startswith("py"):
        raise DataError(f"expected tests of Python programs, found those of {data['language']}")
    if any(data.get(name) is not None for name in (*_GIVEN, *_WANTED)):
        return None
    candidates = [
        data[name] for name in _INNER if isinstance(data.get(name), (list, dict, str)) and data[name]
    ]
    return candidates[0] if len(candidates) == 1 else None


def _program(data: Any) -> str | None:
    """The assertions in one of the shapes that hold some."""
    if isinstance(data, list) and data and all(isinstance(x, str) and assertions.is_program(x) for x in data):
        return "\n".join(data)
    if isinstance(data, dict):
        candidates = [data[name] for name in _ASSERTED if data.get(name)]
        if len(candidates) == 1:
            text = candidates[0] if isinstance(candidates[0], str) else _program(candidates[0])
            setup = data.get("import_prefix") or data.get("test_setup_code") or ""
            return f"{setup}\n{text}" if text and assertions.is_program(text) else None
    return None


def _asserted(program: str, function: str | None, question: str) -> Checks:
    called = assertions.called(program, function)
    whole = assertions.complete(program, function)
    if (cases := assertions.as_tests(whole, question)) is not None:
        return Checks(tuple(cases), called)
    return Checks((), called, whole)


def _cases(data: Any, function: str | None) -> Iterable[_Case]:
    """The tests of a list or a dict, one by one."""
    if isinstance(data, dict):
        yield from _columns(data, function) if _is_columns(data) else [_case(data, function)]
        return
    if not isinstance(data, list):
        raise DataError(f"expected a list or an object of tests, not {type(data).__name__}")
    for item in data:
        if not isinstance(item, dict):
            raise DataError(f"expected tests with input and output, not {shown(item, 60)}")
        if isinstance(item.get("inputs"), list) and isinstance(item.get("outputs"), list):
            yield from _columns(item, function)
        else:
            yield _case(item, function)


def _is_columns(data: dict[str, Any]) -> bool:
    given, wanted = _one(data, _GIVEN), _one(data, _WANTED)
    return isinstance(given, list) and isinstance(wanted, list)


def _one(data: dict[str, Any], names: tuple[str, ...]) -> Any:
    """The value under the first of these names that is there."""
    for name in names:
        if data.get(name) is not None:
            return data[name]
    raise DataError(f"expected one of {', '.join(names)}")


def _columns(data: dict[str, Any], function: str | None) -> Iterable[_Case]:
    given, wanted = _one(data, _GIVEN), _one(data, _WANTED)
    if len(given) != len(wanted):
        raise DataError(f"expected as many outputs as inputs, not {len(wanted)} and {len(given)}")
    kind: Kind = "functional" if _named_kind(data) != "stdin" and function else "stdin"
    typed = kind == "functional" and all(isinstance(x, str) for x in (*given, *wanted))
    for a, b in zip(given, wanted, strict=True):
        yield _Case(a, b, kind, typed)


def _case(item: dict[str, Any], function: str | None) -> _Case:
    given, wanted = _one(item, _GIVEN), _one(item, _WANTED)
    kind = _named_kind(item)
    if item.get("type") == "functional" and "testtype" not in item and not _own_name(item):
        return _Case(_own(given), wanted, "functional", True)  # a record of ours: one JSON list of arguments
    if kind is None:
        kind = "functional" if function or _own_name(item) else "stdin"
    return _Case(given, wanted, kind, kind == "functional" and isinstance(given, str))


def _own_name(item: dict[str, Any]) -> bool:
    return any(item.get(name) for name in _NAMES)


def _named_kind(item: dict[str, Any]) -> Kind | None:
    """The kind that a test names; DataError for one that cannot be judged, such as "interactive"."""
    named = item.get("testtype") or item.get("type")
    if named is None:
        return None
    if str(named).lower() not in _KINDS:
        raise DataError(f"expected a test of type {', '.join(_KINDS)}, not {named!r}")
    return _KINDS[str(named).lower()]


class _Own(str):
    """The arguments of a record of ours: one JSON list."""


def _own(given: Any) -> _Own:
    if not isinstance(given, str) or not isinstance(json_in(given), list):
        raise DataError(f"expected a JSON list of arguments, not {shown(given, 60)}")
    return _Own(given)


def _records(cases: list[_Case]) -> Iterable[Test]:
    """The tests, with results unwrapped where all of them are wrapped (TACO, APPS and their heirs)."""
    loose = [c for c in cases if c.kind == "functional" and not c.typed]
    wrapped = all(isinstance(c.wanted, list) and len(c.wanted) == 1 for c in loose)
    for case in cases:
        if case.kind == "stdin":
            yield Test("stdin", _lines(case.given), _lines(case.wanted))
        elif case.typed:
            yield Test("functional", _arguments(case.given), _typed(case.wanted))
        else:
            yield Test("functional", _listed(case.given), _json(case.wanted[0] if wrapped else case.wanted))


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()


def _arguments(given: str) -> str:
    """A JSON list of arguments from one JSON argument a line."""
    if isinstance(given, _Own):
        return str(given)
    return _json([json_in(line) for line in given.split("\n") if line.strip()])


def _listed(given: Any) -> str:
    """A JSON list of arguments from a list of them, or from the only one."""
    if isinstance(given, (dict, str)):
        raise DataError(f"expected a list of arguments, not {shown(given, 60)}")
    return _json(given if isinstance(given, list) else [given])


def _typed(wanted: Any) -> str:
    return _json(json_in(wanted) if isinstance(wanted, str) else wanted)


def _lines(value: Any) -> str:
    """Text of standard input or output: a string, a number, or a list of lines."""
    if isinstance(value, list) and all(isinstance(line, (str, int, float)) for line in value):
        return "\n".join(map(str, value)) + "\n"
    if isinstance(value, (int, float)):
        return str(value)
    if not isinstance(value, str):
        raise DataError(f"expected text for standard input or output, not {shown(value, 60)}")
    return value
