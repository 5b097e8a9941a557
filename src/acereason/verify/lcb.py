"""LiveCodeBench's rules on the judge's side: how answers are compared, limits, where the code stands.

How programs run there is in `sandbox/lcb.py`. Expected outputs stay on this side, as in strict mode.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from decimal import Decimal, InvalidOperation
from itertools import zip_longest
from typing import Any

import msgspec

from acereason.verify.compare import Piece, piece, same_text

SECONDS = 13.0  # of processor time: its alarm rings at 6, after which a program may go on as long again
WALL_SECONDS = 20.0  # of which its alarm leaves a sleeper 6
MEBIBYTES = 4096  # it means to set a limit and sets none
ONE = "\0one"  # an array of one element: equal to the element, and to lists of it
LONGER = 1 << 20  # bytes by which an answer may be longer than the expected text before nobody looks at it
_WORD = re.compile(r"\S+")
_json = msgspec.json.Decoder()


def code_block(text: str) -> str | None:
    """The lines between the last two that hold a fence, closed or not, of whatever language."""
    lines = text.split("\n")
    fences = [number for number, line in enumerate(lines) if "```" in line]
    return "\n".join(lines[fences[-2] + 1 : fences[-1]]) if len(fences) > 1 else None


def same_output(expected: str, answer: bytes | Piece) -> bool:
    """Lines split at newlines alone, and equal as text or with every word a number."""
    if same_text(expected, answer):
        return True
    given = piece(answer)
    if given.size > 16 * len(expected) + LONGER:
        return False
    try:
        ours, theirs = (_lines(text.strip()) for text in (expected, given.read(0, given.size).decode()))
    except UnicodeDecodeError:
        return False
    return all(
        a is not None and b is not None and _same_line(a.strip(), b.strip())
        for a, b in zip_longest(ours, theirs)
    )


def _lines(text: str) -> Iterator[str]:
    """`text.split("\\n")`, one at a time."""
    start = 0
    while (end := text.find("\n", start)) >= 0:
        yield text[start:end]
        start = end + 1
    yield text[start:]


def _same_line(a: str, b: str) -> bool:
    try:
        return a == b or all(
            x is not None and y is not None and Decimal(x[0]) == Decimal(y[0])
            for x, y in zip_longest(_WORD.finditer(a), _WORD.finditer(b))
        )
    except (InvalidOperation, ValueError):
        return False


def same_result(expected: str, answer: bytes | Piece) -> bool:
    """Equal as Python values."""
    if same_text(expected, answer):
        return True
    given = piece(answer)
    if given.size > 3 * len(expected) + LONGER // 16:
        return False
    try:
        return _equal(_json.decode(expected.encode()), _json.decode(given.read(0, given.size)))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, ValueError):
        return False


def _equal(a: Any, b: Any) -> bool:
    if isinstance(b, dict) and b.keys() == {ONE}:
        while isinstance(a, list) and len(a) == 1:
            a = a[0]
        return bool(a == b[ONE])
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(_equal, a, b))
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(_equal(a[key], b[key]) for key in a)
    return bool(a == b)
