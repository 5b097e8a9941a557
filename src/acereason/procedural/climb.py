"""Climb: one small step again and again until a bound; and largest: work results out and compare them.

    climb    Start at 5 and add 7 again and again. What is the first number above 40?
    largest  What is the largest of 31+8, 14-6 and 29+4?

What has to be right is every step and where to stop: "above 40" leaves 40 out and "of at least 40" takes
it in. A wrong response misreads the bound, or the comparison; where the bound cannot be misread it stops
a step too late. Ways of answering: `lines` (one step a line), `row` (all in one line), `named` (each
step announced by its number).
"""

from __future__ import annotations

import random
import re

from acereason.problems import Problem
from acereason.procedural.family import Family, boxed, new_problem, thinking_of

STYLES = ("lines", "row", "named")


def climb_problem(rng: random.Random, level: int) -> Problem:
    start, step, count = rng.randint(1, 30), rng.randint(2, 9), rng.randint(level + 1, level + 3)
    end = start + count * step  # the answer, reached after `count` steps
    strict = rng.random() < 0.5
    near = rng.random() < 0.6  # the bound is met exactly, so the wording decides
    bound = end - step if strict and near else end if near else end - rng.randint(1, step - 1)
    words = f"above {bound}" if strict else f"of at least {bound}"
    question = f"Start at {start} and add {step} again and again. What is the first number {words}?"
    return new_problem(
        "climb", level, question, answer=end, start=start, step=step, bound=bound, strict=strict
    )


def climb_steps(problem: Problem, wrong: bool) -> list[str]:
    start, step, bound = (problem.meta[key] for key in ("start", "step", "bound"))
    strict = problem.meta["strict"]
    met = (bound - start) % step == 0
    if wrong and met:
        strict = not strict
    steps, value = [], start
    late = wrong and not met
    while value < bound or (strict and value == bound) or late:
        late = late and (value < bound or (strict and value == bound))
        value += step
        done = not (value < bound or (strict and value == bound) or late)
        steps.append(f"{value - step}+{step}={value} for {bound} {'yes' if done else 'low'}")
    return steps


def largest_problem(rng: random.Random, level: int) -> Problem:
    while True:
        parts, values = [], []
        for _ in range(level + 1):
            value, sign, operand = rng.randint(10, 60), rng.choice("+-"), rng.randint(1, 9)
            parts.append(f"{value}{sign}{operand}")
            values.append(value + operand if sign == "+" else value - operand)
        if len(set(values)) == len(values):
            break
    largest = rng.random() < 0.5
    word = "largest" if largest else "smallest"
    question = f"What is the {word} of {', '.join(parts[:-1])} and {parts[-1]}?"
    answer = max(values) if largest else min(values)
    return new_problem("largest", level, question, answer=answer, parts=parts, values=values, largest=largest)


def largest_steps(problem: Problem, wrong: bool) -> list[str]:
    parts, values = problem.meta["parts"], problem.meta["values"]
    choose = max if problem.meta["largest"] != wrong else min
    steps = [f"{part}={value}" for part, value in zip(parts, values, strict=True)]
    return [*steps, f"{'largest' if choose is max else 'smallest'} {choose(values)}"]


STEPS = {"climb": climb_steps, "largest": largest_steps}


def respond(problem: Problem, rng: random.Random, wrong: bool) -> str:
    style = rng.choice(STYLES)
    steps = STEPS[problem.meta["family"]](problem, wrong)
    answer = re.findall(r"=(\d+)|st (\d+)", steps[-1])[-1]
    if style == "named":
        steps = [f"{number}:{step}" for number, step in enumerate(steps, 1)]
    return boxed((";" if style == "row" else "\n").join(steps), int(answer[0] or answer[1]))


def mode(problem: Problem, text: str) -> str:
    thinking = thinking_of(text)
    if re.match(r"1:\d", thinking):
        return "named"
    if not re.match(r"\d+[-+]\d", thinking):
        return "other"
    return "row" if ";" in thinking else "lines"


CLIMB = Family("climb", "math", range(1, 5), climb_problem, respond, mode)
LARGEST = Family("largest", "math", range(1, 5), largest_problem, respond, mode)
