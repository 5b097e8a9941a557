"""What was done to a model here, told in one place beside the model, whose own class knows nothing of it.

`marks_of(model).lora` is set by who adapts the model, and read by whoever must know. A copy of a model has
none of the marks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from acereason.config import Lora
    from acereason.policy.sequence import Part


@dataclass(slots=True)
class Marks:
    """The marks of one model; as made, none.

    lora        its adapters
    frozen      how many layers, from below, keep their weights
    base        the checksum [1] of what does not learn
    halved      its products are in bfloat16, on a processor
    moved       how often its optimiser has moved the weights of a halved model
    compute     the type of its passes where sharding casts the parameters to it
    works_on    where it computes, which is not where its parameters rest
    offload     what rests in the machine's memory (`placement.offload`)
    sequence    this rank's part of every pack
    replicated  the type in which gradients of whole models are added up over ranks
    """

    lora: Lora | None = None
    frozen: int = 0
    base: Tensor | None = None
    halved: bool = False
    moved: int = 0
    compute: torch.dtype | None = None
    works_on: torch.device | None = None
    offload: tuple[str, ...] = ()
    sequence: Part | None = None
    replicated: torch.dtype | None = None


_marks: WeakKeyDictionary[nn.Module, Marks] = WeakKeyDictionary()


def marks_of(model: Any) -> Marks:
    """The model's marks, to be read or set."""
    return _marks.setdefault(model, Marks())
