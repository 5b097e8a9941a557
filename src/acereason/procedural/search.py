"""Search: guess, compute, compare, and guess again, at most four times.

    linear   Find the whole number x with 7x + 15 = 134.
    square   Find the whole number x with x*x + 3x + 20 = 108.

Every try computes the left side and says by how much it is low or high. The teacher's first guess
scatters about the solution and each next one moves by the error it saw, with noise; the scatter
grows with the level, so hard problems take more tries and more often stay unsolved. After four
misses the closest guess is answered. What a learner can improve is the quality of the guesses: no
way of answering is better than another. Ways of answering: `direct` (the left side at once),
`parts` (its terms added up), `worded` (the guess announced).
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable

from acereason.problems import Problem
from acereason.procedural.family import Family, boxed, new_problem, thinking_of

TRIES = 4
STYLES = ("direct", "parts", "worded")
FIRST_SPREAD = 2.2  # per level: standard deviation of the first guess, in units of x
MOVE_NOISE, MOVE_FLOOR = 1.1, 1.2  # of the next guesses: share of the distance, and at least


def linear(rng: random.Random, level: int) -> Problem:
    factor = rng.randint(2, 9)
    x, constant = rng.randint(2, (30 + 20 * level) // factor), rng.randint(1, 40)
    total = factor * x + constant
    return new_problem(
        "search",
        level,
        f"Find the whole number x with {factor}x + {constant} = {total}.",
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
    found: list[int] = []
    centre, spread = float(solution), FIRST_SPREAD * problem.meta["level"]
    while len(found) < TRIES:
        guess = round(rng.gauss(centre, spread))
        if not low < guess < high:
            continue
        found.append(guess)
        if guess == solution:
            break
        low, high = (guess, high) if guess < solution else (low, guess)
        spread = max(MOVE_FLOOR, MOVE_NOISE * abs(solution - guess))
    return found


def try_text(problem: Problem, x: int, style: str, claimed: int) -> str:
    """One try: what the left side is at x, and how it compares."""
    second, first, constant = problem.meta["terms"]
    formula = f"{x}*{x}+{first}*{x}+{constant}" if second else f"{first}*{x}+{constant}"
    parts = "+".join(map(str, left_side(problem, x)))
    left = {"direct": formula, "parts": f"{x}:{parts}", "worded": f"try {x}:{parts}"}[style]
    error = problem.meta["total"] - claimed
    verdict = "yes" if error == 0 else f"low {error}" if error > 0 else f"high {-error}"
    return f"{left}={claimed} {verdict}"


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
    return boxed("\n".join(lines), answer)


def mode(problem: Problem, text: str) -> str:
    thinking = thinking_of(text)
    if thinking.startswith("try "):
        return "worded"
    if re.match(r"\d+:\d", thinking):
        return "parts"
    return "direct" if re.match(r"\d+\*\d", thinking) else "other"


def _family(name: str, problem: Callable[[random.Random, int], Problem]) -> Family:
    return Family(name, "math", range(1, 6), problem, respond, mode, slip=0.3)


LINEAR, SQUARE = _family("search", linear), _family("square", square)
