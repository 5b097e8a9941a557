"""Problems of reasoning-gym, the library of a hundred task generators: five families with worked solutions,
and any generator without one.

    rg-chain-sum, rg-leg-counting, rg-products, rg-linear, rg-gcd    integers, worked out, judged as math
    rg:NAME                                                         the generator NAME, judged by its own
    scorer

The questions are reasoning-gym's own. A worked solution is what a pupil writes: one operation a line, each
with its result, the answer in a box. The library is asked for when a family is first used: `pip install
reasoning-gym`. Generators: https://github.com/open-thought/reasoning-gym (Stojanovski et al. 2025, arXiv
2505.24760).
"""

from __future__ import annotations

import hashlib
import random
import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib.util import find_spec
from typing import Any

from acereason.errors import ConfigError, need
from acereason.problems import Problem
from acereason.procedural.family import Family, boxed, slipped

Entry = Mapping[str, Any]  # question, answer, metadata, as reasoning-gym makes them
Steps = list[tuple[str, int]]  # what is computed, and its result
PREFIX = "rg:"
_TERM = re.compile(r"([+-]?)(?:(\d+)\*)?([a-z])|([+-]?)(\d+)")


def chain_sum(entry: Entry) -> Steps:
    """Left to right: 4 - 1 = 3, 3 - 7 = -4, …"""
    parts = entry["metadata"]["expression"].split()
    total, steps = int(parts[0]), []
    for sign, number in zip(parts[1::2], map(int, parts[2::2]), strict=True):
        done = f"{total} {sign} {number}"
        total = total + number if sign == "+" else total - number
        steps.append((done, total))
    return steps


def leg_counting(entry: Entry) -> Steps:
    """The legs of each kind of animal, then their running sum."""
    legs = need("reasoning_gym.arithmetic.leg_counting", "base").ANIMALS
    counts = entry["metadata"]["animals"].items()
    return _summed(
        [(f"{count} {animal}: {count} * {legs[animal]}", count * legs[animal]) for animal, count in counts]
    )


def _summed(parts: Steps) -> Steps:
    """The parts, then their running sum."""
    steps, total = list(parts), parts[0][1]
    for _, part in parts[1:]:
        steps.append((f"{total} + {part}", total + part))
        total += part
    return steps


def products(entry: Entry) -> Steps:
    """Two factors: the first digit by digit, then the sum of the parts. More: left to right."""
    a, b, *rest = map(int, entry["metadata"]["expression"].split(" * "))
    if rest:
        return _multiplied(a, (b, *rest))
    places = [int(digit) * 10**i for i, digit in enumerate(reversed(str(a)))][::-1]
    return _summed([(f"{part} * {b}", part * b) for part in places if part] or [(f"{a} * {b}", a * b)])


def _multiplied(total: int, factors: Sequence[int]) -> Steps:
    """The running product: 3 * 4 = 12, 12 * 5 = 60, …"""
    steps = []
    for factor in factors:
        steps.append((f"{total} * {factor}", total * factor))
        total *= factor
    return steps


