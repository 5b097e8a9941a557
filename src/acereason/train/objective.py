"""The objective: which response pulls how hard on the policy.

Group-normalised REINFORCE (recipe §3; AceReason-Nemotron 1.0, eq. 2), strictly on-policy and without KL:

    A_i = (S_i - mean_j S_j) / std_j S_j              over the group of responses to one prompt
    loss = - Σ_i w_i Σ_t log π_T(o_it | q, o_i<t)      with w_i = A_i / tokens

so the whole objective is one number w_i a response. `tokens` counts the *kept* responses of the global
batch (default), or of the response's own group with the groups then averaged. The standard deviation is the
population's. A group of equal rewards has A = 0 exactly, whatever its floating-point std would be, and
its tokens still count: skipping its backward pass changes nothing.

These are the recipe's; `Advantage`, `Normalisation` and `Idle` name those of later papers. Not here: ratios,
clips and KL, which strict on-policy learning does not need and later recipes have (`train.ratios`), and what
changes a reward by its length (`train.rewards`).

Shapes: P prompts (groups), G responses a group.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from acereason.errors import DataError

Overlong = Literal["mask", "zero", "soft"]
Unjudged = Literal["response", "group"]
Advantage = Literal["std", "mean", "batch", "max_rl", "loo"]
Normalisation = Literal["global", "group", "constant"]
Idle = Literal["count", "drop"]


@dataclass(frozen=True, slots=True)
class Rollouts:
    """What the objective needs to know of a batch. `rewards`: [P, G] in {0, 1}, or shaped, NaN where the
    judge could not judge. `tokens`: [P, G] response lengths. `truncated`: [P, G] bool, cut at the budget."""

    rewards: Tensor
    tokens: Tensor
    truncated: Tensor


class Weights(NamedTuple):
    """What the objective says of some groups, known before other groups are.

    advantages  [P, G] A_i by the group's statistics; NaN where there is none (unjudged)
    pulls       [P, G] the weight of each response but for the batch's denominator; 0 for what is masked
    shares      [P, G] the same for an advantage of 1: what terms weigh that know no advantage (KL, entropy)
    sizes       [P]    what each group adds to that denominator: kept tokens, or 1 if a response is kept, or
                its whole budget
    squares     [P, 2] what each group adds to the batch's variance: Σ (S - mean)², and of how many responses;
                equal numbers where the batch's standard deviation does not count
    """

    advantages: Tensor
    pulls: Tensor
    shares: Tensor
    sizes: Tensor
    squares: Tensor

    def of(self, groups: slice | list[int]) -> Weights:
        """Those of some of the groups, or all in another order."""
        return Weights(*(each[groups] for each in self))

    @staticmethod
    def none() -> Weights:
        """Those of no group at all."""
        nothing = torch.zeros(0, 0)
        return Weights(nothing, nothing, nothing, torch.zeros(0, dtype=torch.long), torch.zeros(0, 2))

    @staticmethod
    def joined(parts: Sequence[Weights]) -> Weights:
        """Those of several parts of a batch, one after the other."""
        some = [part for part in parts if len(part.sizes)]
        return Weights(*map(torch.cat, zip(*some, strict=True))) if some else Weights.none()


def kept(rollouts: Rollouts, overlong: Overlong, unjudged: Unjudged = "response") -> Tensor:
    """[P, G] bool: which responses are in the loss. One that could not be judged is out alone, or with its
    group; under the overlong filter ("mask") truncated responses are out."""
    judged = ~rollouts.rewards.isnan()
    if unjudged == "group":
        judged = judged.all(1, keepdim=True).expand_as(judged)
    return judged & ~rollouts.truncated if overlong == "mask" else judged


def advantages(rewards: Tensor, counted: Tensor, rule: Advantage = "std") -> Tensor:
    """[P, G] rewards to advantages; `counted` [P, G] says which enter the group's statistics.

    std     (S - mean) / std, of the group (GRPO, 2402.03300; AceReason)
    mean    S - mean (Dr. GRPO, 2503.20783)
    batch   the same, to be divided by the whole batch's std (REINFORCE++, 2501.03262; ScaleRL, 2510.13786)
    max_rl  (S - mean) / mean (MaxRL, 2602.02710)
    loo     S - mean of the others (RLOO, 2402.14740)

    Responses that are not counted get the advantage that the statistics give them; the caller masks them.
    A group of equal rewards has none, whatever the rule."""
    weight = counted.to(rewards.dtype)
    filled = torch.where(counted, rewards, 0.0)
    n = weight.sum(1, keepdim=True).clamp(min=1)
    mean = filled.sum(1, keepdim=True) / n
    variance = (weight * (filled - mean) ** 2).sum(1, keepdim=True) / n
    low = torch.where(counted, rewards, torch.inf).amin(1, keepdim=True)
    high = torch.where(counted, rewards, -torch.inf).amax(1, keepdim=True)
    differ = high > low
    one = torch.ones_like(mean)
    divisors = {"std": variance.sqrt(), "max_rl": mean, "loo": (n - 1) / n}
    divisor = torch.where(differ, divisors.get(rule, one), one)
    return torch.where(differ, (rewards - mean) / divisor, 0.0)


def weigh(
    rollouts: Rollouts,
    overlong: Overlong = "mask",
    masked_in_statistics: bool = True,
    normalisation: Normalisation = "global",
    unjudged: Unjudged = "response",
    advantage: Advantage = "std",
    idle: Idle = "count",
    budget: int = 1,
) -> Weights:
    """The one place where responses are weighed.

    normalisation  the loss is a mean over the batch's kept tokens ("global", DAPO's), over each group's
                   and then over groups ("group", ScaleRL's), or a sum over P · G · `budget` ("constant",
                   Dr. GRPO's)
    idle           whether groups without a gradient count in that mean, or are dropped from it (ScaleRL)"""
    keep, judged = kept(rollouts, overlong, unjudged), ~rollouts.rewards.isnan()
    counted = judged if masked_in_statistics else judged & keep
    advantage_PG = advantages(rollouts.rewards.nan_to_num(), counted, advantage)
    shares, sizes = shared(rollouts, keep, normalisation, budget)
    usable = kept(rollouts, "zero", unjudged)  # whatever the overlong rule then masks
    told = torch.where(usable, advantage_PG, torch.nan)
    if idle == "drop":
        pulling = (torch.where(keep, advantage_PG, 0.0) != 0).any(1)
        shares, sizes = torch.where(pulling[:, None], shares, 0.0), torch.where(pulling, sizes, 0)
    pulls = torch.where(keep, advantage_PG, 0.0) * shares
    return Weights(told, pulls, shares, sizes, _squares(advantage_PG, counted, advantage))


def alike(
    rollouts: Rollouts, overlong: Overlong = "mask", normalisation: Normalisation = "global", budget: int = 1
) -> Weights:
    """As `weigh`, with an advantage of 1 for every response, judged or not: where the pull on each token is
    known otherwise, as in distillation. Truncated ones are out under "mask" alone."""
    keep = ~rollouts.truncated if overlong == "mask" else torch.ones_like(rollouts.truncated)
    shares, sizes = shared(rollouts, keep, normalisation, budget)
    ones = torch.ones_like(shares)
    return Weights(ones, shares, shares, sizes, _squares(ones, keep, "std"))


def shared(
    rollouts: Rollouts, keep: Tensor, normalisation: Normalisation, budget: int
) -> tuple[Tensor, Tensor]:
    """The weight [P, G] of a kept response with advantage 1, and what each group adds to the denominator
    [P]."""
    tokens = torch.where(keep, rollouts.tokens, 0).sum(1)
    shares = keep.to(rollouts.rewards.dtype)
    if normalisation == "group":
        shares = shares / tokens.to(shares.dtype).clamp(min=1)[:, None]
    places = torch.full_like(tokens, rollouts.tokens.shape[1] * budget)
    return shares, {"global": tokens, "group": keep.any(1).long(), "constant": places}[normalisation]


def _squares(advantage_PG: Tensor, counted: Tensor, rule: Advantage) -> Tensor:
    """Each group's part of the batch's variance, which only the rule "batch" has."""
    n = counted.sum(1).to(advantage_PG.dtype)
    squares = torch.where(counted, advantage_PG**2, 0.0).sum(1) if rule == "batch" else n
    return torch.stack([squares, n], 1)


def denominator(sizes: Tensor, squares: Tensor) -> float:
    """What the pulls of a batch are divided by, from the sums over its groups: `sizes` [] (at least 1), times
    the batch's standard deviation from `squares` [2]."""
    total, n = squares.tolist()
    return max(float(sizes), 1.0) * (math.sqrt(total / n) if total > 0 else 1.0)


Table = Sequence[Sequence[float | None]]


def plain_rollouts(
    rewards: Table, tokens: Table, truncated: Sequence[Sequence[bool]] | None = None
) -> Rollouts:
    """Rollouts from lists [P, G]; a reward of None could not be judged, and nothing was `truncated` by
    default."""
    numbers = [[math.nan if r is None else float(r) for r in row] for row in rewards]
    given = torch.tensor(numbers, dtype=torch.float64)
    lengths = torch.tensor(tokens)
    if given.dim() != 2 or lengths.shape != given.shape:
        raise DataError(
            f"expected rewards and tokens as two tables of one shape, groups × responses, found "
            f"{tuple(given.shape)} and {tuple(lengths.shape)}"
        )
    cut = torch.zeros(given.shape, dtype=torch.bool) if truncated is None else torch.tensor(truncated)
    return Rollouts(given, lengths, cut)


def response_weights(
    rollouts: Rollouts | Table, *rules: Any, tokens: Table | None = None, **named: Any
) -> Tensor:
    """[P, G] the weight w_i of each response in the loss of a batch, by the rules of `weigh`; 0 for what is
    masked or has no advantage. Rewards may be a table of numbers, with that of the `tokens`.

    >>> response_weights([[1, 0, 0, 1], [1, 1, 1, 1]], tokens=[[2, 3, 2, 3], [2, 2, 2, 4]]).tolist()[0]
    [0.05, -0.05, -0.05, 0.05]
    """
    if not isinstance(rollouts, Rollouts):
        rollouts = plain_rollouts(rollouts, tokens or [], named.pop("truncated", None))
    weights = weigh(rollouts, *rules, **named)
    return weights.pulls / denominator(weights.sizes.sum(), weights.squares.sum(0))


def entropy_pull(logprobs: Tensor, entropy: Tensor) -> Tensor:
    """[M] the weights by which log π of sampled tokens has the gradient of their entropy, in expectation:
    ∇H = E[(-log π - H) ∇ log π], for E[∇ log π] = 0. No gradient through the entropy itself is needed."""
    return -logprobs.detach() - entropy.detach()


def distillation_pull(logprobs: Tensor, teacher: Tensor) -> Tensor:
    """[M] the weights by which log π of sampled tokens has the gradient of minus the reverse KL to the
    teacher, token by token: log π_teacher - log π, without gradient (on-policy distillation: Agarwal et al.,
    2306.13649; as an advantage: Cascade 2's MOPD, 2603.19220). Later tokens do not count for earlier ones."""
    return (teacher - logprobs).detach()


def policy_loss(logprobs: Tensor, weights: Tensor) -> Tensor:
    """- Σ w log π over a micro-batch; `logprobs` and `weights` [M] per token. Micro-batches add up."""
    return -(weights * logprobs).sum()
