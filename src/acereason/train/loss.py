"""The loss of a micro-batch: the policy gradient in the recipe's form, and the terms that know no advantage.

Shapes: M tokens of a micro-batch, which holds whole responses. Micro-batches add up.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from acereason.config import Rl
from acereason.train import objective, ratios
from acereason.train.second import Besides


class Tokens(NamedTuple):
    """What is known of the tokens of a micro-batch, [M] each: log π with gradient, H, the sampler's log π, a
    second model's (None: there is none), the response that each belongs to, and the coefficient of their
    entropy (None: no token has one)."""

    logprob: Tensor
    entropy: Tensor
    sampled: Tensor
    second: Tensor | None
    owners: Tensor
    coefficient: Tensor | None = None


def loss_of(tokens: Tokens, weight: Tensor, share: Tensor, settings: Rl, besides: Besides) -> Tensor:
    """The loss [] of a micro-batch: the policy gradient by `weight` [M], and by `share` [M] the terms that
    know no advantage."""
    logprob, second, bonus = tokens.logprob, tokens.second, torch.where(weight != 0, share, 0.0)
    if besides.distill and second is not None:
        weight = weight * objective.distillation_pull(logprob, second)
    loss = _policy_term(tokens, weight, settings)
    if tokens.coefficient is not None:
        bonus = bonus * tokens.coefficient
        loss = loss + objective.policy_loss(logprob, bonus * objective.entropy_pull(logprob, tokens.entropy))
    if second is not None and not besides.distill:
        kl = ratios.kl_loss(settings.kl.form, logprob, second)
        loss = loss + settings.kl.coefficient * (share * kl).sum()
    return loss


def _policy_term(tokens: Tokens, weight: Tensor, settings: Rl) -> Tensor:
    logprob, sampled, owners = tokens.logprob, tokens.sampled, tokens.owners
    mask = settings.sequence_mask
    if mask != "none":
        weight = weight * ratios.masked(mask, logprob, sampled, owners, settings.mask_bounds)
    if settings.updates > 1:
        return ratios.off_policy_loss(settings.ratio, logprob, sampled, weight, settings.clip, owners)
    if settings.importance_cap is not None:
        weight = weight * ratios.importance(logprob, sampled, settings.importance_cap)
    return objective.policy_loss(logprob, weight)
