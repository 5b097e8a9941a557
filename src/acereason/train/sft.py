"""Supervised fine-tuning on teacher traces (recipe §1).

    loss = - mean over the response tokens of a batch of log π(token)

Sequences are packed without leakage, the prompt is context and not learned, the mean is over the tokens of
the whole batch whatever its micro-batches, the learning rate follows a cosine to 0. The order of every epoch
is a hash of (seed, epoch, example), so step n is the same after a resume; the examples themselves may be on
the disk (`train.tokens`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from acereason import ranks
from acereason.config import Sft
from acereason.draws import STEP, draw_seed, finalise
from acereason.errors import TrainingError
from acereason.policy.model import logprobs
from acereason.policy.packing import Example
from acereason.train import optimizers
from acereason.train.memory import LEARNING, enough_for
from acereason.train.parallel import is_filler, leads, micro_batches, reduce_gradients, share

Whole = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class SftStep:
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


class Schedule:
    """Which examples each step learns from; `lengths` [examples] are their tokens. Of an epoch only the ends
    of its batches are kept; its order is drawn anew when it is walked through."""

    def __init__(self, lengths: Sequence[int] | Whole, settings: Sft, seed: int):
        self._lengths, self._seed = np.asarray(lengths, np.int64), seed
        self._ends = [
            even_batches(self._lengths[self._order(epoch)], settings.batch_tokens)
            for epoch in range(settings.epochs)
        ]
        self.steps = sum(map(len, self._ends))

    def _order(self, epoch: int) -> Whole:
        """The examples of an epoch in the order of a hash of (seed, epoch, example)."""
        key = np.uint64(draw_seed(self._seed, "sft", epoch))
        numbers = np.arange(len(self._lengths), dtype=np.uint64)
        return np.argsort(finalise((key ^ finalise(numbers + STEP)) + STEP), kind="stable")

    def batches(self, start: int = 0) -> Iterator[tuple[int, bool, Whole]]:
        """From step `start` on: the epoch (from 1), whether it ends, and the examples."""
        for epoch, ends in enumerate(self._ends):
            order = self._order(epoch) if start < len(ends) else np.empty(0, np.int64)
            for number in range(start, len(ends)):
                first = ends[number - 1] if number else 0
                yield epoch + 1, number + 1 == len(ends), order[first : ends[number]]
            start = max(0, start - len(ends))


def even_batches(lengths: Whole, most: int) -> Whole:
    """Where batches end, in examples: as few as hold at most `most` tokens each (or one example), and of
    nearly equal size, so that the last is no smaller step in the name of a whole one."""
    before = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])
    earliest = [len(lengths)]
    while earliest[-1]:  # from the end: where each batch has to begin at the earliest for the rest to fit
        place = int(np.searchsorted(before, before[earliest[-1]] - most))
        earliest.append(min(place, earliest[-1] - 1))
    ends, start = [], 0
    for left in range(len(earliest) - 1, 0, -1):
        even = before[start] + (before[-1] - before[start]) // left
        end = int(np.searchsorted(before, even))
        end -= end > 0 and even - before[end - 1] < before[min(end, len(lengths))] - even
        latest = max(int(np.searchsorted(before, before[start] + most, "right")) - 1, start + 1)
        start = min(max(end, earliest[left - 1], start + 1), latest)
        ends.append(start)
    return np.array(ends, np.int64)


def learn(model: Any, batch: Sequence[Example], micro_tokens: int) -> float:
    """Accumulate the gradient of the mean loss over the batch; returns that loss in nats per token.

    Every rank gives the whole batch and learns its share of it. Collective."""
    total = sum(len(e.response) for e in batch)
    loss = 0.0
    for pack in micro_batches(model, share(model, batch), micro_tokens):
        logprob, _ = logprobs(model, pack)
        part = -logprob.sum() / total * (not is_filler(pack))
        part.backward()
        loss += float(part.detach()) * leads(model)
    reduce_gradients(model)
    return float(ranks.total(torch.tensor(loss, dtype=torch.float64)))


def held_out_loss(model: Any, examples: Sequence[Example], settings: Sft) -> float:
    """The mean loss over the response tokens of all examples, in nats, without learning. Collective."""
    loss = torch.zeros(2, dtype=torch.float64)
    for start in range(0, len(examples), 64 * ranks.world()):
        part = [examples[i] for i in range(start, min(start + 64 * ranks.world(), len(examples)))]
        with torch.no_grad(), enough_for("learning", LEARNING):
            for pack in micro_batches(model, share(model, part), settings.micro):
                logprob, _ = logprobs(model, pack)
                if leads(model) and not is_filler(pack):
                    loss += torch.tensor([-float(logprob.double().sum()), len(logprob)])
    nats, tokens = ranks.total(loss).tolist()
    return float(nats / tokens)


def train(
    model: Any,
    optimizer: optimizers.Optimizers,
    examples: Sequence[Example],
    settings: Sft,
    seed: int,
    start: int = 0,
    on_step: Callable[[SftStep], None] = lambda _: None,
) -> None:
    """Train from optimiser step `start` to the end, calling `on_step` after each.

    Raises TrainingError when there is nothing to learn from or a gradient is not finite."""
    if not len(examples):
        raise TrainingError("there are no traces to fine-tune on; check the curate section")
    schedule = Schedule(lengths(examples), settings, seed)
    for step, (epoch, last, chosen) in enumerate(schedule.batches(start), start):
        begun = time.perf_counter()
        factor = optimizers.cosine(step, schedule.steps, settings.warmup)
        bases = [settings.matrix_learning_rate, settings.learning_rate][-len(optimizer) :]
        optimizers.set_rates(optimizer, [factor * base for base in bases])
        batch = [examples[i] for i in chosen.tolist()]
        with enough_for("learning", LEARNING):
            loss = learn(model, batch, settings.micro)
        norm = optimizers.step(model, optimizer, settings.clip_gradient)
        if norm is None:
            raise TrainingError(
                f"the gradient of SFT step {step} is not finite (loss {loss}); lower sft.learning_rate"
            )
        tokens = sum(len(e.response) for e in batch)
        seconds = time.perf_counter() - begun
        rate = factor * settings.learning_rate
        on_step(SftStep(step + 1, schedule.steps, epoch, last, loss, rate, norm, tokens, seconds))


def lengths(examples: Sequence[Example]) -> Sequence[int] | Whole:
    """Tokens of each example, without reading those that are on the disk."""
    known: Whole | None = getattr(examples, "lengths", None)
    return [len(e) for e in examples] if known is None else known
