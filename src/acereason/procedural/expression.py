"""Expression: precedence and brackets, one reduction at a time.

    Compute 5 + (9 - 5) * 3 - 4.

Level L has L+1 operations. Ways of answering: `rewrite` (the whole expression again after each
reduction), `chain` (the same in one line) and `parts` (only the reductions, in the order in which
they are done).
"""

from __future__ import annotations

import random
import re

from acereason.problems import Problem
from acereason.procedural.family import Family, boxed, new_problem, slipped, thinking_of

STYLES = ("rewrite", "chain", "parts")
LARGEST = 99  # of every value on the way; none is below 0
Tokens = list[str]


def draw(rng: random.Random, operations: int) -> Tokens:
    """One-digit terms, with a bracket around two of them half of the time."""
    tokens = [str(rng.randint(1, 9))]
    for _ in range(operations):
        tokens += [rng.choice("++--*"), str(rng.randint(1, 9))]
    if operations > 1 and rng.random() < 0.6:
        at = 2 * rng.randrange(operations)
        tokens[at : at + 3] = ["(", *tokens[at : at + 3], ")"]
    return tokens


def next_operation(tokens: Tokens) -> int:
    """The position of the operator that is reduced first."""
    if "(" in tokens:
        return tokens.index("(") + 2
    return tokens.index("*") if "*" in tokens else 1


def reduce(tokens: Tokens, at: int, value: int) -> Tokens:
    """The expression with the operation at `at` replaced by a value, its bracket dropped."""
    bracketed = at >= 2 and tokens[at - 2] == "("
    start, end = (at - 2, at + 3) if bracketed else (at - 1, at + 2)
    return [*tokens[:start], str(value), *tokens[end:]]


def value_of(tokens: Tokens, at: int) -> int:
    left, right = int(tokens[at - 1]), int(tokens[at + 1])
    return {"+": left + right, "-": left - right, "*": left * right}[tokens[at]]


def reductions(tokens: Tokens, rng: random.Random, slip_at: int = -1) -> list[tuple[Tokens, str, int]]:
    """Every reduction: the expression before it, the operation, its value. `slip_at` goes wrong."""
    steps: list[tuple[Tokens, str, int]] = []
    while len(tokens) > 1:
        at = next_operation(tokens)
        hasty = at > 1 and "(" not in tokens[:3] and rng.random() < 0.5
        if len(steps) == slip_at and hasty:  # one mistake: simply from left to right
            at = 1
        value = value_of(tokens, at)
        if len(steps) == slip_at and not hasty:  # the other: a miscalculation
            value = slipped(value, rng)
        steps.append((tokens, "".join(tokens[at - 1 : at + 2]), value))
        tokens = reduce(tokens, at, value)
    return steps


def problem(rng: random.Random, level: int) -> Problem:
    while True:
        tokens = draw(rng, level + 1)
        steps = reductions(tokens, rng)
        if all(0 <= value <= LARGEST for _, _, value in steps):
            break
    words = re.sub(r" ?([-+*]) ?", r" \1 ", "".join(tokens))
    return new_problem("expression", level, f"Compute {words}.", answer=steps[-1][2], tokens=tokens)


def respond(problem: Problem, rng: random.Random, wrong: bool) -> str:
    tokens, style = problem.meta["tokens"], rng.choice(STYLES)
    while True:
        slip_at = rng.randrange(problem.meta["level"] + 1) if wrong else -1
        steps = reductions(tokens, rng, slip_at)
        value = steps[-1][2]
        sound = all(0 <= value <= 2 * LARGEST for _, _, value in steps)
        if sound and wrong == (str(value) != problem.answer):
            break
    if style == "parts":
        return boxed("\n".join(f"{operation}={value}" for _, operation, value in steps), value)
    states = ["".join(state) for state, _, _ in steps] + [str(value)]
    return boxed(("=" if style == "chain" else "\n=").join(states), value)


def mode(problem: Problem, text: str) -> str:
    thinking = thinking_of(text)
    first = thinking.partition("\n")[0]
    if not re.match(r"[(]?\d+[-+*(]", thinking):
        return "other"
    if first == "".join(problem.meta["tokens"]):
        return "rewrite"
    return "parts" if re.fullmatch(r"\d+[-+*]\d+=\d+", first) else "chain"


FAMILY = Family("expression", "math", range(1, 6), problem, respond, mode)
