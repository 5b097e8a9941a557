"""Elementwise passes of learning in compiled code (`native/passes.cpp`), each in one walk over memory.

A norm by PyTorch walks over its rows five times, its gradient six; GELU in bfloat16 takes as long as the
product before it, and adding a bfloat16 gradient to its float32 sum makes a float32 copy first. `compiled`
says whether a tensor can go here: float32 or bfloat16 rows on the processor, where there is a compiler
(ACEREASON_NATIVE=0: never).
"""

from __future__ import annotations

import ctypes
import functools
import os
from typing import Any

import torch
from torch import Tensor, nn

from acereason.native.build import architecture, build_native, load

_pointer, _int, _long, _float = ctypes.c_void_p, ctypes.c_int32, ctypes.c_int64, ctypes.c_float
_TAKES = {
    "norm": [_pointer, _pointer, _float, _long, _int, _float, _int, _pointer, _pointer],
    "norm_back": [*[_pointer] * 4, _float, _long, _int, _int, _pointer, _pointer],
    "gate": [_pointer, _float, _float, _long, _int, _pointer],
    "gate_back": [_pointer, _pointer, _float, _float, _long, _int, _pointer],
    "add": [_pointer, _pointer, _long, _int],
}
SMALL = 1 << 16  # numbers that are not worth a second thread
GELU = 2 * (2 / torch.pi) ** 0.5
GATES = {"silu": (1.0, 0.0), "gelu": (GELU, 0.044715 * GELU)}  # x σ(a x + b x³)


def library() -> ctypes.CDLL | None:
    """The compiled library, unless ACEREASON_NATIVE=0."""
    return None if os.environ.get("ACEREASON_NATIVE") == "0" else _open(architecture())


@functools.cache
def _open(architecture: str) -> ctypes.CDLL | None:
    """Tried once a process."""
    found = load(build_native("passes", architecture))
    for name, takes in _TAKES.items() if found is not None else ():
        function = getattr(found, f"acereason_{name}")
        function.argtypes, function.restype = takes, None
    return found


def compiled(x: Tensor, dtype: torch.dtype) -> bool:
    """Whether compiled code takes this tensor, which has to be of this type."""
    return x.dtype == dtype and x.device.type == "cpu" and library() is not None


def _call(name: str, *arguments: Any) -> None:
    getattr(library(), f"acereason_{name}")(
        *(a.data_ptr() if isinstance(a, Tensor) else a for a in arguments)
    )


def _threads(x: Tensor) -> int:
    return 1 if x.numel() < SMALL else torch.get_num_threads()


def norm(x: Tensor, weight: Tensor, eps: float, one: float) -> tuple[Tensor, Tensor]:
    """x / rms(x) · (w + one) and 1 / rms(x) [..., 1], of contiguous float32 rows [..., n]."""
    y, scale = torch.empty_like(x), x.new_empty(*x.shape[:-1], 1)
    _call("norm", x, weight, one, scale.numel(), x.shape[-1], eps, _threads(x), y, scale)
    return y, scale


def norm_back(g: Tensor, x: Tensor, scale: Tensor, weight: Tensor, one: float) -> tuple[Tensor, Tensor]:
    """The gradients by x and by the weight."""
    dx, dw = torch.empty_like(x), torch.empty_like(weight)
    _call("norm_back", g, x, scale, weight, one, scale.numel(), x.shape[-1], _threads(x), dx, dw)
    return dx, dw


def add(total: Tensor, d: Tensor) -> None:
    """total += d, where d may be of halves."""
    if (
        total.is_contiguous()
        and d.is_contiguous()
        and compiled(d, torch.bfloat16)
        and total.dtype == torch.float32
    ):
        _call("add", total, d, d.numel(), _threads(d))
    else:
        total.add_(d)


class _Gate(torch.autograd.Function):
    """x σ(a x + b x³) of contiguous bfloat16."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, a: float, b: float) -> Tensor:
        ctx.save_for_backward(x)
        ctx.numbers = a, b
        y = torch.empty_like(x)
        _call("gate", x, a, b, x.numel(), _threads(x), y)
        return y

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (x,) = ctx.saved_tensors
        g, dx = gradients[0].to(x.dtype).contiguous(), torch.empty_like(x)
        _call("gate_back", g, x, *ctx.numbers, x.numel(), _threads(x), dx)
        return dx, None, None


class Gate(nn.Module):
    """An activation in one walk where its input is bfloat16 on the processor; else as it was."""

    def __init__(self, plain: nn.Module, a: float, b: float) -> None:
        super().__init__()
        self.plain, self.a, self.b = plain, a, b

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def forward(self, x: Tensor) -> Tensor:
        """Elementwise, in the type of x."""
        if not (x.is_contiguous() and compiled(x, torch.bfloat16)):
            plain: Tensor = self.plain(x)
            return plain
        result: Tensor = _Gate.apply(x, self.a, self.b)  # type: ignore[no-untyped-call]
        return result


@torch.no_grad()
def gates(module: nn.Module) -> None:
    """Replace a module's activations that are a gate, found by trying."""
    x = torch.linspace(-6, 6, 101)
    for name, child in module.named_children():
        if type(child).__module__ not in ("transformers.activations", "torch.nn.modules.activation"):
            continue
        for a, b in GATES.values():
            wanted = x * torch.sigmoid(a * x + b * x**3)
            if next(child.parameters(), None) is None and torch.allclose(child(x), wanted, atol=1e-5):
                setattr(module, name, Gate(child, a, b))
                break
