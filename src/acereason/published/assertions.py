"""Programs of assertions, as HumanEval, MBPP and LeetCode's sets publish tests.

Where every assertion compares one call on plain values with a plain value, they are the same as functional
tests, and are read as those: the expected values then stay outside of the sandbox. Any other program runs
after the answer, in the sandbox (`verify.assertions`): good enough for a score; a program that looks for the
expected values in there could find them, so it is a weak reward.
"""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterator
from typing import Any

import msgspec

from acereason.problems import Test

DOMAIN = "acereason.verify.assertions:PROGRAMS"
SECONDS, MEBIBYTES = 60.0, 4096  # for all inputs of a task together
CANDIDATE = "candidate"


def is_program(text: str) -> bool:
    """Whether a text is Python that asserts something."""
    if "assert" not in text:
        return False
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return any(isinstance(node, ast.Assert) for node in ast.walk(tree))


def fields(name: str, program: str) -> dict[str, Any]:
    """The fields of a `Problem` that is judged by a program of assertions."""
    word = hashlib.blake2b(name.encode("utf-8", "surrogatepass"), digest_size=6).hexdigest() + "\n"
    return {
        "domain": DOMAIN, "tests": (Test("stdin", word, word),), "time_limit": SECONDS,
        "memory_limit": MEBIBYTES, "meta": {"program": program},
    }  # fmt: skip


def complete(program: str, function: str | None) -> str:
    """The program with the call of its `check`, where it defines one and leaves the call to the harness."""
    tree = ast.parse(program)
    calls = [n.value.func for n in tree.body if isinstance(n, ast.Expr) and isinstance(n.value, ast.Call)]
    named = {call.id for call in calls if isinstance(call, ast.Name)}
    if (
        function
        and "check" not in named
        and any(isinstance(n, ast.FunctionDef) and n.name == "check" for n in tree.body)
    ):
        return f"{program.rstrip()}\n\ncheck({function})\n"
    return program


def called(program: str, function: str | None) -> str | None:
    """The name of the function that the assertions call, without the class that it is a method of."""
    named = function or next((text for text in _checked(ast.parse(program))), None)
    return named.rpartition(".")[2] if named else _only_name(ast.parse(program))


def _checked(tree: ast.Module) -> Iterator[str]:
    """What `check` is called with."""
    for node in tree.body:
        if _call_of_check(node) and len(node.value.args) == 1:  # type: ignore[attr-defined]
            yield ast.unparse(node.value.args[0])  # type: ignore[attr-defined]


def _only_name(tree: ast.Module) -> str | None:
    """The one function that all assertions of a list begin with."""
    names = {
        node.test.left.func.id
        for node in tree.body
        if isinstance(node, ast.Assert)
        and isinstance(node.test, ast.Compare)
        and isinstance(node.test.left, ast.Call)
        and isinstance(node.test.left.func, ast.Name)
    }
    return names.pop() if len(names) == 1 else None


def as_tests(program: str, question: str = "") -> list[Test] | None:
    """The functional tests that say the same as the assertions; None when there are none that do."""
    tree = ast.parse(program)
    name = called(program, None)
    body = _assertions(tree)
    if body is None or name is None:
        return None
    try:
        return [_test(node, name, question) for node in body]
    except (ValueError, TypeError, msgspec.EncodeError, OverflowError):
        return None


def _assertions(tree: ast.Module) -> list[ast.Assert] | None:
    """The assertions of a program that holds nothing else, at the top or in its `check`."""
    asserts: list[ast.Assert] = []
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and node.name == "check":
            if [a.arg for a in node.args.args] != [CANDIDATE]:
                return None
            asserts += [n for n in node.body if isinstance(n, ast.Assert)]
            if any(not isinstance(n, (ast.Assert, ast.Pass)) and not _remark(n) for n in node.body):
                return None
        elif isinstance(node, ast.Assert):
            asserts.append(node)
        elif not _remark(node) and not _call_of_check(node):
            return None
    return asserts or None


def _remark(node: ast.stmt) -> bool:
    """A docstring, an assignment of plain data (METADATA), or an import: nothing that a literal needs."""
    if isinstance(node, (ast.Import, ast.ImportFrom)):
        return True
    return isinstance(node, (ast.Expr, ast.Assign)) and isinstance(node.value, (ast.Constant, ast.Dict))


def _call_of_check(node: ast.stmt) -> bool:
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Call)
        and isinstance(node.value.func, ast.Name)
        and node.value.func.id == "check"
    )


def _test(node: ast.Assert, name: str, question: str) -> Test:
    """A functional test from `assert f(…) == value`, `is True` included; ValueError when it is another."""
    compared = node.test
    if (
        not isinstance(compared, ast.Compare)
        or len(compared.ops) != 1
        or not isinstance(compared.left, ast.Call)
    ):
        raise ValueError("no comparison of one call")
    call, wanted = compared.left, _plain(compared.comparators[0])
    if not isinstance(call.func, ast.Name) or call.func.id not in (name, CANDIDATE):
        raise ValueError("a call of another function")
    if not isinstance(compared.ops[0], ast.Eq) and not (
        isinstance(compared.ops[0], ast.Is) and wanted in (True, False, None)
    ):
        raise ValueError("another comparison")
    arguments = [_plain(argument) for argument in call.args]
    keywords = [(k.arg, _plain(k.value)) for k in call.keywords]
    if keywords and [k for k, _ in keywords] != signature(question, name)[len(arguments) :]:
        raise ValueError("keywords whose order is not known")
    values = arguments + [value for _, value in keywords]
    return Test("functional", msgspec.json.encode(values).decode(), msgspec.json.encode(wanted).decode())


def _plain(node: ast.expr) -> Any:
    """The value of a literal that JSON holds without loss; ValueError for any other."""
    value = ast.literal_eval(node)
    if not _exact(value):
        raise ValueError("no plain value")
    return value


def _exact(value: Any) -> bool:
    if isinstance(value, list):
        return all(map(_exact, value))
    if isinstance(value, dict):
        return all(isinstance(k, str) and _exact(v) for k, v in value.items())
    if isinstance(value, float):
        return abs(value) < float("inf")
    if isinstance(value, int) and not isinstance(value, bool):
        return -(1 << 63) <= value < 1 << 63
    return value is None or isinstance(value, (str, bool))


def signature(question: str, name: str) -> list[str]:
    """The parameters of the function of this name that a question shows; empty when it shows none."""
    start = question.rfind(f"def {name}(")
    if start < 0:
        return []
    for end in range(start, min(len(question), start + 2000)):
        if question[end] == ":":
            try:
                tree = ast.parse(question[start : end + 1].strip() + " pass")
            except (SyntaxError, ValueError):
                continue
            head = tree.body[0]
            assert isinstance(head, ast.FunctionDef)
            return [a.arg for a in head.args.args if a.arg != "self"]
    return []
