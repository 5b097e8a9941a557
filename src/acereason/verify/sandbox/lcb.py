"""A program run the way LiveCodeBench's own runner runs it, quirks included, inside the confined child.

Only for `mode="lcb"`, to reproduce published scores. What a program meets there, and nowhere else:

    every test         one process, tests in order, state kept; an alarm after 6 s, an ordinary exception
    names              everything of 18 modules in front; `__name__` is not "__main__"; parts of `os` are None
    standard input     the program becomes the body of a function, its imports hoisted in front of it, a last
                       `if __name__ == '__main__':` unfolded; `sys.stdin` is an imitation, set after the
                       imports: `read` always gives everything, `readlines` no line ends,
                       `buffer.readline` always the first line; a `stdin` imported by name is the real,
                       empty one, except for its `read`, `readline`, `readlines`
    standard output    only what goes through `sys.stdout` as text, found at the time of writing
    functions          the method or function once made; SystemExit is a failure; only an outermost tuple
                       counts as a list; other types equal what Python's == says of numbers, else nothing

Not reproduced, on purpose: a result that claims to equal everything (expected outputs are never here),
and a program marked slow because the machine was busy: the alarm waits for processor time or sleep.
"""

from __future__ import annotations

import ast
import builtins
import contextlib
import io
import json
import numbers
import signal
import sys
import time
import types
from collections.abc import Iterator
from typing import Any

SECONDS = 6.0
ONE = "\0one"  # marks an array of one element, as in `verify/lcb.py`
ASLEEP = 0.05  # share of a processor below which a program sleeps rather than waits for its turn
MODULES = """
string re datetime collections heapq bisect copy math random statistics itertools functools operator io
sys json builtins typing
"""
NAMED = [name for name in MODULES.split() if name not in ("builtins", "typing")]
FRONT = (
    "".join(f"from {name} import *\n" for name in MODULES.split())
    + "".join(f"import {name}\n" for name in NAMED)
    + "sys.setrecursionlimit(50000)\n"
)
MISSING_OS = """
kill system putenv remove removedirs rmdir fchdir setuid fork forkpty killpg rename renames truncate
replace unlink fchmod fchown chmod chown chroot lchflags lchmod lchown getcwd chdir
"""
MISSING = {
    "builtins": ["quit", "help"],
    "os": MISSING_OS.split(),
    "shutil": ["rmtree", "move", "chown"],
    "subprocess": ["Popen"],
}
MISSING_MODULES = ("ipdb", "joblib", "resource", "psutil", "tkinter")


class Overtime(Exception):
    """The alarm; a program may catch it, as it may there."""


class Program:
    """One program for all its tests. Making it raises what loading raises there."""

    def __init__(self, code: str, function: str | None) -> None:
        _take_away()
        sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115, empty
        self._keyboard: Any = sys.stdin
        self._function = function
        source = FRONT + "\n" + (code if function else _wrapped(_unfolded(code)))
        module = types.ModuleType("tmp_sol", "")
        with _alarm():
            exec(compile(source, "<string>", "exec", dont_inherit=True), module.__dict__)
            solution = module.__dict__["Solution"]() if function and "class Solution" in code else module
        self._called = getattr(solution, function or "wrapped_function")

    def answer(self, text: str) -> bytes:
        """What the program answers to one test: text, or the JSON of a result."""
        return self._result(text) if self._function else self._printed(text)

    def _result(self, text: str) -> bytes:
        arguments = json.loads(text)
        try:
            with _alarm():
                result = self._called(*arguments)
        except SystemExit as stop:
            raise RuntimeError("left the process") from stop
        result = list(result) if isinstance(result, tuple) else result
        return json.dumps(_plain(result), allow_nan=False).encode()

    def _printed(self, text: str) -> bytes:
        page, screen = _Page(), sys.stdout
        sys.stdout = page
        try:
            with _alarm(), _typed(text, self._keyboard), contextlib.suppress(SystemExit):
                self._called()
        finally:
            sys.stdout = screen
        return page.getvalue().encode("utf-8", "surrogatepass")


