"""LiveCodeBench's rules on the judge's side: how answers are compared, limits, where the code stands.

How programs run there is in `sandbox/lcb.py`. Expected outputs stay on this side, as in strict mode.
"""

from __future__ import annotations

from decimal import Decimal, InvalidOperation
from typing import Any

import msgspec

SECONDS = 13.0  # of processor time: its alarm rings at 6, after which a program may go on as long again
MEBIBYTES = 4096  # it means to set a limit and sets none
ONE = "\0one"  # an array of one element: equal to the element, and to lists of it
_json = msgspec.json.Decoder()


def code_block(text: str) -> str | None:
    """The lines between the last two that hold a fence, closed or not, of whatever language."""
    lines = text.split("\n")
    fences = [number for number, line in enumerate(lines) if "```" in line]
    return "\n".join(lines[fences[-2] + 1 : fences[-1]]) if len(fences) > 1 else None


def same_output(expected: str, answer: bytes) -> bool:
    """Lines split at newlines alone, and equal as text or with every word a number."""
    try:
        ours, theirs = (text.strip().split("\n") for text in (expected, answer.decode()))
    except UnicodeDecodeError:
        return False
    return len(ours) == len(theirs) and all(
        _same_line(a.strip(), b.strip()) for a, b in zip(ours, theirs, strict=True)
    )


def _same_line(a: str, b: str) -> bool:
    try:
        return a == b or [Decimal(x) for x in a.split()] == [Decimal(x) for x in b.split()]
    except (InvalidOperation, ValueError):
        return False


def same_result(expected: str, answer: bytes) -> bool:
    """Equal as Python values."""
    try:
        return _equal(_json.decode(expected.encode()), _json.decode(answer))
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
