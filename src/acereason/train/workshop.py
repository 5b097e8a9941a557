"""What every step of a run uses, in one hand."""

from __future__ import annotations

from dataclasses import dataclass, field

from acereason.config import Recipe
from acereason.health.memory import Memory
from acereason.policy.policy import Policy
from acereason.progress import Progress
from acereason.runs import Run
from acereason.sample.ask import Judging
from acereason.sample.protocol import Sampler


@dataclass(frozen=True)
class Workshop:
    """The run's folder and recipe; the policy, what samples from it and what judges; whom to tell; what is
    remembered of its rows to see whether it is well."""

    run: Run
    recipe: Recipe
    policy: Policy
    sampler: Sampler
    judge: Judging
    progress: Progress
    health: Memory = field(default_factory=Memory)
