"""Equations, inequalities and the intervals they describe.

Two equations are the same when their differences of sides are a constant multiple of one another;
for inequalities the multiple must be positive. Multiples are found exactly, at rational points, so
this holds for rational expressions; others are compared side by side.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction

from acereason.verify.answers import evaluate
from acereason.verify.answers.names import STATED
from acereason.verify.answers.parse import Tree
from acereason.verify.answers.rational import function_key
from acereason.verify.answers.shapes import (
    INFINITY,
    MINUS_INFINITY,
    Interval,
    Relation,
    Shape,
    Union,
    Value,
)

_TURNED = {"<": ">", ">": "<", "<=": ">=", ">=": "<=", "=": "=", "!=": "!="}


def assigned(relation: Relation, stated: bool = False) -> Tree | None:
    """The value in `name = value`, in `value = name`, and in a chain such as `n = 2^4 = 16` whose
    sides without a name are all equal; None for any other relation. Names that only an answer may
    give to a value (m + n = 5) count when `stated`."""
    if any(operator != "=" for operator in relation.operators):
        return None
    if not stated and any(name.startswith(STATED) for name in relation.names):
        return None
    values = [s for s, name in zip(relation.sides, relation.names, strict=True) if not name]
    named = [s for s, name in zip(relation.sides, relation.names, strict=True) if name]
    if any(_recurs(name, value) for name in named for value in values):
        return None
    if not values and len(relation.sides) == 2:
        return None if _recurs(*relation.sides) or _segments(relation.names) else relation.sides[1]
    if not values or len(relation.sides) - len(values) > 1:
        return None
    if len(values) == len(relation.sides) and any(map(evaluate.variables, values)):
        return None  # an equation between expressions gives no value
    same = all(evaluate.equal(values[0], other) for other in values[1:])
    return values[-1] if same else None


def _recurs(name: Tree, value: Tree) -> bool:
    """Whether what is named stands in the value as well: x = 2x − 3, y' = 2y, a_n = 2a_{n−1}. That is
    an equation, and its right side is no value of anything."""
    theirs = evaluate.variables(value)
    if name[0] == "call":  # f(x) = 2x may use its x, not its f
        return function_key(name) in theirs
    if name[0] != "var":
        return False
    letter, _, index = name[1].partition("_")
    pairs = [other.partition("_")[::2] for other in theirs]
    return any(base.rstrip("'") == letter.rstrip("'") and bool(sub) == bool(index) for base, sub in pairs)


def _segments(names: Sequence[str]) -> bool:
    """AB = CD: two lengths, none of which is the value of the other."""
    return all(len(name) > 1 and name.isalpha() and name.isupper() for name in names)


def interval_of(relation: Relation) -> Union | None:
    """The interval of one variable that a chain of inequalities describes; None for other
    relations."""
    sides, operators = relation.sides, relation.operators
    if "=" in operators:
        return None
    names = frozenset().union(*map(evaluate.variables, sides))
    if len(names) == 1 and (solved := _solved(relation, min(names))) is not None:
        return solved
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
    return _rays(operators[0] if sides[0] == variable else _TURNED[operators[0]], bound)


def _solved(relation: Relation, name: str) -> Union | None:
    """An inequality that is linear in its only variable, or in the absolute value of such a term; a
    chain of two around one; None for others."""
    sides, operators = relation.sides, relation.operators
    if len(sides) == 3:
        middle = _linear(sides[1], name)
        if middle is None or middle[0] == 0 or any(map(evaluate.variables, (sides[0], sides[2]))):
            return None
        first = _rays(_TURNED[operators[0]], sides[0], middle)
        return intersection((first, _rays(operators[1], sides[2], middle)))
    if len(sides) != 2:
        return None
    if sides[1][:2] == ("fn", "abs"):
        sides, operators = (sides[1], sides[0]), (_TURNED[operators[0]],)
    if sides[0][:2] == ("fn", "abs") and not evaluate.variables(sides[1]):
        return _absolute(sides[0][2], operators[0], sides[1], name)
    left, right = _linear(sides[0], name), _linear(sides[1], name)
    if left is None or right is None or left[0] == right[0]:
        return None
    if right[0] == 0:
        return _rays(operators[0], sides[1], left)
    if left[0] == 0:
        return _rays(_TURNED[operators[0]], sides[0], right)
    difference = (left[0] - right[0], ("add", left[1], ("neg", right[1])))
    return _rays(operators[0], ("num", Fraction(0)), difference)


def _absolute(inside: Tree, operator: str, bound: Tree, name: str) -> Union | None:
    """The interval or the two rays of |ax + b| < c."""
    term = _linear(inside, name)
    if term is None or term[0] == 0 or operator == "!=":
        return None
    opposite: Tree = ("neg", bound)
    if operator in ("<", "<="):
        return intersection((_rays(operator, bound, term), _rays(_TURNED[operator], opposite, term)))
    return Union((*_rays(operator, bound, term).parts, *_rays(_TURNED[operator], opposite, term).parts))


def _linear(tree: Tree, name: str) -> tuple[Fraction, Tree] | None:
    """a and b of a·x + b, with a rational a; None for a tree of another form."""
    if name not in evaluate.variables(tree):
        return Fraction(0), tree
    match tree[0]:
        case "var":
            return Fraction(1), ("num", Fraction(0))
        case "neg":
            return _scaled(_linear(tree[1], name), Fraction(-1))
        case "add":
            parts = [_linear(part, name) for part in tree[1:]]
            terms = [part for part in parts if part is not None]
            if len(terms) < len(parts):
                return None
            return sum((a for a, _ in terms), Fraction(0)), ("add", *(b for _, b in terms))
        case "mul" | "div":
            term, factor = tree[1], tree[2]
            if tree[0] == "mul" and not evaluate.variables(term):
                term, factor = factor, term
            try:
                by = evaluate.rational(factor)
                return _scaled(_linear(term, name), 1 / by if tree[0] == "div" else by)
            except (evaluate.Irrational, evaluate.Undefined, ZeroDivisionError):
                return None
    return None


def _scaled(term: tuple[Fraction, Tree] | None, by: Fraction) -> tuple[Fraction, Tree] | None:
    return None if term is None else (term[0] * by, ("mul", ("num", by), term[1]))


_PLAIN_VARIABLE: tuple[Fraction, Tree] = (Fraction(1), ("num", Fraction(0)))


def _rays(operator: str, bound: Tree, term: tuple[Fraction, Tree] = _PLAIN_VARIABLE) -> Union:
    """Where a·x + b is below, above or other than a bound."""
    a, b = term
    if term != _PLAIN_VARIABLE:
        if bound in (INFINITY, MINUS_INFINITY):
            bound = bound if a > 0 else ("neg", INFINITY) if bound == INFINITY else INFINITY
        else:
            bound = ("div", ("add", bound, ("neg", b)), ("num", a))
        operator = operator if a > 0 else _TURNED[operator]
    if operator == "!=":
        return Union((Interval(MINUS_INFINITY, bound, False, False), Interval(bound, INFINITY, False, False)))
    closed = operator.endswith("=")
    if operator in ("<", "<="):
        return Union((Interval(MINUS_INFINITY, bound, False, closed),))
    return Union((Interval(bound, INFINITY, closed, False),))


def intersection(unions: Sequence[Union]) -> Union | None:
    """Rays from below and from above as the interval between them; None for other intervals."""
    if len(unions) != 2 or any(len(union.parts) != 1 for union in unions):
        return None
    first, second = (union.parts[0] for union in unions)
    if first.high != INFINITY:
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
    if _same_interval(a, b):
        return True
    if len(a.operators) != len(b.operators) or len(a.operators) > 8:
        return False
    if len(a.operators) == 1:
        return _single(a, b)
    return _chain(a, b) or _chain(a, turned(b))


def _same_interval(a: Relation, b: Relation) -> bool:
    """Whether two inequalities in the same single variable have the same solutions."""
    names = [frozenset().union(*map(evaluate.variables, relation.sides)) for relation in (a, b)]
    if names[0] != names[1] or len(names[0]) != 1:
        return False
    ours, theirs = interval_of(a), interval_of(b)
    return ours is not None and theirs is not None and unions_equal(ours, theirs, evaluate.equal)


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


def congruent(shape: Shape, modulus: str) -> Shape:
    """`2^{10} ≡ 4 (mod 6)` as 4, when that is so; other shapes as they are."""
    if not isinstance(shape, Relation) or shape.operators != ("=",) or not modulus.isdigit():
        return shape
    try:
        difference = evaluate.rational(_difference(shape))
    except (evaluate.Irrational, evaluate.Undefined, evaluate.TooLarge):
        return shape
    divides = int(modulus) > 0 and difference.denominator == 1 and difference.numerator % int(modulus) == 0
    return Value(shape.sides[1]) if divides else shape
