"""Are two trees equal? Decided by exact values, never by a relative tolerance.

* Rational constants: as fractions.
* Rational expressions in variables, with the imaginary unit allowed: evaluated in the fields of p²
  elements (i² = −1) for the Mersenne primes p = 2⁶¹ − 1 and 2⁸⁹ − 1, at several points. A
  difference of degree d survives one point with probability at most d/p.
* Everything else (roots, logarithms, angles): to 50 and to 100 digits, at several points when there
  are variables. A difference that is zero keeps shrinking with the precision; one that is not,
  stays.

Powers, factorials and arguments have bounds; past them `TooLarge` says that no value was computed.
Functions are real: a point at which a root or logarithm of a negative number appears is left out.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable, Iterator
from fractions import Fraction
from functools import lru_cache
from typing import Any

from acereason.verify.answers.parse import Tree

PRIMES = ((1 << 61) - 1, (1 << 89) - 1)
POINTS = 3
MAX_BITS = 40_000  # of an exact value
MAX_LOG = 20_000  # decimal digits before the point of a real value


class Undefined(Exception):
    """There is no such number: 0/0, 1/0, ∞ − ∞."""


class TooLarge(Exception):
    """The value was not computed because it, or the way to it, is too large."""


class Irrational(Exception):
    """This way of evaluating does not know one of the nodes."""


def variables(tree: Tree) -> frozenset[str]:
    """Names of the variables in a tree."""
    if tree[0] == "var":
        return frozenset((tree[1],))
    return frozenset().union(*(variables(part) for part in tree[1:] if isinstance(part, tuple)))


def constants(tree: Tree) -> frozenset[str]:
    """Names of the constants in a tree."""
    if tree[0] == "const":
        return frozenset((tree[1],))
    return frozenset().union(*(constants(part) for part in tree[1:] if isinstance(part, tuple)))


def _whole(value: Fraction, most: int) -> int:
    if value.denominator != 1:
        raise Irrational
    if abs(value.numerator) > most:
        raise TooLarge
    return value.numerator


def rational(tree: Tree, values: dict[str, Fraction] | None = None) -> Fraction:
    """The exact value of a tree of rational operations. Raises Irrational, Undefined or
    TooLarge."""
    kind = tree[0]
    if kind == "num":
        return tree[1]  # type: ignore[no-any-return]
    if kind == "var" and values is not None and tree[1] in values:
        return values[tree[1]]
    if kind in ("var", "const", "pm", "deg"):
        raise Irrational
    parts = [rational(part, values) for part in tree[1:] if isinstance(part, tuple)]
    if kind == "add":
        return _small(sum(parts, Fraction(0)))
    if kind == "mul":
        return _small(parts[0] * parts[1])
    if kind == "neg":
        return -parts[0]
    if kind == "div":
        if parts[1] == 0:
            raise Undefined
        return _small(parts[0] / parts[1])
    if kind == "pow":
        return _power(parts[0], parts[1])
    return _small(_rational_function(tree[1], parts))


def _small(value: Fraction) -> Fraction:
    if value.numerator.bit_length() + value.denominator.bit_length() > MAX_BITS:
        raise TooLarge
    return value


def _power(base: Fraction, exponent: Fraction) -> Fraction:
    if exponent.denominator != 1:
        return _rational_root(_power(base, Fraction(exponent.numerator)), exponent.denominator)
    if base == 0:
        if exponent <= 0:
            raise Undefined
        return base
    if abs(base) == 1:
        return Fraction(1) if base == 1 or exponent.numerator % 2 == 0 else base
    bits = base.numerator.bit_length() + base.denominator.bit_length() - 1
    if bits * abs(exponent.numerator) > MAX_BITS:
        raise TooLarge
    return base**exponent.numerator


def _rational_root(value: Fraction, index: int) -> Fraction:
    """The real root of a fraction where it is a fraction."""
    if not 0 < index <= 64 or (value < 0 and index % 2 == 0):
        raise Irrational
    sign = -1 if value < 0 else 1
    top = _integer_root(abs(value.numerator), index)
    bottom = _integer_root(value.denominator, index)
    return Fraction(sign * top, bottom)


def _integer_root(value: int, index: int) -> int:
    if index == 2:
        root = math.isqrt(value)
    else:
        low, high = 0, 1 << (value.bit_length() // index + 1)
        while low < high:
            middle = (low + high + 1) // 2
            low, high = (middle, high) if middle**index <= value else (low, middle - 1)
        root = low
    if root**index != value:
        raise Irrational
    return root


def _rational_function(name: str, parts: list[Fraction]) -> Fraction:
    match name:
        case "abs":
            return abs(parts[0])
        case "floor":
            return Fraction(math.floor(parts[0]))
        case "ceil":
            return Fraction(math.ceil(parts[0]))
        case "root":
            return _rational_root(parts[0], _whole(parts[1], 64))
        case "factorial":
            n = _whole(parts[0], 2000)
            if n < 0:
                raise Undefined
            return Fraction(math.factorial(n))
        case "binom":
            n, k = _whole(parts[0], 5000), _whole(parts[1], 5000)
            return Fraction(math.comb(n, k) if 0 <= k <= n else 0)
    raise Irrational


Pair = tuple[int, int]  # a + b·i modulo p


class _Field:
    """Evaluation in the field of p² elements, at one point."""

    def __init__(self, prime: int, values: dict[str, Fraction]) -> None:
        self.prime, self.values = prime, values

    def value(self, tree: Tree) -> Pair:
        kind = tree[0]
        if kind == "num":
            return self._fraction(tree[1])
        if kind == "var":
            return self._fraction(self.values[tree[1]])
        if kind == "const" and tree[1] == "i":
            return (0, 1)
        if kind in ("const", "pm", "deg"):
            raise Irrational
        if kind == "fn":
            return self._fraction(rational(tree, self.values))
        if kind == "pow":
            return self._power(tree)
        parts = [self.value(part) for part in tree[1:]]
        if kind == "neg":
            return (-parts[0][0] % self.prime, -parts[0][1] % self.prime)
        if kind == "add":
            return (sum(a for a, _ in parts) % self.prime, sum(b for _, b in parts) % self.prime)
        return self._times(parts[0], parts[1] if kind == "mul" else self._inverse(parts[1]))

    def _fraction(self, value: Fraction) -> Pair:
        bottom = value.denominator % self.prime
        if bottom == 0:
            raise Undefined
        return (value.numerator * pow(bottom, -1, self.prime) % self.prime, 0)

    def _times(self, a: Pair, b: Pair) -> Pair:
        p = self.prime
        return ((a[0] * b[0] - a[1] * b[1]) % p, (a[0] * b[1] + a[1] * b[0]) % p)

    def _inverse(self, a: Pair) -> Pair:
        norm = (a[0] * a[0] + a[1] * a[1]) % self.prime
        if norm == 0:
            raise Undefined
        scale = pow(norm, -1, self.prime)
        return (a[0] * scale % self.prime, -a[1] * scale % self.prime)

    def _power(self, tree: Tree) -> Pair:
        exponent = _whole(rational(tree[2], self.values), 10**9)
        base, result = self.value(tree[1]), (1, 0)
        if exponent < 0:
            base, exponent = self._inverse(base), -exponent
        elif exponent == 0 and base == (0, 0):
            raise Undefined
        while exponent:
            if exponent & 1:
                result = self._times(result, base)
            base, exponent = self._times(base, base), exponent >> 1
        return result


def _points(names: list[str], small: frozenset[str]) -> Iterator[dict[str, Fraction]]:
    """Fixed but patternless points; variables of `small` get small whole numbers."""
    state = 0x9E3779B97F4A7C15
    while True:
        point = {}
        for name in names:
            state = (state * 6364136223846793005 + 1442695040888963407) % (1 << 64)
            point[name] = Fraction(state >> 59) + 2 if name in small else Fraction(state >> 12)
        yield point


def _in_exponents(tree: Tree) -> frozenset[str]:
    """Variables that appear in exponents or in functions of whole numbers."""
    found = frozenset().union(*(_in_exponents(p) for p in tree[1:] if isinstance(p, tuple)))
    if tree[0] == "pow":
        found |= variables(tree[2])
    return found | variables(tree) if tree[0] == "fn" else found


def rationally_equal(a: Tree, b: Tree) -> bool:
    """Equality of rational expressions, by evaluation modulo primes. Raises as `rational`."""
    names = sorted(variables(a) | variables(b))
    points = _points(names, _in_exponents(a) | _in_exponents(b))
    checked = 0
    for _ in range(4 * POINTS):
        point = next(points)
        try:
            for prime in PRIMES:
                field = _Field(prime, point)
                if field.value(a) != field.value(b):
                    return False
        except Undefined:
            continue
        checked += 1
        if checked == POINTS or not names:
            return True
    raise Undefined


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
            result = _real_function(tree[1], parts, base)
        case _:
            raise Irrational
    return _bounded(result)


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


def _vanishes(sides: Callable[[], tuple[Any, Any]]) -> bool:
    """Whether two numbers are equal: then their difference shrinks as the precision grows."""
    mp = _mpmath()
    with mp.workdps(60):
        left, right = sides()
        coarse = abs(left - right)
    with mp.workdps(120):
        left, right = sides()
        fine, scale = abs(left - right), max(abs(left), abs(right))
        rounding = scale * mp.mpf(10) ** -60
        shrunk = max(coarse, rounding) * mp.mpf(10) ** -30
        return bool(fine == 0 or (coarse < scale + mp.mpf(10) ** -25 and fine < shrunk))


def really_equal(a: Tree, b: Tree) -> bool:
    """Equality by evaluation to 60 and 120 digits. Raises Undefined, TooLarge or Irrational."""
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
            values = {name: mp.mpf(v.numerator) / v.denominator for name, v in point.items()}
            left, right = _real(a, values, base), _real(b, values, base)
            if names and not (mp.im(left) == 0 == mp.im(right)):
                raise Undefined
            return left, right

        try:
            if not _vanishes(sides):
                return False
        except Undefined:
            if not names:
                raise
            continue
        checked += 1
        if checked == POINTS or not names:
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
    for k in range(12):
        point = {}
        for name in names:
            state = (state * 1103515245 + 12345) % (1 << 31)
            size = Fraction(state % 9973 + 137, (1511, 9973, 20011)[k % 3])
            point[name] = -size if k % 2 and (state >> 16) % 2 else size
        yield point


def equal(a: Tree, b: Tree) -> bool:
    """Whether two trees have the same value wherever both have one. Raises Undefined, TooLarge or
    Irrational (no way of evaluating applies)."""
    try:
        return rational(a) == rational(b)
    except Irrational:
        pass
    if "inf" in constants(a) | constants(b):
        return _signed_infinity(a) == _signed_infinity(b)
    try:
        return rationally_equal(a, b)
    except Irrational:
        return really_equal(a, b)


def _signed_infinity(tree: Tree) -> int | None:
    """1 or −1 for ±∞; None for a finite tree. Anything else with ∞ in it is undefined."""
    if tree == ("const", "inf"):
        return 1
    if tree == ("neg", ("const", "inf")):
        return -1
    if "inf" in constants(tree):
        raise Undefined
    return None