def _take_away() -> None:
    for name, attributes in MISSING.items():
        module = __import__(name)
        for attribute in attributes:
            setattr(module, attribute, None)
    for name in MISSING_MODULES:
        sys.modules[name] = None  # type: ignore[assignment]


@contextlib.contextmanager
def _alarm() -> Iterator[None]:
    """Raise Overtime after 6 s: of processor time, or asleep."""
    began, used = time.monotonic(), time.process_time()

    def ring(*_: object) -> None:
        busy, passed = time.process_time() - used, time.monotonic() - began
        if busy >= SECONDS or busy < ASLEEP * passed:
            print("overtime")  # as there: a program that catches the alarm has spoiled its text
            raise Overtime
        signal.setitimer(signal.ITIMER_REAL, max(SECONDS - busy, 0.05))

    signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def _unfolded(code: str) -> str:
    """The code with a last `if __name__ == '__main__':` replaced by its body."""
    try:
        tree = ast.parse(code)
        last = tree.body[-1]
        if isinstance(last, ast.If) and ast.unparse(last.test).strip() == "__name__ == '__main__'":
            parts = [ast.Module(body, []) for body in (tree.body[:-1], last.body)]
            return "\n".join(map(ast.unparse, parts))
    except Exception:
        return code  # what is wrong with it shows when it is loaded
    return code


def _wrapped(code: str) -> str:
    """The imports of the code, then all else as the body of a function."""
    body = ast.parse(code).body
    imports: list[ast.stmt] = [node for node in body if isinstance(node, ast.Import | ast.ImportFrom)]
    others = [node for node in body if not isinstance(node, ast.Import | ast.ImportFrom)]
    if not others:
        raise SyntaxError("nothing but imports")
    nothing = ast.arguments(posonlyargs=[], args=[], kwonlyargs=[], kw_defaults=[], defaults=[])
    function = ast.FunctionDef("wrapped_function", nothing, others, [], lineno=1)
    return ast.unparse(ast.Module(imports, [])) + "\n" + ast.unparse(function)


class _Page(io.StringIO):
    """Standard output there: text only, and `close` cannot be called."""

    def close(self, _: Any) -> None:  # type: ignore[override]
        return None


class _Bytes:
    """`sys.stdin.buffer` there."""

    def __init__(self, text: str) -> None:
        self._data = text.encode()

    def read(self, *_: Any) -> bytes:
        return self._data

    def readline(self, *_: Any) -> bytes:
        return self._data.split(b"\n")[0] + b"\n"


class _Keyboard:
    """`sys.stdin` there."""

    def __init__(self, text: str) -> None:
        self._text, self._lines = text, io.StringIO(text)
        self.buffer = _Bytes(text)

    def read(self, *_: Any) -> str:
        return self._text

    def readline(self, *size: Any) -> str:
        return self._lines.readline(*size)

    def readlines(self, *_: Any) -> list[str]:
        return self._text.split("\n")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._lines, name)


@contextlib.contextmanager
def _typed(text: str, real: Any) -> Iterator[None]:
    """Put the imitation in place of standard input, and three of its methods on the real one."""
    lines, opened = iter(text.split("\n")), builtins.open
    real.read = lambda *_: text
    real.readline = lambda *_: next(lines)
    real.readlines = lambda *_: text.split("\n")
    sys.stdin = _Keyboard(text)
    builtins.open = lambda *_, **__: io.StringIO(text)  # type: ignore[assignment]
    try:
        yield
    finally:
        builtins.open = opened
        sys.stdin = real
        for name in ("read", "readline", "readlines"):
            with contextlib.suppress(AttributeError):
                delattr(real, name)


def _number(value: Any) -> Any:
    """The int or float that a number equals."""
    for kind in (int, float):
        if (plain := kind(value)) == value:
            return plain
    raise TypeError(f"no JSON number equals {type(value).__name__}")


def _plain(value: Any) -> Any:
    """A result in JSON that equals just what the result equals; TypeError when there is none."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, dict) and all(isinstance(key, str) for key in value):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, numbers.Number):
        return _number(value)
    if getattr(value, "size", 0) == 1 and hasattr(value, "item"):
        return {ONE: value.item()}  # more than one element has no truth value
    raise TypeError(f"a result of type {type(value).__name__} equals nothing that JSON can say")
