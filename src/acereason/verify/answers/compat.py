"""The comparison that AceReason's published numbers were made with, for comparing with them only.

Restated from the description of its evaluation toolkit: every comma, space, dollar and text group
is dropped and letter case ignored; then numbers are equal within a relative 1e-4, also after a
division or multiplication by 100; below 1 (and for every negative number) two significant digits
decide. So 123457 equals 123456, 500 equals 5, and −123 equals −118. What is no number falls back on
the exact comparison, in place of the sympy parsing and `eval` of the original.
"""

from __future__ import annotations

import math
import re

from acereason.verify.answers import decide as exact
from acereason.verify.answers.evaluate import Irrational, TooLarge, Undefined, rational
from acereason.verify.answers.parse import parse
from acereason.verify.answers.tokens import Unparsed

RELATIVE = 1e-4


def decide(reference: str, answer: str) -> bool | None:
    """Whether the toolkit would call the answer right; None when that is not decided here."""
    ours, theirs = _stripped(reference), _stripped(answer)
    if ours == theirs:
        return True
    a, b = _number(ours), _number(theirs)
    if a is None or b is None:
        return exact.decide(reference, answer)
    near = any(math.isclose(b, a * factor, rel_tol=RELATIVE) for factor in (1.0, 0.01, 100.0))
    return near or _rounded(a) == _rounded(b)


def _stripped(text: str) -> str:
    text = re.sub(r"\\text\s*\{[^{}]*\}", "", text)
    return re.sub(r"[\s,$%]|\\[%$,!;: ]|\\left|\\right", "", text).lower().rstrip(".")


def _number(text: str) -> float | None:
    try:
        return float(rational(parse(text)))
    except (Unparsed, Irrational, TooLarge, Undefined, OverflowError):
        return None


def _rounded(value: float) -> str:
    return f"{value:.2g}" if value < 1 else f"{value:g}"
