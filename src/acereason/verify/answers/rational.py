"""Exact values of trees of rational operations, and what else is asked of a tree.

Powers, roots, factorials and binomials have bounds; past them `TooLarge` says that no value was
computed.
"""

from __future__ import annotations

import hashlib
import math
from fractions import Fraction

from acereason.verify.answers.parse import Tree

MAX_BITS = 40_000  # of an exact value


class Undefined(Exception):
    """There is no such number: 0/0, 1/0, ∞ − ∞."""


class TooLarge(Exception):
    """The value was not computed because it, or the way to it, is too large."""


class Irrational(Exception):
    """This way of evaluating does not know one of the nodes."""


def variables(tree: Tree) -> frozenset[str]:
    """Names of the variables and of the unknown functions in a tree."""
    if tree[0] == "var":
        return frozenset((tree[1],))
    if tree[0] == "call":
        return frozenset((function_key(tree),)).union(*map(variables, tree[2:]))
    return frozenset().union(*(variables(part) for part in tree[1:] if isinstance(part, tuple)))


def function_key(call: Tree) -> str:
    """The name under which an unknown function is among the variables: no variable is called so."""
    return f"{call[1]!r}()"


def unknown(salt: object, arguments: object) -> int:
    """The value of an unknown function: a fixed hash of what it is and of its arguments."""
    digest = hashlib.blake2b(repr((salt, arguments)).encode(), digest_size=8).digest()
    return int.from_bytes(digest) >> 4


def constants(tree: Tree) -> frozenset[str]:
    """Names of the constants in a tree."""
    if tree[0] == "const":
        return frozenset((tree[1],))
    return frozenset().union(*(constants(part) for part in tree[1:] if isinstance(part, tuple)))


def whole(value: Fraction, most: int) -> int:
    """A fraction as an integer of at most `most`. Raises Irrational or TooLarge."""
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
    if kind in ("var", "const", "pm", "deg") or (kind == "call" and values is None):
        raise Irrational
    if kind == "call" and values is not None:
        arguments = [rational(part, values) for part in tree[2:]]
        return Fraction(unknown(values[function_key(tree)], arguments))
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
            return _rational_root(parts[0], whole(parts[1], 64))
        case "factorial":
            n = whole(parts[0], 2000)
            if n < 0:
                raise Undefined
            return Fraction(math.factorial(n))
        case "double factorial":
            n = whole(parts[0], 2000)
            if n < -1:
                raise Undefined
            return Fraction(math.prod(range(n, 0, -2)))
        case "binom":
            n, k = whole(parts[0], 5000), whole(parts[1], 5000)
            return Fraction(math.comb(n, k) if 0 <= k <= n else 0)
    raise Irrational
