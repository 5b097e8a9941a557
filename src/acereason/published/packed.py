"""What data sets pack into a string: JSON, and LiveCodeBench's base64 of zlib of a pickle of JSON.

A pickle can run any program when it is loaded, so none is loaded: its opcodes are read one by one, and it is
accepted only when it consists of a single string. Sizes are bounded before anything is expanded.
"""

from __future__ import annotations

import base64
import binascii
import pickletools
import zlib
from typing import Any

import msgspec

from acereason.errors import DataError

LIMIT = 1 << 28  # bytes of the tests of one problem, expanded
_FRAMING = {"PROTO", "FRAME", "MEMOIZE", "BINPUT", "LONG_BINPUT", "PUT", "STOP"}
_STRINGS = {"UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"}


def pickled_string(data: bytes) -> str:
    """The string that a pickle holds; DataError when it holds anything else. Nothing is executed."""
    strings: list[str] = []
    try:
        for opcode, argument, _ in pickletools.genops(data):
            if opcode.name in _STRINGS and isinstance(argument, str):
                strings.append(argument)
            elif opcode.name not in _FRAMING:
                raise DataError(f"expected a pickle of one string, found opcode {opcode.name}")
    except (ValueError, EOFError, UnicodeError) as error:
        raise DataError(f"expected a pickle of one string, found damaged data: {error}") from error
    if len(strings) != 1:
        raise DataError(f"expected a pickle of one string, found {len(strings)} strings")
    return strings[0]


def _inflate(data: bytes, limit: int) -> bytes:
    stream = zlib.decompressobj()
    out = stream.decompress(data, limit)
    if not stream.eof:
        raise DataError(f"expected at most {limit:,} bytes of tests, found more or a cut-off stream")
    return out


def unpacked(text: str, limit: int = LIMIT) -> Any:
    """The JSON in a string, plain or LiveCodeBench's way; DataError when it is neither."""
    if text.lstrip().startswith(("[", "{", '"')):
        if len(text) > limit:
            raise DataError(f"expected at most {limit:,} characters of tests, found {len(text):,}")
        return json_in(text)
    try:
        return json_in(pickled_string(_inflate(base64.b64decode(text, validate=True), limit)))
    except (binascii.Error, zlib.error, ValueError) as error:
        raise DataError(f"expected JSON or base64 of zlib, found neither: {error}: {text[:80]!r}") from error


def json_in(text: str) -> Any:
    """The value of a JSON string."""
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError) as error:
        raise DataError(f"expected JSON in a string, {error}: {text[:80]!r}") from error


def plain(value: Any) -> Any:
    """Lists and dicts in place of the arrays that Parquet gives, at any depth."""
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, dict):
        return {name: plain(item) for name, item in value.items()}
    return value


def shown(value: Any, length: int = 160) -> str:
    """A value for an error's words, cut."""
    text = repr(value) if not isinstance(value, (dict, list)) else _outline(value)
    return text if len(text) <= length else text[: length - 1] + "…"


def _outline(value: Any, depth: int = 2) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{k!r}: {_outline(v, depth - 1)}" for k, v in list(value.items())[:6]) + "}"
    if isinstance(value, list) and depth >= 0:
        more = f", … {len(value)} in all" if len(value) > 2 else ""
        return "[" + ", ".join(_outline(item, depth - 1) for item in value[:2]) + more + "]"
    text = repr(value)
    return text if len(text) <= 60 else text[:59] + "…"
