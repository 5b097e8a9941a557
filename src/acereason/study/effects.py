"""The numbers that decide a claim, each with a 95 % interval over seeds and questions.

resample:  seeds with replacement, and in each its questions with replacement (`evaluate.seeds`)
statistic: contrast, slope, fit, vertex or solved, of the means that are drawn
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from acereason.errors import ConfigError, DataError
from acereason.evaluate.seeds import Column, Floats, drawn, plain, widening
from acereason.study.records import Record
from acereason.study.spec import Effect
from acereason.study.tables import Arms, column, solved

RESAMPLES = 4000
Z95 = 1.959963984540054


@dataclass(frozen=True)
class Estimate:
    """`value` with its interval, standard error and p (two-sided) against δ; `by_seed`: of each seed."""

    name: str
    value: float
    low: float
    high: float
    se: float
    p: float
    by_seed: tuple[float, ...]


def estimate(effect: Effect, arms: Arms, seeds: Sequence[int], resamples: int = RESAMPLES) -> Estimate:
    """The effect with its interval. DataError names an arm that is missing."""
    columns = [_columns(effect, arms, seed) for seed in seeds]
    value = float(_statistic(effect, plain(columns))[0])
    tried = value + widening(len(seeds)) * (_statistic(effect, drawn(columns, resamples)) - value)
    tried = tried[np.isfinite(tried)]
    low, high = np.quantile(tried, [0.025, 0.975]) if len(tried) else (math.nan, math.nan)
    se = float(tried.std()) if len(tried) else math.nan
    each = tuple(float(_statistic(effect, plain([c]))[0]) for c in columns)
    return Estimate(effect.name, value, float(low), float(high), se, _p(value - effect.delta, se), each)


def interval(columns: Sequence[Column], resamples: int = 1000) -> tuple[float, float, float]:
    """A plain mean over seeds with its 95 % interval, for figures."""
    table = [[c] for c in columns]
    value = float(plain(table)[0, 0])
    tried = value + widening(len(columns)) * (drawn(table, resamples)[:, 0] - value)
    low, high = np.quantile(tried, [0.025, 0.975])
    return value, float(low), float(high)


def _p(distance: float, se: float) -> float:
    if not se or not math.isfinite(se):
        return 1.0 if not distance else 0.0
    return 2 * (1 - NormalDist().cdf(abs(distance) / se))


def _columns(effect: Effect, arms: Arms, seed: int) -> list[Column]:
    """What the effect needs of one seed, in the order that `_statistic` reads."""
    if effect.kind == "solved":
        return _solved(effect, arms, seed)
    return [column(_arm(arms, arm, seed), measure, effect.domain) for arm, measure in _needed(effect)]


def _needed(effect: Effect) -> list[tuple[str, str]]:
    """(arm, measure) of each column."""
    if effect.kind == "contrast":
        parts = (term.partition(" | ") for term in effect.terms)
        return [(arm, measure or effect.measure) for arm, _, measure in parts]
    if effect.kind == "slope":
        return [(arm, effect.measure) for pair in effect.pairs for arm in pair]
    needed = [(str(point[0]), effect.measure) for point in effect.points]
    named = [(str(p[0]), p[1]) for p in effect.points if effect.kind == "vertex" and isinstance(p[1], str)]
    return needed + named


def _solved(effect: Effect, arms: Arms, seed: int) -> list[Column]:
    """New by `after`, and new by `chance`, of the questions that `before` never solved; in points of all."""
    before, questions = solved(_arm(arms, effect.before, seed), effect.domain)
    gains = []
    for name in (effect.after, effect.chance):
        right, same = solved(_arm(arms, name, seed), effect.domain)
        if same != questions:
            raise DataError(f"{name} and {effect.before} were asked different questions")
        gains.append(Column(np.where(right & ~before, 100.0, 0.0), questions))
    return gains


def _arm(arms: Arms, name: str, seed: int) -> Record:
    if (name, seed) not in arms:
        raise DataError(f"arm {name}, seed {seed}, has not been run")
    return arms[name, seed]


def _statistic(effect: Effect, means: Floats) -> Floats:
    """[B] the effect from [B, C] means."""
    if effect.kind == "contrast":
        return np.asarray(means @ np.array(list(effect.terms.values())))
    if effect.kind == "solved":
        return np.asarray(means[:, 0] - means[:, 1])
    if effect.kind == "slope":
        return _slope(means[:, 0::2], means[:, 1::2])
    if effect.kind == "fit":
        return _fit(effect, means)
    return _vertex(effect, means)


def _slope(x: Floats, y: Floats) -> Floats:
    """[B] least-squares slope of y on x, both [B, N]."""
    x = x - x.mean(1, keepdims=True)
    return np.asarray((x * y).sum(1) / (x * x).sum(1))


def _fit(effect: Effect, y: Floats) -> Floats:
    """[B] a coefficient of y ~ a·x1 + b·x2 + c over the points, predictors standardised as the paper does."""
    x = np.array([[float(p[1]), float(p[2])] for p in effect.points])
    x = (x - x.mean(0)) / x.std(0)
    design = np.column_stack([x, np.ones(len(x))])
    solution = np.linalg.lstsq(design, y.T, rcond=None)[0]
    a, b = solution[0], solution[1]
    if effect.coefficient == "R2":
        left = ((y.T - design @ solution) ** 2).sum(0)
        return np.asarray(1 - left / ((y - y.mean(1, keepdims=True)) ** 2).sum(1))
    return np.asarray({"a": a, "b": b, "a - b": a - b}[effect.coefficient])


def _vertex(effect: Effect, means: Floats) -> Floats:
    """[B] the x at which a parabola in log x through the points is largest; NaN where it opens upwards or the
    place lies beyond the points."""
    n = len(effect.points)
    named = [isinstance(p[1], str) for p in effect.points]
    if any(named) and not all(named):
        raise ConfigError(f"{effect.name}: x is a number or a measure for all points alike")
    x = means[:, n:] if all(named) else np.tile([float(p[1]) for p in effect.points], (len(means), 1))
    peaks = np.full(len(means), math.nan)
    for row, (xs, ys) in enumerate(zip(np.log(np.maximum(x, 1e-9)), means[:, :n], strict=True)):
        square, line, _ = np.polyfit(xs, ys, 2)
        place = -line / (2 * square) if square < 0 else math.inf
        if xs.min() <= place <= xs.max():
            peaks[row] = math.exp(place)
    return peaks
