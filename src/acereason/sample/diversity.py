"""How different the responses to one prompt are, and the temperature that keeps it from stage to stage.

    diversity = mean over prompts of (distinct n-grams / n-grams) over all responses to the prompt

(distinct-n: Li et al., 1510.03055; POLARIS, 2025, takes a measure of this kind to search for the temperature
of each stage anew, until the rollouts are as diverse as the first stage's). Here n = 4, over tokens (theirs
is not published in full). Longer responses and more of them repeat more, so two measurements are of as many
responses, cut to the same length. `match` finds the T; the rule that remembers what to match is
`sample.rules.Diversity`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import sliding_window_view

from acereason import ranks
from acereason.errors import SamplingError
from acereason.policy.policy import Policy
from acereason.problems import Problem
from acereason.sample.ask import How, requests
from acereason.sample.protocol import Completion, Sampler
from acereason.sample.temperature import T_MAX, T_MIN, WIDER, Point

N = 4
NEAR = 0.01  # of a diversity


def drawn(completions: Sequence[Completion], length: int) -> list[npt.ArrayLike]:
    """What was drawn of the first `length` tokens of responses: a forced end is the same in all of them."""
    pieces: list[npt.ArrayLike] = []
    for completion in completions:
        first, last = completion.forced
        cut = completion.tokens[:length]
        pieces += [cut[:first], cut[last:]]
    return pieces


def distinct(pieces: Sequence[npt.ArrayLike]) -> float | None:
    """The share of n-grams that are distinct in the responses to one prompt, or in their pieces; None where
    there is no n-gram.

    >>> distinct([[1, 2, 3, 4, 5], [1, 2, 3, 4, 6]])
    0.75
    """
    rows = [np.asarray(piece, np.int64) for piece in pieces]
    windows = [sliding_window_view(row, N) for row in rows if len(row) >= N]
    if not windows:
        return None
    a, b, c, d = np.concatenate(windows).T
    pairs = np.unique(np.stack([a << 32 | b, c << 32 | d]), return_inverse=True)[1].reshape(2, -1)
    return len(np.unique(pairs[0] << 32 | pairs[1])) / len(a)


def mean(values: Sequence[float | None]) -> tuple[float, float]:
    """The mean over prompts and its standard error, of those that have a value; NaN where nothing is
    known."""
    known = [value for value in values if value is not None]
    if not known:
        return math.nan, math.nan
    se = float(np.std(known, ddof=1)) / math.sqrt(len(known)) if len(known) > 1 else math.nan
    return float(np.mean(known)), se


class Anchor(NamedTuple):
    """What later stages match: the diversity of a stage's responses to a prompt, `samples` of them cut to
    `length` tokens."""

    diversity: float
    length: int
    samples: int


@dataclass(frozen=True, slots=True)
class Match:
    """The measurements, the chosen T, and the diversity measured there on fresh samples."""

    target: float
    T: float
    check: Point
    points: tuple[Point, ...]

    def row(self) -> dict[str, object]:
        """As a row of metrics, like that of a `Calibration`; H is a diversity."""
        return asdict(self) | {"quantity": "diversity"}


def begun(at: Callable[[float, int], Point], T: float) -> Match:
    """What a first stage measures at the T that it is given: the target of later ones."""
    point = _known(at(T, 0))
    return Match(point.H, T, point, (point,))


def match(
    at: Callable[[float, int], Point], target: float, candidates: Sequence[float], rounds: int = 3
) -> Match:
    """The T whose diversity is `target`. Between what was measured, diversity is taken to rise evenly with T;
    the candidates widen by themselves until they enclose the target, and the T chosen is measured, as a
    candidate more where it is off. `at(T, round)` measures; each round must use fresh draws.

    SamplingError: no T in [T_MIN, T_MAX] is as diverse, or as little."""
    points = sorted((_known(at(T, 0)) for T in candidates), key=lambda p: p.T)
    while target > points[-1].H + _noise(points[-1]) and points[-1].T < T_MAX:
        points.append(_known(at(min(points[-1].T * WIDER, T_MAX), 0)))
    while target < points[0].H - _noise(points[0]) and points[0].T > T_MIN:
        points.insert(0, _known(at(max(points[0].T / WIDER, T_MIN), 0)))
    for round_ in range(1, rounds + 1):
        check = _known(at(_solved(points, target), round_))
        points = sorted([*points, check], key=lambda p: p.T)
        if abs(check.H - target) <= _noise(check):
            break
    return Match(target, check.T, check, tuple(points))


def _solved(points: Sequence[Point], target: float) -> float:
    """The T of the target on the line through the points, made to rise where noise makes it fall."""
    risen = np.maximum.accumulate([p.H for p in points]).tolist()
    if not risen[0] - _noise(points[0]) <= target <= risen[-1] + _noise(points[-1]):
        told = ", ".join(f"{p.H:.3f} at {p.T:.2f}" for p in points)
        raise SamplingError(
            f"no temperature gives the diversity {target:.3f} that an earlier stage had: measured {told}. "
            'Name a temperature of your own: rule = "fixed", with a value'
        )
    return float(np.interp(target, *_rising(risen, [p.T for p in points])))


def _noise(point: Point) -> float:
    """How far from a target a measurement may be and still meet it."""
    return NEAR if math.isnan(point.se) else max(NEAR, 2 * point.se)


def _rising(values: Sequence[float], temperatures: Sequence[float]) -> tuple[list[float], list[float]]:
    """Each value once, with the middle of the temperatures that have it."""
    steps = [
        [T for _, T in some] for _, some in groupby(zip(values, temperatures, strict=True), lambda p: p[0])
    ]
    return sorted(set(values)), [(some[0] + some[-1]) / 2 for some in steps]


def _known(point: Point) -> Point:
    if math.isnan(point.H):
        raise SamplingError(
            f"no response at T = {point.T:.3g} has {N} tokens: their diversity cannot be measured"
        )
    return point


def measured(
    policy: Policy,
    sampler: Sampler,
    problems: Sequence[Problem],
    how: Callable[[float, int], How],
    length: int,
) -> Callable[[float, int], Point]:
    """A function (T, round) → Point that asks the problems as `how` says and measures the diversity of the
    first `length` tokens; every rank asks its share."""
    own = ranks.share(problems)

    def at(T: float, round_: int) -> Point:
        found: dict[int, list[Completion]] = {}
        for completion in sampler.sample(requests(policy, own, how(T, round_))):
            found.setdefault(completion.request.key[0], []).append(completion)
        values = [distinct(drawn(found[place], length)) for place in sorted(found)]
        return Point(T, *mean(ranks.merged(values)))

    return at
