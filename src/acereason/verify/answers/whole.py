"""What may be put to math-verify: only text that is mathematics from end to end.

Its parser of LaTeX is asked about sums, integrals, limits and matrices that the exact path does not
compute. It takes words for products of letters, drops what looks like a unit, and reads `1 2 3` as 6; so
text with words, units, numbers side by side, or commands outside a closed list is never put to it.
"""

from __future__ import annotations

import re

from acereason.verify.answers.clean import ROW
from acereason.verify.answers.tokens import FUNCTIONS, SYMBOLS, word_set

LONGEST = 400  # characters
_COMMANDS = (
    FUNCTIONS
    | (SYMBOLS - word_set("derivative ldots emptyset star square"))
    | word_set("frac sqrt binom pi infty sum prod int lim to cdot gcd lcm max min det begin end le ge lfloor")
    | word_set("rfloor lceil rceil")
)
_ENVIRONMENT = re.compile(r"\\(begin|end)\{[pbv]?matrix\}")
_COMMAND = re.compile(r"\\([A-Za-z]+)")
_STRANGE = re.compile(
    r"[^\w\s{}()\[\]^+\-*/=,.!&|<>]"  # signs
    r"|[A-Za-z]{4}|[^\W\d_]{2}(?=[({])|[A-Za-z]\s*'"  # words, and calls of named functions
    r"|[A-Za-z]\s*\d|\d\s+[\d.]|\.\d+\.|\d\.(?!\d)|(?<!\d)\.",  # numbers side by side, lone points
)
_SHORT_WORDS = re.compile(r"\b(?:or|if|is|no|to|of|in|at|by|as|am|pm|and|not|for|all|any|cm|mm|km|kg|ml)\b")
_SUBSCRIPT = re.compile(r"_(?:\w|\{[^{}]*\})")
_DECIMAL = re.compile(r"(\d*)\.(\d+)")


def for_math_verify(text: str) -> str | None:
    """A cleaned text as math-verify's parser takes it, decimals as fractions; None when it holds
    anything but mathematics."""
    if len(text) > LONGEST or (not text.isascii() and not text.replace(ROW, "").isascii()):
        return None
    bare = (
        _ENVIRONMENT.sub(lambda m: "(" if m[1] == "begin" else ")", text)
        .replace(ROW, " ; ")
        .replace(";", ",")
    )
    if any(name not in _COMMANDS for name in _COMMAND.findall(bare)):
        return None
    bare = _SUBSCRIPT.sub(" ", _COMMAND.sub(" ", bare))
    if _STRANGE.search(bare) or _SHORT_WORDS.search(bare) or not _balanced(bare):
        return None
    return _DECIMAL.sub(_fraction, text).replace(ROW, r"\\")


def _fraction(match: re.Match[str]) -> str:
    return rf"\frac{{{int(match[1] + match[2])}}}{{{10 ** len(match[2])}}}"


def _balanced(text: str) -> bool:
    return all(text.count(a) == text.count(b) for a, b in ("()", "[]", "{}"))
