"""What a run's folder takes on the disk, in bytes: arithmetic from the recipe, said before the start.

Checkpoints hold weights and the optimiser's two moments in the parameters' type; while one is written, one
more than is kept is there. Responses are counted as long as the budget, at four bytes a token: the most.
"""

from __future__ import annotations

from acereason.config import Recipe

BYTES = {"float32": 4, "bfloat16": 2}
MOMENTS = 2
A_TOKEN = 4  # bytes of a response's token as text, about


def needed(recipe: Recipe, parameters: int, traces: int = 0) -> dict[str, int]:
    """Bytes by part; `traces`: bytes of the SFT traces, of which the ids take at most as much again."""
    weights = parameters * BYTES[recipe.model.dtype]
    spare = 2 if recipe.sft is not None and recipe.sft.keep == "best" else 0
    return {
        "checkpoints": (recipe.keep.checkpoints + 1) * weights * (1 + MOMENTS) + spare * weights,
        "models": (len(recipe.stage) + 1) * weights,
        "token ids": traces,
        "responses": _responses(recipe),
    }


def said(parts: dict[str, int]) -> str:
    """The parts in words."""
    each = ", ".join(f"{name} {said_size(size)}" for name, size in parts.items() if size)
    return f"on the disk: at most {said_size(sum(parts.values()))} ({each})"


def _responses(recipe: Recipe) -> int:
    kept = recipe.keep.responses
    total = 0
    for stage in reversed(recipe.stage):
        steps = stage.steps if kept is None else min(stage.steps, kept)
        kept = None if kept is None else kept - steps
        total += steps * stage.prompts * _most(stage.group) * stage.budget * A_TOKEN
    return total


def _most(group: int | tuple[int, ...]) -> int:
    return group if isinstance(group, int) else max(group)


def said_size(size: float) -> str:
    """1.5 GiB, 20 MiB."""
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if size < 1024 or unit == "TiB":
            break
        size /= 1024
    return f"{size:.0f} {unit}" if size >= 10 or unit == "B" else f"{size:.1f} {unit}"
