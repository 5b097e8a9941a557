"""Which of two recipes is better: runs over seeds, compared question by question.

    difference(first, second)    first, second: {seed: {question: value in [0, 1]}}
    verdict(gap, "A", "B")       "B beats A by 2.1, 0.4 to 3.8 points, 3 seeds × 512 questions"

Where all runs were asked the same questions, these are drawn once for all (crossed); where each seed has
questions of its own that both recipes were asked, they are drawn within it (nested); seeds that both sides
have are compared one by one. Intervals cover 95 % (`evaluate.seeds`). From fewer than SEEDS seeds a side
nothing is said of the recipes, only of the runs. None: no question is shared, so nothing is compared.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from acereason.evaluate.estimates import Z95, pass_rates
from acereason.evaluate.seeds import Column, Floats, drawn, plain, quick, widening

Shares = Mapping[str, float]  # of right samples, by question
Side = Mapping[str, Shares]  # by seed
SEEDS = 3  # a side, from which on a recipe is spoken of
RESAMPLES = 2000
MOST = 100  # seeds, or times as many questions, that are worth a hint


@dataclass(frozen=True)
class Difference:
    """second − first, as a share. `questions` of a seed; `left_out` were not asked on both sides; `matched`
    seeds are the same on both sides. `needed` seeds, or so many times the questions, would decide a
    difference of this size; None where that is not known, or where it is decided."""

    mean: float
    se: float
    low: float
    high: float
    seeds: tuple[int, int]
    questions: int
    left_out: int = 0
    matched: bool = False
    needed: tuple[str, int] | None = None

    @property
    def sign(self) -> int:
        """1 or -1 where the interval excludes 0."""
        return (self.low > 0) - (self.high < 0)


def values(rows: Mapping[str, Sequence[bool | None]], k: int = 0) -> dict[str, float]:
    """Of each question that was judged: the share of right samples, or pass@k where it has k samples."""
    judged = {name: [v for v in row if v is not None] for name, row in rows.items()}
    if not k:
        return {name: sum(row) / len(row) for name, row in judged.items() if row}
    kept = [name for name, row in judged.items() if len(row) >= k]
    right, of = (np.array([float(f(judged[name])) for name in kept]) for f in (sum, len))
    return dict(zip(kept, pass_rates(right, of, k).tolist(), strict=True))


def difference(first: Side, second: Side) -> Difference | None:
    """How much better the second side is, with its interval; None when no question is shared."""
    runs = [*first.values(), *second.values()]
    crossed = set.intersection(*(set(run) for run in runs)) if runs else set()
    seeds = [seed for seed in first if seed in second]
    nested = [set(first[seed]) & set(second[seed]) for seed in seeds]
    if nested and min(map(len, nested)) > len(crossed):
        return _nested({s: first[s] for s in seeds}, {s: second[s] for s in seeds})
    matched = first.keys() == second.keys()
    return _crossed(first, second, sorted(crossed), matched) if crossed else None


def _nested(first: Side, second: Side) -> Difference:
    """Every seed has its own questions, and both sides were asked them."""
    common = {seed: sorted(set(first[seed]) & set(second[seed])) for seed in first}
    tables = [[_column(side[seed], of, seed) for side in (first, second)] for seed, of in common.items()]
    asked = sum(len(set(first[seed]) | set(second[seed])) for seed in first)
    shared = sum(map(len, common.values()))
    mean, tried = _tried(tables)
    gap = _summed(mean, tried, (len(first), len(second)), round(shared / len(first)), asked - shared, True)
    return _hinted(gap, 0.0)


def _crossed(first: Side, second: Side, common: list[str], matched: bool) -> Difference:
    """All runs were asked the common questions."""
    sides = [[_column(side[seed], common, "all") for seed in sorted(side)] for side in (first, second)]
    asked = set().union(*first.values(), *second.values())
    if matched:
        mean, tried = _tried(list(zip(*sides, strict=True)))
    else:
        mean, tried = _apart(sides, len(common))
    seeds = (len(first), len(second))
    gap = _summed(mean, tried, seeds, len(common), len(asked) - len(common), matched)
    by_question = np.mean([c.values for c in sides[1]], 0) - np.mean([c.values for c in sides[0]], 0)
    return _hinted(gap, float(by_question.var(ddof=1)) / len(common) if len(common) > 1 else math.nan)


def _column(shares: Shares, questions: Sequence[str], name: str) -> Column:
    return Column(np.array([shares[q] for q in questions]), name)


def _tried(tables: Sequence[Sequence[Column]]) -> tuple[float, Floats]:
    """The difference, and what resamples make of it; seeds are drawn for both sides together."""
    (before, after), tried = plain(tables)[0], drawn(tables, RESAMPLES, weigh=quick)
    mean = float(after - before)
    return mean, mean + widening(len(tables)) * (tried[:, 1] - tried[:, 0] - mean)


def _apart(sides: Sequence[Sequence[Column]], questions: int) -> tuple[float, Floats]:
    """The same with other seeds on each side, drawn for themselves; the questions are the same draws."""
    shared = {"all": quick(questions, RESAMPLES, np.random.default_rng(0))}
    moved, means = [], []
    for stream, side in enumerate(sides, 1):
        table = [[column] for column in side]
        means.append(float(plain(table)[0, 0]))
        moved.append(widening(len(side)) * (drawn(table, RESAMPLES, shared, stream)[:, 0] - means[-1]))
    mean = means[1] - means[0]
    return mean, np.asarray(mean + moved[1] - moved[0])


def _summed(
    mean: float, tried: Floats, seeds: tuple[int, int], questions: int, left_out: int, matched: bool
) -> Difference:
    low, high = (float(x) for x in np.quantile(tried, [0.025, 0.975]))
    alone = questions < 2 and max(seeds) < 2  # a single question has no error
    se = math.nan if alone else float(tried.std())
    low, high = (math.nan, math.nan) if alone else (low, high)
    return Difference(mean, se, low, high, seeds, questions, left_out, matched)


def _hinted(gap: Difference, questions: float) -> Difference:
    """With what would decide it: `questions` is the part of the variance that more seeds do not lower."""
    return replace(gap, needed=_needed(gap, questions))


def _needed(gap: Difference, questions: float) -> tuple[str, int] | None:
    if min(gap.seeds) < SEEDS:
        return ("seeds", SEEDS) if min(gap.seeds) > 0 else None
    if gap.sign or not gap.mean or not math.isfinite(gap.se):
        return None
    wanted, size = (gap.mean / Z95) ** 2, min(gap.seeds)
    if questions < wanted:
        count = math.ceil(size * max(gap.se**2 - questions, 0.0) / (wanted - questions))
        return ("seeds", max(count, size + 1)) if count <= MOST else None
    times = math.ceil(questions / wanted + 0.5)
    return ("questions", times) if times <= MOST else None


def unpaired(scores: Sequence[Sequence[tuple[float, float]]]) -> Difference:
    """From (mean, se) of each run of both sides, where verdicts were not kept."""
    means = [float(np.mean([m for m, _ in side])) for side in scores]
    errors = [_side_error(side) for side in scores]
    mean, se = means[1] - means[0], math.hypot(*errors)
    seeds = (len(scores[0]), len(scores[1]))
    return Difference(mean, se, mean - Z95 * se, mean + Z95 * se, seeds, 0)


def _side_error(side: Sequence[tuple[float, float]]) -> float:
    means = np.array([m for m, _ in side])
    within = float(np.mean([se**2 for _, se in side]))
    return math.sqrt(within + (float(means.var(ddof=1)) / len(means) if len(means) > 1 else 0.0))


def level(side: Side) -> tuple[float, float]:
    """A side's own mean with its standard error: over questions, and over seeds where there are several."""
    tables = [np.array(list(run.values())) for run in side.values()]
    errors = [float(t.std(ddof=1)) / math.sqrt(len(t)) if len(t) > 1 else math.nan for t in tables]
    means = [float(t.mean()) for t in tables]
    if len(means) == 1 or len({frozenset(run) for run in side.values()}) == 1:
        return float(np.mean(means)), _side_error(list(zip(means, errors, strict=True)))
    return float(np.mean(means)), float(np.std(means, ddof=1)) / math.sqrt(len(means))


