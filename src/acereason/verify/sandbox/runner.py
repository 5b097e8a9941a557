"""Run the tests of one program, one after another, inside the confined child.

Each test gets a fresh `__main__`, a fresh standard input and output on real descriptors, and the
same random seed. What a test answered goes into the output file; a frame per test says where.

The child knows inputs only. Everything it writes, frames included, is an answer to be compared
outside, so nothing is gained by forging it.
"""

from __future__ import annotations

import atexit
import gc
import io
import json
import os
import random
import sys
import threading
import time
import types
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from acereason.verify.sandbox import lcb
    from acereason.verify.sandbox.frames import ERROR_BYTES, FRAME
else:
    import lcb  # beside this file; the zygote looks there
    from frames import ERROR_BYTES, FRAME

JOB, OUTPUT, FRAMES, INPUT, BEGUN = 3, 4, 5, 6, 7  # the child's descriptors; the last for our own part only
READY = b"+"
STARRED = (
    "string", "re", "datetime", "collections", "heapq", "bisect", "copy", "math", "random",
    "statistics", "itertools", "functools", "operator", "io", "json", "builtins", "typing",
)  # fmt: skip
NAMED = "array decimal fractions numbers os sys time"  # and those above, under their own names
MAX_DIGITS = 50_000  # integers longer than this are not converted to text


class Answerless(Exception):
    """The program does not define what the tests call."""


def prelude_names() -> dict[str, Any]:
    """The names that function-call problems may use without importing them, as contest sites do."""
    names: dict[str, Any] = {}
    for module in STARRED:
        exec(f"from {module} import *", names)
    for module in (*STARRED, *NAMED.split()):
        exec(f"import {module}", names)
    del names["__builtins__"]
    return names


def run_tests(job: dict[str, Any], names: dict[str, Any]) -> None:
    """Run every test of `job`; stop after the first that raises. Returns when all have run."""
    answer: Callable[[str], None] | None = None
    if job["function"] is not None:
        os.dup2(2, 1)  # what a called function prints is not its answer
    for index, text in enumerate(job["inputs"]):
        began = time.process_time_ns()
        start = os.lseek(OUTPUT, 0, os.SEEK_END)
        error = b""
        try:
            answer = answer or _load(job, names)
            answer(text)
        except BaseException as raised:
            error = _describe(raised)
        end = os.lseek(OUTPUT, 0, os.SEEK_END)
        used = time.process_time_ns() - began
        os.pwrite(FRAMES, FRAME.pack(start, end, used, error), index * FRAME.size)
        if error:
            return


def _load(job: dict[str, Any], names: dict[str, Any]) -> Callable[[str], None]:
    """Load the program: what answers one test into the output file."""
    function = job["function"]
    if job["lenient"]:
        program = lcb.Program(job["code"], function)
        return lambda text: _write(program.answer(text))
    code = compile(job["code"], "solution.py", "exec", dont_inherit=True)
    if function is None:
        return lambda text: _feed(code, text)
    return lambda text: _call(code, function, text, names)


def _write(answer: bytes) -> None:
    os.write(OUTPUT, answer)


def _call(code: types.CodeType, function: str, text: str, names: dict[str, Any]) -> None:
    """Call the program's function with the test's arguments and write the result as JSON."""
    random.seed(0)
    result = _defined(code, function, names)(*json.loads(text))
    _write(json.dumps(result, allow_nan=False, default=_plain).encode())


def _defined(code: types.CodeType, name: str, names: dict[str, Any]) -> Any:
    module = types.ModuleType("solution")
    sys.modules["solution"] = module
    module.__dict__.update(names)
    exec(code, module.__dict__)
    return _find(module.__dict__, name, names)


def _find(namespace: dict[str, Any], name: str, names: dict[str, Any]) -> Any:
    solution = namespace.get("Solution")
    if solution is not None and hasattr(solution, name):
        return getattr(solution(), name)
    function = namespace.get(name)
    if function is None or (name in names and function is names[name]):
        raise Answerless(f"no function {name!r} defined")
    return function


def _plain(value: Any) -> Any:
    """JSON for the array types that solutions return."""
    if hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, (types.GeneratorType, map, filter, zip, range)) or (
        type(value).__name__ in ("deque", "dict_keys", "dict_values")
    ):
        return list(value)
    raise TypeError(f"result of type {type(value).__name__} has no JSON form")


def _feed(code: types.CodeType, text: str) -> None:
    """Run the program as a script with the test's input on descriptor 0 and its output on 1."""
    random.seed(0)
    os.ftruncate(INPUT, 0)
    os.pwrite(INPUT, text.encode(), 0)
    os.lseek(INPUT, 0, os.SEEK_SET)
    os.dup2(INPUT, 0)
    os.dup2(OUTPUT, 1)
    sys.stdin = io.TextIOWrapper(io.BufferedReader(io.FileIO(0, closefd=False)), "utf-8")
    sys.stdout = io.TextIOWrapper(io.BufferedWriter(io.FileIO(1, "w", closefd=False)), "utf-8")
    sys.stderr = io.TextIOWrapper(io.FileIO(2, "w", closefd=False), errors="backslashreplace")
    standard = sys.stdout
    module = types.ModuleType("__main__")
    module.__dict__.update(__builtins__=__builtins__, __name__="__main__")
    sys.modules["__main__"] = module
    try:
        exec(code, module.__dict__)
    except SystemExit as stop:
        if stop.code not in (None, 0):
            raise
    finally:
        for thread in threading.enumerate():
            if thread is not threading.main_thread() and not thread.daemon:
                thread.join()
        atexit._run_exitfuncs()
        for stream in {id(s): s for s in (sys.stdout, standard) if s is not None}.values():
            if not getattr(stream, "closed", False):
                stream.flush()


def _describe(raised: BaseException) -> bytes:
    try:
        return f"{type(raised).__name__}: {raised}".encode("utf-8", "backslashreplace")[:ERROR_BYTES]
    except BaseException:
        return b"an exception that cannot be printed"


def tell(reason: str) -> None:
    """Say that our own part failed, before the program began."""
    os.write(BEGUN, reason.encode("utf-8", "replace")[:4000])


def child(names: dict[str, Any]) -> None:
    """The whole life of a confined child after its confinement; does not return."""
    status = 70
    try:
        try:
            with open(JOB, "rb") as file:
                job = json.load(file)
            sys.set_int_max_str_digits(MAX_DIGITS)
            gc.enable()
        except BaseException as error:
            tell(f"reading the job: {type(error).__name__}: {error}")
            raise
        os.write(BEGUN, READY)
        os.close(BEGUN)
        run_tests(job, names)
        status = 0
    finally:
        os._exit(status)
