"""The rows that a step of RL leaves behind: its numbers over all ranks, and its responses.

Every rank boils its own responses down to one `ResponseNumbers` each; these travel, and every rank computes
the same numbers from all of them, in the same order whatever the number of ranks.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor

from acereason import ranks
from acereason.policy import flops
from acereason.policy.activations import work_device
from acereason.policy.policy import Policy
from acereason.sample.ask import Answer, Groups
from acereason.sample.diversity import Anchor, distinct, drawn, mean
from acereason.sample.rules import Asked
from acereason.sample.temperature import mean_entropy
from acereason.sample.traces import trace
from acereason.train.streaming import StepResult
from acereason.train.update import Learned

TRACED = 2  # groups a step whose tokens' log-probabilities and entropies are kept for reading


@dataclass(frozen=True)
class Where:
    """Where a step stands in the run and how it asks: what its metrics row begins with."""

    step: int  # of the run, from 1
    stage: str
    stage_step: int  # of the stage, from 1
    domain: str
    budget: int
    group: int
    epoch: int
    T: float
    H_target: float | None
    coefficient: float  # of the entropy in the loss


class ResponseNumbers(NamedTuple):
    """One response in numbers. `H`, `H_1`: sums over its tokens, in nats; `weight`: that in the loss."""

    problem: str
    level: str
    reward: int | None
    outcome: str
    truncated: bool
    tokens: int
    H: float
    H_1: float
    weight: float
    drawn: int  # of the tokens; the others were put in
    answer: str | None = None  # what was extracted
    domain: str = ""


def tell(groups: Groups, weights: Tensor) -> list[list[ResponseNumbers]]:
    """This rank's groups in numbers; `weights` [P, G] are those in the loss."""
    return [
        [_told(answer, weight) for answer, weight in zip(group, row, strict=True)]
        for group, row in zip(groups, weights.tolist(), strict=True)
    ]


def _told(answer: Answer, weight: float) -> ResponseNumbers:
    completion, verdict = answer.completion, answer.verdict
    return ResponseNumbers(
        answer.problem.id,
        str(answer.problem.meta.get("level", "all")),
        verdict.reward,
        verdict.outcome,
        completion.finish == "length",
        len(completion.tokens),
        float(completion.entropy.sum()),
        float(completion.entropy_1.sum(dtype=np.float64)),
        weight,
        completion.drawn,
        verdict.extracted,
        answer.problem.domain,
    )


def begins(where: Where, pool: dict[str, int]) -> dict[str, Any]:
    """The beginning of a step's metrics row; `pool` counts the prompts after the step."""
    return {**asdict(where), "pool": pool}


def step_metrics(own: list[list[ResponseNumbers]], apart: bool = False) -> dict[str, Any]:
    """The numbers of a step as part of its metrics row. Collective: `own` are this rank's groups. Each
    domain's are told `apart` where the step asked several, and also where it asked one, if that is wanted.

    Means over tokens are over all tokens of all ranks; the error of H_T is over prompts, whose responses
    resemble each other, and None for a single one. `H_1` is None where the sampler cannot know it."""
    groups = ranks.merged(own)
    answers = [a for g in groups for a in g]
    lengths = np.array([a.tokens for a in answers])
    rewards = [[a.reward for a in g] for g in groups]
    judged = [r for g in rewards for r in g if r is not None]
    H, se = mean_entropy([sum(a.H for a in g) for g in groups], [sum(a.drawn for a in g) for g in groups])
    drawn = sum(a.drawn for a in answers)
    H_1 = sum(a.H_1 for a in answers) / max(drawn, 1)
    return {
        "reward": sum(judged) / max(len(judged), 1),
        "H_T": H,
        "H_T_se": se if math.isfinite(se) else None,
        "H_1": H_1 if math.isfinite(H_1) else None,
        "length": {
            "mean": float(lengths.mean()),
            "p50": float(np.percentile(lengths, 50)),
            "p95": float(np.percentile(lengths, 95)),
        },
        "truncated": sum(a.truncated for a in answers) / len(answers),
        "all_right": sum(all(r == 1 for r in g) for g in rewards) / len(groups),
        "all_wrong": sum(all(r == 0 for r in g) for g in rewards) / len(groups),
        "same_answer": sum(same_answer(g) for g in groups) / len(groups),
        "learning_groups": sum(any(a.weight != 0 for a in g) for g in groups),
        "outcomes": dict(Counter(a.outcome for a in answers)),
        "by_level": _by_level(answers),
        **by_domain(groups, 1 if apart else 2),
        "tokens": int(lengths.sum()),
        "forced": sum(a.drawn < a.tokens for a in answers) / len(answers),
        "asked": len(groups),
    }


def by_domain(groups: Sequence[Sequence[ResponseNumbers]], least: int = 2) -> dict[str, Any]:
    """{"by_domain": …} of a step that asked several, or `least`: prompts, mean reward, H_T and tokens of
    each."""
    parts: dict[str, list[Sequence[ResponseNumbers]]] = defaultdict(list)
    for group in groups:
        parts[group[0].domain].append(group)
    told = {name: _of_domain(own) for name, own in sorted(parts.items())}
    return {"by_domain": told} if len(told) >= least else {}


def by_rule(
    numbers: dict[str, Any], asked: Mapping[str, Asked], diverse: Mapping[str, dict[str, float]]
) -> dict[str, Any]:
    """The numbers of a step, with what its rules aimed at: of all prompts, or in those of each domain
    asked."""
    if "" in asked:
        return numbers | diverse.get("", {})
    told = {d: one | asked[d]._asdict() | diverse.get(d, {}) for d, one in numbers["by_domain"].items()}
    return numbers | {"by_domain": told}


