"""A stage's prompts, its learning rate and its end: which prompts are asked next, and when to stop.

`PromptPool` walks through the stage's prompts in an order hashed from (seed, stage, epoch, id), epoch after
epoch, so its whole state is small and a resumed run goes on with the very same prompts.
"""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence

import msgspec

from acereason.config import Filter, Stage, Stop
from acereason.draws import draw_seed
from acereason.problems import Problem
from acereason.published.records import level_of


def candidates(problems: Sequence[Problem], domain: str, rule: Filter, seed: int) -> list[Problem]:
    """The domain's problems inside the rule's levels, in hashed order."""
    chosen = [p for p in problems if p.domain == domain]
    if rule.levels is not None:
        low, high = rule.levels
        chosen = [p for p in chosen if low <= (level_of(p.meta.get("level")) or 0) <= high]
    return sorted(chosen, key=lambda p: draw_seed(seed, "candidates", p.id))


def within(problems: Sequence[Problem], pass_rates: Mapping[str, float], rule: Filter) -> list[Problem]:
    """Those whose measured pass rate lies in [low, high]; an unmeasured problem is out."""
    return [p for p in problems if p.id in pass_rates and rule.low <= pass_rates[p.id] <= rule.high]


ALL = Filter()


class PoolState(msgspec.Struct, kw_only=True):
    """Where a stage stands among its prompts: their ids, this epoch's order and how much of it was asked; and
    what it remembers of them: each one's last pass rate, and which left for good. `taken`: how many were
    asked in all. A mixture of domains has the state of each in its `parts`."""

    ids: list[str]
    epoch: int = 0
    cursor: int = 0
    order: list[str] = []
    rates: dict[str, float] = {}
    retired: list[str] = []
    small: bool = False  # smaller batches than the stage asks for were said
    taken: int = 0
    parts: dict[str, PoolState] = {}


class StageState(msgspec.Struct, kw_only=True):
    """What a stage has to remember from step to step; it is part of every checkpoint. `temperature` is the
    temperature rule's own; `history` holds each step's (mean reward, truncated share, tokens), `dev` (step of
    the stage, accuracy on the dev split) for every evaluation inside the stage."""

    pool: PoolState
    temperature: dict[str, float]
    history: list[tuple[float, float, int]] = []
    dev: list[tuple[int, float]] = []
    bad_steps: int = 0  # in a row, without a finite gradient


class PromptPool:
    """Prompts of one stage, epoch by epoch; moves `state` along."""

    def __init__(
        self, problems: Sequence[Problem], state: PoolState, stage: str, seed: int, rule: Filter = ALL
    ):
        by_id = {p.id: p for p in problems}
        self._by_id = {i: by_id[i] for i in state.ids}
        self._stage, self._seed, self._rule = stage, seed, rule
        self.state = state
        if not state.order:
            state.order = self._epoch_order(0)

    def __contains__(self, id_: object) -> bool:
        return id_ in self._by_id

    @property
    def epoch(self) -> int:
        """The epoch, from 0, of the prompt that is next."""
        return self.state.epoch + (self.state.cursor == len(self.state.order))

    def take(self, count: int) -> list[Problem]:
        """The next `count` prompts, all different; fewer when the pool has not so many. May run into the next
        epoch, which then begins with prompts that are not in this batch."""
        state = self.state
        taken = state.order[state.cursor : state.cursor + count]
        state.cursor += len(taken)
        if len(taken) < count:
            state.epoch, state.order = state.epoch + 1, self._epoch_order(state.epoch + 1)
            other = [i for i in state.order if i not in set(taken)][: count - len(taken)]
            state.order = [*other, *(i for i in state.order if i not in set(other))]
            state.cursor = len(other)
            taken = [*taken, *other]
        state.taken += len(taken)
        return [self._by_id[i] for i in taken]

    def more(self, count: int, asked: Container[str]) -> list[Problem]:
        """Up to `count` further prompts of this epoch that are not among the `asked`."""
        state = self.state
        rest = state.order[state.cursor :]
        chosen = [i for i in rest if i not in asked][:count]
        state.order[state.cursor :] = [*chosen, *(i for i in rest if i not in set(chosen))]
        state.cursor, state.taken = state.cursor + len(chosen), state.taken + len(chosen)
        return [self._by_id[i] for i in chosen]

    @property
    def exhausted(self) -> bool:
        """Whether every prompt left for good."""
        return len(self.state.retired) == len(self.state.ids)

    def counts(self) -> dict[str, int]:
        """How many prompts there are, are left out of this epoch, and left for good."""
        state, retired = self.state, set(self.state.retired)
        dropped = set(state.ids) - set(state.order) - retired
        return {"prompts": len(state.ids), "dropped": len(dropped), "retired": len(retired)}

    def _epoch_order(self, epoch: int) -> list[str]:
        retired = set(self.state.retired)
        left = [i for i in self.state.ids if i not in retired]
        ids = [i for i in left if not self._dropped(i, epoch)]
        ids = ids or left  # all dropped: better to go on than to stop
        return sorted(ids, key=lambda i: draw_seed(self._seed, self._stage, epoch, i))

    def _dropped(self, id_: str, epoch: int) -> bool:
        rule, rate = self._rule, self.state.rates.get(id_)
        if not rule.dropping or (rule.refresh_every and epoch % rule.refresh_every == 0):
            return False
        if rate != 1 and not (rate == 0 and rule.dropping == "both"):
            return False
        share = rule.readmit.easy if rate == 1 else rule.readmit.hard
        return draw_seed(self._seed, self._stage, "readmit", epoch, id_) / 2**64 >= share

    def observe(self, rates: Mapping[str, float]) -> None:
        """Tell the pass rates that prompts had this time."""
        if self._rule.dropping:
            self.state.rates |= rates
        if (most := self._rule.retire_above) is not None:
            above = {i for i, rate in rates.items() if rate >= most}
            self.state.retired = sorted({*self.state.retired, *above})


def best(dev: Sequence[tuple[int, float]]) -> int:
    """The step of the best of these evaluations on the dev split; the earliest of equals."""
    return max(dev, key=lambda one: (one[1], -one[0]))[0]


def finished(
    rule: Stop, history: Sequence[tuple[float, float, int]], dev: Sequence[tuple[int, float]] = ()
) -> str | None:
    """Why the stage ends now, or None. `history` holds each step's (mean reward, truncated share, tokens),
    `dev` the evaluations' (step, accuracy)."""
    tokens = sum(tokens for _, _, tokens in history)
    if rule.tokens is not None and tokens >= rule.tokens:
        return f"{tokens:,} tokens were sampled"
    recent = [truncated for _, truncated, _ in history[-5:]]
    if rule.truncated_below is not None and len(recent) == 5 and sum(recent) / 5 < rule.truncated_below:
        return f"truncated share below {rule.truncated_below}"
    n = rule.patience
    if n is not None and len(history) >= 2 * n:
        rewards = [reward for reward, _, _ in history]
        last, before = sum(rewards[-n:]) / n, sum(rewards[-2 * n : -n]) / n
        if last <= before:
            return f"no gain over {n} steps ({before:.3f} → {last:.3f})"
    n = rule.dev_patience
    if n is not None and dev and sum(step > best(dev) for step, _ in dev) >= n:
        return f"{n} evaluations on the dev split no better than that of step {best(dev)}"
    return None


def learning_rate(stage: Stage, step: int) -> float:
    """The learning rate of a stage's step (0 = first): it rises over `warmup` steps, while Adam's averages of
    squared gradients are still those of a few noisy batches."""
    return stage.learning_rate * min(1.0, (step + 1) / max(1, stage.warmup))
