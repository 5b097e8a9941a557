"""Optimisers and their schedule, from torch: AdamW, or Muon for the matrices with AdamW for the rest."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor

from acereason.config import Rl, Sft
from acereason.policy import halves
from acereason.policy.activations import offloaded
from acereason.train.eight_bit import AdamW8bit
from acereason.train.muon import Muon
from acereason.train.offload import Resting

Optimizers = list[torch.optim.Optimizer]


def for_sft(model: Any, settings: Sft) -> Optimizers:
    """AdamW over everything, or Muon over the layers' matrices and AdamW over embeddings, head and norms."""
    if settings.optimizer == "adamw":
        return _resting(model, [_adamw(learned(model), settings.learning_rate, settings)])
    embeddings = {id(model.get_input_embeddings().weight), id(model.get_output_embeddings().weight)}
    matrices = [p for p in learned(model) if p.ndim == 2 and id(p) not in embeddings]
    chosen = {id(p) for p in matrices}
    rest = [p for p in learned(model) if id(p) not in chosen]
    if not matrices:  # all layers are frozen
        return _resting(model, [_adamw(rest, settings.learning_rate, settings)])
    muon = Muon(
        matrices,
        lr=settings.matrix_learning_rate,
        weight_decay=settings.weight_decay,
        momentum=0.95,
    )
    return _resting(model, [muon, _adamw(rest, settings.learning_rate, settings)])


def for_rl(model: Any, settings: Rl) -> Optimizers:
    """One AdamW for the whole of RL; each stage sets its learning rate."""
    return _resting(model, [_adamw(learned(model), 0.0, settings)])


def learned(model: Any) -> list[Tensor]:
    """The parameters that learn: all, those above frozen layers, or the adapters alone."""
    return [p for p in model.parameters() if p.requires_grad]


def _adamw(parameters: Iterable[Tensor], rate: float, settings: Sft | Rl) -> torch.optim.Optimizer:
    """AdamW whose decay spares norms and biases: they scale and shift, and need not be near 0."""
    every = list(parameters)
    groups: list[dict[str, Any]] = [{"params": every}]
    if settings.weight_decay:
        matrices, rest = [p for p in every if p.ndim > 1], [p for p in every if p.ndim <= 1]
        groups = [{"params": matrices}, {"params": rest, "weight_decay": 0.0}]
    how: dict[str, Any] = {"lr": rate, "betas": settings.betas, "weight_decay": settings.weight_decay}
    groups = [group for group in groups if group["params"]]
    if settings.moments == "8bit":
        return AdamW8bit(groups, **how)
    return torch.optim.AdamW(groups, fused=True, **how)


def _resting(model: Any, made: Optimizers) -> Optimizers:
    """The optimisers; their state rests in the machine's memory where the placement says so."""
    if "moments" in offloaded(model):
        for optimizer in made:
            Resting(optimizer)
    return made


def set_rates(optimizers: Sequence[torch.optim.Optimizer], rates: Sequence[float]) -> None:
    """Set each optimiser's learning rate."""
    for optimizer, rate in zip(optimizers, rates, strict=True):
        for group in optimizer.param_groups:
            group["lr"] = rate


def cosine(step: int, steps: int, warmup: float) -> float:
    """The factor on the learning rate at `step` of `steps`: linear warm-up, then a cosine to 0."""
    warm = max(1, round(warmup * steps))
    if step < warm:
        return (step + 1) / warm
    return 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm)))


def scale(model: Any, factor: float) -> None:
    """Multiply the accumulated gradient by `factor`."""
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    if factor != 1.0 and gradients:
        torch._foreach_mul_(gradients, factor)


def step(model: Any, optimizers: Sequence[torch.optim.Optimizer], clip: float) -> float | None:
    """Clip the gradient, take one step and clear it. Returns the gradient's norm before clipping, or None —
    with nothing moved — when it is not finite."""
    total = torch.nn.utils.clip_grad_norm_(model.parameters(), clip)
    norm = float(total.full_tensor() if isinstance(total, DTensor) else total)
    finite = math.isfinite(norm)
    if finite:
        for optimizer in optimizers:
            optimizer.step()
        halves.refresh(model)
    model.zero_grad(set_to_none=True)
    return norm if finite else None
