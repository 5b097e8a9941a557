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
| text              | the same words, letter case and articles aside |

Never: a tolerance, a rounded decimal for an irrational number, several answers for one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from fractions import Fraction
from functools import lru_cache

from acereason.verify.answers import evaluate
from acereason.verify.answers.clean import clean, without_texts
from acereason.verify.answers.parse import COMPUTED, Tree, Unparsed
from acereason.verify.answers.relations import (
    assigned,
    intersection,
    interval_of,
    relations_equal,
    unions_equal,
)
from acereason.verify.answers.shapes import (
    REALS,
    Group,
    Interval,
    Matrix,
    Relation,
    Shape,
    Text,
    Union,
    Value,
    as_union,
    read,
)
from acereason.verify.answers.units import conversion

_INTEGER = re.compile(r"-?(?:0|[1-9]\d{0,30})")
_MODULUS = re.compile(
    r"\s*\(?\s*\\?(?:\\text\{\s*\(?\s*|p|b)?mod(?:ulo)?(?:\s*\})?\s*\{?\s*(\w+)\s*\}?\s*\)?$"
)
_CHOICE = re.compile(r"\(?([A-Ja-j])\)?")
_LONG_CHOICE = re.compile(r"\(([A-J])\)\s*(?!.*\([A-J]\)).*|([A-J])[.:)]\s+(?!.*\b[A-J][.:)]).*")
_HOPELESS = re.compile(
    r"^[<>%*/^]|[-+*/^<>=]$|\d \d|[A-Za-z]{4,}|[^\w\s\\{}()\[\]^+\-*/=<>.,:;|!%]|[^\x00-\x7f]"
    r"|\d[eE][+-]?\d{5}"
)
_HALF = re.compile(r"^\\(?:le|ge|ne|in)(?![A-Za-z])|\\(?:le|ge|ne|in|cdot|pm|mp)$")
_SPACE = re.compile(r"(?<!\d) +| +(?!\d)")
_COMMANDS = re.compile(r"\\([A-Za-z]+)")


def decide(reference: str, answer: str) -> bool | None:
    """Whether `answer` equals `reference`; None when that is not decided here. Never raises."""
    if _INTEGER.fullmatch(answer) and _INTEGER.fullmatch(reference):
        return int(reference) == int(answer)
    ours, theirs = _cleaned(reference), clean(answer)
    if not theirs:
        return False
    if _squeezed(ours) == _squeezed(theirs):
        return True
    try:
        return _decide(ours, theirs)
    except RecursionError:
        return None


def _squeezed(text: str) -> str:
    """Without the spaces that do not part two numbers; a single word in lower case."""
    text = _SPACE.sub("", text)
    return text.lower() if len(text) > 2 and text.isalpha() else text


@lru_cache(maxsize=4096)
def _cleaned(reference: str) -> str:
    return clean(reference)


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
    found = _compared(ours, theirs, joined=True)
    if found is False and "," in ours and "," in theirs:
        return _compared(ours, theirs, joined=False)
    return found


def _choices(ours: str, theirs: str) -> bool | None:
    """Letters of a multiple choice: B, (B), b, (B) 42."""
    a = _CHOICE.fullmatch(without_texts(ours))
    if a is None or not a[1].isupper():
        return None
    plain = without_texts(theirs)
    b = _CHOICE.fullmatch(plain)
    if b is not None:
        return a[1].upper() == b[1].upper()
    longer = _LONG_CHOICE.fullmatch(plain)
    return None if longer is None else a[1] in longer.groups()


def _compared(ours: str, theirs: str, joined: bool) -> bool | None:
    a, b = _reading(ours, joined), _reading(theirs, joined)
    if b is None:
        other_index = "_" in theirs and "_" not in ours  # math-verify would drop the index
        return None if a is None or not (other_index or _hopeless(theirs)) else False
    if a is None:
        return None
    return same(a, b)


