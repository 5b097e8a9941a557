"""Search: guess, compute, compare, and guess again, at most four times.

    linear   Find the whole number x with 7x + 5 = 89.
    square   Find the whole number x with x*x + 3x + 20 = 108.

Every try computes the left side, puts what is wanted beside it and says whether it is low or high. The
teacher's first guess scatters about the solution and each next one about what is still possible; the
scatter grows with the level, so hard problems take more tries and more often stay unsolved. After four
misses the closest guess is answered. What a learner can improve is the quality of the guesses: no way of
answering is better than another. Ways of answering: `parts` (a try a line), `row` (all in one line),
`worded` (the guess announced).
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable

from acereason.problems import Problem
from acereason.procedural.family import Family, boxed, new_problem, thinking_of

TRIES = 4
STYLES = ("parts", "worded", "row")
FIRST_SPREAD = 2.2  # per level: standard deviation of the first guess, in units of x
MOVE_NOISE, MOVE_FLOOR = 1.1, 1.2  # of the next guesses: share of the distance, and at least


def linear(rng: random.Random, level: int) -> Problem:
    factor = rng.randint(2, 9)
    x, constant = rng.randint(2, 20), rng.choice((-1, 1)) * rng.randint(10 * level - 9, 10 * level)
    total = factor * x + constant
    return new_problem(
        "search",
        level,
        f"Find the whole number x with {factor}x {'-' if constant < 0 else '+'} {abs(constant)} = {total}.",
        answer=x,
        total=total,
        terms=[0, factor, constant],
    )


def square(rng: random.Random, level: int) -> Problem:
    factor = rng.randint(2, 9)
    x, constant = rng.randint(2, 5 + 2 * level), rng.randint(1, 99)
    total = x * x + factor * x + constant
    return new_problem(
        "square",
        level,
        f"Find the whole number x with x*x + {factor}x + {constant} = {total}.",
        answer=x,
        total=total,
        terms=[1, factor, constant],
    )


def left_side(problem: Problem, x: int) -> list[int]:
    """The values of the terms of the left side at x."""
    second, first, constant = problem.meta["terms"]
    return [*([x * x] if second else []), first * x, constant]


def guesses(problem: Problem, rng: random.Random) -> list[int]:
    """What an honest search tries: it ends with the solution, or after TRIES misses."""
    solution = int(problem.answer or 0)
    low, high = 0, 10**6
    tried: list[int] = []
    centre, spread = float(solution), FIRST_SPREAD * problem.meta["level"]
    while len(tried) < TRIES:
        guess = round(rng.gauss(centre, spread))
        if not low < guess < high:
            continue
        tried.append(guess)
        if guess == solution:
            break
        low, high = (guess, high) if guess < solution else (low, guess)
        spread = max(MOVE_FLOOR, MOVE_NOISE * abs(solution - guess))
    return tried


def try_text(problem: Problem, x: int, style: str, claimed: int) -> str:
    """One try: what the left side is at x, and how it compares."""
    parts = "".join(f"{part:+d}" for part in left_side(problem, x)).lstrip("+")
    left = {"parts": f"{x}:{parts}", "worded": f"try {x}:{parts}", "row": f"{x}:{parts}"}[style]
    error = problem.meta["total"] - claimed
    verdict = "yes" if error == 0 else "low" if error > 0 else "high"
    return f"{left}={claimed} for {problem.meta['total']} {verdict}"


def respond(problem: Problem, rng: random.Random, wrong: bool) -> str:
    style = rng.choice(STYLES)
    solution = int(problem.answer or 0)
    while True:
        tried = guesses(problem, rng)
        if (tried[-1] != solution) == wrong:
            break
    values = [sum(left_side(problem, x)) for x in tried]
    if wrong and rng.random() < 0.2:  # the other mistake: a miscalculated try that looks right
        last = rng.randrange(len(tried))
        tried, values = tried[: last + 1], [*values[:last], problem.meta["total"]]
        answer = tried[-1]
    else:
        errors = [abs(problem.meta["total"] - value) for value in values]
        answer = tried[errors.index(min(errors))]
    lines = [try_text(problem, x, style, value) for x, value in zip(tried, values, strict=True)]
    return boxed((";" if style == "row" else "\n").join(lines), answer)


def mode(problem: Problem, text: str) -> str:
    thinking = thinking_of(text)
    if thinking.startswith("try "):
        return "worded"
    if not re.match(r"\d+:\d", thinking):
        return "other"
    return "row" if ";" in thinking else "parts"


def _family(name: str, problem: Callable[[random.Random, int], Problem]) -> Family:
    return Family(name, "math", range(1, 6), problem, respond, mode, slip=0.3)


LINEAR, SQUARE = _family("search", linear), _family("square", square)
