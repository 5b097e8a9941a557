"""Temperature: the estimate of H_T, and calibration against known curves, with noise and without."""

from __future__ import annotations

import math
import random
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from acereason.errors import SamplingError
from acereason.sample.protocol import Completion, Request
from acereason.sample.temperature import T_MAX, Point, calibrate, entropy_of, mean_entropy, solve


def tempered(logits: np.ndarray, T: float) -> np.ndarray:
    z = logits / T
    p = np.exp(z - z.max(-1, keepdims=True))
    return np.asarray(p / p.sum(-1, keepdims=True))


def entropy(p: np.ndarray) -> np.ndarray:
    return np.asarray(-(p * np.log(p)).sum(-1))


def completions(T: float, seed: int, responses: int = 400) -> list[Completion]:
    """Responses of random lengths whose tokens are drawn from known distributions."""
    rng = np.random.default_rng(seed)
    made = []
    for _ in range(responses):
        n = int(rng.integers(1, 40))
        p = tempered(rng.normal(0, 2, (n, 12)), T)
        tokens = np.array([rng.choice(12, p=row) for row in p], np.int32)
        logprobs = np.log(p[np.arange(n), tokens]).astype(np.float32)
        H = entropy(p).astype(np.float32)
        made.append(Completion(Request([0], 50, T, 0), tokens, logprobs, H, H, "stop"))
    return made


def test_sampled_logprobs_estimate_the_exact_entropy_without_bias() -> None:
    errors = []
    for seed in range(12):
        batch = completions(0.8, seed, 150)
        exact, _ = entropy_of(batch)
        estimate, se = entropy_of(batch, exact=False)
        errors.append((estimate - exact) / se)
    assert abs(np.mean(errors)) < 3 / math.sqrt(12)


def test_the_standard_error_covers() -> None:
    means, ses = zip(*(entropy_of(completions(1.0, seed, 60)) for seed in range(40)), strict=True)
    assert 0.6 < np.std(means) / np.mean(ses) < 1.6


def test_every_token_counts_the_same() -> None:
    def one(n: int, H: float) -> Completion:
        array = np.full(n, H, np.float32)
        return Completion(Request([0], 99, 1, 0), np.zeros(n, np.int32), -array, array, array, "length")

    mean, _ = entropy_of([one(90, 0.1), one(10, 1.1)])
    assert mean == pytest.approx(0.2)
    with pytest.raises(SamplingError, match="no response token"):
        entropy_of([])


def test_the_error_of_a_single_prompt_is_not_known() -> None:
    mean, se = mean_entropy([3.0], [10])
    assert mean == pytest.approx(0.3) and math.isnan(se)


class Curve:
    """H = level (T / 0.85)^power, or any function of T, measured with noise; counts what was measured."""

    def __init__(self, of: Callable[[float], float], noise: float = 0.0, seed: int = 0) -> None:
        self.of, self.noise, self.random = of, noise, random.Random(seed)
        self.measured: list[float] = []

    def __call__(self, T: float, round_: int) -> Point:
        self.measured.append(T)
        H = max(1e-3, self.of(T) + self.random.gauss(0, self.noise))
        return Point(T, H, self.noise or 1e-4)


def power(exponent: float, level: float = 0.3) -> Callable[[float], float]:
    return lambda T: level * (T / 0.85) ** exponent


@pytest.mark.parametrize("target", [0.1, 0.3, 0.8])
@pytest.mark.parametrize("seed", range(3))
def test_calibration_meets_its_target(target: float, seed: int) -> None:
    of = power(1.6, 0.25)
    met = calibrate(Curve(of, 0.004, seed), target, (0.6, 0.8, 1.0, 1.2))
    assert abs(of(met.T) - target) < 0.03
    assert 1.0 < met.elasticity < 2.4


@pytest.mark.parametrize("candidates", [(0.6, 0.8, 1.0, 1.2), (0.3, 0.6)])
@pytest.mark.parametrize("exponent", [1.0, 1.9, 3.5])
@pytest.mark.parametrize("noise", [0.004, 0.03])
def test_the_elasticity_is_near_the_true_one_however_noisy(
    candidates: tuple[float, ...], exponent: float, noise: float
) -> None:
    """It sets the tracker's step. Fitted to the few points near the target it would be fitted to noise."""
    of = power(exponent)
    met = [calibrate(Curve(of, noise, seed), 0.3, candidates) for seed in range(20)]
    ratios = np.array([c.elasticity for c in met]) / exponent
    within = 0.25 if noise < 0.01 else 1.0
    assert np.all(np.abs(np.log(ratios)) < np.log(1 + within)), ratios
    assert np.mean([abs(of(c.T) - 0.3) for c in met]) < 0.006 + 0.6 * noise


