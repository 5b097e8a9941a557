"""Equality of rational expressions by evaluation in finite fields.

For the Mersenne primes p = 2⁶¹ − 1 and 2⁸⁹ − 1, both 3 modulo 4, the field of p² elements is the
pairs a + b·i with i² = −1, so the imaginary unit is at home there. Expressions whose difference has
degree d agree at one random point with probability at most d/p.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction

from acereason.verify.answers.parse import Tree
from acereason.verify.answers.rational import (
    Irrational,
    TooLarge,
    Undefined,
    function_key,
    rational,
    unknown,
    variables,
    whole,
)

PRIMES = ((1 << 61) - 1, (1 << 89) - 1)
POINTS = 3

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
            if tree[1] not in ("binom", "factorial", "double factorial") and variables(tree):
                raise Irrational  # |x| is x at some points and −x at others
            return self._fraction(rational(tree, self.values))
        if kind == "call":
            return (unknown(self.values[function_key(tree)], [*map(self.value, tree[2:])]), 0)
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
        exponent = whole(rational(tree[2], self.values), 10**9)
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
    inside = frozenset().union(*(_in_exponents(p) for p in tree[1:] if isinstance(p, tuple)))
    if tree[0] == "pow":
        inside |= variables(tree[2])
    return inside | variables(tree) if tree[0] == "fn" else inside


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
            return _agree_exactly(a, b, names)
    raise Undefined


def _agree_exactly(a: Tree, b: Tree, names: list[str]) -> bool:
    """False when exact values at a small point differ, as for two expressions whose difference is a
    multiple of both primes; True where those values would be too large."""
    point = {name: Fraction(2 + k) for k, name in enumerate(names)}
    try:
        return rational(a, point) == rational(b, point)
    except (Irrational, Undefined, TooLarge):
        return True
