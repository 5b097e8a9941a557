"""Asking and learning of one step, one after the other or at the same time.

While the policy has not moved, a group's gradient can be taken as soon as the group is judged: still
strictly on-policy. Where responses are sampled elsewhere (`Sampler.remote`), the gradient of finished groups
is accumulated while the longest responses are still being written, and the batch's denominator, known only
at the end, is applied then. Both orders give the same gradient but for rounding.

In one process the two would only take the processor from each other, and the order of arrival is not the same
twice; so the embedded sampler is always asked first, which keeps its runs equal to the last bit.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from acereason import ranks
from acereason.config import Rl, Stage
from acereason.policy.policy import Policy
from acereason.problems import Problem
from acereason.sample.ask import Asked, Asking, Judging, ask
from acereason.sample.protocol import Sampler
from acereason.train.memory import LEARNING, SAMPLING, enough_for
from acereason.train.optimizers import Optimizers
from acereason.train.update import Learned, Update, denominator, learn, pulls


@dataclass(frozen=True, slots=True)
class Done:
    """This rank's answers with their weights [P, G] in the loss, what was learned, and the seconds of
    learning: after the last response, and before it (`overlap`)."""

    asked: Asked
    weights: Tensor
    learned: Learned
    seconds: float
    overlap: float


def ask_and_learn(
    policy: Policy,
    sampler: Sampler,
    judge: Judging,
    problems: Sequence[Problem],
    optimizer: Optimizers,
    stage: Stage,
    settings: Rl,
    *,
    temperature: float,
    label: Sequence[int | str],
) -> Done:
    """Ask this rank's share of the problems, judge, and take one optimiser step. Collective."""
    own = ranks.share(problems)
    how = {"budget": stage.budget, "temperature": temperature, "label": label}
    if settings.overlap and sampler.remote and settings.updates == 1:
        asking = Asking(policy, sampler, judge, own, stage.group, **how)  # type: ignore[arg-type]
        return _learn_meanwhile(policy, asking, optimizer, stage, settings)
    with enough_for("sampling", SAMPLING):
        asked = ask(policy, sampler, judge, own, stage.group, **how)  # type: ignore[arg-type]
    begun = time.perf_counter()
    weights = pulls(asked.groups, stage, settings) / denominator(asked.groups, stage, settings)
    with enough_for("learning", LEARNING):
        learned = learn(policy, asked.groups, optimizer, stage, settings)
    return Done(asked, weights, learned, time.perf_counter() - begun, 0.0)


def _learn_meanwhile(
    policy: Policy, asking: Asking, optimizer: Optimizers, stage: Stage, settings: Rl
) -> Done:
    """Accumulate what is judged, in rounds that all ranks take part in, until every rank has everything."""
    update = Update(policy, settings)
    overlap = after = 0.0
    left = True
    while left:
        part = asking.take(settings.micro_tokens)
        begun = time.perf_counter()
        with enough_for("learning", LEARNING):
            update.add(part, pulls(part, stage, settings))
        exposed = asking.judging_since(begun)
        after, overlap = after + exposed, overlap + time.perf_counter() - begun - exposed
        left = bool(ranks.largest(torch.tensor(int(not asking.over))))
    asked, begun = asking.asked(), time.perf_counter()
    total = denominator(asked.groups, stage, settings)
    with enough_for("learning", LEARNING):
        learned = update.finish(optimizer, 1 / total)
    weights = pulls(asked.groups, stage, settings) / total
    return Done(asked, weights, learned, after + time.perf_counter() - begun, overlap)