@dataclass(frozen=True)
class Flip:
    """A question that one side mostly solved and the other mostly did not; `seed` where it is that seed's."""

    question: str
    seed: str
    before: float
    after: float


def flips(first: Side, second: Side) -> list[Flip]:
    """Questions that went from below half of their samples right to at least half, or back; largest first."""
    shared = set.intersection(*(set(run) for run in (*first.values(), *second.values())))
    seeds = first.keys() & second.keys()
    if len(shared) >= max((len(first[s].keys() & second[s].keys()) for s in seeds), default=0):
        pairs = [Flip(q, "", _mean(first, q), _mean(second, q)) for q in sorted(shared)]
    else:
        pairs = [
            Flip(q, seed, first[seed][q], second[seed][q])
            for seed in sorted(seeds)
            for q in sorted(set(first[seed]) & set(second[seed]))
        ]
    turned = [pair for pair in pairs if (pair.before < 0.5) != (pair.after < 0.5)]
    return sorted(turned, key=lambda pair: -abs(pair.after - pair.before))


def _mean(side: Side, question: str) -> float:
    return float(np.mean([run[question] for run in side.values()]))


def verdict(gap: Difference | None, first: str, second: str) -> str:
    """The comparison as a sentence, in points of a hundred."""
    if gap is None:
        return f"{first} and {second} are not compared: no question was asked of both"
    size = _size(gap)
    if not math.isfinite(gap.low):
        return f"{second} − {first} is {100 * gap.mean:+.1f} points on {size}: its error is not known"
    if not gap.sign:
        reach = f"{_points(gap.low)} to {_points(gap.high)} points"
        return f"undecided: {second} − {first} is {reach}, {size}{_hint(gap)}"
    better, worse = (second, first) if gap.sign > 0 else (first, second)
    ends = sorted(abs(100 * end) for end in (gap.low, gap.high))
    by = f"by {abs(100 * gap.mean):.1f}, {ends[0]:.1f} to {ends[1]:.1f} points, {size}"
    if min(gap.seeds) >= SEEDS:
        return f"{better} beats {worse} {by}"
    return f"{better} is ahead of {worse} {by}: of these runs alone, recipes need {SEEDS} seeds each"


def _hint(gap: Difference) -> str:
    if gap.needed is None:
        return ""
    what, count = gap.needed
    if min(gap.seeds) < SEEDS:
        return f"; needs at least {count} seeds"
    return f"; needs about {count} seeds" if what == "seeds" else f"; needs about {count} times the questions"


def _size(gap: Difference) -> str:
    few, many = sorted(gap.seeds)
    seeds = f"{few} seed{'s' * (few != 1)}" if few == many else f"{gap.seeds[0]} and {gap.seeds[1]} seeds"
    if not gap.questions:
        return f"{seeds}, not paired: verdicts were not kept"
    return f"{seeds} × {gap.questions:,} question{'s' * (gap.questions != 1)}"


def _points(share: float) -> str:
    return f"{100 * share:.1f}".replace("-", "−")
