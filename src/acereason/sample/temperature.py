"""Temperature: measuring the temperature-adjusted entropy, and choosing T for it.

    H_T = mean over response tokens of the entropy of softmax(logits / T), in nats, on responses sampled at T

(recipe §3; the paper picks the constant T whose H_T is about 0.3 by hand). Every generated token counts,
truncated responses and groups without advantage included. Two ways to measure it:

* exactly, where the sampler returns each token's entropy;
* without logits: -log π_T(sampled token) is an unbiased estimate of that entropy, so any server that
  returns log-probabilities of the tempered distribution can be calibrated.

`calibrate` measures H at some temperatures, widens them until they enclose the target, fits log H as a
quadratic in log T to all that was measured, takes the T that the fit gives the target, measures there, and
refines. `Tracker` then keeps H_T at the target while the policy changes. Which of this a stage does is a rule
of `sample.rules`.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import numpy.typing as npt

from acereason import ranks
from acereason.config import Temperature
from acereason.errors import SamplingError
from acereason.policy.policy import Policy
from acereason.problems import Problem
from acereason.sample.ask import How, requests
from acereason.sample.protocol import Completion, Request, Sampler

log = logging.getLogger(__name__)
Numbers = npt.NDArray[np.float64]
T_MIN, T_MAX = 0.05, 5.0
WIDER = 1.5  # factor beyond the measured temperatures
ELASTICITY, SPREAD, BEND = 1.7, 1.0, 1.0  # d log H / d log T before anything is measured, ± ; its change, ±


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
    """Token-weighted mean entropy and its standard error, of responses to different prompts (a ratio
    estimate, so long and short responses are weighed as they are)."""
    sums = _sums(completions, exact)
    return mean_entropy([total for total, _ in sums], [count for _, count in sums])


def _sums(completions: Iterable[Completion], exact: bool) -> list[tuple[float, int]]:
    """Each response's sum of entropies and number of drawn tokens."""
    return [(float(c.entropy.sum() if exact else -c.logprobs.sum()), c.drawn) for c in completions]


def mean_entropy(sums: Sequence[float], counts: Sequence[int]) -> tuple[float, float]:
    """As `entropy_of`, from each prompt's sum of entropies and number of tokens over all its responses, which
    are not independent. The error of a single prompt is not known: NaN."""
    total, n = sum(counts), len(counts)
    if not total:
        raise SamplingError("no response token was sampled, so there is no entropy to measure")
    mean = sum(sums) / total
    if n < 2:
        return mean, math.nan
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


def fit(points: Sequence[Point], target: float) -> np.poly1d:
    """log H as a quadratic in log T, by least squares in H: every point counts by its standard error, and by
    how near the target it is, since far from it the curve need not be a quadratic. Where noise leaves the
    elasticity open it stays near ELASTICITY."""
    x = np.log([p.T for p in points])
    H = np.array([p.H for p in points])
    relative = 0.02 + 0.1 * np.abs(np.log(np.maximum(H, 1e-6) / target))
    errors = np.hypot(np.nan_to_num([p.se for p in points]), relative * np.maximum(H, 0.1 * target))
    centre = float(np.average(x, weights=relative**-2))  # where the target is about
    powers = np.vander(x - centre, 3)  # curvature, elasticity, level
    prior, weight = np.array([0.0, ELASTICITY, 0.0]), np.array([BEND**-2, SPREAD**-2, 0.0])

    def loss(theta: Numbers) -> float:
        residuals = (H - _exp(powers @ theta)) / errors
        return float(residuals @ residuals + weight @ (theta - prior) ** 2)

    theta, damping = np.array([0.0, ELASTICITY, math.log(max(float(H.mean()), 1e-6))]), 1e-3
    for _ in range(200):  # Levenberg and Marquardt
        values = _exp(powers @ theta)
        slope = powers * (values / errors)[:, None]
        pull = slope.T @ ((H - values) / errors) + weight * (prior - theta)
        step = np.linalg.solve(slope.T @ slope + np.diag(weight + damping), pull)
        better = loss(theta + step) <= loss(theta)
        theta, damping = (theta + step, damping / 3) if better else (theta, damping * 5)
        if (better and np.abs(step).max() < 1e-9) or damping > 1e12:
            break
    return np.poly1d(theta)(np.poly1d([1.0, -centre]))


def _exp(values: Numbers) -> Numbers:
    return np.asarray(np.exp(np.clip(values, -50.0, 50.0)))


def solve(points: Sequence[Point], target: float) -> float:
    """The T that the fitted curve gives `target`, at most a factor WIDER beyond the measured temperatures. A
    fit that leaves the temperatures measured clearly below and above the target gives way to their middle."""
    ends = min(p.T for p in points) / WIDER, max(p.T for p in points) * WIDER
    grid = np.linspace(math.log(ends[0]), math.log(ends[1]), 2001)
    values = np.maximum.accumulate(fit(points, target)(grid))  # H rises with T: a sagging fit is made flat
    index = int(np.searchsorted(values, math.log(target)))
    T = float(math.exp(grid[min(index, len(grid) - 1)]))
    below = max((p.T for p in points if _apart(p, target) < -2), default=0.0)
    above = min((p.T for p in points if _apart(p, target) > 2), default=math.inf)
    if below < T < above or below >= above:
        return T
    return math.sqrt(max(below, ends[0]) * min(above, ends[1]))


