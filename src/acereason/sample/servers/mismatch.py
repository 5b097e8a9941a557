"""Where a difference between servers' log-probabilities and the trainer's comes from.

    causes(policy, answers, before)     every known cause with what it would leave unexplained, least first

Each cause is computed: the trainer's logits are put through what the server would have done to them, and the
mean |difference| that is left, in nats, is compared with the one as it stands. A cause that leaves next to
nothing is the one; where none does, kernels and precision are left over.

    raw         log-probabilities of T = 1 (no --logprobs-mode processed_logprobs)
    head        logits rounded to bfloat16 before the softmax (no head_dtype = float32)
    top-p, -k   the sampled distribution was cut, and what is left renormalised
    before      the weights of the publication before

All ranks call it with the same answers, for a sharded model's forward pass is a collective.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from acereason.policy.activations import work_device
from acereason.policy.policy import Policy
from acereason.sample.protocol import Completion
from acereason.sample.servers import canary

FOUND = 0.2  # of the difference may be left by the cause that is named
TOP_P = (0.8, 0.9, 0.95)
TOP_K = (20, 50)
AS_IT_IS = "as it is"
SENTENCES = {
    "raw": "the server reports raw log-probabilities, of T = 1; start it with --logprobs-mode "
    "processed_logprobs",
    "head": "the server rounds logits to bfloat16; start it with --hf-overrides "
    '\'{"head_dtype": "float32"}\'',
    "before": "the server still has the weights of the publication before",
}


@dataclass(frozen=True, slots=True)
class Cause:
    """What a server may have done, and the mean |difference| in nats that it leaves."""

    name: str
    left: float


def causes(
    policy: Policy, answers: Sequence[Completion], before: tuple[Sequence[Completion], Any] | None = None
) -> list[Cause]:
    """All causes, the one that leaves least first; `before` is the last canary's answers with the trainer's
    log-probabilities of then."""
    logits = [_logits(policy, answer) for answer in answers]
    variants: dict[str, Callable[[Tensor, float], Tensor]] = {
        AS_IT_IS: lambda z, T: (z / T).log_softmax(-1),
        "raw": lambda z, T: z.log_softmax(-1),
        "head": lambda z, T: (z.bfloat16().float() / T).log_softmax(-1),
        **{f"top-p of {p}": _nucleus(p) for p in TOP_P},
        **{f"top-k of {k}": _highest(k) for k in TOP_K},
    }
    candidates = [Cause(name, _left(answers, logits, variant)) for name, variant in variants.items()]
    if before is not None:
        candidates.append(Cause("before", canary.common(answers, *before)))
    return sorted(candidates, key=lambda cause: cause.left)


def said(ranked: Sequence[Cause]) -> str:
    """The cause in a sentence; what is known where it is none of these."""
    whole = next(c.left for c in ranked if c.name == AS_IT_IS)
    best = ranked[0]
    if best.name == AS_IT_IS or not best.left <= FOUND * whole:
        return (
            f"None of the known causes explains it (best: {best.name}, which leaves {best.left:.2g} of "
            f"{whole:.2g} nats): kernels, precision or other weights are left"
        )
    what = SENTENCES.get(best.name, f"the server cuts its distribution ({best.name}); turn that off")
    return f"It is explained, to {best.left:.2g} of {whole:.2g} nats, where {what}"


@torch.no_grad()
def _logits(policy: Policy, answer: Completion) -> Tensor:
    """[tokens, V] in float32: the trainer's, of each token of an answer."""
    ids = [*answer.request.prompt, *answer.tokens.tolist()]
    given = torch.tensor([ids], device=work_device(policy.model))
    logits: Tensor = policy.model(input_ids=given, use_cache=False).logits[0]
    return logits[len(answer.request.prompt) - 1 : -1].float().cpu()


def _left(
    answers: Sequence[Completion], logits: Sequence[Tensor], variant: Callable[[Tensor, float], Tensor]
) -> float:
    parts = []
    for answer, z in zip(answers, logits, strict=True):
        chosen = torch.from_numpy(answer.tokens).long()[:, None]
        own = variant(z, answer.request.temperature).gather(1, chosen)[:, 0].numpy()
        parts.append(np.abs(answer.logprobs - own))
    left = np.concatenate(parts)
    return float(left.mean(dtype=np.float64)) if len(left) else float("inf")


def _nucleus(share: float) -> Callable[[Tensor, float], Tensor]:
    """Log-probabilities of the fewest likeliest tokens that hold `share`."""

    def cut(z: Tensor, T: float) -> Tensor:
        p = (z / T).softmax(-1)
        ordered, order = p.sort(-1, descending=True)
        kept = ordered.cumsum(-1) - ordered < share
        mask = torch.zeros_like(kept).scatter(1, order, kept)
        return (z / T).masked_fill(~mask, float("-inf")).log_softmax(-1)

    return cut


def _highest(count: int) -> Callable[[Tensor, float], Tensor]:
    """Log-probabilities of the `count` likeliest tokens."""

    def cut(z: Tensor, T: float) -> Tensor:
        least = z.topk(min(count, z.shape[-1]), -1).values[:, -1:]
        return (z / T).masked_fill(z < least, float("-inf")).log_softmax(-1)

    return cut
