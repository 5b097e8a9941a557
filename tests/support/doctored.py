"""Runs with one thing wrong with each, and the rules that should say so."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

Change = Callable[[float], dict[str, Any]]  # from the share of the stage that is done


def healthy(t: float, rng: random.Random) -> dict[str, Any]:
    """A step's row of a run as it should be, t in [0, 1] of the stage."""
    reward = 0.4 + 0.25 * t + rng.gauss(0, 0.02)
    return {
        "kind": "rl",
        "stage": "math",
        "budget": 8192,
        "T": 0.9,
        "H_target": 0.3,
        "reward": reward,
        "H_T": 0.3 + rng.gauss(0, 0.01),
        "truncated": 0.2 - 0.1 * t,
        "all_right": 0.1 + 0.1 * t,
        "all_wrong": 0.3 - 0.1 * t,
        "length": {"mean": 3000 + rng.gauss(0, 50)},
        "outcomes": {"correct": 500, "wrong": 524},
        "same_answer": 0.2 + 0.1 * t,
        "gradient_norm": 0.2 + abs(rng.gauss(0, 0.02)),
        "learned_tokens": 100_000,
        "logprob_difference": {"k3": 2e-5},
        "tokens": 3_000_000,
        "seconds": {"total": 300 + rng.gauss(0, 5)},
    }


def run(change: Change = lambda t: {}, dev: Change | None = None, steps: int = 40) -> list[dict[str, Any]]:
    rng, rows = random.Random(1), []
    for i in range(steps):
        t = i / (steps - 1)
        rows.append(healthy(t, rng) | {"step": 100 + i, "stage_step": i + 1} | change(t))
        if dev is not None and i % 10 == 0:
            rows.append({"kind": "dev", "stage": "math", "step": 100 + i, "se": 0.02, **dev(t)})
    return rows


DOCTORED: dict[str, tuple[list[dict[str, Any]], set[str]]] = {
    "healthy": (run(dev=lambda t: {"accuracy": 0.5 + 0.2 * t}), set()),
    "dead": (run(lambda t: {"all_wrong": 0.95, "all_right": 0.0, "reward": 0.02}), {"no_gradient"}),
    "hacked": (
        run(
            lambda t: {"reward": 0.3 + 0.6 * t, "length": {"mean": 3000 - 2700 * t}},
            lambda t: {"accuracy": 0.5 - 0.2 * t},
        ),
        {"held_out", "shorter"},
    ),
    "hot": (run(lambda t: {"H_T": 0.3 + 0.8 * t, "truncated": 0.2 + 0.6 * t}), {"entropy_hot", "truncated"}),
    "cold": (run(lambda t: {"H_T": 0.3 * (1 - t) ** 2, "H_target": None, "T": 0.6}), {"entropy_cold"}),
    "mismatched": (run(lambda t: {"logprob_difference": {"k3": 0.02}}), {"mismatch"}),
    "collapsing": (run(lambda t: {"same_answer": 0.2 + 0.75 * t, "all_right": 0.3 * t}), {"same_answers"}),
}
