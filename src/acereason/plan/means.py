"""The cheapest means with which a recipe fits a machine: every set of them is tried, and the quickest taken.

    better = cheapest(recipe, shape, machine, rates)
    better.said()       "placement.offload = ["moments"] (+2 % of the time of all steps, …)"

Means that change no number come first; 8-bit moments and adapters change what is learned, so they are
proposed only where nothing else fits, or where they are there already.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product

from acereason.config import Recipe, Stage
from acereason.plan import memory, times
from acereason.plan.memory import Machine, Means, means_of
from acereason.plan.times import Rates
from acereason.shape import Shape

EXACT = (
    (),
    ("moments",),
    ("parameters",),
    ("activations",),
    ("moments", "activations"),
    ("parameters", "activations"),
)
RANK = 16  # of adapters that are proposed
ROOM = 1e12  # bytes of a GPU that has room for anything
MOST = 131_072  # tokens of a micro-batch that is proposed


@dataclass(frozen=True, slots=True)
class Better:
    """Means that fit; larger micro-batches where these save time; the seconds of all steps of RL with them,
    and with the recipe's own where memory is no bound."""

    means: Means
    before: Means
    micro: int | None
    seconds: float
    unbound: float

    def said(self) -> str:
        """What to set, and what it costs."""
        slower = self.seconds / self.unbound - 1
        cost = f"{slower:+.0%} of the time of all steps" if abs(slower) >= 0.005 else "next to no time"
        return f"{', '.join(self.changes())} ({cost}, against a GPU with room for the recipe as it is)"

    def changes(self) -> list[str]:
        """The keys to set."""
        now, old = self.means, self.before
        return [
            *([f"[lora] rank = {now.rank}"] if now.rank != old.rank else []),
            *(["placement.checkpoint_activations = true"] if now.checkpointing != old.checkpointing else []),
            *([f'rl.moments = sft.moments = "{now.moments}"'] if now.moments != old.moments else []),
            *(
                [f"placement.offload = {list(now.offload)}".replace("'", '"')]
                if now.offload != old.offload
                else []
            ),
        ]


def longest(stage: Stage) -> int:
    """Tokens of the longest prompt and response of a stage."""
    return stage.budget + times.LONGEST_PROMPT


def needed(recipe: Recipe) -> tuple[int, int]:
    """Tokens of a micro-batch, of one rank where ranks share sequences, and of the longest response."""
    sequence = max(map(longest, recipe.stage), default=0)
    share = -(-sequence // recipe.placement.sequence)
    given = [recipe.rl.micro, *([recipe.sft.micro] if recipe.sft else [])]
    return max(share, *given) * recipe.placement.sequence, sequence


def cheapest(recipe: Recipe, shape: Shape, machine: Machine, rates: Rates) -> Better | None:
    """The quickest means with which the recipe fits; None where there are none."""
    before = means_of(recipe)
    roomy = machine if _fits(recipe, shape, machine, before) else replace(machine, memory=ROOM)
    unbound = _seconds(recipe, shape, roomy, rates, before)
    for level in _levels(before):
        ways = []
        for means in (m for m in level if _fits(recipe, shape, machine, m)):
            micro = _micro(recipe, shape, machine, means)
            seconds = _seconds(recipe, shape, machine, rates, means, micro)
            ways.append(Better(means, before, micro, seconds, unbound))
        if ways:
            return min(ways, key=lambda b: (b.seconds, _changed(b.means, before)))
    return None


def _micro(recipe: Recipe, shape: Shape, machine: Machine, means: Means) -> int | None:
    """Tokens of larger micro-batches, where offloaded parameters come over for each; at most MOST."""
    if "parameters" not in means.offload:
        return None
    fits = memory.fitting(shape, machine, means) // means.sequence
    return min(fits, MOST) if fits > recipe.rl.micro else None


def _levels(before: Means) -> Iterator[list[Means]]:
    """Sets of means: those that change no number, then 8-bit moments with them, then adapters."""
    checkpointing = [before.checkpointing, True]
    exact = [replace(before, checkpointing=c, offload=o) for c, o in product(checkpointing, EXACT)]
    yield exact
    yield [replace(m, moments="8bit") for m in exact]
    if not before.rank:
        yield [replace(m, rank=RANK) for m in exact]


def _fits(recipe: Recipe, shape: Shape, machine: Machine, means: Means) -> bool:
    tokens, sequence = needed(recipe)
    learns = memory.fitting(shape, machine, means) >= tokens
    return learns and memory.cache_tokens(shape, machine, means) >= sequence


def _seconds(
    recipe: Recipe, shape: Shape, machine: Machine, rates: Rates, means: Means, micro: int | None = None
) -> float:
    """Seconds of all steps of RL, with micro-batches of so many tokens a rank or the recipe's own."""
    judges, each = recipe.rl.judges, micro or needed(recipe)[0] / means.sequence
    steps = (s.steps * times.step(shape, machine, rates, s, means, judges, each).total for s in recipe.stage)
    return sum(steps)


def _changed(means: Means, before: Means) -> int:
    """How many keys differ, for a choice between equals."""
    return (means.checkpointing != before.checkpointing) + len(set(means.offload) ^ set(before.offload))
