"""Check: a sum that is verified by a second way, and done again where the check fails.

    Add 23, 48 and 17, and check the total.

The teacher slips in a good share of its first totals, sees the check disagree and redoes the sum,
so that a learner finds both outcomes of a check in what it imitates. Level L adds L+1 numbers.
Ways of answering: `agrees` (the check confirmed the first total), `redone` (it did not) and
`unchecked`. Checks add in reverse order or subtract back to the first number.
"""

from __future__ import annotations

import random
import re

from acereason.problems import Problem
from acereason.procedural.family import Family, boxed, new_problem, slipped, thinking_of

FIRST_SLIP = 0.35  # share of right responses whose first total was wrong


def problem(rng: random.Random, level: int) -> Problem:
    numbers = [rng.randint(11, 99), *(rng.randint(2, 49) for _ in range(level))]
    words = f"{', '.join(map(str, numbers[:-1]))} and {numbers[-1]}"
    return new_problem(
        "check",
        level,
        f"Add {words}, and check the total.",
        answer=sum(numbers),
        numbers=numbers,
    )


def running(start: int, operands: list[int], rng: random.Random, slip_at: int = -1) -> list[str]:
    """Additions, or subtractions of negative operands, one after the other, as texts."""
    steps = []
    for number, operand in enumerate(operands):
        value = start + operand
        if number == slip_at:
            value = slipped(value, rng)
        steps.append(f"{start}{'+' if operand >= 0 else '-'}{abs(operand)}={value}")
        start = value
    return steps


def end_of(steps: list[str]) -> int:
    return int(steps[-1].rpartition("=")[2])


def check(numbers: list[int], total: int, rng: random.Random, fudge: bool) -> tuple[list[str], bool]:
    """A second way to a claimed total, and whether it agrees; `fudge` makes it agree."""
    if rng.random() < 0.5:
        steps, goal = running(numbers[-1], numbers[-2::-1], rng), total
    else:
        steps, goal = running(total, [-number for number in numbers[:0:-1]], rng), numbers[0]
    if fudge:
        steps[-1] = f"{steps[-1].rpartition('=')[0]}={goal}"
    return steps, end_of(steps) == goal


def respond(problem: Problem, rng: random.Random, wrong: bool) -> str:
    numbers, separator = problem.meta["numbers"], rng.choice((";", "\n"))
    slips = wrong or rng.random() < FIRST_SLIP
    while True:
        slip_at = rng.randrange(len(numbers) - 1) if slips else -1
        first = running(numbers[0], numbers[1:], rng, slip_at)
        steps, agrees = check(numbers, end_of(first), rng, fudge=wrong)
        if all("=-" not in step for step in steps) and slips == (str(end_of(first)) != problem.answer):
            break
    lines = [separator.join(first), f"check {separator.join(steps)} {'yes' if agrees else 'no'}"]
    if not agrees:
        lines.append(f"again {separator.join(running(numbers[0], numbers[1:], rng))}")
    return boxed("\n".join(lines), end_of(first) if agrees else int(problem.answer or 0))


def mode(problem: Problem, text: str) -> str:
    thinking = thinking_of(text)
    if not re.match(r"\d+\+\d", thinking):
        return "other"
    if "check" not in thinking:
        return "unchecked"
    return "redone" if "again" in thinking else "agrees"


FAMILY = Family("check", "math", range(1, 4), problem, respond, mode)
