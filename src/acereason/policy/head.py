"""The output head under a temperature: log-probability and entropy of softmax(logits / T), in float32.

    z = h W^T / T        log π_T(y) = z_y - logsumexp(z)        H_T = logsumexp(z) - Σ softmax(z) z

T is part of the policy (recipe §3): the loss and the logged entropy use the temperature that sampled.
Only one chunk of logits exists at a time, forward and backward: the forward pass keeps h, W and one
logsumexp per token, the backward pass computes each chunk again. Logits are never kept for all tokens.

Shapes: M predicted tokens, E hidden size, V vocabulary.
"""

from __future__ import annotations

from functools import cache
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

CHUNK_ELEMENTS = 1 << 22  # logits held at a time: 16 MiB of float32
CHUNK_ELEMENTS_CUDA = 1 << 28  # 1 GiB: matrix products there want thousands of rows


class _TemperedHead(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden_ME: Tensor,
        weight_VE: Tensor,
        targets_M: Tensor,
        scale_M: Tensor,
        chunk: int,
    ) -> tuple[Tensor, Tensor]:
        # room for all results first: small tensors kept between the chunks would pin the heap behind them,
        # and the C library's allocator would then never reuse a chunk's place
        logprob_M, logsum_M, entropy_M = (torch.empty_like(scale_M) for _ in range(3))
        for rows in _chunks(len(targets_M), chunk):
            logits_CV = float_logits(hidden_ME[rows], weight_VE)
            found = _statistics(logits_CV, targets_M[rows], scale_M[rows])
            logprob_M[rows], logsum_M[rows], entropy_M[rows] = found
        ctx.save_for_backward(hidden_ME, weight_VE, targets_M, scale_M, logsum_M)
        ctx.chunk = chunk
        ctx.mark_non_differentiable(entropy_M)
        return logprob_M, entropy_M

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        hidden_ME, weight_VE, targets_M, scale_M, logsum_M = ctx.saved_tensors
        d_hidden = torch.empty_like(hidden_ME)
        d_weight = torch.zeros_like(weight_VE, dtype=logsum_M.dtype)
        for rows in _chunks(len(targets_M), ctx.chunk):
            d = _gradient(
                float_logits(hidden_ME[rows], weight_VE),
                targets_M[rows],
                scale_M[rows],
                logsum_M[rows],
                gradients[0][rows],
                hidden_ME.dtype,
            )
            d_hidden[rows] = d @ weight_VE
            _add_product(d_weight, d.t(), hidden_ME[rows])
        return d_hidden, d_weight.to(weight_VE.dtype), None, None, None


def _chunks(total: int, chunk: int) -> list[slice]:
    return [slice(start, min(start + chunk, total)) for start in range(0, total, chunk)]


@cache
def _kernels() -> ModuleType | None:
    """The Triton kernels, where Triton is installed."""
    try:
        from acereason.policy import head_kernels
    except ImportError:
        return None
    return head_kernels


def float_logits(hidden: Tensor, weight: Tensor) -> Tensor:
    """float32 sums of the products, also from bfloat16: a rounded logit would move log π by 0.1 nat."""
    if hidden.is_cuda and hidden.dtype in (torch.bfloat16, torch.float16):
        return torch.mm(hidden, weight.t(), out_dtype=torch.float32)
    z = hidden @ weight.t()
    return z if z.dtype == torch.float64 else z.float()


def _add_product(total: Tensor, left: Tensor, right: Tensor) -> None:
    """total += left @ right, in place and in the total's type."""
    if left.is_cuda and left.dtype != total.dtype:
        torch.addmm(total, left, right, out_dtype=total.dtype, out=total)
    else:
        total += left @ right


def _statistics(logits: Tensor, targets: Tensor, scale: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """log π_T(target), logsumexp(z) and H_T of each row."""
    if logits.is_cuda and (kernels := _kernels()):
        return kernels.statistics(logits, targets, scale)  # type: ignore[no-any-return]
    z = logits * scale[:, None]
    logsum = torch.logsumexp(z, -1)
    logprob = z.gather(1, targets[:, None]).squeeze(1) - logsum
    entropy = logsum - (torch.exp(z - logsum[:, None]) * z).sum(-1)
    return logprob, logsum, entropy


def _gradient(
    logits: Tensor, targets: Tensor, scale: Tensor, logsum: Tensor, weight: Tensor, dtype: torch.dtype
) -> Tensor:
    """d (Σ weight · log π_T(target)) / d logits; d log π(y) / dz = onehot(y) - softmax(z)."""
    if logits.is_cuda and (kernels := _kernels()):
        return kernels.gradient(logits, targets, scale, logsum, weight, dtype)  # type: ignore[no-any-return]
    d = torch.exp(logits * scale[:, None] - logsum[:, None]).neg_()
    d.scatter_add_(1, targets[:, None], torch.ones_like(d[:, :1]))
    return d.mul_((weight * scale)[:, None]).to(dtype)


def tempered_logprobs(
    hidden_ME: Tensor,
    weight_VE: Tensor,
    targets_M: Tensor,
    temperature: float | Tensor = 1.0,
    chunk: int | None = None,
) -> tuple[Tensor, Tensor]:
    """log π_T(target) [M], with gradient, and the entropy H_T in nats [M], without.

    `temperature` is a number or one per token [M]. `chunk` tokens of logits are held at a time."""
    dtype = torch.float64 if hidden_ME.dtype == torch.float64 else torch.float32
    scale_M = 1.0 / torch.as_tensor(temperature, dtype=dtype, device=hidden_ME.device)
    scale_M = scale_M.expand(len(targets_M)).contiguous()
    most = CHUNK_ELEMENTS_CUDA if hidden_ME.is_cuda else CHUNK_ELEMENTS
    chunk = chunk or max(1, most // weight_VE.shape[0])
    result: tuple[Tensor, Tensor] = _TemperedHead.apply(  # type: ignore[no-untyped-call]
        hidden_ME, weight_VE, targets_M, scale_M, chunk
    )
    return result
