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
def _statistics(logits, targets, scales, logprobs, logsums, entropies, V: tl.constexpr, BLOCK: tl.constexpr):  # type: ignore[no-untyped-def]
    row = tl.program_id(0).to(tl.int64)
    scale = tl.load(scales + row)
    top = tl.full((), float("-inf"), tl.float32)
    mass = tl.zeros((), tl.float32)  # Σ exp(z - top)
    weighted = tl.zeros((), tl.float32)  # Σ exp(z - top) z
    for start in range(0, V, BLOCK):
        at = start + tl.arange(0, BLOCK)
        z = tl.load(logits + row * V + at, mask=at < V, other=float("-inf")) * scale
        new = tl.maximum(top, tl.max(z, 0))
        p = tl.exp(z - new)
        shrink = tl.exp(top - new)
        mass = mass * shrink + tl.sum(p, 0)
        weighted = weighted * shrink + tl.sum(p * tl.where(at < V, z, 0.0), 0)
        top = new
    logsum = top + tl.log(mass)
    chosen = tl.load(logits + row * V + tl.load(targets + row)) * scale
    tl.store(logprobs + row, chosen - logsum)
    tl.store(logsums + row, logsum)
    tl.store(entropies + row, logsum - weighted / mass)


@triton.jit  # type: ignore[untyped-decorator]
def _gradient(logits, targets, scales, logsums, weights, out, V: tl.constexpr, BLOCK: tl.constexpr):  # type: ignore[no-untyped-def]
    row = tl.program_id(0).to(tl.int64)
    at = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    scale, logsum = tl.load(scales + row), tl.load(logsums + row)
    z = tl.load(logits + row * V + at, mask=at < V, other=float("-inf")) * scale
    d = tl.where(at == tl.load(targets + row), 1.0, 0.0) - tl.exp(z - logsum)
    d *= tl.load(weights + row) * scale
    tl.store(out + row * V + at, d.to(out.dtype.element_ty), mask=at < V)


def statistics(logits_CV: Tensor, targets_C: Tensor, scale_C: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """log π_T(target), logsumexp(z) and H_T of each row, z = logits x scale; all [C] float32."""
    result = tuple(torch.empty_like(scale_C, dtype=torch.float32) for _ in range(3))
    rows, V = logits_CV.shape
    _statistics[(rows,)](logits_CV, targets_C, scale_C.contiguous(), *result, V, BLOCK=BLOCK, num_warps=8)
    logprob_C, logsum_C, entropy_C = result
    return logprob_C, logsum_C, entropy_C


def gradient(
    logits_CV: Tensor,
    targets_C: Tensor,
    scale_C: Tensor,
    logsum_C: Tensor,
    weight_C: Tensor,
    dtype: torch.dtype,
) -> Tensor:
    """d (Σ weight · log π_T(target)) / d logits, [C, V] in `dtype`."""
    out = torch.empty_like(logits_CV, dtype=dtype)
    rows, V = logits_CV.shape
    grid = (rows, triton.cdiv(V, BLOCK))
    small = (x.contiguous() for x in (scale_C, logsum_C, weight_C))
    _gradient[grid](logits_CV, targets_C, *small, out, V, BLOCK=BLOCK, num_warps=8)
    return out
