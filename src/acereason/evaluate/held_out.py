"""Held-out evaluation: every problem asked k times under the paper's protocol, and what that says.

The answers come from `sample.ask`, the numbers from `evaluate.estimates`. A benchmark here is a list of
problems; its score is avg@k with the question-level standard error.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from acereason.config import Evaluation
from acereason.evaluate import estimates
from acereason.policy.policy import Policy
from acereason.problems import Problem
from acereason.procedural import find
from acereason.sample.ask import Answer, Groups, How, Judging, ask
from acereason.sample.protocol import Sampler


def evaluate(
    policy: Policy,
    sampler: Sampler,
    judge: Judging,
    problems: Sequence[Problem],
    settings: Evaluation,
    seed: int,
    on_answer: Callable[[int], None] = lambda _: None,
) -> Groups:
    """Ask every problem `settings.k` times. The draws depend on (seed, problem, sample) alone, so two
    checkpoints are compared under common random numbers."""
    how = How(
        samples=settings.k,
        budget=settings.budget,
        temperature=settings.temperature,
        top_p=settings.top_p,
        label=(seed, "evaluation"),
    )
    return ask(policy, sampler, judge, problems, how, on_answer).groups


def correctness(groups: Groups) -> list[list[bool | None]]:
    """Questions × samples: right, wrong, or None where it could not be judged."""
    return [[None if a.verdict.reward is None else a.verdict.reward == 1 for a in g] for g in groups]


def summarise(groups: Groups) -> dict[str, Any]:
    """One benchmark's numbers as a metrics row (without its name). What could not be judged is in no average
    and is counted in `unjudged`: samples, and problems of which no sample could. What has no value (the
    error of a single question) is None."""
    verdicts = correctness(groups)
    answers = [a for g in groups for a in g]
    tokens = np.array([len(a.completion.tokens) for a in answers])
    noise = [v for v in verdicts if None not in v and len(v) > 1]
    return {
        **_score(groups),
        "generation_noise": estimates.average(noise).generation_noise if noise else None,
        "k": max(map(len, verdicts)),
        "unjudged": _unjudged(verdicts),
        **_pass_at_k(verdicts),
        "truncated": float(np.mean([a.completion.finish == "length" for a in answers])),
        "no_answer": float(np.mean([a.verdict.outcome == "no_answer" for a in answers])),
        "tokens_mean": float(tokens.mean()),
        "tokens_p95": float(np.percentile(tokens, 95)),
        "by_family": {family: _score(part) for family, part in _families(groups).items()},
        "modes": {family: modes(part) for family, part in _families(groups).items()},
    }


def said(row: Mapping[str, Any]) -> str:
    """A summary's row in words: avg@8 = 43.8% ± 3.2%."""
    if row["accuracy"] is None:
        return f"none of {row['unjudged']['samples']} answers could be judged"
    error = "" if row["se"] is None else f" ± {row['se']:.1%}"
    count = row["unjudged"]["samples"]
    rest = f" ({count} answers could not be judged)" if count else ""
    return f"avg@{row['k']} = {row['accuracy']:.1%}{error}{rest}"


def _unjudged(verdicts: Sequence[Sequence[bool | None]]) -> dict[str, int]:
    return {
        "samples": sum(v is None for row in verdicts for v in row),
        "problems": sum(all(v is None for v in row) for row in verdicts),
    }


def _pass_at_k(verdicts: Sequence[Sequence[bool | None]]) -> dict[str, dict[str, float]]:
    """pass@k with its standard error, over the problems all of whose samples could be judged."""
    whole = [row for row in verdicts if None not in row]
    k = min(map(len, whole), default=0)
    by_n = {str(n): estimates.pass_at_k(whole, n) for n in sorted({1, min(4, k), k}) if whole}
    return {
        "pass_at_k": {n: one.mean for n, one in by_n.items()},
        "pass_at_k_se": {n: one.se for n, one in by_n.items()},
    }


def mode(answer: Answer) -> str:
    """The way of answering that a procedural family sees in a response; "" for other problems."""
    family = find(str(answer.problem.meta.get("family")))
    return family.mode(answer.problem, answer.text) if family else ""


def modes(groups: Groups) -> dict[str, dict[str, float]]:
    """Share of each response mode among what was judged, and accuracy within it: what a gain is made of."""
    answers = [a for g in groups for a in g]
    by_mode: dict[str, list[bool]] = defaultdict(list)
    for answer in answers:
        if answer.verdict.reward is not None:
            by_mode[mode(answer)].append(answer.verdict.reward == 1)
    judged = sum(map(len, by_mode.values()))
    return {
        name: {"share": len(right) / judged, "accuracy": sum(right) / len(right)}
        for name, right in sorted(by_mode.items())
    }


def _families(groups: Groups) -> dict[str, Groups]:
    """The groups of each procedural family, by name; problems without one are in none."""
    parts: dict[str, Groups] = defaultdict(list)
    for group in groups:
        family = group[0].problem.meta.get("family")
        if family is not None:
            parts[str(family)].append(group)
    return dict(sorted(parts.items()))


def _score(groups: Groups) -> dict[str, float | int | None]:
    verdicts = correctness(groups)
    if not any(v is not None for row in verdicts for v in row):
        return {"accuracy": None, "se": None, "n": 0}
    average = estimates.average(verdicts, allow_ragged=True)
    return {"accuracy": average.mean, "se": finite(average.se), "n": average.n}


def finite(value: float) -> float | None:
    """None for a number that is not one, as JSON has no NaN."""
    return value if math.isfinite(value) else None
