"""Losses of learning off-policy: ratios of the present policy to the one that sampled, clipped or masked; and
KL to a reference.

    r_t = π(o_t) / π_sampled(o_t)          token by token
    r   = exp(mean_t log r_t)              the geometric mean over a response (GSPO)

Where both policies are one, r = 1, and every loss here has the gradient of `objective.policy_loss`. The
sampler's own log-probabilities are the old policy's, so what its kernels do differently is in the ratio, too.

Shapes: M tokens of a micro-batch, which holds whole responses; `owners` [M] says which.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

Ratio = Literal["clip", "cispo", "gspo"]
Mask = Literal["none", "geometric", "icepop"]
Kl = Literal["k1", "k2", "k3"]
Range = tuple[float, float]


def importance(logprobs: Tensor, sampled: Tensor, cap: float) -> Tensor:
    """Truncated importance weights min(r_t, cap) [M], without gradient: they mend the expectation where the
    sampler's kernels give slightly other probabilities than the trainer's."""
    return torch.exp(logprobs.detach() - sampled).clamp(max=cap)


def clipped_loss(logprobs: Tensor, sampled: Tensor, weights: Tensor, clip: Range) -> Tensor:
    """PPO's surrogate: -Σ min(r w, clip(r, 1 - low, 1 + high) w), [M] each (1707.06347; unequal ends: DAPO,
    2503.14476)."""
    return _surrogate(torch.exp(logprobs - sampled), weights, clip)


def cispo_loss(logprobs: Tensor, sampled: Tensor, weights: Tensor, clip: Range) -> Tensor:
    """-Σ sg(clip(r, 1 - low, 1 + high)) w log π: the ratio is clipped, and no token loses its gradient
    (MiniMax-M1, 2506.13585)."""
    ratio = torch.exp(logprobs.detach() - sampled).clamp(1 - clip[0], 1 + clip[1])
    return -(ratio * weights * logprobs).sum()


def gspo_loss(logprobs: Tensor, sampled: Tensor, weights: Tensor, clip: Range, owners: Tensor) -> Tensor:
    """PPO's surrogate with one ratio a response, the geometric mean of its tokens' (GSPO, 2507.18071)."""
    return _surrogate(torch.exp(over_response(logprobs - sampled, owners)), weights, clip)


def _surrogate(ratio: Tensor, weights: Tensor, clip: Range) -> Tensor:
    clipped = ratio.clamp(1 - clip[0], 1 + clip[1])
    return -torch.minimum(ratio * weights, clipped * weights).sum()


def off_policy_loss(
    form: Ratio, logprobs: Tensor, sampled: Tensor, weights: Tensor, clip: Range, owners: Tensor
) -> Tensor:
    """The loss of that name."""
    if form == "gspo":
        return gspo_loss(logprobs, sampled, weights, clip, owners)
    return {"clip": clipped_loss, "cispo": cispo_loss}[form](logprobs, sampled, weights, clip)


def over_response(values: Tensor, owners: Tensor) -> Tensor:
    """[M] the mean of `values` over the response that each token belongs to."""
    if not len(owners):
        return values
    zeros = values.new_zeros(int(owners.max()) + 1)
    sums, counts = (zeros.index_add(0, owners, each) for each in (values, torch.ones_like(values)))
    return sums[owners] / counts[owners]


def masked(rule: Mask, logprobs: Tensor, sampled: Tensor, owners: Tensor, bounds: Range) -> Tensor:
    """[M] factors of the weights, without gradient.

    geometric  1 for responses whose r lies in `bounds`, 0 for others (ProRL v2)
    icepop     r_t for tokens where it lies in `bounds`, 0 for others (IcePop, with Ring-1T, 2510.18855)

    Masked tokens still count in the denominator."""
    if rule == "none":
        return torch.ones_like(logprobs)
    difference = logprobs.detach() - sampled
    ratio = torch.exp(over_response(difference, owners) if rule == "geometric" else difference)
    inside = (ratio >= bounds[0]) & (ratio <= bounds[1])
    return torch.where(inside, ratio if rule == "icepop" else torch.ones_like(ratio), 0.0)


def kl_loss(form: Kl, logprobs: Tensor, reference: Tensor) -> Tensor:
    """[M] terms, d = log π - log π_reference, whose mean over tokens of π's own is added to the loss:

    k1  sg(d) log π: d taken from the reward, for d itself as a loss has no gradient in expectation
    k2  d² / 2: the same gradient as k1's
    k3  exp(-d) - 1 + d: unbiased as a value, its gradient is that of the reverse KL

    (J. Schulman, "Approximating KL divergence", 2020; as losses: 2510.01555.)"""
    d = logprobs - reference
    if form == "k1":
        return d.detach() * logprobs
    return d**2 / 2 if form == "k2" else torch.exp(-d) - 1 + d
