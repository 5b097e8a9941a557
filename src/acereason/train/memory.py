"""Out of memory, said as what to turn."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from acereason.errors import TrainingError

SAMPLING = "lower sampling.slots or the stage's budget"
LEARNING = (
    "lower rl.micro_tokens (sft.micro_tokens in SFT), set placement.checkpoint_activations = true, or use "
    "more ranks"
)


@contextmanager
def enough_for(doing: str, knobs: str) -> Iterator[None]:
    """Turn an allocation that failed into a TrainingError that names the knobs of the recipe."""
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
        if not _is_memory(error):
            raise
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise TrainingError(
            f"out of memory while {doing}: {knobs}. The run goes on from its last checkpoint with --resume "
            f"({first})"
        ) from error


def _is_memory(error: BaseException) -> bool:
    """torch raises a plain RuntimeError when the processor's own memory is at its end."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return "DefaultCPUAllocator" in str(error) or "can't allocate memory" in str(error)
