"""Equations, inequalities and the intervals they describe.

Two equations are the same when their differences of sides are a constant multiple of one another;
for inequalities the multiple must be positive. Multiples are found exactly, at rational points, so
this holds for rational expressions; others are compared side by side.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction

from acereason.verify.answers import evaluate
from acereason.verify.answers.parse import Tree
from acereason.verify.answers.shapes import (
    INFINITY,
    MINUS_INFINITY,
    Interval,
    Relation,
    Union,
)

_TURNED = {"<": ">", ">": "<", "<=": ">=", ">=": "<=", "=": "=", "!=": "!="}


def assigned(relation: Relation) -> Tree | None:
    """The value in `name = value`, in `value = name`, and in a chain such as `n = 2^4 = 16` whose
    sides without a name are all equal; None for any other relation."""
    if any(operator != "=" for operator in relation.operators):
        return None
    values = [s for s, name in zip(relation.sides, relation.names, strict=True) if not name]
    if not values and len(relation.sides) == 2:
        return relation.sides[1]
    if not values or len(relation.sides) - len(values) > 1:
        return None
    if len(values) == len(relation.sides) and any(map(evaluate.variables, values)):
        return None  # an equation between expressions gives no value
    same = all(evaluate.equal(values[0], other) for other in values[1:])
    return values[-1] if same else None


def interval_of(relation: Relation) -> Union | None:
    """The interval of one variable that a chain of inequalities describes; None for other
    relations."""
    absolute = _absolute(relation)
    if absolute is not None:
        return absolute
    sides, operators = relation.sides, relation.operators
    if operators[0] in (">", ">=") or (len(sides) == 2 and not relation.names[0]):
        sides = tuple(reversed(sides))
        operators = tuple(_TURNED[operator] for operator in reversed(operators))
    variable = next((side for side in sides if side[0] == "var"), None)
    if variable is None or any(variable[1] in evaluate.variables(s) for s in sides if s != variable):
        return None
    closed = [operator in ("<=", ">=") for operator in operators]
    if len(sides) == 3 and sides[1] == variable and all(o in ("<", "<=") for o in operators):
        return Union((Interval(sides[0], sides[2], closed[0], closed[1]),))
    if len(sides) != 2:
        return None
    bound = sides[1] if sides[0] == variable else sides[0]
    operator = operators[0] if sides[0] == variable else _TURNED[operators[0]]
    if operator == "!=":
        return Union((Interval(MINUS_INFINITY, bound, False, False), Interval(bound, INFINITY, False, False)))
    if operator == "=":
        return None
    if operator in ("<", "<="):
        return Union((Interval(MINUS_INFINITY, bound, False, closed[0]),))
    return Union((Interval(bound, INFINITY, closed[0], False),))


def _absolute(relation: Relation) -> Union | None:
    """The interval or the two rays of |x| < c, or of |x − k| < c."""
    if len(relation.sides) != 2:
        return None
    if relation.sides[1][:2] == ("fn", "abs"):
        relation = turned(relation)
    (left, bound), operator = relation.sides, relation.operators[0]
    if left[:2] != ("fn", "abs") or operator in ("=", "!=") or evaluate.variables(bound):
        return None
    shift = _shift(left[2])
    if shift is None:
        return None
    low, high = ("add", ("neg", bound), shift), ("add", bound, shift)
    closed = operator in ("<=", ">=")
    if operator in ("<", "<="):
        return Union((Interval(low, high, closed, closed),))
    below = Interval(MINUS_INFINITY, low, False, closed)
    return Union((below, Interval(high, INFINITY, closed, False)))


def _shift(tree: Tree) -> Tree | None:
    """k of x − k; None for any other tree."""
    if tree[0] == "var":
        return ("num", Fraction(0))
    if tree[0] != "add" or tree[1][0] != "var" or evaluate.variables(tree) != {tree[1][1]}:
        return None
    rest: Tree = ("add", *tree[2:])
    return None if evaluate.variables(rest) else ("neg", rest)


def intersection(unions: Sequence[Union]) -> Union | None:
    """Rays from below and from above as the interval between them; None for other intervals."""
    if len(unions) != 2 or any(len(union.parts) != 1 for union in unions):
        return None
    first, second = (union.parts[0] for union in unions)
    if first.low == MINUS_INFINITY:
        first, second = second, first
    if first.high != INFINITY or second.low != MINUS_INFINITY:
        return None
    return Union((Interval(first.low, second.high, first.low_closed, second.high_closed),))


def unions_equal(a: Union, b: Union, equal: Callable[[Tree, Tree], bool]) -> bool:
    """Whether two unions consist of the same intervals, in any order."""
    if len(a.parts) != len(b.parts) or len(a.parts) > 64:
        return False
    left = list(b.parts)
    for part in a.parts:
        for other in left:
            ends = (part.low_closed, part.high_closed) == (other.low_closed, other.high_closed)
            if ends and equal(part.low, other.low) and equal(part.high, other.high):
                left.remove(other)
                break
        else:
            return False
    return True


def relations_equal(a: Relation, b: Relation) -> bool:
    """Whether two relations say the same."""
    if len(a.operators) != len(b.operators) or len(a.operators) > 8:
        return False
    if len(a.operators) == 1:
        return _single(a, b)
    return _chain(a, b) or _chain(a, turned(b))


def turned(relation: Relation) -> Relation:
    """The relation read from right to left."""
    return Relation(
        tuple(reversed(relation.sides)),
        tuple(reversed(relation.names)),
        tuple(_TURNED[operator] for operator in reversed(relation.operators)),
    )


def _chain(a: Relation, b: Relation) -> bool:
    return a.operators == b.operators and all(
        x == y or evaluate.equal(x, y) for x, y in zip(a.sides, b.sides, strict=True)
    )


def _single(a: Relation, b: Relation) -> bool:
    if b.operators[0] != a.operators[0]:
        b = turned(b)
    if a.operators == b.operators and (a.sides == b.sides or _chain(a, b)):
        return True
    try:
        factor = _multiple(_difference(a), _difference(b))
    except evaluate.Irrational:
        return _chain(a, turned(b))
    if factor is None:
        return False
    if {"=", "!="} & {a.operators[0], b.operators[0]}:
        return a.operators == b.operators
    same_way = a.operators == b.operators
    return a.operators[0].endswith("=") == b.operators[0].endswith("=") and (factor > 0) == same_way


def _difference(relation: Relation) -> Tree:
    return ("add", relation.sides[0], ("neg", relation.sides[1]))


def _multiple(a: Tree, b: Tree) -> Fraction | None:
    """The constant c ≠ 0 with a = c·b, found at one point and then proved; None when there is
    none."""
    names = sorted(evaluate.variables(a) | evaluate.variables(b))
    if not names or evaluate.variables(a) != evaluate.variables(b):
        return None
    for shift in range(2, 8):
        point = {name: Fraction(shift * 7 + 3 * k, 2 + k) for k, name in enumerate(names)}
        left, right = evaluate.rational(a, point), evaluate.rational(b, point)
        if left and right:
            factor = left / right
            return factor if evaluate.equal(a, ("mul", ("num", factor), b)) else None
    return None
