"""Rewards that say something of the length, too; the recipe's are 1 or 0 and nothing else.

Shapes: P prompts (groups), G responses a group.
"""

from __future__ import annotations

import torch
from torch import Tensor

SOFT = 0.5  # most that overlong responses lose: half of what right and wrong differ by, as with DAPO's ± 1


def soft_overlong(tokens: Tensor, budget: int, buffer: int) -> Tensor:
    """[P, G] from 0 at `budget - buffer` tokens down to -SOFT at the budget (DAPO, 2503.14476, eq. 13, whose
    rewards are ± 1)."""
    over = (tokens - (budget - buffer)).to(torch.float64) / buffer
    return -SOFT * over.clamp(0, 1)


def length_reward(rewards: Tensor, tokens: Tensor) -> Tensor:
    """[P, G] Kimi k1.5's (2501.12599, §2.3.3): λ = 1/2 - (length - min) / (max - min) over the group's judged
    responses, for wrong ones at most 0; 0 where all are equally long. NaN rewards count nowhere."""
    judged, length = ~rewards.isnan(), tokens.to(rewards.dtype)
    low = torch.where(judged, length, torch.inf).amin(1, keepdim=True)
    high = torch.where(judged, length, -torch.inf).amax(1, keepdim=True)
    differ = high > low
    share = (length - low) / torch.where(differ, high - low, 1.0)
    value = torch.where(differ, 0.5 - share, 0.0)
    return torch.where(judged, torch.where(rewards > 0, value, value.clamp(max=0)), 0.0)
