"""Supervised fine-tuning on teacher traces (recipe §1).

    loss = - mean over the response tokens of a batch of log π(token)

Sequences are packed without leakage, the prompt is context and not learned, the mean is over the tokens of
the whole batch whatever its micro-batches, the learning rate follows a cosine to 0. The order of every epoch
is a hash of (seed, epoch, example), so step n is the same after a resume.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from acereason import ranks
from acereason.config import Sft
from acereason.draws import draw_seed
from acereason.errors import TrainingError
from acereason.policy.model import logprobs
from acereason.policy.packing import Example
from acereason.train import optimizers
from acereason.train.memory import LEARNING, enough_for
from acereason.train.parallel import is_filler, micro_batches, share


@dataclass(frozen=True, slots=True)
class Step:
    """What one optimiser step did. `loss` is in nats per response token."""

    step: int
    steps: int
    epoch: int
    epoch_ends: bool
    loss: float
    learning_rate: float
    gradient_norm: float | None
    tokens: int
    seconds: float


def schedule(examples: Sequence[Example], settings: Sft, seed: int) -> list[list[list[Example]]]:
    """Epochs of batches of examples; a batch holds at most `batch_tokens` tokens (at least one example)."""
    epochs = []
    for epoch in range(settings.epochs):
        order = sorted(examples, key=lambda e: draw_seed(seed, "sft", epoch, e.index))
        batches: list[list[Example]] = [[]]
        used = 0
        for example in order:
            if batches[-1] and used + len(example) > settings.batch_tokens:
                batches.append([])
                used = 0
            batches[-1].append(example)
            used += len(example)
        epochs.append(batches)
    return epochs


def learn(model: Any, batch: Sequence[Example], micro_tokens: int) -> float:
    """Accumulate the gradient of the mean loss over the batch; returns that loss in nats per token.

    Every rank gives the whole batch and learns its share of it. Collective."""
    total = sum(len(e.response) for e in batch)
    loss = 0.0
    for pack in micro_batches(model, share(model, batch), micro_tokens):
        logprob, _ = logprobs(model, pack)
        part = -logprob.sum() / total * (not is_filler(pack))
        part.backward()  # type: ignore[no-untyped-call]
        loss += float(part.detach())
    return float(ranks.total(torch.tensor(loss, dtype=torch.float64)))


def train(
    model: Any,
    optimizer: optimizers.Optimizers,
    examples: Sequence[Example],
    settings: Sft,
    seed: int,
    start: int = 0,
    on_step: Callable[[Step], None] = lambda _: None,
) -> None:
    """Train from optimiser step `start` to the end, calling `on_step` after each.

    Raises TrainingError when there is nothing to learn from or a gradient is not finite."""
    if not examples:
        raise TrainingError("there are no traces to fine-tune on; check the curate section")
    epochs = schedule(examples, settings, seed)
    steps = sum(len(e) for e in epochs)
    for step, (epoch, batch, last) in enumerate(_flat(epochs)):
        if step < start:
            continue
        begun = time.perf_counter()
        factor = optimizers.cosine(step, steps, settings.warmup)
        bases = [settings.matrix_learning_rate, settings.learning_rate][-len(optimizer) :]
        optimizers.set_rates(optimizer, [factor * base for base in bases])
        with enough_for("learning", LEARNING):
            loss = learn(model, batch, settings.micro_tokens)
        norm = optimizers.step(model, optimizer, settings.clip_gradient)
        if norm is None:
            raise TrainingError(
                f"the gradient of SFT step {step} is not finite (loss {loss}); lower sft.learning_rate"
            )
        tokens = sum(len(e.response) for e in batch)
        seconds = time.perf_counter() - begun
        rate = factor * settings.learning_rate
        on_step(Step(step + 1, steps, epoch, last, loss, rate, norm, tokens, seconds))


def _flat(epochs: Sequence[Sequence[Any]]) -> Iterator[tuple[int, Any, bool]]:
    for epoch, batches in enumerate(epochs, 1):
        for number, batch in enumerate(batches, 1):
            yield epoch, batch, number == len(batches)
