"""Temperature: the estimate of H_T, calibration against a known curve, and holding a target."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from acereason.errors import SamplingError
from acereason.sample.protocol import Completion, Request
from acereason.sample.temperature import Point, Tracker, calibrate, entropy_of, solve


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


def known_curve(noise: float, seed: int) -> object:
    rng = random.Random(seed)

    def at(T: float, round_: int) -> Point:
        H = 0.33 * T**1.6
        return Point(T, max(1e-3, H + rng.gauss(0, noise)), noise or 1e-4)

    return at


@pytest.mark.parametrize("target", [0.1, 0.3, 0.8])
@pytest.mark.parametrize("seed", range(5))
def test_calibration_meets_its_target(target: float, seed: int) -> None:
    found = calibrate(known_curve(0.004, seed), target, (0.6, 0.8, 1.0, 1.2))  # type: ignore[arg-type]
    assert abs(0.33 * found.T**1.6 - target) < 0.03
    assert 1.0 < found.elasticity < 2.4


def test_a_target_out_of_reach_is_an_error_with_the_curve() -> None:
    def flat(T: float, round_: int) -> Point:
        return Point(T, 0.2, 0.001)

    with pytest.raises(SamplingError, match=r"H\(0\.60\) = 0\.200"):
        calibrate(flat, 1.5, (0.6, 1.0))


@settings(max_examples=50, deadline=None)
@given(st.floats(0.05, 2.0), st.floats(0.1, 0.6), st.floats(0.8, 3.0))
def test_solve_inverts_a_power_curve(target: float, scale: float, power: float) -> None:
    points = [Point(T, scale * T**power, 0.001) for T in (0.5, 0.8, 1.0, 1.3)]
    T = solve(points, target)
    wanted = (target / scale) ** (1 / power)
    assert pytest.approx(min(max(wanted, 0.5 / 1.5), 1.3 * 1.5), rel=0.01) == T


@pytest.mark.parametrize("elasticity", [0.8, 1.6, 2.5])
def test_tracking_holds_the_target_while_the_policy_drifts(elasticity: float) -> None:
    """A policy whose entropy at fixed T halves over 60 steps, seen with noise."""
    rng = random.Random(1)
    tracker = Tracker(T=1.0, target=0.3, gain=0.3, elasticity=1.6)
    seen = []
    for step in range(60):
        H = 0.3 * 0.5 ** (step / 60) * tracker.T**elasticity
        seen.append(H)
        tracker.observe(H + rng.gauss(0, 0.02))
    assert abs(np.mean(seen) - 0.3) < 0.03
    assert tracker.T > 1.0


def test_a_gain_of_zero_never_moves() -> None:
    tracker = Tracker(0.85, 0.3, 0.0, 1.0)
    tracker.observe(2.0)
    assert tracker.T == 0.85
