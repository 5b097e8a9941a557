"""Equality of everything else (roots, logarithms, angles) by evaluation to 60 and 120 digits, and to
300 and 600 where those agree.

A difference that is zero keeps shrinking as the precision grows; one that is not, stays. With
variables, several real points of several sizes and signs are tried. Functions are real: a point at
which a root or a logarithm of a negative number appears is left out; without variables the root of
a negative number is imaginary.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from fractions import Fraction
from functools import lru_cache
from typing import Any

from acereason.verify.answers.parse import Tree
from acereason.verify.answers.rational import (
    Irrational,
    TooLarge,
    Undefined,
    function_key,
    unknown,
    variables,
)

MAX_LOG = 20_000  # decimal digits before the point
REAL_POINTS = 7
SIZES = (Fraction(7), Fraction(1, 2), Fraction(40), Fraction(5), Fraction(1, 9))


@lru_cache(maxsize=1)
def _mpmath() -> Any:
    return importlib.import_module("mpmath")  # slow to load, and seldom needed


def _real(tree: Tree, values: dict[str, Any], base: str) -> Any:
    """The real (or, with i, complex) value of a tree at mpmath's present precision."""
    mp = _mpmath()
    kind = tree[0]
    if kind == "num":
        return mp.mpf(tree[1].numerator) / tree[1].denominator
    if kind == "var":
        return values[tree[1]]
    if kind == "const":
        if tree[1] == "inf":
            raise Undefined
        return {"pi": +mp.pi, "e": +mp.e, "i": mp.mpc(0, 1)}[tree[1]]
    if kind == "call":
        arguments = [mp.nstr(_real(part, values, base), 40) for part in tree[2:]]
        return mp.mpf(unknown(values[function_key(tree)], arguments)) / (1 << 60)
    parts = [_real(part, values, base) for part in tree[1:] if isinstance(part, tuple)]
    match kind:
        case "add":
            result = mp.fsum(parts)
        case "mul":
            result = parts[0] * parts[1]
        case "neg":
            result = -parts[0]
        case "deg":
            result = parts[0] * mp.pi / 180
        case "div":
            if abs(parts[1]) < mp.mpf(10) ** (-mp.mp.dps + 10):
                raise Undefined
            result = parts[0] / parts[1]
        case "pow":
            result = _real_power(parts[0], parts[1])
        case "fn":
            if tree[1] == "root" and values and mp.re(parts[0]) < 0 and variables(tree[2]):
                raise Undefined  # √x·√y is √(xy) only where the functions are real
            result = _real_function(tree[1], parts, base)
        case _:
            raise Irrational
    return _bounded(result)


@lru_cache(maxsize=4096)
def _constant(tree: Tree, base: str, digits: int) -> Any:
    """The value of a tree without variables; the members of two lists are compared many times."""
    return _real(tree, {}, base)


def _bounded(value: Any) -> Any:
    mp = _mpmath()
    if not mp.isfinite(value):
        raise Undefined
    if value != 0 and abs(mp.mag(value)) > MAX_LOG * 3.33:
        raise TooLarge
    return value


def _real_power(base: Any, exponent: Any) -> Any:
    mp = _mpmath()
    if base == 0:
        if mp.re(exponent) <= 0:
            raise Undefined
        return base
    if abs(exponent) * (abs(mp.mag(base)) + 1) > MAX_LOG * 4:
        raise TooLarge
    if not mp.isint(exponent) and isinstance(base, mp.mpf) and base < 0:
        raise Undefined
    return mp.power(base, exponent)


def _real_function(name: str, parts: list[Any], base: str) -> Any:
    mp = _mpmath()
    x = parts[0]
    if name in ("ln", "log", "lg"):
        if x == 0 or (isinstance(x, mp.mpf) and x < 0):
            raise Undefined
        if len(parts) == 2:
            if parts[1] in (0, 1):
                raise Undefined
            return mp.log(x) / mp.log(parts[1])
        return mp.log(x) / (mp.log(10) if name == "lg" or (name == "log" and base == "10") else 1)
    if name == "root":
        return _real_root(x, parts[1])
    if abs(x) > mp.mpf(10) ** 15:
        raise TooLarge
    if name in ("asin", "acos") and abs(x) > 1:
        raise Undefined
    known: dict[str, Callable[[Any], Any]] = {
        "sin": mp.sin, "cos": mp.cos, "tan": mp.tan, "cot": mp.cot, "sec": mp.sec, "csc": mp.csc,
        "sinh": mp.sinh, "cosh": mp.cosh, "tanh": mp.tanh, "asin": mp.asin, "acos": mp.acos,
        "atan": mp.atan, "exp": mp.exp, "abs": mp.fabs, "floor": mp.floor, "ceil": mp.ceil,
    }  # fmt: skip
    if name not in known or len(parts) != 1:
        raise Irrational
    if name in ("exp", "sinh", "cosh") and abs(x) > MAX_LOG:
        raise TooLarge
    try:
        return known[name](x)
    except ZeroDivisionError:
        raise Undefined from None


