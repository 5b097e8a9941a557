"""What of a model does not learn: its lower layers, or all that adapters stand on.

    freeze(model, layers)     embeddings and the first `layers` layers keep their weights
    remember(model)           what is frozen is known by a sum from now on (`base_of`)

Frozen weights have no gradient and no moments, and nothing needs a gradient below them, so the backward pass
ends at the first layer that learns and what the layers below made is not kept. Checkpoints leave them out.
A head that is tied to the embedding is frozen with it.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor

from acereason import ranks
from acereason.errors import ConfigError
from acereason.policy.marks import marks_of


def layers(model: Any) -> list[Any]:
    """The decoder's layers, from below."""
    kinds = set(model._no_split_modules)
    return [m for m in model.modules() if type(m).__name__ in kinds]


def freeze(model: Any, count: int) -> None:
    """Let the first `count` layers, and all that the decoder has before them, keep their weights; in place,
    before the model's first pass. ConfigError: it has fewer layers."""
    if not count:
        return
    check(count, len(there := layers(model)))
    left = {id(p) for layer in there[:count] for p in layer.parameters()}
    for parameter in model.base_model.parameters():  # in the order in which a decoder makes them
        parameter.requires_grad_(False)
        left.discard(id(parameter))
        if not left:
            break
    model.get_input_embeddings().requires_grad_(False)
    marks_of(model).frozen = count


def check(count: int, there: int) -> None:
    """ConfigError when a model of so many layers cannot freeze `count`."""
    if count > there:
        raise ConfigError(f"model.frozen_layers is {count}, and the model has {there} layers; take fewer")


def remember(model: Any) -> None:
    """Take the checksum of what does not learn, where there is such. Collective."""
    if any(not p.requires_grad for p in model.parameters()):
        marks_of(model).base = _sum(model)


def base_of(model: Any) -> Tensor | None:
    """The checksum [1] of what does not learn, as `remember` took it; None where everything learns."""
    return marks_of(model).base


def _sum(model: Any) -> Tensor:
    """A checksum [1] of the frozen tensors' bits, the same on any number of ranks. Collective."""
    total, shared = torch.zeros(1, dtype=torch.int64), torch.zeros(1, dtype=torch.int64)
    frozen = (p.detach() for _, p in model.named_parameters() if not p.requires_grad)
    for number, tensor in enumerate(frozen):
        own = tensor.to_local() if isinstance(tensor, DTensor) else tensor
        bits = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}[own.element_size()]
        part = (own.view(bits).sum(dtype=torch.int64) * (2 * number + 1)).cpu()
        (total if isinstance(tensor, DTensor) else shared).add_(part)
    return shared + ranks.total(total)
