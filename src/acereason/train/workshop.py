"""What every step of a run uses, in one hand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from acereason import ranks
from acereason.config import Recipe
from acereason.errors import TrainingError
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


def end_unwell(shop: Workshop, stage: str, save: Callable[[], object]) -> None:
    """End the run, its last step kept, where a rule of the recipe's `health.stop` holds. Collective."""
    if not shop.recipe.health.stop:
        return
    alarm = ranks.of_main(shop.health.fatal(stage) if ranks.main() else None)
    if alarm is not None:
        save()
        raise TrainingError(
            f"health.stop ends the run in {stage}, since step {alarm.since}: {alarm.sentence} "
            f"{alarm.why} {alarm.remedy} To go on as it is, take {alarm.rule!r} out of health.stop and resume"
        )
