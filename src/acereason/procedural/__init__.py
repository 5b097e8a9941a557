"""Procedural problems: families of tasks with a teacher, made on the spot and nothing to
download.

`generate` draws distinct problems, balanced over families and levels. `teach` answers one as the
family's teacher does. Splits cannot overlap: besides its own seed each split owns a tenth ("dev",
"test") or eight tenths ("train") of all questions, decided by a hash of the question, whatever
the seed.

What the teacher writes is meant for a transformer of about a million parameters: few words, small
numbers, traces of 15 to 110 tokens that grow with the level.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Container, Mapping, Sequence
from typing import Literal, get_args

from acereason.draws import generator
from acereason.errors import ConfigError
from acereason.problems import Problem, Response
from acereason.procedural import (
    chain,
    check,
    climb,
    columns,
    count,
    expression,
    gcd,
    gym,
    lists,
    picks,
    ranges,
    search,
    texts,
)
from acereason.procedural.family import Family

__all__ = ["FAMILIES", "Family", "Split", "family_of", "find", "generate", "mode_of", "teach"]

Split = Literal["train", "dev", "test"]
MISSES = 2000  # draws in a row without a new question: the family's level is used up

FAMILIES: dict[str, Family] = {
    family.name: family
    for family in (
        chain.FAMILY,
        search.LINEAR,
        climb.CLIMB,
        climb.LARGEST,
        search.SQUARE,
        count.FAMILY,
        columns.FAMILY,
        gcd.FAMILY,
        expression.FAMILY,
        check.FAMILY,
        lists.FAMILY,
        texts.FAMILY,
        ranges.FAMILY,
        picks.FAMILY,
    )
}


def generate(
    families: Sequence[str],
    levels: Sequence[int] | Mapping[str, Sequence[int]] | None,
    count: int,
    seed: int,
    split: Split,
    exclude: Container[str] = (),
) -> list[Problem]:
    """`count` problems with distinct questions, the same for the same arguments, in random order.

    `levels` None takes every level of each family; otherwise a family is asked at those of them
    that it has; a mapping gives each family its own. Questions in `exclude` are not drawn. ConfigError: an
    unknown name, a family without any of the levels, or a level that has too few distinct questions."""
    own = {name: levels[name] if isinstance(levels, Mapping) else levels for name in families}
    cells = [(family, level) for family in _known(families) for level in _levels(family, own[family.name])]
    if split not in get_args(Split):
        raise ConfigError(f"unknown split {split!r}; known: {', '.join(get_args(Split))}")
    by_question: dict[str, Problem] = {}
    for number, (family, level) in enumerate(cells):
        wanted = count // len(cells) + (number < count % len(cells))
        rng = generator(seed, split, family.name, level)
        _draw(by_question, family, level, wanted, rng, split, exclude)
    problems = list(by_question.values())
    generator(seed, split, "order").shuffle(problems)
    return problems


def family_of(problem: Problem) -> Family:
    """The family that a procedural problem belongs to; ConfigError for any other problem."""
    return _known([str(problem.meta.get("family"))])[0]


def teach(problem: Problem, rng: random.Random, wrong: bool | None = False) -> Response:
    """What the teacher writes: right, wrong, or (None) wrong in the family's natural share."""
    family = family_of(problem)
    if wrong is None:
        wrong = rng.random() < family.slip
    text = family.respond(problem, rng, wrong)
    return Response(problem_id=problem.id, sample=0, text=text, meta={"wrong": wrong})


def mode_of(problem: Problem, text: str) -> str:
    """The way of answering that a response text follows; "other" when none of its family's."""
    return family_of(problem).mode(problem, text)


def split_of(question: str) -> Split:
    """The only split in which a question may be drawn."""
    tenth = hashlib.sha256(f"split {question}".encode()).digest()[0] % 10
    return "test" if tenth == 0 else "dev" if tenth == 1 else "train"


def find(name: str) -> Family | None:
    """The family of this name; None when there is none."""
    return FAMILIES.get(name) or gym.family(name)


def _known(names: Sequence[str]) -> list[Family]:
    families = [find(name) for name in names]
    for name, family in zip(names, families, strict=True):
        if family is None:
            own = ", ".join((*FAMILIES, *gym.LEVELS))
            raise ConfigError(
                f"unknown family {name!r}; known: {own}, rg:NAME for a generator of reasoning-gym"
            )
    return [family for family in families if family is not None]


def _levels(family: Family, levels: Sequence[int] | None) -> list[int]:
    chosen = [level for level in family.levels if levels is None or level in levels]
    if not chosen:
        raise ConfigError(
            f"family {family.name!r} has levels {family.levels[0]} to {family.levels[-1]}, "
            f"none of {list(levels or ())}"
        )
    return chosen


def _draw(
    by_question: dict[str, Problem],
    family: Family,
    level: int,
    wanted: int,
    rng: random.Random,
    split: Split,
    exclude: Container[str],
) -> None:
    """Add problems of one level to those found, by question; the levels of a family may overlap."""
    before, misses = len(by_question), 0
    while len(by_question) < before + wanted:
        problem = family.problem(rng, level)
        question = problem.question
        if question in by_question or question in exclude or split_of(question) != split:
            misses += 1
            if misses > MISSES:
                raise ConfigError(
                    f"family {family.name!r}, level {level}: expected {wanted} distinct questions "
                    f"for split {split!r}, found {len(by_question) - before}; "
                    "ask for fewer, or for more levels"
                )
            continue
        misses = 0
        by_question[question] = problem
