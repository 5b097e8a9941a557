"""AdamW whose moments take one byte each: block by block scaled, on a dynamic scale of 256 values.

    m, v      codes uint8 [rows, columns], one float32 maximum for each 256 columns of a row
    update    of float32 values, as AdamW's; a positive v is never rounded to 0, which would blow a step up

Blocks lie within rows, and shards are of whole rows, so a checkpoint is read on any number of ranks, to the
bit; that is why this is no library's, whose blocks run through flattened shards. Vectors (norms, biases)
keep float32 moments. Source: Dettmers et al. 2022, 8-bit optimizers via block-wise quantization,
arXiv 2110.02861; the scale is its dynamic tree.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cache
from typing import Any

import torch
from torch import Tensor

from acereason.train.held import laid_as, local

BLOCK = 256  # columns that share a maximum
ELEMENTS = 1 << 24  # of a matrix, made wide at a time
MOMENTS = ("exp_avg", "exp_avg_sq")


@cache
def levels(signed: bool, device: torch.device) -> Tensor:
    """The 256 values of a code, ascending: 0, 1, and in each of seven decades twice as many steps as in the
    one below."""
    code = [0.0, 1.0]
    for decade in range(7):
        steps = 2 ** (decade + (0 if signed else 1))
        edges = torch.linspace(0.1, 1.0, steps + 1, dtype=torch.float64)
        values = (10.0 ** (decade - 6) * (edges[:-1] + edges[1:]) / 2).tolist()
        code += values + [-x for x in values if signed]
    return torch.tensor(sorted(code), dtype=torch.float32, device=device)


def packed(values: Tensor, signed: bool) -> tuple[Tensor, Tensor]:
    """Codes [rows, columns] and maxima [rows, blocks] of float32 values."""
    blocks = _blocks(values)
    most = blocks.abs().amax(-1)
    known = levels(signed, values.device)
    shares = blocks / most.clamp_min(torch.finfo(torch.float32).tiny)[..., None]
    codes = torch.bucketize(shares, (known[1:] + known[:-1]) / 2, out_int32=True)
    if not signed:
        codes += (codes == 0) & (blocks > 0)
    return codes.to(torch.uint8).flatten(1)[:, : values.shape[1]], most


def unpacked(codes: Tensor, most: Tensor, signed: bool) -> Tensor:
    """The float32 values [rows, columns] of codes and maxima."""
    known = levels(signed, codes.device)[codes.int()]
    return (_blocks(known) * most[..., None]).flatten(1)[:, : codes.shape[1]]


def _blocks(x: Tensor) -> Tensor:
    """[rows, columns] -> [rows, blocks, 256], zeros after the last column."""
    return torch.nn.functional.pad(x, (0, -x.shape[1] % BLOCK)).reshape(len(x), -1, BLOCK)


class AdamW8bit(torch.optim.Optimizer):
    """As torch's AdamW, with one byte for each moment of a matrix."""

    def __init__(
        self,
        params: Iterable[Any],
        lr: float,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.01,
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Move every parameter that has a gradient."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    _update(parameter, self.state[parameter], group)


def _update(parameter: Tensor, state: dict[str, Any], group: dict[str, Any]) -> None:
    if not state:
        state |= _fresh(parameter)
    state["step"] += 1
    weight, gradient = local(parameter), local(parameter.grad)
    assert weight is not None and gradient is not None
    parts = {key: local(value) for key, value in state.items() if key != "step"}
    count = max(1, ELEMENTS // max(1, weight[0].numel())) if len(weight) else 1
    for start in range(0, len(weight), count):
        rows = slice(start, start + count)
        kept = {key: value[rows] for key, value in parts.items()}
        _rows(weight[rows], gradient[rows].float(), kept, float(state["step"]), group)


def _rows(weight: Tensor, gradient: Tensor, kept: dict[str, Tensor], step: float, group: Any) -> None:
    """Update these rows of a parameter and of its state, in place."""
    first, second = group["betas"]
    m, v = (_read(kept, name) for name in MOMENTS)
    m.lerp_(gradient, 1 - first)
    v.mul_(second).addcmul_(gradient, gradient, value=1 - second)
    weight.mul_(1 - group["lr"] * group["weight_decay"])
    scale = (v / (1 - second**step)).sqrt_().add_(group["eps"])
    weight.addcdiv_(m, scale, value=-group["lr"] / (1 - first**step))
    for name, values in zip(MOMENTS, (m, v), strict=True):
        _write(kept, name, values)


def _read(kept: dict[str, Tensor], name: str) -> Tensor:
    scale = kept.get(f"{name}_scale")
    return kept[name] if scale is None else unpacked(kept[name], scale, name == MOMENTS[0])


def _write(kept: dict[str, Tensor], name: str, values: Tensor) -> None:
    if f"{name}_scale" in kept:
        codes, most = packed(values, name == MOMENTS[0])
        kept[name].copy_(codes)
        kept[f"{name}_scale"].copy_(most)


def _fresh(parameter: Tensor) -> dict[str, Any]:
    state: dict[str, Any] = {"step": torch.zeros(())}
    for name in MOMENTS:
        if parameter.ndim != 2:
            state[name] = torch.zeros_like(parameter, dtype=torch.float32)
            continue
        zero = 0.0 if name == MOMENTS[1] else None  # its code: the first of the unsigned, the middle one else
        codes = torch.zeros_like(parameter, dtype=torch.uint8)
        if zero is None:
            local(codes).fill_(int((levels(True, torch.device("cpu")) == 0).nonzero()[0]))
        state[name] = codes
        state[f"{name}_scale"] = like(parameter, (len(parameter), -(-parameter.shape[1] // BLOCK)))
    return state


def like(parameter: Tensor, size: Iterable[int], dtype: torch.dtype = torch.float32) -> Tensor:
    """Zeros of another size with the parameter's rows, over the ranks and on the device as the parameter."""
    shape, own = tuple(size), local(parameter)
    return laid_as(parameter, torch.zeros(len(own), *shape[1:], dtype=dtype, device=own.device), shape)