def _real_root(x: Any, index: Any) -> Any:
    mp = _mpmath()
    if index == 0:
        raise Undefined
    if isinstance(x, mp.mpf) and x < 0:
        if mp.isint(index) and int(index) % 2:
            return -mp.power(-x, 1 / index)
        if index == 2:
            return mp.sqrt(x)  # the root of a negative constant is imaginary
        raise Undefined
    return mp.mpf(0) if x == 0 else mp.power(x, 1 / index)


def _vanishes(sides: Callable[[], tuple[Any, Any]], digits: int) -> bool:
    """Whether two numbers are equal: then their difference shrinks as the precision doubles."""
    mp = _mpmath()
    with mp.workdps(digits):
        left, right = sides()
        coarse = abs(left - right)
    with mp.workdps(2 * digits):
        left, right = sides()
        fine, scale = abs(left - right), max(abs(left), abs(right))
        rounding = scale * mp.mpf(10) ** -digits
        shrunk = max(coarse, rounding) * mp.mpf(10) ** (-digits // 2)
        return bool(fine == 0 or (coarse < scale + mp.mpf(10) ** -25 and fine < shrunk))


def really_equal(a: Tree, b: Tree) -> bool:
    """Equality by evaluation to up to 600 digits. Raises Undefined, TooLarge or Irrational."""
    names = sorted(variables(a) | variables(b))
    return any(_really_equal(a, b, names, base) for base in _bases(a, b))


def _bases(a: Tree, b: Tree) -> tuple[str, ...]:
    """What `\\log` may mean: natural, as in analysis, or decimal."""
    return ("e", "10") if "'log'" in repr(a) + repr(b) else ("e",)


def _really_equal(a: Tree, b: Tree, names: list[str], base: str) -> bool:
    mp = _mpmath()
    checked = 0
    for point in _real_points(names):

        def sides(point: dict[str, Fraction] = point) -> tuple[Any, Any]:
            if not names:
                return _constant(a, base, mp.mp.dps), _constant(b, base, mp.mp.dps)
            values = {name: mp.mpf(v.numerator) / v.denominator for name, v in point.items()}
            left, right = _real(a, values, base), _real(b, values, base)
            if names and not (mp.im(left) == 0 == mp.im(right)):
                raise Undefined
            return left, right

        try:
            if not (_vanishes(sides, 60) and _vanishes(sides, 300)):
                return False
        except Undefined:
            if not names:
                raise
            continue
        checked += 1
        if checked == REAL_POINTS or not names:
            return True
    if checked == 0:
        raise Undefined
    return True


def _real_points(names: list[str]) -> Iterator[dict[str, Fraction]]:
    """Points of several sizes and signs."""
    if not names:
        yield {}
        return
    state = 12345
    for k in range(4 * REAL_POINTS):
        point = {}
        for name in names:
            state = (state * 1103515245 + 12345) % (1 << 31)
            size = SIZES[k % len(SIZES)] * Fraction(state % 9973 + 5003, 10007)
            point[name] = -size if k % 2 and (state >> 16) % 4 else size
        yield point


def rounds_to(tree: Tree, decimal: str) -> bool:
    """Whether a number, rounded or cut off, is this decimal; False when it has no known value."""
    mp = _mpmath()
    stated = Fraction(decimal)
    with mp.workdps(60):
        step = mp.mpf(10) ** -len(decimal.partition(".")[2])
        near = mp.mpf(stated.numerator) / stated.denominator
        try:
            exact = _real(tree, {}, "e")
        except (KeyError, Undefined, TooLarge, Irrational):
            return False
        error = abs(exact - near)
        return bool(error <= step / 2 or (error < step and abs(exact) > abs(near)))
