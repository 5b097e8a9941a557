"""bfloat16 products over float32 weights, where they are computed in hardware (AVX512-BF16, AMX, CUDA).

    halve(model)                      matrices of the layers in bfloat16; norms in one pass
    refresh(model)                    after the weights moved
    take(linear, weight)              new weights of a sampler's layer, laid out for its products

The float32 weights are the masters that the optimiser moves. Each matrix keeps a bfloat16 copy for the
products of both passes; a weight's gradient is a bfloat16 product that is added up in float32. Everything
else is float32: residual stream, norms, rotation, attention and head. Sampler and trainer use the same
products, so they differ by the order of sums alone. oneDNN finds what the processor can do at run time.

Where compiled code knows the architecture (`policy.compiled_pass`, `sample.engines.native`) these layers are
not run: it takes the same weights, and rounds where they round.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from acereason.policy import passes
from acereason.policy.marks import marks_of

HALF = torch.bfloat16


def available(device: torch.device) -> bool:
    """Whether this device multiplies bfloat16 in hardware."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported())
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


class _Product(torch.autograd.Function):
    """x W^T in bfloat16; the gradient of W is added to its float32 sum at once."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, half: Tensor) -> Tensor:
        x_half = x.to(HALF)
        ctx.save_for_backward(x_half, half)
        ctx.weight = weight
        return F.linear(x_half, half)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, half = ctx.saved_tensors
        g, weight = gradients[0].to(HALF), ctx.weight
        if ctx.needs_input_grad[1]:
            d = g.flatten(0, -2).t() @ x.flatten(0, -2)
            if weight.grad is None:
                weight.grad = d.float()
            else:
                passes.add(weight.grad, d)
        return g @ half if ctx.needs_input_grad[0] else None, None, None


class HalfLinear(nn.Linear):
    """A linear layer whose product is in bfloat16. `weight` may itself be bfloat16, where nothing is
    learned; then `packed` may hold it in the product's own layout, and `weight` its shape alone."""

    copied: Tensor | None
    packed: Tensor | None
    seen: tuple[int, int]

    def copy_weight(self) -> Tensor:
        """The bfloat16 copy, made anew when autograd knows of a change (see `refresh` for the others)."""
        if self.weight.dtype == HALF:
            return self.weight.detach()
        now = (self.weight.data_ptr(), self.weight._version)
        if self.copied is None or self.seen != now:
            self.copied, self.seen = self.weight.detach().to(HALF), now
        return self.copied

    def forward(self, x: Tensor) -> Tensor:
        """[..., in] → [..., out] in bfloat16."""
        if self.packed is not None:
            out = torch.ops.mkldnn._linear_pointwise(x.to(HALF), self.packed, None, "none", [], "")
        elif torch.is_grad_enabled():
            out = _Product.apply(x, self.weight, self.copy_weight())  # type: ignore[no-untyped-call]
        else:
            out = F.linear(x.to(HALF), self.copy_weight())
        result: Tensor = out if self.bias is None else out + self.bias.to(out.dtype)
        return result


