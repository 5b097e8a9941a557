"""The output head under a temperature: log-probability and entropy of softmax(logits / T), in float32.

    z = h W^T / T        log π_T(y) = z_y - logsumexp(z)        H_T = logsumexp(z) - Σ softmax(z) z

T is part of the policy (recipe §3): the loss and the logged entropy use the temperature that sampled.
Only one chunk of logits exists at a time, forward and backward: the forward pass keeps h, W and one
logsumexp per token, the backward pass computes each chunk again. Logits are never kept for all tokens.

Shapes: M predicted tokens, E hidden size, V vocabulary.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

CHUNK_ELEMENTS = 1 << 22  # logits held at a time: 16 MiB of float32


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
        logprob_M = torch.empty(len(targets_M), dtype=torch.float32, device=hidden_ME.device)
        logsum_M, entropy_M = torch.empty_like(logprob_M), torch.empty_like(logprob_M)
        if hidden_ME.dtype == torch.float64:
            logprob_M, logsum_M, entropy_M = (x.double() for x in (logprob_M, logsum_M, entropy_M))
        for rows in _chunks(len(targets_M), chunk):
            z = _logits(hidden_ME[rows], weight_VE, scale_M[rows])
            logsum_M[rows] = torch.logsumexp(z, -1)
            logprob_M[rows] = z.gather(1, targets_M[rows, None]).squeeze(1) - logsum_M[rows]
            p = torch.exp(z - logsum_M[rows, None])
            entropy_M[rows] = logsum_M[rows] - (p * z).sum(-1)
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
            z = _logits(hidden_ME[rows], weight_VE, scale_M[rows])
            d = torch.exp(z - logsum_M[rows, None]).neg_()  # d log π(y) / dz = onehot(y) - softmax(z)
            d.scatter_add_(1, targets_M[rows, None], torch.ones_like(d[:, :1]))
            d.mul_((gradients[0][rows] * scale_M[rows])[:, None])
            d = d.to(hidden_ME.dtype)
            d_hidden[rows] = d @ weight_VE
            d_weight += d.t() @ hidden_ME[rows]
        return d_hidden, d_weight.to(weight_VE.dtype), None, None, None


def _chunks(total: int, chunk: int) -> list[slice]:
    return [slice(start, min(start + chunk, total)) for start in range(0, total, chunk)]


def _logits(hidden: Tensor, weight: Tensor, scale: Tensor) -> Tensor:
    z = hidden @ weight.t()
    return (z if z.dtype == torch.float64 else z.float()) * scale[:, None]


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
    scale_M = scale_M.expand(len(targets_M))
    chunk = chunk or max(1, CHUNK_ELEMENTS // weight_VE.shape[0])
    result: tuple[Tensor, Tensor] = _TemperedHead.apply(  # type: ignore[no-untyped-call]
        hidden_ME, weight_VE, targets_M, scale_M, chunk
    )
    return result
