"""One update of the policy from one batch of judged answers: weigh, learn, and say what happened.

The gradient of a batch is accumulated over micro-batches; the weights of `objective` already carry the
global denominator, so the split changes nothing. Groups without advantage are left out of the backward
pass, since their gradient is exactly zero; their tokens count.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from acereason.config import Rl, Stage
from acereason.policy.model import logprobs, micro_batches
from acereason.policy.packing import Example, Pack
from acereason.policy.policy import Policy
from acereason.sample.ask import Answer
from acereason.sample.temperature import entropy_of
from acereason.train import objective, optimizers
from acereason.train.objective import Rollouts

Groups = list[list[Answer]]


@dataclass(frozen=True, slots=True)
class Learned:
    """What one optimiser step did. `gradient_norm` is None when nothing moved: there was nothing to learn
    (`learned_tokens` 0) or the gradient was not finite. The differences are of log-probabilities, trainer
    minus sampler, on learned tokens; `k3` = mean(exp(d) - 1 - d) estimates their KL divergence."""

    loss: float
    gradient_norm: float | None
    learned_tokens: int
    mean_difference: float
    max_difference: float
    k3: float


def weigh(groups: Groups, stage: Stage, settings: Rl) -> Tensor:
    """[P, G] the weight of each response in the loss."""
    rollouts = Rollouts(
        rewards=torch.tensor(
            [[float("nan") if a.verdict.reward is None else a.verdict.reward for a in g] for g in groups],
            dtype=torch.float64,
        ),
        tokens=torch.tensor([[len(a.completion.tokens) for a in g] for g in groups]),
        truncated=torch.tensor([[a.completion.finish == "length" for a in g] for g in groups]),
    )
    return objective.response_weights(
        rollouts, stage.overlong, settings.masked_in_statistics, settings.normalisation
    )


def learn(
    policy: Policy, groups: Groups, optimizer: optimizers.Optimizers, stage: Stage, settings: Rl
) -> Learned:
    """One optimiser step on a batch of groups (or `updates` of them on its parts, off-policy)."""
    parts = [groups[i :: settings.updates] for i in range(settings.updates)]
    results = [_update(policy, part, optimizer, stage, settings) for part in parts if part]
    tokens = sum(r.learned_tokens for r in results)
    norms = [r.gradient_norm for r in results if r.gradient_norm is not None]
    return Learned(
        sum(r.loss for r in results) / len(results),
        sum(norms) / len(norms) if norms else None,
        tokens,
        sum(r.mean_difference * r.learned_tokens for r in results) / max(tokens, 1),
        max(r.max_difference for r in results),
        sum(r.k3 * r.learned_tokens for r in results) / max(tokens, 1),
    )


def _update(
    policy: Policy, groups: Groups, optimizer: optimizers.Optimizers, stage: Stage, settings: Rl
) -> Learned:
    weights = weigh(groups, stage, settings).flatten()
    answers = [a for g in groups for a in g]
    useful = [i for i, w in enumerate(weights.tolist()) if w != 0.0]
    examples = [
        Example(answers[i].completion.request.prompt, answers[i].completion.tokens.tolist(), i)
        for i in useful
    ]
    total = torch.zeros(4, dtype=torch.float64)  # loss, Σ d, max |d|, Σ k3
    tokens = 0
    for pack in micro_batches(policy.model, examples, settings.micro_tokens):
        total = _accumulate(policy, pack, answers, weights, settings, total)
        tokens += len(pack.targets)
    loss, difference, largest, k3 = total.tolist()
    norm = None
    if tokens:
        norm = optimizers.step(policy.model, optimizer, settings.clip_gradient)
    return Learned(loss, norm, tokens, difference / max(tokens, 1), largest, k3 / max(tokens, 1))


def _accumulate(
    policy: Policy,
    pack: Pack,
    answers: Sequence[Answer],
    weights: Tensor,
    settings: Rl,
    total: Tensor,
) -> Tensor:
    """Forward and backward of one micro-batch; returns the running totals."""
    every = [a.completion.request.temperature for a in answers]
    temperatures = torch.tensor(every, dtype=torch.float64)[pack.owners]
    sampled = _per_token(pack, [a.completion.logprobs for a in answers])
    logprob, _ = logprobs(policy.model, pack, temperatures)
    weight = weights[pack.owners].to(logprob.dtype)
    if settings.updates == 1:
        loss = objective.policy_loss(logprob, weight)
    else:
        loss = objective.clipped_loss(logprob, sampled, weight, settings.clip)
    loss.backward()  # type: ignore[no-untyped-call]
    d = (logprob.detach() - sampled).double()
    part = torch.stack([loss.detach().double(), d.sum(), d.abs().max(), (d.exp() - 1 - d).sum()])
    summed = total + part
    summed[2] = torch.maximum(total[2], part[2])
    return summed


def _per_token(pack: Pack, values: Sequence[Any]) -> Tensor:
    """Per-response arrays laid out as the pack's targets are: an owner's tokens stand together, in order."""
    owners = list(dict.fromkeys(pack.owners.tolist()))
    return torch.from_numpy(np.concatenate([values[i] for i in owners]))


def step_metrics(groups: Groups, stage: Stage, weights: Tensor) -> dict[str, Any]:
    """What a step's responses say, as part of its metrics row."""
    answers = [a for g in groups for a in g]
    lengths = np.array([len(a.completion.tokens) for a in answers])
    rewards = [[a.verdict.reward for a in g] for g in groups]
    judged = [r for g in rewards for r in g if r is not None]
    H, se = entropy_of(a.completion for a in answers)
    H_1 = float(np.concatenate([a.completion.entropy_1 for a in answers]).mean(dtype=np.float64))
    return {
        "reward": sum(judged) / max(len(judged), 1),
        "H_T": H,
        "H_T_se": se,
        "H_1": H_1,
        "length": {
            "mean": float(lengths.mean()),
            "p50": float(np.percentile(lengths, 50)),
            "p95": float(np.percentile(lengths, 95)),
        },
        "truncated": sum(a.completion.finish == "length" for a in answers) / len(answers),
        "all_right": sum(all(r == 1 for r in g) for g in rewards) / len(groups),
        "all_wrong": sum(all(r == 0 for r in g) for g in rewards) / len(groups),
        "learning_groups": int((weights != 0).any(1).sum()),
        "outcomes": dict(Counter(a.verdict.outcome for a in answers)),
        "by_level": _by_level(answers),
        "tokens": int(lengths.sum()),
    }


def _by_level(answers: Sequence[Answer]) -> dict[str, float]:
    levels: dict[str, list[int]] = defaultdict(list)
    for answer in answers:
        if answer.verdict.reward is not None:
            levels[str(answer.problem.meta.get("level", "all"))].append(answer.verdict.reward)
    return {level: sum(r) / len(r) for level, r in sorted(levels.items())}
