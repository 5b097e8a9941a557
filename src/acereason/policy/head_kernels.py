"""The tempered head's two passes over a chunk of logits as Triton kernels, for CUDA.

PyTorch needs about eight passes over the logits for what is one read forward (running maximum, sum and
weighted sum of one row at a time) and one read and one write backward. The arithmetic is that of
`policy.head`, in float32; a row is one program.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

BLOCK = 4096  # logits of a row at a time


@triton.jit  # type: ignore[untyped-decorator]
def _statistics(  # type: ignore[no-untyped-def]
    logits, targets, scales, logprobs, tops, logmasses, entropies, V: tl.constexpr, BLOCK: tl.constexpr
):
    row = tl.program_id(0).to(tl.int64)
    scale = tl.load(scales + row)
    top = tl.full((), float("-inf"), tl.float32)
    mass = tl.zeros((), tl.float32)  # Σ exp(z), z = (logit - top) x scale
    weighted = tl.zeros((), tl.float32)  # Σ exp(z) z
    for start in range(0, V, BLOCK):
        at = start + tl.arange(0, BLOCK)
        raw = tl.load(logits + row * V + at, mask=at < V, other=float("-inf"))
        new = tl.maximum(top, tl.max(raw, 0))
        z = tl.where(at < V, (raw - new) * scale, -1e30)
        p = tl.exp(z)
        moved = tl.where(mass > 0.0, (top - new) * scale, 0.0)
        shrink = tl.exp(moved)
        weighted = (weighted + mass * moved) * shrink + tl.sum(p * z, 0)
        mass = mass * shrink + tl.sum(p, 0)
        top = new
    logmass = tl.log(mass)
    chosen = (tl.load(logits + row * V + tl.load(targets + row)) - top) * scale
    tl.store(logprobs + row, chosen - logmass)
    tl.store(tops + row, top)
    tl.store(logmasses + row, logmass)
    tl.store(entropies + row, logmass - weighted / mass)


@triton.jit  # type: ignore[untyped-decorator]
def _gradient(  # type: ignore[no-untyped-def]
    logits, targets, scales, tops, logmasses, weights, out, V: tl.constexpr, BLOCK: tl.constexpr
):
    row = tl.program_id(0).to(tl.int64)
    at = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    scale, logmass = tl.load(scales + row), tl.load(logmasses + row)
    raw = tl.load(logits + row * V + at, mask=at < V, other=float("-inf"))
    z = (raw - tl.load(tops + row)) * scale
    d = tl.where(at == tl.load(targets + row), 1.0, 0.0) - tl.exp(z - logmass)
    d *= tl.load(weights + row) * scale
    tl.store(out + row * V + at, d.to(out.dtype.element_ty), mask=at < V)


def statistics(logits_CV: Tensor, targets_C: Tensor, scale_C: Tensor) -> tuple[Tensor, ...]:
    """log π_T(target), the highest logit, log Σ exp(z) and H_T of each row, z = (logit - highest) x scale;
    all [C] float32."""
    result = tuple(torch.empty_like(scale_C, dtype=torch.float32) for _ in range(4))
    rows, V = logits_CV.shape
    _statistics[(rows,)](logits_CV, targets_C, scale_C.contiguous(), *result, V, BLOCK=BLOCK, num_warps=8)
    return result


def gradient(
    logits_CV: Tensor,
    targets_C: Tensor,
    scale_C: Tensor,
    top_C: Tensor,
    logmass_C: Tensor,
    weight_C: Tensor,
    dtype: torch.dtype,
) -> Tensor:
    """d (Σ weight · log π_T(target)) / d logits, [C, V] in `dtype`."""
    out = torch.empty_like(logits_CV, dtype=dtype)
    rows, V = logits_CV.shape
    grid = (rows, triton.cdiv(V, BLOCK))
    small = (x.contiguous() for x in (scale_C, top_C, logmass_C, weight_C))
    _gradient[grid](logits_CV, targets_C, *small, out, V, BLOCK=BLOCK, num_warps=8)
    return out