class _Norm(torch.autograd.Function):
    """x / rms(x) · (w + one), by compiled code where it can be."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float, one: float) -> Tensor:
        x = x.float()
        y, scale = _normed(x, weight, eps, one)
        ctx.save_for_backward(x, scale, weight)
        ctx.one = one
        return y

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, scale, weight = ctx.saved_tensors
        g = gradients[0].float()
        if passes.compiled(x, torch.float32) and weight.dtype == torch.float32:
            return *passes.norm_back(g.contiguous(), x.contiguous(), scale, weight, ctx.one), None, None
        normed, w = x * scale, weight + ctx.one
        along = g * normed
        d_weight = along.flatten(0, -2).sum(0) if ctx.needs_input_grad[1] else None
        mean = (along @ w.to(along.dtype) / len(w))[..., None]
        return (g * w).addcmul_(normed, mean, value=-1).mul_(scale), d_weight, None, None


def _normed(x: Tensor, weight: Tensor, eps: float, one: float) -> tuple[Tensor, Tensor]:
    """x / rms(x) · (w + one), and 1 / rms(x)."""
    if passes.compiled(x, torch.float32) and weight.dtype == torch.float32:
        return passes.norm(x.contiguous(), weight.contiguous(), eps, one)
    scale = torch.linalg.vector_norm(x, dim=-1, keepdim=True).square_().div_(x.shape[-1]).add_(eps).rsqrt_()
    return (x * scale).mul_(weight + one), scale


class FusedNorm(nn.Module):
    """A root-mean-square norm in few walks over memory; made from one by `_fuse`, which sets its numbers."""

    weight: nn.Parameter
    fused_eps: float
    one: float

    def forward(self, x: Tensor) -> Tensor:
        """[..., E] → [..., E] in float32."""
        if not torch.is_grad_enabled():
            return _normed(x.float(), self.weight, self.fused_eps, self.one)[0]
        result: Tensor = _Norm.apply(x, self.weight, self.fused_eps, self.one)  # type: ignore[no-untyped-call]
        return result


def halve(model: Any, keep_masters: bool = True) -> None:
    """Let a float32 model compute so, in place; parameters keep their names. Without masters, for sampling,
    the matrices themselves become bfloat16."""
    for module in list(model.base_model.modules()):
        passes.gates(module)
        if type(module) is nn.Linear:
            _halve(module, keep_masters)
        elif type(module).__name__.endswith("RMSNorm"):
            _fuse(module)
    marks_of(model).halved = True


def _halve(linear: Any, keep_masters: bool) -> None:
    linear.__class__ = HalfLinear
    linear.copied, linear.packed, linear.seen = None, None, (0, -1)
    if not keep_masters:
        linear.weight = nn.Parameter(linear.weight.detach().to(HALF), requires_grad=False)


@torch.no_grad()
def take(linear: HalfLinear, weight: Tensor, rows: int) -> None:
    """Give a layer without masters its weights. On a processor they are laid out once for products of about
    so many rows, which else every product does anew (a third of its time at 64 rows)."""
    half = weight.detach().to(linear.weight.device, HALF)
    if half.device.type != "cpu" or not _packs():
        linear.weight.data.copy_(half)  # in place: a graph may read it
        return
    linear.packed = torch.ops.mkldnn._reorder_linear_weight(half, rows)
    linear.weight.data = torch.zeros((), dtype=HALF).expand(half.shape)


@cache
def _packs() -> bool:
    """Whether this torch can lay out a bfloat16 matrix for oneDNN; inductor uses the same two functions."""
    try:
        packed = torch.ops.mkldnn._reorder_linear_weight(torch.eye(32, dtype=HALF), 32)
        product = torch.ops.mkldnn._linear_pointwise(torch.eye(32, dtype=HALF), packed, None, "none", [], "")
        return bool(torch.equal(product.float(), torch.eye(32)))
    except (AttributeError, NotImplementedError, RuntimeError, TypeError):
        return False


@torch.no_grad()
def _fuse(norm: Any) -> None:
    """Replace a norm's arithmetic by ours where it is x / rms · w or x / rms · (1 + w), found by trying."""
    eps = getattr(norm, "variance_epsilon", getattr(norm, "eps", None))
    if eps is None or getattr(norm, "weight", None) is None or norm.weight.ndim != 1:
        return
    own, size = norm.weight.data, len(norm.weight)
    norm.weight.data = torch.linspace(0.5, 1.5, size, device=own.device)  # its own may hold nothing yet
    x = torch.linspace(-2, 3, 3 * size, device=own.device).view(3, -1)
    wanted = norm(x)
    for one in (0.0, 1.0):
        normed = _Norm.apply(x, norm.weight, eps, one)  # type: ignore[no-untyped-call]
        if torch.allclose(normed, wanted, rtol=1e-5, atol=1e-6):
            norm.fused_eps, norm.one, norm.__class__ = float(eps), one, FusedNorm
            break
    norm.weight.data = own


@torch.no_grad()
def refresh(model: Any) -> None:
    """Copy the masters again: a fused optimiser moves weights without autograd knowing."""
    marks = marks_of(model)
    if marks.halved:
        marks.moved += 1
        for module in model.base_model.modules():
            if isinstance(module, HalfLinear) and module.copied is not None and module.weight.requires_grad:
                module.copied.copy_(module.weight)
                module.seen = (module.weight.data_ptr(), module.weight._version)