def test_the_candidates_widen_by_themselves() -> None:
    """After SFT of a real base model (0.067, 0.096, 0.117, 0.165 at T 0.6, 0.85, 1, 1.3) 0.3 lies beyond."""
    T, H = np.log([0.6, 0.85, 1.0, 1.3]), np.log([0.067, 0.096, 0.117, 0.165])
    line = np.polyfit(T, H, 1)
    curve = Curve(lambda T: float(np.exp(np.polyval(line, math.log(T)))), 0.003)
    met = calibrate(curve, 0.3, (0.6, 0.8, 1.0, 1.2))
    assert abs(curve.of(met.T) - 0.3) < 0.02 and met.T > 1.6
    low = Curve(power(2.0), 0.002)
    assert pytest.approx(0.85 / 15**0.5, rel=0.2) == calibrate(low, 0.02, (0.6, 0.8, 1.0, 1.2)).T
    assert len(curve.measured) < 12 and len(low.measured) < 12


@pytest.mark.parametrize("exponent", [8.0, 20.0])
def test_a_steep_curve_is_met_between_what_was_measured(exponent: float) -> None:
    """A fit that overshoots gives way to the middle of the temperatures clearly below and above."""
    of = power(exponent)
    met = calibrate(Curve(lambda T: min(of(T), 9.0), 0.01), 0.3, (0.6, 0.8, 1.0, 1.2))
    assert abs(of(met.T) - 0.3) < 0.06


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.floats(0.01, 0.06), st.floats(0.6, 4.0), st.floats(0.5, 1.6))
def test_noise_alone_never_fails_a_calibration(seed: int, noise: float, exponent: float, at: float) -> None:
    calibrate(Curve(power(exponent), noise, seed), 0.3 * (at / 0.85) ** exponent, (0.6, 0.8, 1.0, 1.2))


def test_a_target_out_of_reach_is_an_error_with_the_curve_and_the_reach() -> None:
    flat = Curve(lambda T: 0.2)
    with pytest.raises(SamplingError, match=r"as high as 1\.5: measured H\(0\.60\) = 0\.200") as high:
        calibrate(flat, 1.5, (0.6, 1.0))
    assert max(flat.measured) == T_MAX and "In reach is about 0.2 to 0.2 nats" in str(high.value)
    with pytest.raises(SamplingError, match=r"as low as 0\.01"):
        calibrate(flat, 0.01, (0.6, 1.0))
    with pytest.raises(SamplingError, match=r"jumps over the target of 0\.3"):
        calibrate(Curve(lambda T: 0.1 if T < 0.9 else 2.0, 0.001), 0.3, (0.6, 1.2))


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_an_entropy_that_is_no_number_is_said_with_what_was_measured(bad: float) -> None:
    def broken(T: float, round_: int) -> Point:
        return Point(T, bad if T > 0.9 else 0.1, 0.01)

    with pytest.raises(SamplingError, match=r"at T = 1 is not a finite number.*H\(0\.60\) = 0\.100"):
        calibrate(broken, 0.3, (0.6, 1.0, 1.4))


@settings(max_examples=50, deadline=None)
@given(st.floats(0.05, 2.0), st.floats(0.1, 0.6), st.floats(0.8, 3.0))
@example(1.625, 0.34375, 2.375)  # the fit ends at the last T that is looked at
def test_solve_inverts_a_power_curve(target: float, scale: float, exponent: float) -> None:
    points = [Point(T, scale * T**exponent, 0.001 * scale) for T in (0.5, 0.8, 1.0, 1.3)]
    T = solve(points, target)
    wanted = (target / scale) ** (1 / exponent)
    if 0.5 / 1.5 < wanted < 1.3 * 1.5:
        assert pytest.approx(wanted, rel=0.05 if 0.5 <= wanted <= 1.3 else 0.1) == T  # beyond, less sure
    else:
        assert 0.5 / 1.51 < T < 1.3 * 1.51
