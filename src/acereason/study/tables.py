"""From records to columns: one number per question of an arm at a seed, or one number where there are none.

    accuracy         share of right samples          pass@8     unbiased, from the samples that there are
    entropy          mean H_T while it trained       entropy:end, :start   of the last, first tenth
    reward, length, truncated, T                     as entropy
    seconds, tokens  of the processor; sampled       within, shift   see `decomposed`

"MEASURE of STAGE" takes another stage than the arm's last. Accuracies and shares are in points (0 to 100).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from acereason.errors import ConfigError, DataError
from acereason.evaluate.decompose import decompose_shares
from acereason.evaluate.estimates import pass_rates
from acereason.evaluate.seeds import Column, Floats
from acereason.study.records import Outcome, Record, Training

Arms = Mapping[tuple[str, int], Record]  # (arm, seed)
CURVES = ("entropy", "reward", "length", "truncated", "T")
IN_POINTS = ("reward", "truncated")


def column(record: Record, measure: str, domain: str) -> Column:
    """A measure of an arm; ConfigError when there is no such measure, DataError when this arm has none."""
    what, _, stage = measure.partition(" of ")
    name, _, part = what.partition(":")
    if name in CURVES:
        return Column(np.array([_curve(_training(record, stage), name, part)]))
    if name in ("seconds", "tokens"):
        return Column(np.array([float(_totals(record)[name])]))
    outcome = outcome_of(record, domain, stage)
    if name == "accuracy":
        return Column(100 * np.array(outcome.right, np.float64) / outcome.k, outcome.questions)
    if name.startswith("pass@") and name[5:].isdecimal():
        return Column(100 * _passed(outcome, int(name[5:]), record), outcome.questions)
    known = f"accuracy, pass@N, seconds, tokens, {', '.join(CURVES)} with :start or :end"
    raise ConfigError(f"no measure {measure!r}; known: {known}")


def outcome_of(record: Record, domain: str, stage: str = "") -> Outcome:
    """The questions of a domain after a stage, the last unless one is named."""
    stages = record.outcomes
    name = stage or list(stages)[-1]
    if name not in stages or domain not in stages[name]:
        raise DataError(f"arm {record.name}: no questions of {domain!r} after {name!r}")
    return stages[name][domain]


def solved(record: Record, domain: str) -> tuple[NDArray[np.bool_], str]:
    """Which questions had a right sample."""
    outcome = outcome_of(record, domain)
    return np.array(outcome.right) > 0, outcome.questions


def decomposed(before: Record, after: Record, domain: str) -> tuple[float, float]:
    """The gain from one arm to another in points: within the ways of answering, and by shifting between them.
    Families are weighed by their samples."""
    first, second = (_by_family(outcome_of(r, domain).modes) for r in (before, after))
    total = sum(n for modes in second.values() for n, _ in modes.values())
    within = shift = 0.0
    for family, modes in second.items():
        weight = 100 * sum(n for n, _ in modes.values()) / total
        change = decompose_shares(_shares(first.get(family, modes)), _shares(modes))
        within, shift = within + weight * change.within, shift + weight * change.shift
    return within, shift


def _by_family(modes: Mapping[str, tuple[int, int]]) -> dict[str, dict[str, tuple[int, int]]]:
    families: dict[str, dict[str, tuple[int, int]]] = {}
    for name, counts in modes.items():
        family, _, mode = name.partition("/")
        families.setdefault(family, {})[mode] = counts
    return families


def _shares(modes: Mapping[str, tuple[int, int]]) -> dict[str, tuple[float, float]]:
    total = sum(n for n, _ in modes.values())
    return {mode: (n / total, right / n) for mode, (n, right) in modes.items() if n}


def _passed(outcome: Outcome, k: int, record: Record) -> Floats:
    if k > outcome.k:
        raise DataError(f"arm {record.name} has {outcome.k} samples a question, too few for pass@{k}")
    right = np.array(outcome.right, float)
    return pass_rates(right, np.full(len(right), float(outcome.k)), k)


def _training(record: Record, stage: str) -> Training:
    name = stage or (list(record.training)[-1] if record.training else "")
    if name not in record.training:
        raise DataError(f"arm {record.name} has no stage {name!r}; it has {', '.join(record.training)}")
    return record.training[name]


def _curve(training: Training, name: str, part: str) -> float:
    values = training.curves[name]
    tenth = max(1, len(values) // 10)
    values = {"": values, "start": values[:tenth], "end": values[-tenth:]}[part]
    return (100 if name in IN_POINTS else 1) * float(np.mean(values))


def _totals(record: Record) -> dict[str, Any]:
    return {"seconds": record.seconds, "tokens": sum(t.tokens for t in record.training.values())}
