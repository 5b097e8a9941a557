"""Made-up records of arms, for what is computed from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from acereason.study.records import Outcome, Record, Training


def outcome(right: Sequence[int], k: int = 8, questions: str = "q") -> Outcome:
    total = sum(right)
    return Outcome(questions, k, list(right), {"chain/row": (k * len(right), total)})


def record(
    name: str, seed: int, outcomes: Mapping[str, Outcome], entropy: float = 0.1, address: str = ""
) -> Record:
    curves = {key: [entropy] for key in ("entropy", "reward", "length", "truncated", "T")}
    return Record(
        address or f"{name}-{seed}", name, "X", seed, "dev", "rl", None, {"rl": dict(outcomes)},
        {"rl": Training(1, 1000, curves)}, 0, 0, 10.0, False, "", {},
    )  # fmt: skip


def drawn(
    accuracies: Mapping[str, float], seeds: int, questions: int = 200, k: int = 8, seed_sd: float = 0.0,
    draw: int = 0,
) -> dict[tuple[str, int], Record]:  # fmt: skip
    """Arms of those true accuracies: questions of many difficulties, shared by the arms of a seed, and a
    shift of each arm at each seed with that standard deviation."""
    random = np.random.default_rng(draw)
    arms = {}
    for seed in range(seeds):
        hard = random.normal(0, 0.2, questions)
        for name, accuracy in accuracies.items():
            chance = np.clip(accuracy + hard + random.normal(0, seed_sd), 0, 1)
            right = random.binomial(k, chance).tolist()
            arms[name, seed] = record(name, seed, {"math": outcome(right, k, f"q{seed}")})
    return arms
