"""Count: how many multiples lie in a range, by a long way that is easy and two short ones that
are not.

    How many whole numbers from 37 to 112 are divisible by 7?

The number of multiples grows with the level, and with it the length of the long way. Ways of
answering: `list` (every multiple with its number), `floor` (two quotients and their difference)
and `ends` (first and last multiple). A short budget cuts lists off, a long one does not.
"""

from __future__ import annotations

import random
import re

from acereason.problems import Problem
from acereason.procedural.family import Family, boxed, new_problem, slipped, thinking_of

STYLES = ("list", "list", "floor", "ends")
TOP = 150


def problem(rng: random.Random, level: int) -> Problem:
    while True:
        divisor, wanted = rng.randint(3, 9), rng.randint(2 * level, 2 * level + 2)
        first = divisor * rng.randint(1, 15)
        last = first + (wanted - 1) * divisor
        low, high = first - rng.randrange(divisor), last + rng.randrange(divisor)
        if low >= 1 and high <= TOP:
            break
    return new_problem(
        "count",
        level,
        f"How many whole numbers from {low} to {high} are divisible by {divisor}?",
        answer=wanted,
        low=low,
        high=high,
        divisor=divisor,
    )


def listed(problem: Problem, rng: random.Random, wrong: bool) -> tuple[str, int]:
    low, high, divisor = (problem.meta[key] for key in ("low", "high", "divisor"))
    items = [value for value in range(low, high + 1) if value % divisor == 0]
    if wrong:
        mistake = rng.choice(("skip", "early", "late"))
        if mistake == "skip":
            del items[rng.randrange(len(items))]
        elif mistake == "early":
            items.insert(0, items[0] - divisor)
        else:
            items.append(items[-1] + divisor)
    return "\n".join(f"{n}:{value}" for n, value in enumerate(items, 1)), len(items)


def floored(problem: Problem, rng: random.Random, wrong: bool) -> tuple[str, int]:
    low, high, divisor = (problem.meta[key] for key in ("low", "high", "divisor"))
    below, upper, lower = low - 1, high // divisor, (low - 1) // divisor
    if wrong and low % divisor == 0:  # forgets that the lower end counts
        below, lower = low, low // divisor
    elif wrong:
        upper = slipped(upper, rng)
    count = upper - lower
    return f"{high}/{divisor}={upper}\n{below}/{divisor}={lower}\n{upper}-{lower}={count}", count


def ended(problem: Problem, rng: random.Random, wrong: bool) -> tuple[str, int]:
    low, high, divisor = (problem.meta[key] for key in ("low", "high", "divisor"))
    first, last = -(-low // divisor), high // divisor
    text = f"{divisor}*{first}={divisor * first}\n{divisor}*{last}={divisor * last}\n"
    if wrong:  # forgets that both ends count
        return f"{text}{last}-{first}={last - first}", last - first
    return f"{text}{last}-{first}+1={last - first + 1}", last - first + 1


WAYS = {"list": listed, "floor": floored, "ends": ended}


def respond(problem: Problem, rng: random.Random, wrong: bool) -> str:
    way = WAYS[rng.choice(STYLES)]
    while True:
        text, count = way(problem, rng, wrong)
        if wrong == (str(count) != problem.answer):
            return boxed(text, count)


def mode(problem: Problem, text: str) -> str:
    thinking = thinking_of(text)
    for name, start in (("list", r"1:\d"), ("floor", r"\d+/\d"), ("ends", r"\d+\*\d")):
        if re.match(start, thinking):
            return name
    return "other"


FAMILY = Family("count", "math", range(1, 6), problem, respond, mode)