def _hopeless(text: str) -> bool:
    """Text that no mathematical reading can make equal to a reference that has one: words, computed
    symbols that would only restate the problem, numbers side by side, half a relation or a term,
    control characters."""
    if (
        len(text) > 400
        or "\\text" in text
        or _HALF.search(text)
        or COMPUTED.intersection(_COMMANDS.findall(text))
    ):
        return True
    return _HOPELESS.search(_COMMANDS.sub(" ", without_texts(text))) is not None


def same(a: Shape, b: Shape) -> bool | None:
    """Whether two shapes are the same answer."""
    try:
        return _same(a, b)
    except (evaluate.Undefined, evaluate.TooLarge, ArithmeticError):
        return False
    except evaluate.Irrational:
        return None


def _same(a: Shape, b: Shape) -> bool | None:
    if isinstance(a, Text) or isinstance(b, Text):
        return _texts(a, b)
    a, b = _as_values(a, b), _as_values(b, a)
    if isinstance(a, Value) and isinstance(b, Value):
        return _values(a, b)
    if isinstance(a, Relation) and isinstance(b, Relation):
        return relations_equal(a, b)
    if isinstance(a, Matrix) or isinstance(b, Matrix):
        return _matrices(a, b)
    united = _united(a, b)
    if united is not None:
        return united
    if isinstance(a, Group) and isinstance(b, Group):
        return _groups(a, b)
    return False


def _texts(a: Shape, b: Shape) -> bool:
    if isinstance(a, Text) and isinstance(b, Text):
        return a.words == b.words
    text, other = (a, b) if isinstance(a, Text) else (b, a)
    return isinstance(text, Text) and text.words == "all real numbers" and as_union(other) == REALS


def _as_values(shape: Shape, other: Shape) -> Shape:
    """`x = 5` as 5 beside something that is no relation; `x = 1, x = 3` as the list of the
    values."""
    if isinstance(shape, Relation) and not isinstance(other, Relation):
        value = assigned(shape)
        return shape if value is None else Value(value)
    if isinstance(shape, Group) and shape.kind == "set" and len(shape.items) == 1:
        member = isinstance(other, Value | Relation) or (isinstance(other, Group) and other.kind == "tuple")
        return shape.items[0] if member else shape
    if isinstance(shape, Group) and shape.kind in ("list", "either"):
        if shape.items and all(
            isinstance(item, Relation) and assigned(item) is not None for item in shape.items
        ):
            return _assignments(shape, other)
        if shape.kind == "either" and isinstance(other, Group) and other.kind in ("list", "set"):
            return Group("list", shape.items)
    return shape


def _assignments(group: Group, other: Shape) -> Shape:
    names = [item.names[0] for item in group.items if isinstance(item, Relation)]
    values = tuple(Value(assigned(item) or ()) for item in group.items if isinstance(item, Relation))
    if len(set(names)) == 1:
        return Group("set" if group.kind == "either" else "list", values)
    if isinstance(other, Group) and other.kind == "tuple":
        return Group("tuple", values)
    return group


def trees_equal(a: Tree, b: Tree) -> bool:
    """Equality of two expressions; the same tree is equal even where its value is not computed."""
    return (a == b and "inf" not in repr(a)) or evaluate.equal(a, b)


def _values(a: Value, b: Value) -> bool:
    factor = conversion(a.unit, b.unit)
    if factor is None:
        return False
    theirs: Tree = b.tree if factor == 1 else ("mul", b.tree, ("num", factor))
    if trees_equal(a.tree, theirs):
        return True
    if a.percent == b.percent:
        return False
    hundred: Tree = ("num", Fraction(100))
    if a.percent:
        return trees_equal(("div", a.tree, hundred), theirs)
    return trees_equal(a.tree, ("div", theirs, hundred))


