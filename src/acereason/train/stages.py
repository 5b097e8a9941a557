"""A stage's prompts and its end: which prompts are asked next, and when to stop.

`PromptPool` walks through the stage's prompts in an order hashed from (seed, stage, epoch, id), epoch after
epoch, so its whole state is small and a resumed run goes on with the very same prompts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from acereason.config import Filter, Stop
from acereason.errors import TrainingError
from acereason.problems import Problem
from acereason.sample.protocol import draw_seed


def candidates(problems: Sequence[Problem], domain: str, rule: Filter, seed: int) -> list[Problem]:
    """The domain's problems inside the rule's levels, in hashed order."""
    chosen = [p for p in problems if p.domain == domain]
    if rule.levels is not None:
        low, high = rule.levels
        chosen = [p for p in chosen if low <= int(p.meta.get("level", 0)) <= high]
    return sorted(chosen, key=lambda p: draw_seed(seed, "candidates", p.id))


def within(problems: Sequence[Problem], pass_rates: Mapping[str, float], rule: Filter) -> list[Problem]:
    """Those whose measured pass rate lies in [low, high]; an unmeasured problem is out."""
    return [p for p in problems if p.id in pass_rates and rule.low <= pass_rates[p.id] <= rule.high]


class PromptPool:
    """Prompts of one stage, epoch by epoch."""

    def __init__(self, problems: Sequence[Problem], stage: str, seed: int, drop_solved: bool):
        if not problems:
            raise TrainingError(
                f"stage {stage!r} has no prompts left after its filter; widen filter.low/high or levels"
            )
        self._by_id = {p.id: p for p in problems}
        self._stage, self._seed, self._drop_solved = stage, seed, drop_solved
        self.epoch, self._cursor = 0, 0
        self._solved: set[str] = set()
        self._order = self._epoch_order()

    def _epoch_order(self) -> list[str]:
        ids = [i for i in self._by_id if i not in self._solved]
        ids = ids or list(self._by_id)  # all solved: better to go on than to stop
        return sorted(ids, key=lambda i: draw_seed(self._seed, self._stage, self.epoch, i))

    def take(self, count: int) -> list[Problem]:
        """The next `count` prompts, distinct unless the pool is smaller; may run into the next epoch."""
        taken: list[str] = []
        for _ in range(count):
            if self._cursor == len(self._order):
                self.epoch, self._cursor = self.epoch + 1, 0
                self._order = self._epoch_order()
            taken.append(self._order[self._cursor])
            self._cursor += 1
        return [self._by_id[i] for i in taken]

    def observe(self, solved: Mapping[str, bool]) -> None:
        """Tell which prompts were solved by every rollout this time."""
        if self._drop_solved:
            for problem_id, all_right in solved.items():
                (self._solved.add if all_right else self._solved.discard)(problem_id)

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return {
            "ids": list(self._by_id),
            "epoch": self.epoch,
            "cursor": self._cursor,
            "order": self._order,
            "solved": sorted(self._solved),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on where `state` was taken."""
        self.epoch, self._cursor = state["epoch"], state["cursor"]
        self._order, self._solved = list(state["order"]), set(state["solved"])


def finished(
    rule: Stop, rewards: Sequence[float], truncated: Sequence[float], tokens: Sequence[int] = ()
) -> str | None:
    """Why the stage ends now, or None. `rewards`, `truncated`, `tokens`: one number a step so far."""
    if rule.tokens is not None and sum(tokens) >= rule.tokens:
        return f"{sum(tokens):,} tokens were sampled"
    if rule.truncated_below is not None and truncated:
        recent = truncated[-5:]
        if len(recent) == 5 and sum(recent) / 5 < rule.truncated_below:
            return f"truncated share below {rule.truncated_below}"
    n = rule.patience
    if n is not None and len(rewards) >= 2 * n:
        last, before = sum(rewards[-n:]) / n, sum(rewards[-2 * n : -n]) / n
        if last <= before:
            return f"no gain over {n} steps ({before:.3f} → {last:.3f})"
    return None
