"""Tests as data sets publish them: JSON in strings, and LiveCodeBench's base64 of zlib of a pickle.

A pickle can run any program when it is loaded, so none is loaded: its opcodes are read one by one,
and it
is accepted only when it consists of a single string. Sizes are bounded before anything is expanded.
"""

from __future__ import annotations

import base64
import binascii
import pickletools
import zlib
from collections.abc import Sequence
from typing import Any

import msgspec

from acereason.errors import DataError
from acereason.problems import Test

LIMIT = 1 << 28  # bytes of the tests of one problem, expanded
_FRAMING = {"PROTO", "FRAME", "MEMOIZE", "BINPUT", "LONG_BINPUT", "PUT", "STOP"}
_STRINGS = {"UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"}


def pickled_string(data: bytes) -> str:
    """The string that a pickle holds; DataError when it holds anything else. Nothing is
    executed."""
    found: list[str] = []
    try:
        for opcode, argument, _ in pickletools.genops(data):
            if opcode.name in _STRINGS and isinstance(argument, str):
                found.append(argument)
            elif opcode.name not in _FRAMING:
                raise DataError(f"expected a pickle of one string, found opcode {opcode.name}")
    except (ValueError, EOFError, UnicodeError) as error:
        raise DataError(f"expected a pickle of one string, found damaged data: {error}") from error
    if len(found) != 1:
        raise DataError(f"expected a pickle of one string, found {len(found)} strings")
    return found[0]


def _inflate(data: bytes, limit: int) -> bytes:
    stream = zlib.decompressobj()
    out = stream.decompress(data, limit)
    if not stream.eof:
        raise DataError(f"expected at most {limit:,} bytes of tests, found more or a cut-off stream")
    return out


def private_tests(text: str, limit: int = LIMIT) -> list[Test]:
    """LiveCodeBench's `private_test_cases`: JSON, or base64 of zlib of a pickled JSON string."""
    if text.lstrip().startswith(("[", "{")):
        return tests(text, limit)
    try:
        packed = base64.b64decode(text, validate=True)
        return tests(pickled_string(_inflate(packed, limit)), limit)
    except (binascii.Error, zlib.error, ValueError) as error:
        raise DataError(f"expected JSON or base64 of zlib, found neither: {error}") from error


def tests(text: str, limit: int = LIMIT) -> list[Test]:
    """Tests from JSON: a list of {input, output, testtype}, or {inputs, outputs, fn_name}."""
    if len(text) > limit:
        raise DataError(f"expected at most {limit:,} characters of tests, found {len(text):,}")
    try:
        data = msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError) as error:
        raise DataError(f"expected tests as JSON, {error}") from error
    return from_json(data)


def from_json(data: Any) -> list[Test]:
    """Tests from decoded JSON of either shape."""
    if isinstance(data, dict):
        return _columns(data)
    if not isinstance(data, list):
        raise DataError(f"expected a list or an object of tests, found {type(data).__name__}")
    out: list[Test] = []
    for item in data:
        if isinstance(item, dict) and "inputs" in item:
            out.extend(_columns(item))
        elif isinstance(item, dict) and "input" in item and "output" in item:
            kind = item.get("testtype") or item.get("type") or "stdin"
            functional = kind in ("functional", "function_call") or bool(item.get("fn_name"))
            out.append(_test(item["input"], item["output"], functional, packed=True))
        else:
            raise DataError("expected tests with input and output, found an item without them")
    return out


def function_name(data: Any) -> str | None:
    """The function that functional tests call, wherever the tests name it."""
    items: Sequence[Any] = data if isinstance(data, list) else [data]
    for item in items:
        if isinstance(item, dict):
            inner = item.get("metadata")
            name = item.get("fn_name") or (inner.get("func_name") if isinstance(inner, dict) else 0)
            if name:
                return str(name)
    return None


def _columns(data: dict[str, Any]) -> list[Test]:
    inputs, outputs = data.get("inputs"), data.get("outputs")
    if not isinstance(inputs, list) or not isinstance(outputs, list):
        raise DataError("expected lists `inputs` and `outputs` of tests, found something else")
    if len(inputs) != len(outputs):
        raise DataError(f"expected as many outputs as inputs, found {len(outputs)}, {len(inputs)}")
    functional = bool(data.get("fn_name"))
    pairs = zip(inputs, outputs, strict=True)
    return [_test(given, wanted, functional, packed=False) for given, wanted in pairs]


def _test(given: Any, wanted: Any, functional: bool, packed: bool) -> Test:
    """packed: strings of functional tests hold newline-separated JSON arguments and a JSON
    result."""
    if functional:
        return Test("functional", _arguments(given, packed), _result(wanted, packed))
    return Test("stdin", _lines(given), _lines(wanted))


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()


def _arguments(given: Any, packed: bool) -> str:
    if packed and isinstance(given, str):
        try:
            return _json([msgspec.json.decode(line) for line in given.split("\n") if line.strip()])
        except (msgspec.DecodeError, RecursionError) as error:
            raise DataError(f"expected one JSON argument a line, {error}") from error
    return _json(given if isinstance(given, list) else [given])


def _result(wanted: Any, packed: bool) -> str:
    if packed and isinstance(wanted, str):
        try:
            return _json(msgspec.json.decode(wanted))
        except (msgspec.DecodeError, RecursionError) as error:
            raise DataError(f"expected a JSON result, {error}") from error
    # TACO and APPS wrap each result of a function in a list
    return _json(wanted[0] if isinstance(wanted, list) and len(wanted) == 1 else wanted)


def _lines(value: Any) -> str:
    if isinstance(value, list):
        return "\n".join(map(str, value)) + "\n"
    if not isinstance(value, str):
        raise DataError(f"expected text for standard input or output, found {type(value).__name__}")
    return value
