"""The output head under a temperature: log-probability and entropy of softmax(logits / T), in float32.

    z = logits(h) / T    log π_T(y) = z_y - logsumexp(z)        H_T = logsumexp(z) - Σ softmax(z) z

T is part of the policy (recipe §3): the loss and the logged entropy use the temperature that sampled.
Only one chunk of logits exists at a time, forward and backward: the forward pass keeps h, W and one
logsumexp per token, the backward pass computes each chunk again. Logits are never kept for all tokens.
What a model does to h W^T before it calls it a logit (bias, scale, soft cap) is `policy.output`.

Shapes: M predicted tokens, E hidden size, V vocabulary.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from acereason import machine
from acereason.policy.output import Output, float_logits

CHUNK_ELEMENTS = 1 << 22  # logits held at a time: 16 MiB of float32,
CHUNK_ROWS = 256  # or so many rows, below which a large matrix is mostly waited for,
CHUNK_MEMORY = 1 / 64  # but no more than this share of the machine's memory
CHUNK_ELEMENTS_CUDA = 1 << 28  # 1 GiB: matrix products there want thousands of rows


class _TemperedHead(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden_ME: Tensor,
        weight_VE: Tensor,
        bias_V: Tensor | None,
        form: Output,
        targets_M: Tensor,
        scale_M: Tensor,
        chunk: int,
    ) -> tuple[Tensor, Tensor]:
        output = replace(form, weight=weight_VE, bias=bias_V)
        # room for all results first: small tensors kept between the chunks would pin the heap behind them,
        # and the C library's allocator would then never reuse a chunk's place
        results_4M = torch.empty(4, len(scale_M), dtype=scale_M.dtype, device=scale_M.device)
        for rows in _chunks(len(targets_M), chunk):
            logits_CV = float_logits(hidden_ME[rows], output)
            for result, statistic in zip(
                results_4M, _statistics(logits_CV, targets_M[rows], scale_M[rows]), strict=True
            ):
                result[rows] = statistic
        logprob_M, top_M, logmass_M, entropy_M = results_4M.unbind()
        ctx.save_for_backward(hidden_ME, weight_VE, bias_V, targets_M, scale_M, top_M, logmass_M)
        ctx.chunk, ctx.form = chunk, form
        ctx.mark_non_differentiable(entropy_M)
        return logprob_M, entropy_M

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        hidden_ME, weight_VE, bias_V, targets_M, scale_M, top_M, logmass_M = ctx.saved_tensors
        output = replace(ctx.form, weight=weight_VE, bias=bias_V)
        d_hidden = torch.empty_like(hidden_ME)
        learns = ctx.needs_input_grad[1]  # under adapters the head is frozen, and may be large
        d_weight = torch.zeros_like(weight_VE, dtype=scale_M.dtype) if learns else None
        d_bias = None if bias_V is None else torch.zeros_like(bias_V, dtype=scale_M.dtype)
        for rows in _chunks(len(targets_M), ctx.chunk):
            logits = float_logits(hidden_ME[rows], output)
            here = (targets_M[rows], scale_M[rows], top_M[rows], logmass_M[rows], gradients[0][rows])
            d = output.slope(logits, _gradient(logits, *here, hidden_ME.dtype))
            d_hidden[rows] = d @ weight_VE
            if d_weight is not None:
                _add_product(d_weight, d.t(), hidden_ME[rows])
            if d_bias is not None:
                d_bias += d.sum(0, dtype=d_bias.dtype)
        d_bias = None if d_bias is None else d_bias.to(bias_V.dtype)
        d_weight = None if d_weight is None else d_weight.to(weight_VE.dtype)
        return d_hidden, d_weight, d_bias, None, None, None, None


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


def _add_product(total: Tensor, left: Tensor, right: Tensor) -> None:
    """total += left @ right, in place and in the total's type."""
    if left.is_cuda and left.dtype != total.dtype:
        torch.addmm(total, left, right, out_dtype=total.dtype, out=total)
    else:
        total += left @ right


def _statistics(logits: Tensor, targets: Tensor, scale: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """log π_T(target), the highest logit, log Σ exp(z) and H_T of each row; z = (logit - highest) / T, which
    stays exact where T is next to nothing."""
    if logits.is_cuda and (kernels := _kernels()):
        return kernels.statistics(logits, targets, scale)  # type: ignore[no-any-return]
    top = logits.amax(-1)
    z = (logits - top[:, None]).mul_(scale[:, None])
    p = z.exp()
    mass = p.sum(-1)
    chosen, logmass = z.gather(1, targets[:, None]).squeeze(1), mass.log()
    return chosen - logmass, top, logmass, logmass - p.mul_(z).sum(-1) / mass


def _gradient(
    logits: Tensor,
    targets: Tensor,
    scale: Tensor,
    top: Tensor,
    logmass: Tensor,
    weight: Tensor,
    dtype: torch.dtype,
) -> Tensor:
    """d (Σ weight · log π_T(target)) / d logits; d log π(y) / dz = onehot(y) - softmax(z)."""
    if logits.is_cuda and (kernels := _kernels()):
        gradient: Tensor = kernels.gradient(logits, targets, scale, top, logmass, weight, dtype)
        return gradient
    z = (logits - top[:, None]).mul_(scale[:, None]).sub_(logmass[:, None])
    d = z.exp_().neg_()
    d.scatter_add_(1, targets[:, None], torch.ones_like(d[:, :1]))
    return d.mul_((weight * scale)[:, None]).to(dtype)


def chunk_rows(vocabulary: int, cuda: bool) -> int:
    """How many tokens' logits are held at a time: enough for a matrix product to be worth its weights."""
    if cuda:
        return max(1, CHUNK_ELEMENTS_CUDA // vocabulary)
    most = int(CHUNK_MEMORY * machine.memory()) // (4 * vocabulary)
    return max(1, CHUNK_ELEMENTS // vocabulary, min(CHUNK_ROWS, most))


def tempered_logprobs(
    hidden_ME: Tensor,
    output: Output | Tensor,
    targets_M: Tensor,
    temperature: float | Tensor = 1.0,
    chunk: int | None = None,
) -> tuple[Tensor, Tensor]:
    """log π_T(target) [M], with gradient, and the entropy H_T in nats [M], without.

    `output` is how hidden states become logits, or just the matrix [V, E]. `temperature` is a number or one
    per token [M]. `chunk` tokens of logits are held at a time."""
    form = Output(output) if isinstance(output, Tensor) else output
    dtype = torch.float64 if hidden_ME.dtype == torch.float64 else torch.float32
    scale_M = 1.0 / torch.as_tensor(temperature, dtype=dtype, device=hidden_ME.device)
    scale_M = scale_M.expand(len(targets_M)).contiguous()
    chunk = chunk or chunk_rows(form.weight.shape[0], hidden_ME.is_cuda)
    result: tuple[Tensor, Tensor] = _TemperedHead.apply(  # type: ignore[no-untyped-call]
        *(hidden_ME, form.weight, form.bias, form, targets_M, scale_M, chunk)
    )
    return result