def linear(entry: Entry) -> Steps:
    """a x + b = c: c - b, then divided by a."""
    left, right = entry["metadata"]["equation"].replace(" ", "").split("=")
    factor = constant = 0
    for sign, times, variable, plain_sign, number in _TERM.findall(left):
        if variable:
            factor += int(f"{sign}{times or 1}")
        else:
            constant += int(f"{plain_sign}{number}")
    x, rest = entry["metadata"]["variable"], int(right)
    steps = []
    if constant:
        shown = f"{rest} {'-' if constant > 0 else '+'} {abs(constant)}"
        rest -= constant
        steps.append((f"{factor}*{x} = {shown}", rest))
    return [*steps, (f"{x} = {rest} / {factor}", rest // factor)]


def gcd(entry: Entry) -> Steps:
    """Euclid: 147 = 8 * 18 + 3, 18 = 6 * 3 + 0; the result of a step is its remainder."""
    b, a = sorted(entry["metadata"]["numbers"])
    steps = []
    while b:
        steps.append((f"{a} = {a // b} * {b} +", a % b))
        a, b = b, a % b
    return steps


def _between(first: str, second: str, *levels: tuple[int, int, int, int]) -> tuple[dict[str, Any], ...]:
    """The settings of each level: the least and the most of one number, then of another."""
    names = [f"{end}_{number}" for number in (first, second) for end in ("min", "max")]
    return tuple(dict(zip(names, level, strict=True)) for level in levels)


_PLAIN, _MIXED = [0.5, 0.5, 0.0], [0.4, 0.4, 0.2]
_EQUATIONS = ((2, 9, _PLAIN), (3, 10, _PLAIN), (3, 20, _MIXED), (4, 50, _MIXED))
LEVELS: dict[str, tuple[Callable[[Entry], Steps], str, tuple[dict[str, Any], ...]]] = {
    "rg-chain-sum": (
        chain_sum, "chain_sum",
        _between("terms", "digits", (3, 5, 1, 1), (3, 5, 1, 2), (4, 7, 1, 2), (4, 7, 2, 3))
    ),
    "rg-leg-counting": (
        leg_counting, "leg_counting",
        _between("animals", "instances", (2, 2, 1, 6), (2, 3, 1, 9), (2, 4, 1, 15), (4, 6, 1, 15)),
    ),
    "rg-products": (
        products, "products",
        _between("terms", "digits", (3, 4, 1, 1), (2, 2, 1, 2), (2, 2, 2, 2), (2, 2, 2, 3))
    ),
    "rg-linear": (
        linear, "simple_equations",
        tuple(
            {"min_terms": 2, "max_terms": terms, "max_value": value, "operators_weights": weights}
            for terms, value, weights in _EQUATIONS
        ),
    ),
    "rg-gcd": (
        gcd, "gcd",
        _between("numbers", "value", (2, 2, 2, 40), (2, 2, 2, 60), (2, 2, 2, 150), (2, 2, 10, 999)),
    ),
}  # fmt: skip


def family(name: str) -> Family | None:
    """The family of a name above; None for a name that is none of these."""
    if name in LEVELS:
        _, dataset, levels = LEVELS[name]
        problem = partial(_problem, name, dataset, levels)
        return Family(name, "math", range(1, len(levels) + 1), problem, _respond, _mode)
    if not name.startswith(PREFIX):
        return None
    dataset = name.removeprefix(PREFIX)
    return Family(name, "reasoning-gym", range(1, 2), partial(_own, name, dataset), _no_teacher, _mode)


def installed() -> bool:
    """Whether the library is there; without importing it, which takes seconds."""
    return find_spec("reasoning_gym") is not None


def _check(dataset: str) -> None:
    known = need("reasoning_gym.factory", "base").DATASETS
    if dataset not in known:
        raise ConfigError(f"reasoning-gym has no generator {dataset!r}; it has: {', '.join(sorted(known))}")


def entry_of(dataset: str, settings: Mapping[str, Any], seed: int) -> dict[str, Any]:
    """The one entry of a generator for a seed."""
    made = need("reasoning_gym", "base").create_dataset(dataset, size=1, seed=seed, **settings)
    entry: dict[str, Any] = made[0]
    return entry


def _identity(name: str, level: int, question: str) -> str:
    return f"{name}-{level}-{hashlib.sha256(question.encode()).hexdigest()[:12]}"


def _problem(
    name: str, dataset: str, levels: tuple[dict[str, Any], ...], rng: random.Random, level: int
) -> Problem:
    entry = entry_of(dataset, levels[level - 1], rng.getrandbits(31))
    question = entry["question"].strip()
    meta = {"family": name, "level": level, "metadata": _plain(entry["metadata"])}
    where = _identity(name, level, question)
    return Problem(where, "math", question, entry["answer"], source="reasoning-gym", meta=meta)


def _own(name: str, dataset: str, rng: random.Random, level: int) -> Problem:
    """A problem that its generator judges; it may have no answer of its own (None)."""
    _check(dataset)
    entry = entry_of(dataset, {}, rng.getrandbits(31))
    answer, question = entry.get("answer"), entry["question"].strip()
    meta = {"family": name, "level": level, "dataset": dataset, "metadata": _plain(entry["metadata"])}
    where, said = _identity(dataset, level, question), None if answer is None else str(answer)
    return Problem(where, "reasoning-gym", question, said, source="reasoning-gym", meta=meta)


def _plain(value: Any) -> Any:
    """As JSON has it: what is no number, text, list or map becomes its text."""
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(v) for v in value]
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)


def _respond(problem: Problem, rng: random.Random, wrong: bool) -> str:
    """The worked solution; with `wrong` one step's result is off, and the answer with it where it is the
    last."""
    solve, _, _ = LEVELS[problem.meta["family"]]
    steps = solve({"metadata": problem.meta["metadata"]})
    answer = int(problem.answer or 0)
    if wrong:
        at = rng.randrange(len(steps))
        steps = [*steps[:at], (steps[at][0], slipped(abs(steps[at][1]), rng)), *steps[at + 1 :]]
        answer = slipped(abs(answer), rng)
    return boxed("\n".join(_line(*step) for step in steps), answer)


def _line(done: str, result: int) -> str:
    return f"{done} {result}" if done.endswith("+") else f"{done} = {result}"


def _no_teacher(problem: Problem, rng: random.Random, wrong: bool) -> str:
    raise ConfigError(
        f"{problem.meta['family']} has no worked solutions to fine-tune on; ask it in RL only "
        f"(start from a fine-tuned model), or fine-tune on: {', '.join(LEVELS)}"
    )


def _mode(problem: Problem, text: str) -> str:
    """Whether anything was worked out before the answer."""
    thinking = text.partition("</think>")[0]
    return "steps" if re.search(r"\d\s*[-+*/%]\s*\d", thinking) else "other"
