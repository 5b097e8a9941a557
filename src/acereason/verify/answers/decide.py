"""Is a boxed answer the reference answer? Decided exactly, in this process, in microseconds.

`decide` says True, False, or None for "undecided"; it never computes with floating-point numbers.
"""

from __future__ import annotations

import re
from fractions import Fraction

_NUMBER = re.compile(r"([+-]?)(\d{1,400})(?:\.(\d{1,400}))?(?:/(\d{1,400}))?")


def decide(reference: str, answer: str) -> bool | None:
    """Whether `answer` equals `reference`; None when that is not decided here."""
    ours, theirs = reference.strip(), answer.strip()
    if ours == theirs:
        return True
    a, b = _number(ours), _number(theirs)
    if a is None or b is None:
        return None
    return a == b


def _number(text: str) -> Fraction | None:
    match = _NUMBER.fullmatch(text)
    if match is None or (match[4] is not None and int(match[4]) == 0):
        return None
    value = Fraction(f"{match[2]}.{match[3] or 0}") / int(match[4] or 1)
    return -value if match[1] == "-" else value
