"""The judge of mathematics against pairs that are equal or different by construction."""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest

from acereason.verify.answers.decide import decide
from math_pairs import KINDS, key, unlike

QUICK, MANY = 2_000, 60_000


def wrong(count: int, seed: int) -> tuple[list[tuple[str, str, str]], Counter[str], Counter[str]]:
    """False positives; how many equal pairs there were, and how many of them were refused, by kind."""
    random = Random(seed)
    accepted: list[tuple[str, str, str]] = []
    equal, refused = Counter[str](), Counter[str]()
    for number in range(count):
        name = random.choice(sorted(KINDS))
        kind = KINDS[name]
        value = kind.draw(random)
        reference = kind.spell(random, value)
        if number % 10 == 0:
            other = random.choice(unlike(name))
            answer, same = KINDS[other].spell(random, KINDS[other].draw(random)), False
        else:
            theirs = kind.change(random, value) if number % 2 else value
            answer, same = kind.spell(random, theirs), key(name, theirs) == key(name, value)
        verdict = decide(reference, answer)
        equal[name] += same
        refused[name] += same and verdict is not True
        if verdict is not False and not same:
            accepted.append((name, reference, answer))
    return accepted, equal, refused


def test_some_pairs() -> None:
    accepted, equal, refused = wrong(QUICK, 1)
    assert accepted == []
    assert refused.total() <= equal.total() / 100, refused


@pytest.mark.slow
def test_many_pairs() -> None:
    accepted, equal, refused = wrong(MANY, 2)
    assert accepted == []
    assert refused.total() <= equal.total() / 100, refused
