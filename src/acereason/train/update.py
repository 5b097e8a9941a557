"""One update of the policy from judged answers: its gradient accumulated part by part, then one step.

    weights = weigh(groups, stage, settings)
    update = Update(policy, settings)
    update.add(groups, weights.pulls, weights.advantages)    # as often as parts are ready
    update.finish(optimizer, 1 / denominator(weights))

`learn` does that for a whole batch. Responses are weighed once, by `weigh`, and what was learned is said
with the very weights that it was learned with.

The gradient of a part is accumulated over micro-batches, and `finish` scales the sum, so neither the split
nor the order changes anything but rounding. Groups without advantage are left out of the passes, since their
gradient is exactly zero; their tokens count.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from acereason import ranks
from acereason.config import Rl, Stage
from acereason.errors import TrainingError
from acereason.policy.model import logprobs
from acereason.policy.packing import Example, Pack
from acereason.policy.policy import Policy
from acereason.problems import Verdict
from acereason.sample.ask import Groups
from acereason.sample.protocol import Completion
from acereason.train import objective, optimizers, rewards
from acereason.train.level import levelled
from acereason.train.loss import Tokens, loss_of
from acereason.train.objective import Rollouts, Weights
from acereason.train.parallel import is_filler, leads, micro_batches, pooled, reduce_gradients
from acereason.train.second import NOTHING, Besides, Scores


@dataclass(frozen=True, slots=True)
class Learned:
    """What one optimiser step did, over all ranks. `gradient_norm` is None when nothing moved: there was
    nothing to learn (`learned_tokens` 0) or the gradient was not finite. The differences are of
    log-probabilities, trainer minus sampler, on learned tokens; `k3` = mean(exp(d) - 1 - d) estimates their
    KL divergence. `kl`: mean of log π - log π_second on these tokens, where there is a second model."""

    loss: float
    gradient_norm: float | None
    learned_tokens: int
    mean_difference: float
    max_difference: float
    k3: float
    kl: float | None = None


def _reward(verdict: Verdict, rule: str) -> float:
    """1 or 0, or the share of tests passed where that counts; NaN where the judge could not judge."""
    if verdict.reward is None:
        return math.nan
    return float(verdict.reward if rule == "outcome" or verdict.share is None else verdict.share)


def rollouts(groups: Groups, reward: str = "outcome") -> Rollouts:
    """What the objective needs to know of at least one group; `reward` as in `config.Rl`."""
    return Rollouts(
        rewards=torch.tensor(
            [[_reward(a.verdict, reward) for a in g] for g in groups],
            dtype=torch.float64,
        ),
        tokens=torch.tensor([[len(a.completion.tokens) for a in g] for g in groups]),
        truncated=torch.tensor([[a.completion.finish == "length" for a in g] for g in groups]),
    )


def weigh(groups: Groups, stage: Stage, settings: Rl) -> Weights:
    """How hard each response of these groups pulls."""
    if not groups:
        return Weights.none()
    if stage.kind == "distill":
        return objective.alike(rollouts(groups), stage.overlong, settings.normalisation, stage.budget)
    return objective.weigh(
        shaped(rollouts(groups, settings.reward), stage, settings),
        stage.overlong,
        settings.masked_in_statistics,
        settings.normalisation,
        settings.unjudged,
        settings.advantage,
        settings.idle_groups,
        stage.budget,
    )


def shaped(plain: Rollouts, stage: Stage, settings: Rl) -> Rollouts:
    """The rollouts with the rewards that are learned from, where the recipe changes them by length."""
    value = plain.rewards
    if settings.length_penalty:
        value = value + settings.length_penalty * rewards.length_reward(plain.rewards, plain.tokens)
    if stage.overlong == "soft":
        value = value + rewards.soft_overlong(plain.tokens, stage.budget, stage.overlong_buffer)
    return replace(plain, rewards=value)


def denominator(weights: Weights) -> float:
    """What the pulls of the batch of which this rank has `weights` are divided by. Collective."""
    sizes, squares = ranks.total(weights.sizes.sum()), ranks.total(weights.squares.double().sum(0))
    return objective.denominator(sizes, squares)


def tokens_in(weights: Weights) -> float:
    """The same for the shares, which know no standard deviation of rewards. Collective."""
    return objective.denominator(ranks.total(weights.sizes.sum()), torch.ones(2))


@dataclass(frozen=True, slots=True)
class Pull:
    """A response that pulls: its `weight` in the loss, and its `share` of what knows no advantage."""

    prompt: Sequence[int]
    tokens: npt.NDArray[np.int32]
    logprobs: npt.NDArray[np.float32]
    drawn: npt.NDArray[np.float32]  # 0 for tokens that were put in, else 1
    temperature: float
    weight: float
    share: float
    coefficient: float  # of its entropy


def _pull(answer: Completion, weight: float, share: float, coefficient: float) -> Pull:
    asked, drawn = answer.request, np.ones(len(answer.tokens), np.float32)
    drawn[slice(*answer.forced)] = 0
    numbers = (asked.temperature, weight, share, coefficient)
    return Pull(asked.prompt, answer.tokens, answer.logprobs, drawn, *numbers)


class Update:
    """The gradient of one optimiser step. Every rank calls `add` and `finish` equally often."""

    def __init__(self, policy: Policy, settings: Rl, besides: Besides = NOTHING) -> None:
        self._policy, self._settings, self._besides = policy, settings, besides
        self._sums = torch.zeros(5, dtype=torch.float64)  # loss, Σ d, Σ k3, Σ of kl, tokens
        self._largest = torch.zeros((), dtype=torch.float64)

    def add(self, groups: Groups, weights: Tensor, shares: Tensor) -> None:
        """Accumulate the gradient of -Σ weight log π over the responses, and of what is `besides`; `weights`
        and `shares` [P, G] as in `Weights`. An entropy bonus is that of the responses learned from; KL to a
        reference is taken on all that have a share."""
        table = zip((a for g in groups for a in g), *_lists(weights, shares), strict=True)
        second = self._besides.second
        own = [
            _pull(a.completion, w, s, self._besides.coefficient(a.problem.domain))
            for a, w, s in table
            if w != 0.0 or (s != 0.0 and second is not None)
        ]
        pulls = pooled(self._policy.model, levelled(self._policy.model, own))
        examples = [Example(p.prompt, p.tokens.tolist(), i) for i, p in enumerate(pulls)]
        temperatures = torch.tensor([p.temperature for p in pulls], dtype=torch.float64)
        scores = None if second is None else second.score(examples, temperatures)
        for pack in micro_batches(self._policy.model, examples, self._settings.micro):
            self._pass(pack, pulls, scores)

    def finish(self, optimizer: optimizers.Optimizers, scale: float = 1.0) -> Learned:
        """Multiply the gradient by `scale`, clip it, and take the step.

        Raises TrainingError, with nothing moved, when sampler and trainer differ by more than rl.max_k3."""
        loss, difference, k3, kl, tokens = ranks.total(self._sums).tolist()
        largest, count = float(ranks.largest(self._largest)), max(tokens, 1.0)
        self._check(k3 / count, difference / count, largest)
        norm = None
        if tokens:
            reduce_gradients(self._policy.model)
            optimizers.scale(self._policy.model, scale)
            norm = optimizers.step(self._policy.model, optimizer, self._settings.clip_gradient)
        told = (difference / count, largest, k3 / count, kl / count if self._besides.second else None)
        return Learned(loss * scale, norm, int(tokens), *told)

    def _check(self, k3: float, mean: float, largest: float) -> None:
        most = self._settings.max_k3
        if most is not None and not k3 <= most:
            raise TrainingError(
                f"the sampler's and the trainer's log-probabilities differ by a KL divergence (k3) of "
                f"{k3:.3g} nats a token; rl.max_k3 allows {most:.3g} (mean difference {mean:.3g}, largest "
                f"{largest:.3g}). Nothing was learned from this step: check that the sampler has the present "
                "weights, the same model and the same precision, or raise rl.max_k3"
            )

    def _pass(self, pack: Pack, pulls: Sequence[Pull], scores: Scores | None) -> None:
        """Forward and backward of one micro-batch."""
        if is_filler(pack):  # other ranks have more micro-batches
            logprob, _ = logprobs(self._policy.model, pack)
            (0.0 * logprob.sum()).backward()
            return
        each = [(p.temperature, p.weight, p.share, p.coefficient) for p in pulls]
        numbers = torch.tensor(each, dtype=torch.float64)
        temperatures, weights, shares, coefficient = numbers[pack.owners].unbind(1)
        sampled = _per_token(pack, [p.logprobs for p in pulls])
        second = None if scores is None else _per_token(pack, scores)
        drawn = _per_token(pack, [p.drawn for p in pulls])
        logprob, entropy = logprobs(self._policy.model, pack, temperatures)
        sampled = torch.where(drawn > 0, sampled, logprob.detach())
        bonus = coefficient.to(logprob.dtype) if numbers[:, 3].any() else None
        tokens = Tokens(logprob, entropy, sampled, second, pack.owners, bonus)
        weight, share = ((w * drawn).to(logprob.dtype) for w in (weights, shares))
        loss = loss_of(tokens, weight, share, self._settings, self._besides)
        loss.backward()
        d = (logprob.detach() - sampled).double()
        kl = d.new_zeros(()) if second is None else (drawn * (logprob.detach() - second)).double().sum()
        part = [loss.detach().double(), d.sum(), (d.exp() - 1 - d).sum(), kl, drawn.double().sum()]
        self._sums += torch.stack(part) * leads(self._policy.model)
        self._largest = torch.maximum(self._largest, d.abs().max())


def learn(
    policy: Policy,
    groups: Groups,
    weights: Weights,
    optimizer: optimizers.Optimizers,
    settings: Rl,
    besides: Besides = NOTHING,
) -> tuple[Learned, Tensor]:
    """One optimiser step on a whole batch of groups, or `updates` of them on its parts, off-policy. Returns
    what was learned and the weights [P, G] that it was learned with. Collective."""
    results, final = [], torch.zeros_like(weights.pulls)
    for part in _parts(len(groups), settings.updates):
        final[part] = weights.pulls[part] / denominator(weights.of(part))
        update = Update(policy, settings, besides)
        update.add(groups[part], final[part], weights.shares[part] / tokens_in(weights.of(part)))
        results.append(update.finish(optimizer))
    return _together(results), final


def _parts(groups: int, updates: int) -> list[slice]:
    """This rank's groups for each update: every rank has as many parts, none of them empty everywhere."""
    if updates == 1:
        return [slice(None)]
    number = max(1, min(updates, int(ranks.total(torch.tensor(groups))) // ranks.world()))
    return [slice(i, None, number) for i in range(number)]


def _together(results: Sequence[Learned]) -> Learned:
    """Several updates as one: means over tokens, and over updates of the loss and the norm."""
    tokens = sum(r.learned_tokens for r in results)
    norms = [r.gradient_norm for r in results if r.gradient_norm is not None]
    return Learned(
        sum(r.loss for r in results) / len(results),
        sum(norms) / len(norms) if norms else None,
        tokens,
        sum(r.mean_difference * r.learned_tokens for r in results) / max(tokens, 1),
        max(r.max_difference for r in results),
        sum(r.k3 * r.learned_tokens for r in results) / max(tokens, 1),
        None
        if results[0].kl is None
        else sum((r.kl or 0) * r.learned_tokens for r in results) / max(tokens, 1),
    )


def _lists(*tables: Tensor) -> list[list[float]]:
    """Tables [P, G] as flat lists."""
    return [table.flatten().tolist() for table in tables]


def _per_token(pack: Pack, values: Sequence[npt.NDArray[np.float32]] | Scores) -> Tensor:
    """Per-response arrays laid out as the pack's targets are: an owner's tokens stand together, in order."""
    owners = list(dict.fromkeys(pack.owners.tolist()))
    return torch.from_numpy(np.concatenate([values[i] for i in owners]))
