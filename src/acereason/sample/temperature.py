"""Temperature: measuring the temperature-adjusted entropy, choosing T for it, and holding it.

    H_T = mean over response tokens of the entropy of softmax(logits / T), in nats, on responses sampled at T

(recipe §3; the paper picks the constant T whose H_T is about 0.3 by hand). Every generated token counts,
truncated responses and groups without advantage included. Two ways to measure it:

* exactly, where the sampler returns each token's entropy;
* without logits: -log π_T(sampled token) is an unbiased estimate of that entropy, so any server that
  returns log-probabilities of the tempered distribution can be calibrated.

`calibrate` measures H at some temperatures, fits log H as a quadratic in log T, takes the T that the fit
gives the target, measures there, and refines. `Tracker` then keeps H_T at the target while the policy
changes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np

from acereason import ranks
from acereason.config import Temperature
from acereason.errors import SamplingError
from acereason.policy.policy import Policy
from acereason.problems import Problem
from acereason.sample.ask import How, requests
from acereason.sample.protocol import Completion, Request, Sampler

T_MIN, T_MAX = 0.05, 5.0


@dataclass(frozen=True, slots=True)
class Point:
    """H_T measured at one T, with its standard error over prompts."""

    T: float
    H: float
    se: float


@dataclass(frozen=True, slots=True)
class Calibration:
    """The curve, the chosen T, and H_T measured there on fresh samples."""

    target: float
    T: float
    check: Point
    points: tuple[Point, ...]
    elasticity: float  # d log H / d log T at the chosen T

    def row(self) -> dict[str, object]:
        """As a row of metrics."""
        return asdict(self)


def entropy_of(completions: Iterable[Completion], exact: bool = True) -> tuple[float, float]:
    """Token-weighted mean entropy and its standard error (a ratio estimate over responses, so long and
    short responses are weighed as they are)."""
    sums, counts = [], []
    for total, count in _sums(completions, exact):
        sums.append(total)
        counts.append(count)
    return mean_entropy(sums, counts)


def _sums(completions: Iterable[Completion], exact: bool) -> list[tuple[float, int]]:
    """Each response's sum of entropies and number of tokens."""
    return [(float(c.entropy.sum() if exact else -c.logprobs.sum()), len(c.tokens)) for c in completions]


def mean_entropy(sums: Sequence[float], counts: Sequence[int]) -> tuple[float, float]:
    """As `entropy_of`, from each response's sum of entropies and number of tokens."""
    total, n = sum(counts), len(counts)
    if not total:
        raise SamplingError("no response token was sampled, so there is no entropy to measure")
    mean = sum(sums) / total
    residual = np.asarray(sums) - mean * np.asarray(counts)
    se = math.sqrt(float((residual**2).sum()) * n / max(n - 1, 1)) / total
    return mean, se


def measure(
    sampler: Sampler, wanted: Callable[[float, int], Sequence[Request]], exact: bool = True
) -> Callable[[float, int], Point]:
    """A function (T, round) → Point that samples `wanted(T, round)` and measures H_T, over all ranks."""

    def at(T: float, round_: int) -> Point:
        own = _sums(sampler.sample(wanted(T, round_)), exact)
        responses = ranks.merged(own)
        mean, se = mean_entropy([total for total, _ in responses], [count for _, count in responses])
        return Point(T, mean, se)

    return at


def fit(points: Sequence[Point]) -> np.poly1d:
    """log H as a polynomial in log T (quadratic from three points on), weighted by relative error."""
    x = np.log([p.T for p in points])
    y = np.log([max(p.H, 1e-6) for p in points])
    weights = [max(p.H, 1e-6) / max(p.se, 0.01 * p.H, 1e-6) for p in points]
    return np.poly1d(np.polyfit(x, y, min(2, len(set(x)) - 1), w=weights))


def solve(points: Sequence[Point], target: float) -> float:
    """The T that the fitted curve gives `target`, at most a factor 1.5 beyond the measured range."""
    low = max(T_MIN, min(p.T for p in points) / 1.5)
    high = min(T_MAX, max(p.T for p in points) * 1.5)
    grid = np.linspace(math.log(low), math.log(high), 2001)
    values = np.maximum.accumulate(fit(points)(grid))  # H rises with T: a sagging fit is made flat
    index = int(np.searchsorted(values, math.log(target)))
    return float(math.exp(grid[min(index, len(grid) - 1)]))


def calibrate(
    at: Callable[[float, int], Point],
    target: float,
    candidates: Sequence[float],
    tolerance: float = 0.01,
    rounds: int = 4,
) -> Calibration:
    """The T whose H_T is `target`. `at(T, round)` measures; each round must use fresh draws.

    Stops when a fresh measurement at the chosen T is within `tolerance` of the target, or after `rounds`.
    Raises SamplingError when no T in reach meets the target, with the curve that was measured."""
    points = [at(T, 0) for T in candidates]
    nearest = points[0]
    for round_ in range(1, rounds + 1):
        T = solve(points, target)
        check = at(T, round_)
        if round_ == 1 or abs(check.H - target) < abs(nearest.H - target):
            nearest = check
        points.append(check)
        if abs(check.H - target) <= tolerance:
            break
        points.sort(key=lambda p: abs(math.log(max(p.H, 1e-6) / target)))
        points = [*points[: max(4, len(candidates))]]
    if abs(nearest.H - target) > max(0.1 * target, 3 * nearest.se, 0.03):
        curve = ", ".join(f"H({p.T:.2f}) = {p.H:.3f}" for p in sorted(points, key=lambda p: p.T))
        raise SamplingError(
            f"no temperature gives an entropy of {target}: measured {curve}. Give candidates around "
            'the wanted temperature, another target, or rule = "fixed"'
        )
    ordered = tuple(sorted(points, key=lambda p: p.T))
    slope = float(np.polyder(fit(points))(math.log(nearest.T)))
    return Calibration(target, nearest.T, nearest, ordered, min(max(slope, 0.5), 4.0))


def calibrate_policy(
    policy: Policy,
    sampler: Sampler,
    problems: Sequence[Problem],
    budget: int,
    rule: Temperature,
    label: Sequence[int | str],
) -> Calibration:
    """Calibrate on the first `rule.prompts` problems, one response each at every temperature; every rank
    asks its share."""

    def at(T: float, round_: int) -> Sequence[Request]:
        key = (*label, "calibrate", round_, round(T * 1e6))
        how = How(samples=1, budget=budget, temperature=T, label=key)
        return list(requests(policy, ranks.share(problems[: rule.prompts]), how))

    return calibrate(measure(sampler, at), rule.target, sorted(rule.candidates))


@dataclass(slots=True)
class Tracker:
    """Holds H_T at `target`: after each step log T moves by `gain` times the correction that the curve's
    elasticity says, log(target / H) / elasticity. Its state is `T` alone."""

    T: float
    target: float
    gain: float
    elasticity: float

    @staticmethod
    def of(rule: Temperature, state: Mapping[str, float]) -> Tracker:
        """The rule's, as it stood."""
        gain = rule.gain if rule.rule == "track" else 0.0
        return Tracker(state["T"], rule.target, gain, state["elasticity"])

    def state(self) -> dict[str, float]:
        """What a checkpoint keeps."""
        return {"T": self.T, "elasticity": self.elasticity}

    def observe(self, H: float) -> None:
        """Take one step's H_T, over all generated tokens of the batch, and move T."""
        correction = math.log(self.target / max(H, 1e-3)) / self.elasticity
        self.T = min(max(self.T * math.exp(self.gain * correction), T_MIN), T_MAX)
