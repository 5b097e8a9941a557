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
from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from acereason import ranks
from acereason.config import Rl, Stage
from acereason.policy.policy import Policy
from acereason.problems import Problem
from acereason.sample.ask import Asking, Batch, How, Judging, ask
from acereason.sample.protocol import Sampler
from acereason.train.memory import LEARNING, SAMPLING, enough_for
from acereason.train.objective import Weights
from acereason.train.optimizers import Optimizers
from acereason.train.second import NOTHING, Besides
from acereason.train.update import Learned, Update, denominator, learn, weigh

More = Callable[[int, Container[str]], Sequence[Problem]]  # up to so many, none of the ids asked


def nothing_more(count: int, asked: Container[str]) -> list[Problem]:
    """No further problems."""
    return []


@dataclass(frozen=True, slots=True)
class StepResult:
    """This rank's answers, their advantages [P, G] (NaN: none) and weights [P, G] in the loss; what all ranks
    learned; and the seconds of learning, after the last response and before it (`overlap`)."""

    batch: Batch
    advantages: Tensor
    weights: Tensor
    learned: Learned
    seconds: float
    overlap: float


def ask_and_learn(
    policy: Policy,
    sampler: Sampler,
    judge: Judging,
    problems: Sequence[Problem],
    how: How,
    optimizer: Optimizers,
    stage: Stage,
    settings: Rl,
    besides: Besides = NOTHING,
    more: More = nothing_more,
) -> StepResult:
    """Ask this rank's share of the problems, judge, and take one optimiser step. Collective.

    `besides`: see `update`; `more` gives the further problems that a stage with
    `filter.refill` asks until as many as the given ones have a gradient."""
    own = ranks.share(problems)
    if sampler.remote and overlaps(settings, besides):
        asking = Asking(policy, sampler, judge, own, how)
        refill = Refill(problems, stage.filter.refill, more)
        return _learn_meanwhile(policy, asking, optimizer, stage, settings, besides, refill)

    def asked(part: Sequence[Problem]) -> Batch:
        with enough_for("sampling", SAMPLING):
            return ask(policy, sampler, judge, ranks.share(part), how)

    batch = _refilled(asked(problems), problems, asked, more, stage, settings)
    begun = time.perf_counter()
    weights = weigh(batch.groups, stage, settings)
    with enough_for("learning", LEARNING):
        learned, final = learn(policy, batch.groups, weights, optimizer, settings, besides)
    return StepResult(batch, weights.advantages, final, learned, time.perf_counter() - begun, 0.0)


def overlaps(settings: Rl, besides: Besides) -> bool:
    """Whether groups can be learned from before the whole batch is known. KL to a reference cannot where
    rewards are divided by the batch's deviation at the end, and it is not."""
    apart = besides.second is not None and settings.advantage == "batch"
    return settings.overlap and settings.updates == 1 and not apart


def _refilled(
    batch: Batch,
    problems: Sequence[Problem],
    asked: Callable[[Sequence[Problem]], Batch],
    more: More,
    stage: Stage,
    settings: Rl,
) -> Batch:
    """The batch, and further problems' groups until as many as the `problems` have a gradient, or the rounds
    of `filter.refill` or the epoch's prompts are used up (DAPO's dynamic sampling). Collective."""
    known = {p.id for p in problems}
    for _ in range(stage.filter.refill):
        pulls = weigh(batch.groups, stage, settings).pulls
        missing = len(problems) - int(ranks.total((pulls != 0).any(1).sum()))
        further = more(missing, known) if missing > 0 else []
        if not further:
            break
        known |= {p.id for p in further}
        part = asked(further)
        batch = Batch(
            [*batch.groups, *part.groups],
            batch.sample_seconds + part.sample_seconds,
            batch.judge_seconds + part.judge_seconds,
        )
    return batch


class Refill:
    """Which further prompts are asked while a batch is being answered: one for each group that turned out to
    be without a gradient, at most `rounds` times as many as the batch has. Whoever is slow is not waited
    for, and the prompts asked in the end are those that rounds one after the other would ask. Every rank
    calls `after` equally often."""

    def __init__(self, problems: Sequence[Problem], rounds: int, more: More) -> None:
        self._known, self._more = {p.id for p in problems}, more
        self._left, self._owed = rounds * len(problems), 0

    def after(self, pulls: Tensor) -> list[Problem]:
        """This rank's share of the prompts to ask after these groups [p, G]. Collective."""
        if not self._left:
            return []
        self._owed += int(ranks.total((pulls == 0).all(1).sum()))
        further = self._more(min(self._owed, self._left), self._known) if self._owed else []
        self._owed, self._left = self._owed - len(further), self._left - len(further)
        self._known |= {p.id for p in further}
        return list(ranks.share(further))


def _learn_meanwhile(
    policy: Policy,
    asking: Asking,
    optimizer: Optimizers,
    stage: Stage,
    settings: Rl,
    besides: Besides,
    refill: Refill,
) -> StepResult:
    """Accumulate what is judged, in rounds that all ranks take part in, until every rank has everything."""
    update, order, parts = Update(policy, settings, besides), [], []
    overlap = after = 0.0
    left = True
    while left:
        groups = asking.take(settings.micro)
        begun = time.perf_counter()
        parts.append(weigh(groups, stage, settings))
        order += [group[0].problem.id for group in groups]
        asking.add(refill.after(parts[-1].pulls))
        with enough_for("learning", LEARNING):
            update.add(groups, parts[-1].pulls, parts[-1].shares)
        exposed = asking.judging_since(begun)
        after, overlap = after + exposed, overlap + time.perf_counter() - begun - exposed
        left = bool(ranks.largest(torch.tensor(int(not asking.over))))
    batch, begun = asking.batch(), time.perf_counter()
    weights = Weights.joined(parts).of([order.index(group[0].problem.id) for group in batch.groups])
    total = denominator(weights)
    with enough_for("learning", LEARNING):
        learned = update.finish(optimizer, 1 / total)
    after += time.perf_counter() - begun
    return StepResult(batch, weights.advantages, weights.pulls / total, learned, after, overlap)
