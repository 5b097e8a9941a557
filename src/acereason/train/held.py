"""What a rank holds of a tensor that lies over the ranks, and a tensor of such parts, wherever these rest."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor
from torch.distributed.tensor._dtensor_spec import DTensorSpec, TensorMeta


def local(tensor: Any) -> Any:
    """What this rank holds of a tensor."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def laid_as(like: Tensor, part: Tensor, size: Iterable[int] | None = None) -> Tensor:
    """A tensor (of another size, if given) that lies over the ranks as `like` does and of which this rank
    holds `part`; `part` itself where `like` is whole. The part stays on its device, also where the ranks
    compute on another one: `DTensor.from_local` would move it there."""
    if not isinstance(like, DTensor):
        return part
    shape = torch.Size(like.shape if size is None else size)
    meta = TensorMeta(shape, torch.empty(shape, device="meta").stride(), part.dtype)
    spec = DTensorSpec(like.device_mesh, like.placements, tensor_meta=meta)
    made: Tensor = DTensor(part, spec, requires_grad=False)
    return made
