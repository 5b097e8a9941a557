"""The objective: which response pulls how hard on the policy.

Group-normalised REINFORCE (recipe §3; AceReason-Nemotron 1.0, eq. 2), strictly on-policy and without KL:

    A_i = (S_i - mean_j S_j) / std_j S_j              over the group of responses to one prompt
    loss = - Σ_i w_i Σ_t log π_T(o_it | q, o_i<t)      with w_i = A_i / tokens

so the whole objective is one number w_i a response. `tokens` counts the *kept* responses of the global
batch (default), or of the response's own group with the groups then averaged. The standard deviation is the
population's. A group of equal rewards has A = 0 exactly, whatever its floating-point std would be, and
its tokens still count: skipping its backward pass changes nothing.

Not here: ratio, clip and KL, which strict on-policy learning does not need. `clipped_loss` is the
off-policy form, kept to show what several updates per batch do.

Shapes: P prompts (groups), G responses a group.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Rollouts:
    """What the objective needs to know of a batch. `rewards`: [P, G] in {0, 1}, NaN where the judge could not
    judge. `tokens`: [P, G] response lengths. `truncated`: [P, G] bool, cut at the budget."""

    rewards: Tensor
    tokens: Tensor
    truncated: Tensor


class Weights(NamedTuple):
    """What the objective says of some groups, known before other groups are.

    advantages  [P, G] A_i by the group's statistics; NaN where there is none (unjudged)
    pulls       [P, G] the weight of each response but for the batch's denominator; 0 for what is masked
    sizes       [P]    what each group adds to that denominator: kept tokens, or 1 if a response is kept
    """

    advantages: Tensor
    pulls: Tensor
    sizes: Tensor

    def of(self, groups: slice | list[int]) -> Weights:
        """Those of some of the groups, or all in another order."""
        return Weights(self.advantages[groups], self.pulls[groups], self.sizes[groups])

    @staticmethod
    def none() -> Weights:
        """Those of no group at all."""
        return Weights(torch.zeros(0, 0), torch.zeros(0, 0), torch.zeros(0, dtype=torch.long))

    @staticmethod
    def joined(parts: Sequence[Weights]) -> Weights:
        """Those of several parts of a batch, one after the other."""
        some = [part for part in parts if len(part.sizes)]
        return Weights(*map(torch.cat, zip(*some, strict=True))) if some else Weights.none()


def kept(
    rollouts: Rollouts, overlong: Literal["mask", "zero"], unjudged: Literal["response", "group"] = "response"
) -> Tensor:
    """[P, G] bool: which responses are in the loss. One that could not be judged is out alone, or with its
    group; under the overlong filter ("mask") truncated responses are out."""
    judged = ~rollouts.rewards.isnan()
    if unjudged == "group":
        judged = judged.all(1, keepdim=True).expand_as(judged)
    return judged & ~rollouts.truncated if overlong == "mask" else judged


def advantages(rewards: Tensor, counted: Tensor) -> Tensor:
    """[P, G] rewards to advantages; `counted` [P, G] says which enter the group's mean and std.

    Responses that are not counted get the advantage that the statistics give them; the caller masks them."""
    weight = counted.to(rewards.dtype)
    filled = torch.where(counted, rewards, 0.0)
    n = weight.sum(1, keepdim=True).clamp(min=1)
    mean = filled.sum(1, keepdim=True) / n
    variance = (weight * (filled - mean) ** 2).sum(1, keepdim=True) / n
    low = torch.where(counted, rewards, torch.inf).amin(1, keepdim=True)
    high = torch.where(counted, rewards, -torch.inf).amax(1, keepdim=True)
    differ = high > low
    std = torch.where(differ, variance, 1.0).sqrt()
    return torch.where(differ, (rewards - mean) / std, 0.0)


def weigh(
    rollouts: Rollouts,
    overlong: Literal["mask", "zero"] = "mask",
    masked_in_statistics: bool = True,
    normalisation: Literal["global", "group"] = "global",
    unjudged: Literal["response", "group"] = "response",
) -> Weights:
    """The one place where responses are weighed."""
    keep, judged = kept(rollouts, overlong, unjudged), ~rollouts.rewards.isnan()
    counted = judged if masked_in_statistics else judged & keep
    advantage = advantages(rollouts.rewards.nan_to_num(), counted)
    pulls = torch.where(keep, advantage, 0.0)
    tokens = torch.where(keep, rollouts.tokens, 0).sum(1)
    usable = kept(rollouts, "zero", unjudged)  # whatever the overlong rule then masks
    advantage = torch.where(usable, advantage, torch.nan)
    if normalisation == "global":
        return Weights(advantage, pulls, tokens)
    return Weights(advantage, pulls / tokens.to(pulls.dtype).clamp(min=1)[:, None], keep.any(1).long())


def response_weights(
    rollouts: Rollouts,
    overlong: Literal["mask", "zero"] = "mask",
    masked_in_statistics: bool = True,
    normalisation: Literal["global", "group"] = "global",
    unjudged: Literal["response", "group"] = "response",
) -> Tensor:
    """[P, G] the weight w_i of each response in the loss of a batch; 0 for what is masked or has no
    advantage."""
    weights = weigh(rollouts, overlong, masked_in_statistics, normalisation, unjudged)
    return weights.pulls / max(int(weights.sizes.sum()), 1)


def policy_loss(logprobs: Tensor, weights: Tensor) -> Tensor:
    """- Σ w log π over a micro-batch; `logprobs` and `weights` [M] per token. Micro-batches add up."""
    return -(weights * logprobs).sum()


def importance(logprobs: Tensor, sampled: Tensor, cap: float) -> Tensor:
    """Truncated importance weights min(exp(trainer - sampler), cap) per token [M], without gradient: they
    mend the expectation where the sampler's kernels give slightly other probabilities than the trainer's."""
    return torch.exp(logprobs.detach() - sampled).clamp(max=cap)


def clipped_loss(
    logprobs: Tensor, old_logprobs: Tensor, weights: Tensor, clip: tuple[float, float]
) -> Tensor:
    """The clipped surrogate for several updates a batch: -Σ min(r w, clip(r, 1-low, 1+high) w), [M] each.
    At r = 1 its gradient is that of `policy_loss`."""
    ratio = torch.exp(logprobs - old_logprobs)
    clipped = ratio.clamp(1 - clip[0], 1 + clip[1])
    return -torch.minimum(ratio * weights, clipped * weights).sum()
