"""What kind of thing an answer is: a value with a unit, a list, a set, a tuple, an interval, a
relation, a matrix, a time, a text. `reading.py` makes them from cleaned text.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from acereason.verify.answers.parse import Tree

INFINITY: Tree = ("const", "inf")
MINUS_INFINITY: Tree = ("neg", INFINITY)


@dataclass(frozen=True, slots=True)
class Value:
    """One expression; `percent` says that it was followed by a percent sign."""

    tree: Tree
    unit: str = ""
    percent: bool = False


@dataclass(frozen=True, slots=True)
class Group:
    """Several shapes: "list", "set", "either" (or), "both" (and) and "cases" without order; "tuple",
    "square", "ratio", "case" (value, condition), "named" and "member" (a name, what it is, or is in) with."""

    kind: str
    items: tuple[Shape, ...]


@dataclass(frozen=True, slots=True)
class Interval:
    """From `low` to `high`, each end closed or open."""

    low: Tree
    high: Tree
    low_closed: bool
    high_closed: bool


@dataclass(frozen=True, slots=True)
class Union:
    """Intervals together."""

    parts: tuple[Interval, ...]


@dataclass(frozen=True, slots=True)
class Relation:
    """A chain such as 1 < x ≤ 3. A side that only names something (x, f(x), Area) is its text; `unit` is
    that of its values."""

    sides: tuple[Tree, ...]
    names: tuple[str, ...]
    operators: tuple[str, ...]
    unit: str = ""
    percent: bool = False


@dataclass(frozen=True, slots=True)
class Matrix:
    """Rows of values."""

    rows: tuple[tuple[Shape, ...], ...]


@dataclass(frozen=True, slots=True)
class Text:
    """Words, in lower case and without articles and punctuation."""

    words: str


@dataclass(frozen=True, slots=True)
class Clock:
    """A time of day."""

    hour: int
    minute: int


Shape = Value | Group | Interval | Union | Relation | Matrix | Clock | Text

REALS = Union((Interval(MINUS_INFINITY, INFINITY, False, False),))


def as_union(shape: Shape) -> Union | None:
    """Intervals, and a pair in round or square brackets, as a union."""
    if isinstance(shape, Union):
        return shape
    if isinstance(shape, Interval):
        return Union((shape,))
    if isinstance(shape, Group) and shape.kind in ("tuple", "square") and len(shape.items) == 2:
        low, high = shape.items
        if isinstance(low, Value) and isinstance(high, Value):
            closed = shape.kind == "square"
            return Union((Interval(low.tree, high.tree, closed, closed),))
    return None


def mapped(shape: Shape, change: Callable[[Tree], Tree]) -> Shape:
    """The shape with every tree in it changed."""
    match shape:
        case Value():
            return replace(shape, tree=change(shape.tree))
        case Group():
            return replace(shape, items=tuple(mapped(item, change) for item in shape.items))
        case Interval():
            return replace(shape, low=change(shape.low), high=change(shape.high))
        case Union():
            return Union(tuple(replace(p, low=change(p.low), high=change(p.high)) for p in shape.parts))
        case Relation():
            return replace(shape, sides=tuple(map(change, shape.sides)))
        case Matrix():
            return Matrix(tuple(tuple(mapped(cell, change) for cell in row) for row in shape.rows))
    return shape
