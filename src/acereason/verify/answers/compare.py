"""Whether two shapes are the same answer."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from fractions import Fraction

from acereason.verify.answers import evaluate
from acereason.verify.answers.names import STATED
from acereason.verify.answers.parse import Tree
from acereason.verify.answers.relations import (
    assigned,
    intersection,
    interval_of,
    relations_equal,
    unions_equal,
)
from acereason.verify.answers.shapes import (
    REALS,
    Clock,
    Group,
    Interval,
    Matrix,
    Relation,
    Shape,
    Text,
    Union,
    Value,
    as_union,
)
from acereason.verify.answers.units import conversion

_NAMED = ("named", "member")  # kinds of groups of a name and a shape


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
    subjects = _subject(a), _subject(b)
    kinds = {shape.kind if isinstance(shape, Group) else "" for shape in (a, b)}
    if all(subjects) and subjects[0] != subjects[1] and kinds != {""} and kinds != {"", "named"}:
        return False
    a, b = _unnamed(a, b)
    if isinstance(a, Clock) or isinstance(b, Clock):
        return _clocks(a, b)
    a, b = _as_values(a, b), _as_values(b, a, stated=True)
    if isinstance(a, Value) and isinstance(b, Value):
        return _values(a, b)
    if isinstance(a, Relation) and isinstance(b, Relation):
        return _relations(a, b)
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


def _subject(shape: Shape) -> str:
    """The one name that an answer says something of; empty when there is none, or several."""
    if isinstance(shape, Group) and shape.kind in _NAMED and isinstance(shape.items[0], Text):
        return shape.items[0].words
    if isinstance(shape, Relation):
        names = {name for name in shape.names if name and not name.startswith(STATED)}
        return min(names) if len(names) == 1 else ""
    if isinstance(shape, Group) and shape.kind in ("list", "either", "both"):
        subjects = {_subject(item) for item in shape.items}
        return min(subjects) if len(subjects) == 1 else ""
    return ""


def _unnamed(a: Shape, b: Shape) -> tuple[Shape, Shape]:
    """A named interval, set or ratio beside one without a name; two with a name as they are."""
    named = [isinstance(shape, Group) and shape.kind in _NAMED for shape in (a, b)]
    if all(named) or not any(named):
        return a, b
    return _inside(a), _inside(b)


def _inside(shape: Shape) -> Shape:
    return shape.items[1] if isinstance(shape, Group) and shape.kind in _NAMED else shape


def _clocks(a: Shape, b: Shape) -> bool:
    """Times of day; `2:30` and `14:30` without a half of the day, or a whole hour alone, may stand for
    one."""
    if isinstance(a, Clock) and isinstance(b, Clock):
        return a == b
    time, other = (a, b) if isinstance(a, Clock) else (b, a)
    if not isinstance(time, Clock):
        return False
    face = (time.hour - 1) % 12 + 1
    if isinstance(other, Value):
        return time.minute == 0 and other == Value(("num", Fraction(face)))
    if not isinstance(other, Group) or other.kind != "ratio" or len(other.items) != 2:
        return False
    shown = [Value(("num", Fraction(number))) for number in (time.hour, face)]
    minute = Value(("num", Fraction(time.minute)))
    return any(same(hour, other.items[0]) for hour in shown) and bool(same(minute, other.items[1]))


def _as_values(shape: Shape, other: Shape, stated: bool = False) -> Shape:
    """`x = 5` as 5 beside something that is no relation; `x = 1, x = 3` as the list of the
    values."""
    if isinstance(shape, Relation) and not isinstance(other, Relation):
        value = assigned(shape, stated)
        return shape if value is None else Value(value, shape.unit, shape.percent)
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
    """The values of one name in any order; those of several names in theirs, beside values alone."""
    relations = [item for item in group.items if isinstance(item, Relation)]
    names = [next(filter(None, relation.names), "") for relation in relations]
    values = tuple(Value(assigned(relation) or (), relation.unit, relation.percent) for relation in relations)
    if isinstance(other, Group) and any(isinstance(item, Relation) for item in other.items):
        return group
    if len(set(names)) == 1:
        return Group("set" if group.kind == "either" else "list", values)
    if not isinstance(other, Group):
        return group
    flat = not any(isinstance(item, Group) for item in other.items)
    if flat and other.kind in ("tuple", "list", "square", "set"):
        return Group("ordered", values)
    return group


def trees_equal(a: Tree, b: Tree) -> bool:
    """Equality of two expressions; the same tree is equal even where its value is not computed."""
    return (a == b and "inf" not in repr(a)) or evaluate.equal(a, b)


def _values(a: Value, b: Value) -> bool:
    factor = conversion(a.unit, b.unit)
    if factor is None or (a.percent and b.unit) or (b.percent and a.unit):
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


def _relations(a: Relation, b: Relation) -> bool | None:
    """Two relations; with units on both sides, two names with values that are the same quantity."""
    if (a.unit or a.percent) and (b.unit or b.percent):
        values = assigned(a), assigned(b)
        if a.names[0] != b.names[0] or values[0] is None or values[1] is None:
            return relations_equal(a, b) if (a.unit, a.percent) == (b.unit, b.percent) else False
        return _values(Value(values[0], a.unit, a.percent), Value(values[1], b.unit, b.percent))
    return relations_equal(a, b)


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


def every(verdicts: Iterable[bool | None]) -> bool | None:
    """False if one is, else None if one is, else True."""
    known = list(verdicts)
    if False in known:
        return False
    return None if None in known else True


_UNORDERED = {"list", "set", "either", "both"}


def _groups(a: Group, b: Group) -> bool | None:
    kinds = {a.kind, b.kind}
    if kinds == {"either", "both"}:
        return False
    if kinds <= _UNORDERED or kinds == {"cases"}:
        if "set" in kinds:
            a, b = _distinct(a), _distinct(b)
        return _matched(list(a.items), list(b.items), same)
    if kinds & {"set", "either", "cases"} or (kinds & {"ratio", "case", *_NAMED} and len(kinds) > 1):
        return False
    if "square" in kinds and kinds & {"tuple", "list", "ordered"} and len(a.items) == 2:
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
        verdicts = [equal(item, other) for other in theirs]
        if True in verdicts:
            theirs.pop(verdicts.index(True))
        elif None in verdicts:
            undecided = True
        else:
            return False
    return None if undecided else True
