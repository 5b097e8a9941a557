"""Is a boxed answer the reference answer? Yes, no, or undecided; exactly, in microseconds for
numbers.

| reference         | what is accepted |
|-------------------|------------------|
| number            | any exact equal: fraction, decimal, percent, scientific, mixed, repeating |
| value with a unit | the number alone; another unit of the same measure, converted |
| expression        | any expression equal wherever both are defined |
| list, set         | the same members in any order, in braces or bare |
| tuple             | the same in the same order, in any brackets but braces, or bare |
| interval, union   | the same intervals; the inequality that says it |
| equation          | a constant multiple of it; its right side alone when the left is a name |
| named values      | the same names with the same values; the values alone in the same order |
| text              | the same words, letter case and articles aside |

Never: a tolerance, a rounded decimal for an irrational number, several answers for one.
"""

from __future__ import annotations

import re
from functools import lru_cache

from acereason.verify.answers.clean import clean, clean_reference, without_texts
from acereason.verify.answers.compare import same
from acereason.verify.answers.parse import Tree, multiplied, products
from acereason.verify.answers.reading import read
from acereason.verify.answers.relations import congruent
from acereason.verify.answers.shapes import Shape, mapped
from acereason.verify.answers.texts import same_words
from acereason.verify.answers.tokens import COMPUTED, Unparsed
from acereason.verify.answers.whole import for_math_verify

_INTEGER = re.compile(r"-?(?:0|[1-9]\d{0,30})")
_MODULUS = re.compile(
    r"\s*\(?\s*\\?(?:\\text\{\s*\(?\s*|p|b)?mod(?:ulo)?(?:\s*\})?\s*\{?\s*(\w+)\s*\}?\s*\)?$"
)
_CHOICE = re.compile(r"\(?([A-Ja-j])\)?")
_HEDGE = r"(?!.*(?:\([A-J]\)|\b[A-J][.:)]|\b(?:or|and|not|nor|maybe|but|either|except)\b))(?![-+*/^,;=<>&|])"
_LONG_CHOICE = re.compile(rf"\(([A-J])\)(?:\s+{_HEDGE}\S.*|[:.]\s*{_HEDGE}.*)|([A-J])[.:)]\s+{_HEDGE}.*")
_ZEROS = re.compile(r"(?<![\d.])0\d")  # the groups of a large number, no members of a list
_THOUSANDS = re.compile(r"\d{1,3},\d{3}")
_SPACE = re.compile(r"(?<!\d) +| +(?!\d)")
_COMMANDS = re.compile(r"\\([A-Za-z]+)")
_CALL = re.compile(r"[A-Za-z](?:_\{?\w+\}?)?'*(?:\^\{-1\})?\s*\(")


def decide(reference: str, answer: str) -> bool | None:
    """Whether `answer` equals `reference`; None when only math-verify can tell. Never raises."""
    if _INTEGER.fullmatch(answer) and _INTEGER.fullmatch(reference):
        return int(reference) == int(answer)
    ours, theirs = _cleaned(reference), clean(answer)
    if not theirs:
        return False
    if _squeezed(ours) == _squeezed(theirs):
        return True
    try:
        verdict = _decide(ours, theirs)
    except RecursionError:
        verdict = False
    if verdict is None and same_words(ours, theirs):
        return True
    if verdict is None and _worth_asking(ours, theirs) and for_math_verify(ours) and for_math_verify(theirs):
        return None
    return bool(verdict)


def put_to_math_verify(reference: str, answer: str) -> tuple[str, str]:
    """What is asked about a pair for which `decide` returned None."""
    return for_math_verify(_cleaned(reference)) or "", for_math_verify(clean(answer)) or ""


def _squeezed(text: str) -> str:
    """Without the spaces that do not part two numbers; a single word in lower case."""
    text = _SPACE.sub("", text)
    return text.lower() if len(text) > 2 and text.isalpha() else text


@lru_cache(maxsize=4096)
def _cleaned(reference: str) -> str:
    return clean_reference(reference)


@lru_cache(maxsize=4096)
def _reading(text: str, joined: bool) -> Shape | None:
    try:
        return read(text, joined)
    except Unparsed:
        return None


def _decide(ours: str, theirs: str) -> bool | None:
    choice = _choices(ours, theirs)
    if choice is not None:
        return choice
    modulus = _MODULUS.search(ours), _MODULUS.search(theirs)
    if all(modulus) and modulus[0][1] != modulus[1][1]:  # type: ignore[index]
        return False
    ours, theirs = (_MODULUS.sub("", text).strip() for text in (ours, theirs))
    number = modulus[1][1] if modulus[1] else ""
    verdict = _compared(ours, theirs, True, number)
    if verdict is False and "," in ours and "," in theirs and _may_be_list(ours, theirs):
        return _compared(ours, theirs, False, number)
    return verdict


def _may_be_list(ours: str, theirs: str) -> bool:
    """Whether commas without spaces may part numbers that could be digit groups."""
    return not (_THOUSANDS.fullmatch(ours) or _ZEROS.search(f"{ours} {theirs}"))


def _choices(ours: str, theirs: str) -> bool | None:
    """Letters of a multiple choice: B, (B), b, (B) 42."""
    a = _CHOICE.fullmatch(without_texts(ours).replace(" ", ""))
    if a is None or not a[1].isupper():
        return None
    plain = without_texts(theirs)
    b = _CHOICE.fullmatch(plain.replace(" ", ""))
    if b is not None:
        return a[1].upper() == b[1].upper()
    longer = _LONG_CHOICE.fullmatch(plain)
    return None if longer is None else a[1] in longer.groups()


def _compared(ours: str, theirs: str, joined: bool, modulus: str) -> bool | None:
    a, b = _reading(ours, joined), _reading(theirs, joined)
    if a is not None and b is None and _restates(theirs, ours):
        return False
    if a is None or b is None:
        return None
    if _CALL.search(ours) or _CALL.search(theirs):
        a, b = _called_alike(a, b)
    if modulus:
        b = congruent(b, modulus)
    return same(a, b)


def _restates(theirs: str, ours: str) -> bool:
    """A computed symbol against a reference that has a value: it only restates the problem."""
    matrices = "matrix" in ours and "matrix" in theirs
    return not matrices and _computes(theirs)


def _worth_asking(ours: str, theirs: str) -> bool:
    """Whether math-verify may know: a computed reference, or sums and products of matrices."""
    return _computes(ours) and ("matrix" not in ours or "matrix" in theirs)


def _computes(text: str) -> bool:
    return bool(COMPUTED.intersection(_COMMANDS.findall(text)))


def _called_alike(a: Shape, b: Shape) -> tuple[Shape, Shape]:
    """Both with f(2) read as a product when the reference multiplies f elsewhere."""
    names: set[str] = set()

    def collect(tree: Tree) -> Tree:
        names.update(multiplied(tree))
        return tree

    mapped(a, collect)
    known = frozenset(names)
    return mapped(a, lambda tree: products(tree, known)), mapped(b, lambda tree: products(tree, known))


def readable(reference: str) -> bool:
    """Whether the exact comparison understands a reference at all."""
    return _reading(_MODULUS.sub("", _cleaned(reference)).strip(), True) is not None
