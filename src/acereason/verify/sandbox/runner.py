"""Run the tests of one program, one after another, inside the confined child.

Each test gets a fresh `__main__`, a fresh standard input and output on real descriptors, and the
same random seed. What a test answered goes into the output file; a frame per test says where:

    [test, start, end, processor time used in ns, error or null]

The child knows inputs only. Everything it writes, frames included, is an answer to be compared
outside, so nothing is gained by forging it.
"""

from __future__ import annotations

import atexit
import gc
import io
import json
import mmap
import os
import random
import struct
import sys
import threading
import time
import types
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from acereason.verify.sandbox import lcb
else:
    import lcb  # beside this file; the zygote looks there

PAGE = 4096  # the frames file starts with a page that tells the zygote which test began, and when
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


def run_tests(job: dict[str, Any], output: int, frames: int, saved_input: int, names: dict[str, Any]) -> None:
    """Run every test of `job`; stop after the first that raises. Returns when all have run."""
    page = mmap.mmap(frames, PAGE)
    position = PAGE
    functional = job["function"] is not None
    lenient = bool(job["lenient"])
    if functional:
        os.dup2(2, 1)  # what a called function prints is not its answer
    code: types.CodeType | None = None
    program: lcb.Program | None = None
    for index, text in enumerate(job["inputs"]):
        began = time.process_time_ns()
        struct.pack_into("<qq", page, 0, index + 1, began)
        start = os.lseek(output, 0, os.SEEK_END)
        error = None
        try:
            if lenient:
                program = program or lcb.Program(job["code"], job["function"])
                os.write(output, program.answer(text))
            else:
                code = code or compile(job["code"], "solution.py", "exec", dont_inherit=True)
                random.seed(0)
                if functional:
                    _call(code, job["function"], text, output, names)
                else:
                    _feed(code, text, saved_input, output)
        except BaseException as raised:
            error = _describe(raised)
        end = os.lseek(output, 0, os.SEEK_END)
        used = time.process_time_ns() - began
        frame = json.dumps([index, start, end, used, error]).encode() + b"\n"
        position += os.pwrite(frames, frame, position)
        if error is not None:
            return


def _call(code: types.CodeType, function: str, text: str, output: int, names: dict[str, Any]) -> None:
    """Call the program's function with the test's arguments and write the result as JSON."""
    result = _defined(code, function, names)(*json.loads(text))
    os.write(output, json.dumps(result, allow_nan=False, default=_plain).encode())


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
    found = namespace.get(name)
    if found is None or (name in names and found is names[name]):
        raise Answerless(f"no function {name!r} defined")
    return found


def _plain(value: Any) -> Any:
    """JSON for the array types that solutions return."""
    if hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, (types.GeneratorType, map, filter, zip, range)) or (
        type(value).__name__ in ("deque", "dict_keys", "dict_values")
    ):
        return list(value)
    raise TypeError(f"result of type {type(value).__name__} has no JSON form")


def _feed(code: types.CodeType, text: str, saved: int, output: int) -> None:
    """Run the program as a script with the test's input on descriptor 0 and its output on 1."""
    os.ftruncate(saved, 0)
    os.pwrite(saved, text.encode(), 0)
    os.lseek(saved, 0, os.SEEK_SET)
    os.dup2(saved, 0)
    os.dup2(output, 1)
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


def _describe(raised: BaseException) -> str:
    try:
        return f"{type(raised).__name__}: {raised}"[:200]
    except BaseException:
        return "an exception that cannot be printed"


def child(job_file: int, output: int, frames: int, saved_input: int, names: dict[str, Any]) -> None:
    """The whole life of a confined child after its confinement; does not return."""
    status = 70
    try:
        with open(job_file, "rb") as file:
            file.seek(0)
            job = json.load(file)
        sys.set_int_max_str_digits(MAX_DIGITS)
        gc.enable()
        run_tests(job, output, frames, saved_input, names)
        status = 0
    finally:
        os._exit(status)
