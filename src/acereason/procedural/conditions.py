"""Conditions on and changes to one number, as words, as code and as results, for the code
families.

A condition or change is a list `[name, k]`, so that it can stand in a specification.
"""

from __future__ import annotations

import random
from typing import Any

# name: words, code; {k} is the number
CONDITIONS = {
    "above": ("above {k}", "x>{k}"),
    "least": ("at least {k}", "x>={k}"),
    "below": ("below {k}", "x<{k}"),
    "most": ("at most {k}", "x<={k}"),
    "even": ("even", "x%2==0"),
    "odd": ("odd", "x%2==1"),
    "divisible": ("divisible by {k}", "x%{k}==0"),
    "indivisible": ("not divisible by {k}", "x%{k}!=0"),
}
CHANGES = {
    "add": ("add {k} to each", "x+{k}"),
    "subtract": ("subtract {k} from each", "x-{k}"),
    "times": ("multiply each by {k}", "x*{k}"),
    "square": ("square each", "x*x"),
}
MISREAD = {"above": "least", "least": "above", "below": "most", "most": "below"}
MISREAD |= {"even": "odd", "odd": "even", "divisible": "indivisible", "indivisible": "divisible"}
Rule = list[Any]


def draw_empty(rng: random.Random) -> int | None:
    """What is returned in place of an item that is not there."""
    return rng.choice((0, -1, None, *(rng.randint(-9, 20) for _ in range(3))))


def draw_condition(rng: random.Random) -> Rule:
    name = rng.choice(("above", "least", "below", "most", "even", "odd", "divisible"))
    if name in ("even", "odd"):
        return [name, 2]
    return [name, rng.randint(3, 6) if name == "divisible" else rng.randint(2, 12)]


def draw_change(rng: random.Random) -> Rule:
    name = rng.choice(("add", "add", "subtract", "times", "square"))
    return [name, rng.randint(2, 4) if name == "times" else rng.randint(1, 9)]


def words(rule: Rule) -> str:
    return (CONDITIONS | CHANGES)[rule[0]][0].format(k=rule[1])


def code(rule: Rule) -> str:
    """The rule as an expression of x."""
    return (CONDITIONS | CHANGES)[rule[0]][1].format(k=rule[1])


def holds(rule: Rule, x: int) -> bool:
    name, k = str(rule[0]), int(rule[1])
    by_order = {"above": x > k, "least": x >= k, "below": x < k, "most": x <= k}
    by_division = {"even": x % 2 == 0, "odd": x % 2 == 1}
    by_division |= {"divisible": x % k == 0, "indivisible": x % k != 0}
    return (by_order | by_division)[name]


def changed(rule: Rule, x: int) -> int:
    name, k = str(rule[0]), int(rule[1])
    return {"add": x + k, "subtract": x - k, "times": x * k, "square": x * x}[name]


def misread(rule: Rule) -> Rule:
    """The neighbouring condition: the bound counts where it should not, odd for even."""
    return [MISREAD[rule[0]], rule[1]]
