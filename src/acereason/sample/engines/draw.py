"""Drawing tokens from logits: softmax(logits / T), its entropies, its nucleus, by the inverse of the
cumulative distribution at a number that is a hash of what the draw is for.

In the logits' own type, float32; sums along the vocabulary are made by torch in double precision and kept in
float32, so a draw is off by at most one part in 10^7.

Legend: R rows, V vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

LIKELIEST = 1024  # tokens that hold a nucleus nearly always


def nucleus(mass_RV: Tensor, share_R: Tensor) -> Tensor:
    """Zero all but the fewest likeliest tokens with `share` of each row's mass (ties: lower id)."""
    wanted_R = share_R * mass_RV.sum(-1)
    if mass_RV.shape[1] > LIKELIEST:
        edge_R = mass_RV.topk(LIKELIEST).values[:, -1]
        above_RV = mass_RV * (mass_RV > edge_R[:, None])
        if bool((above_RV.sum(-1) > wanted_R).all()):
            columns = (above_RV > 0).any(0).nonzero()[:, 0]
            kept = _sorted_nucleus(above_RV[:, columns], wanted_R)
            return torch.zeros_like(mass_RV).index_copy_(1, columns, kept)
    return _sorted_nucleus(mass_RV, wanted_R)


def _sorted_nucleus(mass_RV: Tensor, wanted_R: Tensor) -> Tensor:
    sorted_RV, order_RV = mass_RV.sort(dim=-1, descending=True, stable=True)
    before_RV = sorted_RV.cumsum(-1) - sorted_RV
    kept_RV = before_RV < wanted_R[:, None]
    kept_RV[:, 0] = True
    return mass_RV * torch.zeros_like(kept_RV).scatter_(1, order_RV, kept_RV)


@dataclass(frozen=True, slots=True)
class Drawn:
    """Per row: token, its log-probability, the entropies at T and at 1 (nats)."""

    token: npt.NDArray[np.int64]
    logprob: npt.NDArray[np.float32]
    entropy: npt.NDArray[np.float32]
    entropy_1: npt.NDArray[np.float32]


def draw(logits_RV: Tensor, T_R: Tensor, share_R: Tensor, uniform_R: Tensor) -> Drawn:
    """Draw one token per row of softmax(logits / T), cut to its nucleus where share < 1. All [R] in
    float64, on the processor: what they say of all rows is then known without asking a device."""
    plain, cut = bool((T_R == 1).all()), bool((share_R < 1).any())
    T_R, share_R, uniform_R = (x.to(logits_RV.device) for x in (T_R, share_R, uniform_R))
    logp_RV = (logits_RV if plain else logits_RV / T_R[:, None].to(logits_RV.dtype)).log_softmax(-1)
    mass_RV = logp_RV.exp()
    entropy_R = _entropy(mass_RV, logp_RV)
    one_R = entropy_R if plain else _entropy_1(logits_RV)
    if cut:
        share_R = share_R.to(mass_RV.dtype)
        mass_RV = torch.where((share_R < 1)[:, None], nucleus(mass_RV, share_R), mass_RV)
    token_R1 = inverse(mass_RV, uniform_R)[:, None]
    chosen = (token_R1[:, 0], logp_RV.gather(1, token_R1)[:, 0], entropy_R, one_R)
    return Drawn(*(value.cpu().numpy() for value in chosen))


def inverse(mass_RV: Tensor, uniform_R: Tensor) -> Tensor:
    """[R] the token in which a share `uniform` of each row's mass ends; never one without mass."""
    total_RV = mass_RV.cumsum(-1)
    target_R1 = (uniform_R * total_RV[:, -1].double()).to(total_RV.dtype)[:, None]
    target_R1 = torch.minimum(target_R1, torch.nextafter(total_RV[:, -1:], torch.zeros_like(target_R1)))
    return torch.searchsorted(total_RV, target_R1, right=True)[:, 0]


def _entropy(p_RV: Tensor, logp_RV: Tensor) -> Tensor:
    return -(p_RV * logp_RV.clamp_min(-1e4)).sum(-1)


def _entropy_1(logits_RV: Tensor) -> Tensor:
    logp_RV = logits_RV.log_softmax(-1)
    return _entropy(logp_RV.exp(), logp_RV)