def _united(a: Shape, b: Shape) -> bool | None:
    """Intervals, unions and inequalities against one another; None when neither side is one."""
    if not any(isinstance(shape, (Interval, Union, Relation)) or _inequalities(shape) for shape in (a, b)):
        return None
    ours, theirs = _interval(a), _interval(b)
    if ours is None or theirs is None:
        return None if isinstance(a, Group) and isinstance(b, Group) else False
    return unions_equal(ours, theirs, trees_equal)


def _inequalities(shape: Shape) -> bool:
    return (
        isinstance(shape, Group)
        and shape.kind in ("either", "both")
        and all(isinstance(item, Relation) for item in shape.items)
    )


def _interval(shape: Shape) -> Union | None:
    if isinstance(shape, Relation):
        return interval_of(shape)
    if isinstance(shape, Group) and _inequalities(shape):
        parts = [interval_of(item) for item in shape.items if isinstance(item, Relation)]
        unions = [part for part in parts if part is not None]
        if len(unions) < len(parts):
            return None
        if shape.kind == "both":
            return intersection(unions) if _one_variable(shape) else None
        return Union(tuple(piece for union in unions for piece in union.parts))
    return as_union(shape)


def _one_variable(group: Group) -> bool:
    relations = [item for item in group.items if isinstance(item, Relation)]
    return len(frozenset().union(*(evaluate.variables(s) for r in relations for s in r.sides))) == 1


def _matrices(a: Shape, b: Shape) -> bool | None:
    rows = [_rows(shape) for shape in (a, b)]
    ours, theirs = rows
    if ours is None or theirs is None or [len(r) for r in ours] != [len(r) for r in theirs]:
        return False
    pairs = [(x, y) for r, s in zip(ours, theirs, strict=True) for x, y in zip(r, s, strict=True)]
    return every(same(x, y) for x, y in pairs)


def _rows(shape: Shape) -> Sequence[Sequence[Shape]] | None:
    """A matrix; a tuple is a column."""
    if isinstance(shape, Matrix):
        return shape.rows
    if isinstance(shape, Group) and shape.kind == "tuple":
        return [[item] for item in shape.items]
    return None


def every(answers: object) -> bool | None:
    """False if one is, else None if one is, else True."""
    found = list(answers)  # type: ignore[call-overload]
    if False in found:
        return False
    return None if None in found else True


def _groups(a: Group, b: Group) -> bool | None:
    kinds = {a.kind, b.kind}
    if kinds == {"either", "both"}:
        return False
    if kinds <= {"list", "set", "either", "both"}:
        if "set" in kinds:
            a, b = _distinct(a), _distinct(b)
        return _matched(list(a.items), list(b.items), same)
    if kinds == {"clock", "ratio"}:
        return len(a.items) + len(b.items) == 5 and every(
            same(x, y) for x, y in zip(a.items[:2], b.items[:2], strict=True)
        )
    if "set" in kinds or "either" in kinds or ("ratio" in kinds and len(kinds) > 1):
        return False
    if "square" in kinds and kinds & {"tuple", "list"} and len(a.items) == 2:
        return False
    if len(a.items) != len(b.items):
        return False
    return every(same(x, y) for x, y in zip(a.items, b.items, strict=True))


def _distinct(group: Group) -> Group:
    kept: list[Shape] = []
    for item in group.items[:64]:
        if not any(same(item, other) for other in kept):
            kept.append(item)
    return Group(group.kind, (*kept, *group.items[64:]))


def _matched(
    ours: list[Shape], theirs: list[Shape], equal: Callable[[Shape, Shape], bool | None]
) -> bool | None:
    """Whether two collections have the same members; each is used once."""
    if len(ours) != len(theirs) or len(ours) > 64:
        return False
    undecided = False
    for item in ours:
        answers = [equal(item, other) for other in theirs]
        if True in answers:
            theirs.pop(answers.index(True))
        elif None in answers:
            undecided = True
        else:
            return False
    return None if undecided else True


def readable(reference: str) -> bool:
    """Whether the exact comparison understands a reference at all."""
    return _reading(_MODULUS.sub("", _cleaned(reference)).strip(), True) is not None
