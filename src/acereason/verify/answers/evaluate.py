"""Are two trees equal? Decided by exact values, never by a relative tolerance.

Rational constants as fractions; rational expressions in finite fields (`fields`); everything else
to many digits (`reals`).
"""

from __future__ import annotations

from acereason.verify.answers.fields import rationally_equal
from acereason.verify.answers.parse import Tree
from acereason.verify.answers.rational import (
    Irrational,
    TooLarge,
    Undefined,
    constants,
    rational,
    variables,
)
from acereason.verify.answers.reals import really_equal, rounds_to

__all__ = ["Irrational", "TooLarge", "Undefined", "equal", "rational", "rounds_to", "variables"]


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
