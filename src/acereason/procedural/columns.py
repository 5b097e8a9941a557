"""Columns: long addition of two to four numbers.

    What is 347 + 286?

Levels raise how many numbers there are and how many digits they have. Ways of answering: `carry`
(columns from the right, the carry named), `digit` (columns, the digit written down named) and
`places` (hundreds, tens and ones apart, then together).
"""

from __future__ import annotations

import random
import re

from acereason.problems import Problem
from acereason.procedural.family import Family, boxed, new_problem, thinking_of

STYLES = ("carry", "digit", "places")
SHAPES = {1: (2, 2), 2: (3, 2), 3: (2, 3), 4: (3, 3), 5: (4, 3)}  # level: numbers, digits


def problem(rng: random.Random, level: int) -> Problem:
    count, digits = SHAPES[level]
    numbers = [rng.randrange(10 ** (digits - 1), 10**digits) for _ in range(count)]
    return new_problem(
        "add",
        level,
        f"What is {' + '.join(map(str, numbers))}?",
        answer=sum(numbers),
        numbers=numbers,
    )


def by_columns(numbers: list[int], style: str, mistake: tuple[int, int]) -> tuple[str, int]:
    """Columns from the right. `mistake` is (column, error of its sum); a column of -1 is none."""
    lines, carry, total = [], 0, 0
    for place in range(len(str(max(numbers)))):
        column = [number // 10**place % 10 for number in numbers] + ([carry] if carry else [])
        summed = sum(column) + (mistake[1] if place == mistake[0] else 0)
        carry = summed // 10
        note = f":{summed % 10}" if style == "digit" else f" carry {carry}" if carry else ""
        lines.append(f"{'+'.join(map(str, column))}={summed}{note}")
        total += summed % 10 * 10**place
    return "\n".join(lines), total + carry * 10 ** len(lines)


def by_places(numbers: list[int], mistake: tuple[int, int]) -> tuple[str, int]:
    """Hundreds, tens and ones apart, then added up. `mistake` as in `by_columns`."""
    lines, sums = [], []
    for place in reversed(range(len(str(max(numbers))))):
        unit = 10**place
        parts = [number // unit % 10 * unit for number in numbers]
        sums.append(sum(parts) + (mistake[1] * unit if place == mistake[0] else 0))
        lines.append(f"{'+'.join(map(str, parts))}={sums[-1]}")
    total = sums[0]
    for part in sums[1:]:
        lines.append(f"{total}+{part}={total + part}")
        total += part
    return "\n".join(lines), total


def respond(problem: Problem, rng: random.Random, wrong: bool) -> str:
    numbers = problem.meta["numbers"]
    places = len(str(max(numbers)))
    style = rng.choice(STYLES)
    while True:
        mistake = (rng.randrange(places), rng.choice((-10, -1, 1, 10))) if wrong else (-1, 0)
        if style == "places":
            text, total = by_places(numbers, mistake)
        else:
            text, total = by_columns(numbers, style, mistake)
        if total > 0 and "=-" not in text and wrong == (str(total) != problem.answer):
            return boxed(text, total)


def mode(problem: Problem, text: str) -> str:
    thinking = thinking_of(text)
    if not re.match(r"\d+\+\d", thinking):
        return "other"
    if ":" in thinking.partition("\n")[0]:
        return "digit"
    first = int(re.match(r"\d+", thinking)[0])  # type: ignore[index]
    return "places" if first >= 10 else "carry"


FAMILY = Family("add", "math", range(1, 6), problem, respond, mode)
