"""Chain: two to seven small operations in a row, every result kept modulo a round number.

    Start with 17. Add 8, times 3, minus 9. Keep every result modulo 40. What is the end?

The work is to carry a value through many steps without a slip. Level L has L+1 operations. Ways
of answering: `lines` (one step a line), `row` (all in one line), `reduced` (the modulus taken on
a line of its own) and `short` (the value that a step starts from is not written again).
"""

from __future__ import annotations

import random
import re

from acereason.problems import Problem
from acereason.procedural.family import Family, boxed, new_problem, slipped, thinking_of

WORDS = {"+": "add", "-": "minus", "*": "times"}
STYLES = ("lines", "row", "reduced", "short")


def problem(rng: random.Random, level: int) -> Problem:
    modulus = rng.choice((20, 30, 40, 50))
    start = rng.randrange(2, modulus)
    steps: list[tuple[str, int]] = []
    for _ in range(level + 1):
        sign = rng.choice("+++--**")
        steps.append((sign, rng.randint(2, 3) if sign == "*" else rng.randint(2, 9)))
    value = start
    for sign, operand in steps:
        value = apply(value, sign, operand) % modulus
    words = ", ".join(f"{WORDS[sign]} {operand}" for sign, operand in steps)
    return new_problem(
        "chain",
        level,
        f"Start with {start}. {words[0].upper()}{words[1:]}. "
        f"Keep every result modulo {modulus}. What is the end?",
        answer=value,
        modulus=modulus,
        start=start,
        steps=steps,
    )


def apply(value: int, sign: str, operand: int) -> int:
    if sign == "*":
        return value * operand
    return value + operand if sign == "+" else value - operand


def step_text(value: int, sign: str, operand: int, raw: int, modulus: int, style: str) -> str:
    """`25*3=75-60=15`; `reduced` puts the second half on its own line, `short` omits the 25."""
    text = f"{sign}{operand}={raw}" if style == "short" else f"{value}{sign}{operand}={raw}"
    if 0 <= raw < modulus:
        return text
    joint = f"\n{raw}" if style == "reduced" else ""
    if raw < 0:
        return f"{text}{joint}+{modulus}={raw % modulus}"
    return f"{text}{joint}-{raw // modulus * modulus}={raw % modulus}"


def trace(problem: Problem, style: str, rng: random.Random, slip_at: int | None) -> tuple[str, int]:
    """The written steps and their end; the step number `slip_at` goes wrong."""
    modulus, value = problem.meta["modulus"], problem.meta["start"]
    lines: list[str] = []
    for number, (sign, operand) in enumerate(problem.meta["steps"]):
        raw = apply(value, sign, operand)
        if number == slip_at:
            raw = slipped(max(raw, 0), rng)
        lines.append(step_text(value, sign, operand, raw, modulus, style))
        value = raw % modulus
    return (";" if style == "row" else "\n").join(lines), value


def respond(problem: Problem, rng: random.Random, wrong: bool) -> str:
    style = rng.choice(STYLES)
    while True:
        slip_at = rng.randrange(len(problem.meta["steps"])) if wrong else None
        text, value = trace(problem, style, rng, slip_at)
        if wrong == (str(value) != problem.answer):
            return boxed(text, value)


def mode(problem: Problem, text: str) -> str:
    thinking = thinking_of(text)
    if re.match(r"[-+*]\d=-?\d", thinking):
        return "short"
    if not re.match(r"\d+[-+*]\d=-?\d", thinking):
        return "other"
    if ";" in thinking:
        return "row"
    return "reduced" if re.search(r"^-?\d+[-+]\d\d", thinking, re.MULTILINE) else "lines"


FAMILY = Family("chain", "math", range(1, 7), problem, respond, mode)
