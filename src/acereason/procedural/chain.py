"""Chain: two to seven small operations in a row, every result kept modulo 50.

    Start with 17. Add 8, times 2, minus 9. Keep every result modulo 50. What is the end?

The work is to carry a value through many steps without a slip. Level L has L+1 operations. Ways of
answering: `lines` (one step a line), `row` (all in one line), `reduced` (the modulus taken on a line of its
own) and `named` (each step announced by its number). A wrong response loses the sign of a negative result,
or stops reducing once it should have; where nothing is to be reduced it leaves an operation out.
"""

from __future__ import annotations

import random
import re

from acereason.problems import Problem
from acereason.procedural.family import Family, boxed, new_problem, thinking_of

WORDS = {"+": "add", "-": "minus", "*": "times"}
STYLES = ("lines", "row", "reduced", "named")
MODULUS = 50


def problem(rng: random.Random, level: int) -> Problem:
    start = rng.randrange(2, MODULUS)
    steps: list[tuple[str, int]] = []
    for _ in range(level + 1):
        sign = rng.choice("+++--*")
        steps.append((sign, 2 if sign == "*" else rng.randint(2, 9)))
    value = start
    for sign, operand in steps:
        value = apply(value, sign, operand) % MODULUS
    words = ", ".join(f"{WORDS[sign]} {operand}" for sign, operand in steps)
    return new_problem(
        "chain",
        level,
        f"Start with {start}. {words[0].upper()}{words[1:]}. "
        f"Keep every result modulo {MODULUS}. What is the end?",
        answer=value,
        start=start,
        steps=steps,
    )


def apply(value: int, sign: str, operand: int) -> int:
    if sign == "*":
        return value * operand
    return value + operand if sign == "+" else value - operand


def step_text(value: int, sign: str, operand: int, end: int, style: str) -> str:
    """`25*2=50-50=0`; `reduced` puts the second half on its own line."""
    raw = apply(value, sign, operand)
    text = f"{value}{sign}{operand}={raw}"
    if raw == end:
        return text
    joint = f"\n{raw}" if style == "reduced" else ""
    if raw < 0:
        return f"{text}{joint}+{MODULUS}={end}" if end == raw % MODULUS else f"{text[: -len(str(raw))]}{end}"
    return f"{text}{joint}-{MODULUS}={end}"


def walk(problem: Problem, rng: random.Random, wrong: bool) -> list[tuple[int, str, int, int]]:
    """(value, sign, operand, end) of every step, the wrong ones with the mistakes of the docstring."""
    steps = list(problem.meta["steps"])
    value, walked, unreduced = problem.meta["start"], [], False
    if wrong and not _reductions(problem):
        del steps[rng.randrange(len(steps))]
    for sign, operand in steps:
        raw = apply(value, sign, operand)
        if wrong and raw < 0:
            end = -raw
        elif wrong and (unreduced or raw >= MODULUS):
            end, unreduced = raw, True
        else:
            end = raw % MODULUS
        walked.append((value, sign, operand, end))
        value = end
    return walked


def _reductions(problem: Problem) -> int:
    """How many steps leave the range 0 … modulus - 1."""
    value, count = problem.meta["start"], 0
    for sign, operand in problem.meta["steps"]:
        raw = apply(value, sign, operand)
        count += not 0 <= raw < MODULUS
        value = raw % MODULUS
    return count


def respond(problem: Problem, rng: random.Random, wrong: bool) -> str:
    style = rng.choice(STYLES)
    for _ in range(20):
        steps = walk(problem, rng, wrong)
        if wrong == (str(steps[-1][3]) != problem.answer):
            return _written(steps, style)
    value, sign, operand, end = steps[-1]  # mistakes that cancelled each other: a last one on top
    return _written([*steps[:-1], (value, sign, operand, end + 1)], style)


def _written(steps: list[tuple[int, str, int, int]], style: str) -> str:
    texts = [step_text(*step, style) for step in steps]
    if style == "named":
        texts = [f"{number}:{text}" for number, text in enumerate(texts, 1)]
    return boxed((";" if style == "row" else "\n").join(texts), steps[-1][3])


def mode(problem: Problem, text: str) -> str:
    thinking = thinking_of(text)
    if re.match(r"1:\d", thinking):
        return "named"
    if not re.match(r"\d+[-+*]\d=-?\d", thinking):
        return "other"
    if ";" in thinking:
        return "row"
    return "reduced" if re.search(r"^-?\d+[-+]\d\d", thinking, re.MULTILINE) else "lines"


FAMILY = Family("chain", "math", range(1, 7), problem, respond, mode)
