"""Gcd: the greatest common divisor of two numbers by Euclid's algorithm.

    What is the greatest common divisor of 84 and 36?

Level L needs L+1 divisions, the last level at least as many. Ways of answering: `divide` (quotient
and remainder, 84=2*36+12), `remainder` (84%36=12) and `subtract` (repeated subtraction, longer and
easier). There are few such pairs of small numbers: 1,100 to 2,700 a level.
"""

from __future__ import annotations

import math
import random
import re

from acereason.problems import Problem
from acereason.procedural.family import Family, boxed, new_problem, slipped, thinking_of

LAST = 4
STYLES = ("divide", "remainder", "subtract")
TOP = 299
MOST_SUBTRACTIONS = 11  # more are not asked: the longest way has to fit a budget


def quotients(a: int, b: int) -> list[int]:
    """The quotients that Euclid's algorithm meets."""
    return [] if b == 0 else [a // b, *quotients(b, a % b)]


def problem(rng: random.Random, level: int) -> Problem:
    while True:
        b, a = sorted((rng.randint(2, TOP), rng.randint(2, TOP)))
        divisions = quotients(a, b)
        enough = len(divisions) == level + 1 or (level == LAST and len(divisions) > level)
        if a != b and enough and sum(divisions) <= MOST_SUBTRACTIONS:
            break
    return new_problem(
        "gcd",
        level,
        f"What is the greatest common divisor of {a} and {b}?",
        answer=math.gcd(a, b),
        a=a,
        b=b,
    )


def by_division(a: int, b: int, style: str, slip_at: int, rng: random.Random) -> tuple[str, int]:
    """Euclid with quotients, or remainders only; the division number `slip_at` goes wrong."""
    lines: list[str] = []
    while b:
        quotient, rest = divmod(a, b)
        if len(lines) == slip_at:
            rest = slipped(rest, rng) % b
        lines.append(f"{a}={quotient}*{b}+{rest}" if style == "divide" else f"{a}%{b}={rest}")
        a, b = b, rest
    return "\n".join(lines), a


def by_subtraction(a: int, b: int, slip_at: int, rng: random.Random) -> tuple[str, int]:
    lines: list[str] = []
    while a != b:
        rest = a - b
        if len(lines) == slip_at:
            rest = max(1, slipped(rest, rng))
        lines.append(f"{a}-{b}={rest}")
        a, b = max(b, rest), min(b, rest)
    return "\n".join(lines), a


def respond(problem: Problem, rng: random.Random, wrong: bool) -> str:
    a, b = problem.meta["a"], problem.meta["b"]
    style, steps = rng.choice(STYLES), len(quotients(a, b))
    early = wrong and rng.random() < 0.5
    while True:
        slip_at = rng.randrange(steps) if wrong and not early else -1
        if style == "subtract":
            text, answer = by_subtraction(a, b, slip_at, rng)
        else:
            text, answer = by_division(a, b, style, slip_at, rng)
        if early:  # stops one division too soon
            return boxed(*stopped_early(text))
        if wrong == (str(answer) != problem.answer) and text.count("\n") <= MOST_SUBTRACTIONS:
            return boxed(text, answer)
        early = wrong and rng.random() < 0.2


def stopped_early(text: str) -> tuple[str, int]:
    """The trace without its last line; as answer the number that this line starts from."""
    head, _, last = text.rpartition("\n")
    return head, int(re.match(r"\d+", last)[0])  # type: ignore[index]


def mode(problem: Problem, text: str) -> str:
    thinking = thinking_of(text)
    for name, sign in (("divide", "="), ("remainder", "%"), ("subtract", "-")):
        if re.match(rf"\d+{sign}\d", thinking):
            return name
    return "other"


FAMILY = Family("gcd", "math", range(1, LAST + 1), problem, respond, mode)