def _apart(point: Point, target: float) -> float:
    """How far a measurement is from the target, in standard errors, of which 1 % of it is the least."""
    return (point.H - target) / max(0.0 if math.isnan(point.se) else point.se, 0.01 * target)


def calibrate(
    at: Callable[[float, int], Point | float],
    target: float,
    candidates: Sequence[float],
    tolerance: float = 0.01,
    rounds: int = 8,
) -> Calibration:
    """The T whose H_T is `target`. `at(T, round)` measures, as a point or a number without an error; each
    round must use fresh draws.

    >>> calibration = calibrate(lambda T, _: 0.3 * T**2, target=0.3, candidates=[0.6, 0.8, 1.2])
    >>> round(calibration.T, 2)
    1.0

    The candidates widen by themselves until they enclose the target. Stops when all measurements together say
    that the target is met within `tolerance` at the T measured last, or after `rounds`. Raises SamplingError,
    with the curve that was measured and what is in reach, when no T in [T_MIN, T_MAX] meets the target, when
    the entropy jumps over it, or when it is not a number."""
    points: list[Point] = []
    measured = _measuring(at)
    for T in sorted(candidates):
        points.append(_finite(measured(T, 0), points))
    _widen(measured, points, target)
    for round_ in range(1, rounds + 1):
        check = _finite(measured(solve(points, target), round_), points)
        points.append(check)
        curve = fit(points, target)
        elasticity = min(max(float(np.polyder(curve)(math.log(check.T))), 0.5), 6.0)
        away = abs(math.log(solve(points, target) / check.T)) * elasticity * target
        if away <= tolerance and abs(check.H - target) <= _noise(check, target):
            break
    if abs(check.H - target) > _noise(check, target):
        raise SamplingError(f"the entropy jumps over the target of {target}: {_reach(points)}")
    return Calibration(target, check.T, check, tuple(sorted(points, key=lambda p: p.T)), elasticity)


def _measuring(at: Callable[[float, int], Point | float]) -> Callable[[float, int], Point]:
    """Measurements as points; a plain number is known to a hundredth of itself."""

    def point(T: float, round_: int) -> Point:
        measured = at(T, round_)
        return (
            measured
            if isinstance(measured, Point)
            else Point(T, float(measured), 0.01 * abs(float(measured)))
        )

    return point


def _noise(point: Point, target: float) -> float:
    """More than chance takes a measurement from the target; a tenth of it is near enough anyway."""
    return math.inf if math.isnan(point.se) else max(0.1 * target, 4 * point.se)


def _widen(at: Callable[[float, int], Point], points: list[Point], target: float) -> None:
    """Measure beyond the candidates until one is not clearly below, and one not clearly above the target."""
    while _apart(top := max(points, key=lambda p: p.T), target) < -2:
        if top.T >= T_MAX:
            raise SamplingError(f"no temperature gives an entropy as high as {target}: {_reach(points)}")
        points.append(_finite(at(min(top.T * WIDER, T_MAX), 0), points))
    while _apart(bottom := min(points, key=lambda p: p.T), target) > 2:
        if bottom.T <= T_MIN:
            raise SamplingError(f"no temperature gives an entropy as low as {target}: {_reach(points)}")
        points.append(_finite(at(max(bottom.T / WIDER, T_MIN), 0), points))


def _finite(point: Point, before: Sequence[Point]) -> Point:
    if not math.isfinite(point.H):
        raise SamplingError(
            f"the entropy at T = {point.T:.3g} is not a finite number: the model's log-probabilities are "
            f"broken there; check its weights and precision. Measured before: {_curve(before) or 'nothing'}"
        )
    return point


def _curve(points: Sequence[Point]) -> str:
    return ", ".join(f"H({p.T:.2f}) = {p.H:.3f}" for p in sorted(points, key=lambda p: p.T))


def _reach(points: Sequence[Point]) -> str:
    """What was measured, and what to do."""
    low, high = (choose(p.H for p in points) for choose in (min, max))
    return (
        f"measured {_curve(points)}. In reach is about {low:.3g} to {high:.3g} nats; choose a target there, "
        'or rule = "fixed" with a value of your own'
    )


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
    elasticity says, log(target / H) / elasticity, and T by at most `max_factor`. Its state is `T` alone. With
    a gain of 0, and where H is not a number, T stays what it is."""

    T: float
    target: float
    gain: float
    elasticity: float
    max_factor: float = 1.1

    def observe(self, H: float) -> None:
        """Take one step's H_T, over all generated tokens of the batch, and move T."""
        if self.gain == 0.0:
            return
        if not math.isfinite(H):
            log.warning("a step's entropy is %s: the temperature stays at %.3f", H, self.T)
            return
        wanted = self.gain * math.log(self.target / max(H, 1e-6)) / self.elasticity
        most = math.log(self.max_factor)
        moved = self.T * math.exp(min(max(wanted, -most), most))
        self.T = min(max(moved, min(T_MIN, self.T)), max(T_MAX, self.T))
