"""How much is left of a run: of its stage by what steps took, of the later ones by their size beside it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from acereason.view.tail import Row


def remaining(recipe: Mapping[str, Any], stage: Any, done: Any, steps: Any, seconds: float | None) -> Row:
    """Where a stage is among the recipe's and how long it, and the whole run, will go on.

    `done` steps of the stage, of `steps` where its rows say so (SFT); a step takes `seconds`. A later stage
    of RL is thought to take as long as its tokens at most are to the present one's; `untimed` stages have
    nothing to go by. Evaluations come on top."""
    known = recipe.get("stage")
    stages = [one for one in known if isinstance(one, dict)] if isinstance(known, list) else []
    names = [one.get("name") for one in stages]
    place = names.index(stage) if stage in names else -1
    row: Row = {}
    if place >= 0:
        steps = stages[place].get("steps")
        row |= {"number": place + 1, "of": len(names)}
    row["steps"] = steps
    if seconds is None or type(done) is not int or type(steps) is not int:
        return row
    later = stages[place + 1 :]
    parts = [_seconds(one, stages[place], seconds) if place >= 0 else None for one in later]
    left = max(steps - done, 0) * seconds
    whole = left + sum(part for part in parts if part is not None)
    return row | {"seconds_left": left, "run_left": whole, "untimed": sum(part is None for part in parts)}


def _seconds(later: Mapping[str, Any], present: Mapping[str, Any], seconds: float) -> float | None:
    """What a later stage takes, where both stages say how much they ask."""
    sizes = [_size(one) for one in (later, present)]
    steps = later.get("steps")
    if sizes[0] is None or sizes[1] is None or type(steps) is not int:
        return None
    return steps * seconds * sizes[0] / sizes[1]


def _size(stage: Mapping[str, Any]) -> float | None:
    """The tokens of a step at most: prompts × group × budget."""
    group = stage.get("group")
    group = max(group, default=None) if isinstance(group, list) else group
    numbers = [stage.get("prompts"), group, stage.get("budget")]
    if not all(type(number) is int and number > 0 for number in numbers):
        return None
    return float(numbers[0] * numbers[1] * numbers[2])  # type: ignore[operator]