def entropies(numbers: Mapping[str, Any]) -> dict[str, float]:
    """H_T by domain as rules take it; "": of all."""
    return {"": numbers["H_T"]} | {d: one["H_T"] for d, one in numbers.get("by_domain", {}).items()}


def diversities(groups: Groups, anchors: Mapping[str, Anchor]) -> dict[str, dict[str, float]]:
    """The diversity of a step's responses by domain, and what it is to be, where a rule aims at one.
    Collective. Responses beyond the anchor's number are not looked at; groups of fewer tell nothing."""
    told = {}
    for domain, (target, length, samples) in anchors.items():
        own = [  # of every group, as ranks share them; mean leaves out what is None
            distinct(drawn([a.completion for a in g[:samples]], length))
            if domain in ("", g[0].problem.domain) and len(g) >= samples
            else None
            for g in groups
        ]
        value, _ = mean(ranks.merged(own))
        told[domain] = {"diversity_target": target} | ({} if math.isnan(value) else {"diversity": value})
    return told


def _of_domain(groups: Sequence[Sequence[ResponseNumbers]]) -> dict[str, Any]:
    answers = [a for g in groups for a in g]
    judged, tokens = [a.reward for a in answers if a.reward is not None], sum(a.tokens for a in answers)
    return {
        "asked": len(groups),
        "reward": sum(judged) / max(len(judged), 1),
        "H_T": sum(a.H for a in answers) / max(sum(a.drawn for a in answers), 1),
        "tokens": tokens,
        "truncated": sum(a.truncated for a in answers) / len(answers),
    }


def same_answer(group: Sequence[ResponseNumbers]) -> bool:
    """Whether all responses of a group come to the same answer; programs are compared as text."""
    first = group[0].answer
    return len(group) > 1 and first is not None and all(a.answer == first for a in group)


def _by_level(answers: Sequence[ResponseNumbers]) -> dict[str, float]:
    levels: dict[str, list[int]] = defaultdict(list)
    for answer in answers:
        if answer.reward is not None:
            levels[answer.level].append(answer.reward)
    return {level: sum(r) / len(r) for level, r in sorted(levels.items())}


Rewards = dict[str, list[int | None]]


def judged_rewards(groups: Groups) -> Rewards:
    """Every problem's rewards over all ranks, by its id; None where the judge could not judge. Collective."""
    own = [(group[0].problem.id, [a.verdict.reward for a in group]) for group in groups]
    return dict(ranks.merged(own))


def pass_rates(rewards: Rewards) -> dict[str, float]:
    """The mean reward of the problems of which at least half of the responses could be judged."""
    known = {i: [r for r in row if r is not None] for i, row in rewards.items()}
    return {i: sum(row) / len(row) for i, row in known.items() if row and 2 * len(row) >= len(rewards[i])}


def learning(learned: Learned, learning_rate: float) -> dict[str, Any]:
    """What the optimiser step did, as part of a step's metrics row."""
    return {
        "loss": learned.loss,
        "gradient_norm": learned.gradient_norm,
        "lr": learning_rate,
        "learned_tokens": learned.learned_tokens,
        "logprob_difference": {
            "mean": learned.mean_difference,
            "max": learned.max_difference,
            "k3": learned.k3,
        },
        "kl": learned.kl,
    }


def times(result: StepResult, publish: float, write: float, total: float) -> dict[str, Any]:
    """Where a step's seconds went; "overlap" is learning that cost none, since responses were missing."""
    return {
        "seconds": {
            "sample": result.batch.sample_seconds,
            "judge": result.batch.judge_seconds,
            "learn": result.seconds,
            "publish": publish,
            "write": write,
            "total": total,
        },
        "overlap": {
            "seconds": result.overlap,
            "share": result.overlap / max(result.overlap + result.seconds, 1e-9),
        },
    }


def publication(sampler: Any) -> dict[str, int]:
    """{"published_bytes": …} where weights went to servers."""
    size = getattr(sampler, "published", None)
    return {} if size is None else {"published_bytes": size}


def utilisation(model: Any, result: StepResult) -> dict[str, float]:
    """{"mfu": …} of this rank, which learned the responses of weight other than 0; empty where the device's
    peak is not known."""
    peak = flops.peak(work_device(model))
    if peak is None:
        return {}
    completions = (a.completion for g in result.batch.groups for a in g)
    flat = zip(completions, result.weights.flatten().tolist(), strict=True)
    learned = [c for c, weight in flat if weight != 0.0]
    lengths = [len(c.request.prompt) + len(c.tokens) for c in learned]
    work = flops.needed(model.config, lengths, sum(len(c.tokens) for c in learned))
    return {"mfu": work / (result.seconds + result.overlap) / peak}


def response_rows(policy: Policy, result: StepResult) -> list[list[dict[str, Any]]]:
    """This rank's responses for the run's folder, by group: each with its advantage (None: it has none) and
    its weight in the loss, and in the first groups with each token's numbers."""
    table = zip(result.batch.groups, result.advantages.tolist(), result.weights.tolist(), strict=True)
    return [
        [_row(policy, *one, traced=place < TRACED) for one in zip(*group, strict=True)]
        for place, group in enumerate(table)
    ]


def _row(policy: Policy, answer: Answer, advantage: float, weight: float, traced: bool) -> dict[str, Any]:
    row = answer.row(advantage=None if math.isnan(advantage) else advantage, weight=weight)
    kept = trace(policy.tokenizer, answer.completion, answer.text) if traced else None
    return row | {"trace": kept} if kept else row


def note(row: dict[str, Any]) -> str:
    """A step's row in a few words, for the progress bar."""
    return (
        f"reward {row['reward']:.2f}  H_T {row['H_T']:.3f}  T {row['T']:.2f}  "
        f"tokens {row['length']['mean']:.0f}  cut {row['truncated']:.0%}"
    )
