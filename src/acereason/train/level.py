"""Ranks that each hold the whole model learn about as much as each other.

Each rank has asked its own prompts, and of these only groups with an advantage are learned, so one rank may
have much and another nothing while it waits. `levelled` hands whole groups (the responses to one prompt,
whose prompt is computed once) from ranks with much to ranks with little: tokens, log-probabilities and
weights, which on one machine take less time than a layer. Which rank learns a group changes the order of
sums alone. Sharded models are left as they are: all their ranks compute equally many packs anyway.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol, TypeVar

from acereason import ranks
from acereason.policy.marks import marks_of
from acereason.policy.packing import Tokens
from acereason.train.parallel import cost

WORTH = 0.05  # the least share of the longest rank's time that must be saved
MOST = 1_000_000  # tokens that are handed over at a time


class Learnable(Protocol):
    """A response with its prompt."""

    @property
    def prompt(self) -> Sequence[int]: ...
    @property
    def tokens(self) -> Tokens: ...


P = TypeVar("P", bound=Learnable)


class Move(NamedTuple):
    """Group number `group` of rank `source` is learned by rank `target`."""

    source: int
    group: int
    target: int


def levelled(model: object, own: Sequence[P]) -> list[P]:
    """What this rank learns: its own, less what it hands over, and what it is handed. Collective where
    several ranks of one machine each hold the model."""
    if marks_of(model).replicated is None or ranks.world() == 1 or ranks.local_world() != ranks.world():
        return list(own)
    groups = _by_prompt(own)
    hidden: int = model.config.hidden_size  # type: ignore[attr-defined]
    chosen = moves(ranks.gathered([_cost(group, hidden) for group in groups]))
    if not chosen:
        return list(own)
    given = {m.group: m.target for m in chosen if m.source == ranks.rank()}
    handed = ranks.gathered([(target, groups[number]) for number, target in given.items()])
    kept = [group for number, group in enumerate(groups) if number not in given]
    taken = [group for part in handed for target, group in part if target == ranks.rank()]
    return [pull for group in [*kept, *taken] for pull in group]


def moves(costs: Sequence[Sequence[float]]) -> list[Move]:
    """Which groups change their rank; `costs` of each rank's groups. From the dearest rank to the cheapest,
    each time the group that leaves the dearer of the two cheapest; none where all of it saves too little."""
    has = [{(rank, number): c for number, c in enumerate(own)} for rank, own in enumerate(costs)]
    total = [sum(own.values()) for own in has]
    before, moved = max(total), 0.0
    while True:
        dear, cheap = (f(range(len(total)), key=lambda r: (total[r], r)) for f in (max, min))
        gap = total[dear] - total[cheap]
        fitting = [key for key, c in has[dear].items() if 0 < c < gap]
        key = min(fitting, key=lambda k: (abs(gap - 2 * has[dear][k]), k), default=None)
        if key is None or moved + has[dear][key] > MOST:
            break
        price = has[dear].pop(key)
        has[cheap][key] = price
        total[dear], total[cheap], moved = total[dear] - price, total[cheap] + price, moved + price
    if max(total) > (1 - WORTH) * before:
        return []
    return sorted(Move(*key, rank) for rank, own in enumerate(has) for key in own if key[0] != rank)


def _by_prompt(own: Sequence[P]) -> list[list[P]]:
    """The responses to each prompt, in their order."""
    groups: dict[tuple[int, ...], list[P]] = {}
    for pull in own:
        groups.setdefault(tuple(pull.prompt), []).append(pull)
    return list(groups.values())


def _cost(group: Sequence[Learnable], hidden: int) -> float:
    """What a group costs when its prompt is computed once."""
    prompt = len(group[0].prompt)
    return sum(cost(prompt + len(p.tokens), hidden) for p in group) - (len(group) - 1) * prompt
