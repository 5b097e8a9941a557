"""Held-out evaluation: every problem asked k times under the paper's protocol, and what that says.

The answers come from `sample.ask`, the numbers from `evaluate.estimates`. A benchmark here is a list of
problems; its score is avg@k with the question-level standard error.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from acereason.config import Evaluation
from acereason.evaluate import estimates
from acereason.policy.policy import Policy
from acereason.problems import Problem
from acereason.procedural import FAMILIES
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
    """One benchmark's numbers as a metrics row (without its name)."""
    verdicts = correctness(groups)
    answers = [a for g in groups for a in g]
    tokens = np.array([len(a.completion.tokens) for a in answers])
    average = estimates.average(verdicts)
    return {
        "accuracy": average.mean,
        "se": average.se,
        "generation_noise": average.generation_noise,
        "n": average.n,
        "k": average.k,
        "pass_at_k": {
            str(k): estimates.pass_at_k(verdicts, k).mean for k in sorted({1, min(4, average.k), average.k})
        },
        "truncated": float(np.mean([a.completion.finish == "length" for a in answers])),
        "no_answer": float(np.mean([a.verdict.outcome == "no_answer" for a in answers])),
        "tokens_mean": float(tokens.mean()),
        "tokens_p95": float(np.percentile(tokens, 95)),
        "by_family": {family: _score(part) for family, part in sorted(_split(groups).items()) if family},
        "modes": {family: modes(part) for family, part in sorted(_split(groups).items()) if family},
    }


def mode(answer: Answer) -> str:
    """The way of answering that a procedural family sees in a response; "" for other problems."""
    family = FAMILIES.get(str(answer.problem.meta.get("family")))
    return family.mode(answer.problem, answer.text) if family else ""


def modes(groups: Groups) -> dict[str, dict[str, float]]:
    """Share of each response mode, and accuracy within it: what a gain is made of."""
    answers = [a for g in groups for a in g]
    by_mode: dict[str, list[bool]] = defaultdict(list)
    for answer in answers:
        by_mode[mode(answer)].append(answer.verdict.reward == 1)
    return {
        name: {"share": len(right) / len(answers), "accuracy": sum(right) / len(right)}
        for name, right in sorted(by_mode.items())
    }


def _split(groups: Groups) -> dict[str | None, Groups]:
    parts: dict[str | None, Groups] = defaultdict(list)
    for group in groups:
        parts[group[0].problem.meta.get("family")].append(group)
    return parts


def _score(groups: Groups) -> dict[str, float]:
    average = estimates.average(correctness(groups))
    return {"accuracy": average.mean, "se": average.se, "n": average.n}
