"""Means over seeds and questions, and how far they would be from others: a bootstrap at two levels.

    resample:  seeds with replacement, and in each drawn seed its questions with replacement
    mean:      each column over the drawn questions, then over the drawn seeds

Columns over the same questions are drawn together, so what shares questions is paired, and seeds that share
them do not count them twice. A bootstrap over S seeds shows (S - 1)/S of the variance between them, so
deviations are to be widened by √(S/(S - 1)). In simulation (normal errors, S from 3 to 8) the interval covers
97–99 % while seeds vary no more than questions do, and 92–95 % when they vary twice as much. With one seed
only questions are resampled; nothing is decided then.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Table = Sequence[Sequence["Column"]]  # seeds × columns
Draw = Callable[[int, int, np.random.Generator], Floats]


@dataclass(frozen=True)
class Column:
    """`values`: one per question, in the order of the questions that `questions` names; or a single one,
    where `questions` is empty."""

    values: Floats
    questions: str = ""


def widening(seeds: int) -> float:
    """What a bootstrap over so few seeds is to be widened by."""
    return math.sqrt(seeds / (seeds - 1)) if seeds > 1 else 1.0


def plain(columns: Table) -> Floats:
    """[1, C] means of the columns over questions, then seeds."""
    means = np.array([[float(c.values.mean()) for c in row] for row in columns], np.float64)
    return np.asarray(means.mean(0, keepdims=True))


def draw(questions: int, count: int, random: np.random.Generator) -> Floats:
    """[count, questions] how much each question weighs in a resample."""
    return random.multinomial(questions, np.full(questions, 1 / questions), count) / questions


def quick(questions: int, count: int, random: np.random.Generator) -> Floats:
    """The same as `draw`, in other draws and five times as fast."""
    at = random.integers(0, questions, (count, questions)) + questions * np.arange(count)[:, None]
    return np.bincount(at.ravel(), minlength=count * questions).reshape(count, questions) / questions


def drawn(
    columns: Table,
    resamples: int,
    shared: Mapping[str, Floats] | None = None,
    stream: int = 0,
    weigh: Draw = draw,
) -> Floats:
    """[B, C] means of resampled seeds and questions. Questions that several seeds share are drawn once for
    all of them: more seeds do not make them more. `shared` gives their weights [B, Q] where another table has
    them too; tables with other seeds take another `stream` of draws."""
    random = np.random.default_rng(stream)
    seeds = len(columns)
    shared = _shared(columns, resamples, random, weigh) if shared is None else shared
    chosen = random.integers(0, seeds, (resamples, seeds))
    total = np.zeros((resamples, len(columns[0])))
    for slot in range(seeds):
        for seed, row in enumerate(columns):
            at = np.flatnonzero(chosen[:, slot] == seed)
            for questions in sorted({c.questions for c in row}):
                which = [i for i, c in enumerate(row) if c.questions == questions]
                table = np.stack([row[i].values for i in which])
                size = table.shape[1]
                weights = shared[questions][at] if questions in shared else weigh(size, len(at), random)
                total[at[:, None], which] += weights @ table.T
    return total / seeds


def _shared(columns: Table, resamples: int, random: np.random.Generator, weigh: Draw) -> dict[str, Floats]:
    """Weights of the questions that several seeds have."""
    sizes = {c.questions: len(c.values) for row in columns for c in row if c.questions}
    used = Counter(questions for row in columns for questions in {c.questions for c in row})
    return {q: weigh(sizes[q], resamples, random) for q in sorted(sizes) if used[q] > 1}
