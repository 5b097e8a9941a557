"""What may stand left of an equals sign and only name the value on the right: x, f(2), P(A|B), |AB|,
[ABC], \tan A, \\overline{AB}, AB/CD, \angle ABC, Area.

A computation that states its result (\\sum … = 55) counts as well. Not `xy`, `x^2` or `x + y`: those are
equations in their unknowns; only an answer may say that a sum of letters is something (m + n = 5).
"""

from __future__ import annotations

import re

from acereason.verify.answers.tokens import MARKS, SYMBOLS

_SUB = r"(?:_(?:\w|\\[A-Za-z]+|\{[^{}]*\}))?"
_WORDS = (
    r"\\text\{(?![^{}]*\b(?:not|no|never|neither|nor|or|false|wrong|incorrect|unless|if|either)\b)[^{}\d]*\}"
)
_GREEK = rf"\\(?:{'|'.join(sorted(SYMBOLS))})(?![A-Za-z])"
_LETTERS = rf"[A-Za-z]|[A-Z]{{2,6}}|[A-Za-z]{{4,}}|ans|max|min|sum|{_GREEK}|{_WORDS}"
_NAME = rf"(?:{_LETTERS}){_SUB}'*(?:\^\*|\^\{{\*\}})?"
_PLAIN = r"\(\s*-?(?:[A-Za-z]|\d+|\\[A-Za-z]+)(?:\s*,\s*-?(?:[A-Za-z]|\d+|\\[A-Za-z]+))*\s*\)"
_FUNCTION = rf"(?:[A-Za-z]|{_GREEK}|{_WORDS}){_SUB}'*(?:\^\{{-1\}})?{_PLAIN}"
_ANYTHING = r"\s*(?:\((?:[^()]|\([^()]*\))+\)|\[[^\[\]=]+\])"
_CHANCE = rf"(?:[fghFGHPEV]|\\mathbb\{{[PE]\}}|{_WORDS}|Var|Cov){_SUB}'*{_ANYTHING}"
_MARKED = rf"\\(?:{'|'.join(sorted(MARKS))})\s*(?:\{{[^{{}}]*\}}|[A-Za-z])"
_SEGMENT = rf"(?:{_MARKED}|[A-Z]{{1,3}}{_SUB})"
_SIZE = rf"\\?\|\s*(?:{_SEGMENT})\s*\\?\||\[\s*[A-Z]{{3,}}\s*\]"
_ANGLE = r"m?\s*\\(?:angle|triangle|square)\s*\{?\s*[A-Z](?:\s*[A-Z]|_\{?\w\}?)*\s*\}?|m?\s*\\angle\s*\d"
_TRIGONOMETRIC = (
    r"\\(?:sin|cos|tan|cot|sec|csc)\s*(?:\(\s*)?(?:\\angle\s*)?\{?\s*(?:[A-Z]{1,3}|\\[a-z]+)\s*\}?\s*\)?"
)
_QUOTIENT = rf"\\frac\s*\{{\s*{_SEGMENT}\s*\}}\s*\{{\s*{_SEGMENT}\s*\}}|{_SEGMENT}\s*[/:]\s*{_SEGMENT}"
_NAMED = re.compile("|".join((_NAME, _FUNCTION, _CHANCE, _MARKED, _SIZE, _ANGLE, _TRIGONOMETRIC, _QUOTIENT)))
_SUM = re.compile(r"[a-z](?:\s*\+\s*[a-z])+")
_COMPUTED = re.compile(
    r"\\(?:sum|prod|int|iint|oint|lim|bmod|pmod|mod|gcd|lcm|max|min|det)(?![A-Za-z])|\\begin\{vmatrix\}"
)
STATED = "\ue003"  # before the name of a side that only an answer may have


def name_of(side: str) -> str:
    """The side when it only names a value, with STATED before it when only an answer may say so; empty
    for an expression."""
    if _NAMED.fullmatch(side) or _COMPUTED.search(side):
        return side
    return STATED + side if _SUM.fullmatch(side) else ""
