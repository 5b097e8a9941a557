"""What the families of Python functions share: from a specification to tests, answers and
mistakes.

A specification is a small JSON object with one entry per decision (which bound counts, what an
empty list gives, which of two ties wins). A reference in plain Python computes its results; no
text is ever executed. A mistake is the specification with one decision changed: its program is
written in the same way as a right one, and the tests are chosen so that each mistake fails at
least one of them.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from acereason.problems import Problem, Test
from acereason.procedural.family import Family, fenced, new_problem

Spec = dict[str, Any]
Args = list[Any]
MISSING = "missing"  # in place of the value for an empty list: the program does not think of it
TESTS, CANDIDATES = 8, 40
CRASH = object()


@dataclass(frozen=True)
class Kind:
    """A kind of function: how specifications are drawn, worded, run, got wrong and written."""

    name: str
    styles: tuple[str, ...]
    draw: Callable[[random.Random, int], Spec]
    ask: Callable[[Spec], str]
    run: Callable[..., Any]  # (spec, *arguments) -> result
    edges: Callable[[Spec], list[Args]]
    sample: Callable[[Spec, random.Random], Args]
    mistakes: Callable[[Spec], list[Spec]]
    write: Callable[[Spec, str], tuple[str, str]]  # (spec, style) -> plan, code
    mode: Callable[[str], str]


def result(kind: Kind, spec: Spec, args: Args) -> Any:
    """What the reference gives; CRASH where the program would raise."""
    try:
        return kind.run(spec, *args)
    except (ValueError, IndexError):
        return CRASH


def same(left: Any, right: Any) -> bool:
    return type(left) is type(right) and bool(left == right)


def chosen_tests(kind: Kind, spec: Spec, rng: random.Random) -> list[Args]:
    """Edge cases, then for each mistake an input that shows it, then inputs at random."""
    edges = kind.edges(spec)
    pool = edges + [kind.sample(spec, rng) for _ in range(CANDIDATES)]
    expected = [result(kind, spec, args) for args in pool]
    picked = list(range(len(edges)))
    for mistake in kind.mistakes(spec):
        shows = (
            n
            for n in [*picked, *range(len(edges), len(pool))]
            if not same(result(kind, mistake, pool[n]), expected[n])
        )
        first = next(shows, None)
        if first is not None and first not in picked:
            picked.append(first)
    rest = [n for n in range(len(pool)) if n not in picked]
    return [pool[n] for n in picked + rest[: max(0, TESTS - len(picked))]]


def caught(kind: Kind, spec: Spec, tests: tuple[Test, ...]) -> list[Spec]:
    """The mistakes that fail at least one of the tests."""
    cases = [(json.loads(test.input), json.loads(test.output)) for test in tests]
    return [
        mistake
        for mistake in kind.mistakes(spec)
        if any(not same(result(kind, mistake, args), wanted) for args, wanted in cases)
    ]


def make_problem(kind: Kind, rng: random.Random, level: int) -> Problem:
    while True:
        spec = kind.draw(rng, level)
        tests = tuple(
            Test("functional", json.dumps(args), json.dumps(result(kind, spec, args)))
            for args in chosen_tests(kind, spec, rng)
        )
        varied = len({test.output for test in tests}) > 2
        if varied and len(caught(kind, spec, tests)) >= 2:
            return new_problem(kind.name, level, kind.ask(spec), tests=tests, spec=spec)


def respond(kind: Kind, problem: Problem, rng: random.Random, wrong: bool) -> str:
    spec = problem.meta["spec"]
    if wrong:
        spec = rng.choice(caught(kind, spec, problem.tests))
    return fenced(*kind.write(spec, rng.choice(kind.styles)))


def family(kind: Kind, levels: range, slip: float) -> Family:
    return Family(
        kind.name,
        "code",
        levels,
        lambda rng, level: make_problem(kind, rng, level),
        lambda problem, rng, wrong: respond(kind, problem, rng, wrong),
        lambda problem, text: kind.mode(text),
        slip,
    )


def function(head: str, body: list[str]) -> str:
    """A function definition; a tab in `body` is one more level of indentation, which is one space:
    enough for Python, and no more tokens than the word that follows it."""
    lines = [f"def f({head}):", *(f" {line}" for line in body)]
    return "\n".join(lines).replace("\t", " ")
