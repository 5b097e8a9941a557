"""Prompts of several domains in one stage: a pool for each, from which every batch takes its share.

A stage of `domain = ["math", "code"]` mixes them by its weights, and `replay` takes a part of every batch
from the domains of earlier stages. Whose turn it is follows from how many each has been asked so far: over
any number of steps each domain has its share but for a prompt or two, and there is nothing else to remember.
What has no prompt left for good (`filter.retire_above`) leaves its share to the others.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Mapping, Sequence
from typing import Protocol

from acereason.config import Filter
from acereason.problems import Problem
from acereason.train.stages import PoolState, PromptPool


class Pool(Protocol):
    """What a stage takes its prompts from."""

    state: PoolState

    @property
    def epoch(self) -> int:
        """The epoch, from 0, of the prompt that is next."""
        ...

    @property
    def exhausted(self) -> bool:
        """Whether every prompt left for good."""
        ...

    def take(self, count: int) -> list[Problem]:
        """The next `count` prompts, all different; fewer when there are not so many."""
        ...

    def more(self, count: int, asked: Container[str]) -> list[Problem]:
        """Up to `count` further prompts of this epoch that are not among the `asked`."""
        ...

    def observe(self, rates: Mapping[str, float]) -> None:
        """Tell the pass rates that prompts had this time."""
        ...

    def counts(self) -> dict[str, int]:
        """How many prompts there are, are left out of this epoch, and left for good."""
        ...


def begun(chosen: Mapping[str, Sequence[Problem]]) -> PoolState:
    """Where a stage with these prompts, by domain, begins."""
    states = {domain: PoolState(ids=[p.id for p in some]) for domain, some in chosen.items()}
    return next(iter(states.values())) if len(states) == 1 else PoolState(ids=[], parts=states)


def pool_of(
    problems: Sequence[Problem],
    state: PoolState,
    shares: Mapping[str, float],
    stage: str,
    seed: int,
    rule: Filter,
) -> Pool:
    """The pool of a stage as it stood; `shares` of every batch by domain."""
    if not state.parts:
        return PromptPool(problems, state, stage, seed, rule)
    return Mixture(problems, state, shares, stage, seed, rule)


def turns(asked: Mapping[str, int], shares: Mapping[str, float], count: int) -> dict[str, int]:
    """How many of the next `count` prompts each domain has, after so many that were `asked`: one after the
    other, the domain that is furthest behind its share; the first of equals."""
    told = Counter({domain: asked[domain] for domain in shares})
    whole = sum(shares.values())
    for _ in range(count):
        total = sum(told.values()) + 1
        told[max(shares, key=lambda domain: total * shares[domain] / whole - told[domain])] += 1
    return {domain: told[domain] - asked[domain] for domain in shares}


def interleaved(chosen: Mapping[str, Sequence[Problem]], shares: Mapping[str, float]) -> list[Problem]:
    """All prompts, in the proportions of the shares while each domain lasts."""
    left, mixed = {domain: list(some) for domain, some in chosen.items() if some}, []
    asked = Counter[str]()
    while left:
        (domain,) = (d for d, n in turns(asked, {d: shares[d] for d in left}, 1).items() if n)
        asked[domain] += 1
        mixed.append(left[domain].pop(0))
        left = {d: some for d, some in left.items() if some}
    return mixed


class Mixture:
    """Pools by domain; an epoch of the mixture is one of the first domain's prompts."""

    def __init__(
        self,
        problems: Sequence[Problem],
        state: PoolState,
        shares: Mapping[str, float],
        stage: str,
        seed: int,
        rule: Filter,
    ) -> None:
        self.state, self._shares = state, shares
        self._parts = {
            domain: PromptPool([p for p in problems if p.domain == domain], part, stage, seed, rule)
            for domain, part in state.parts.items()
        }

    @property
    def epoch(self) -> int:
        """See `Pool`."""
        return next(iter(self._parts.values())).epoch

    @property
    def exhausted(self) -> bool:
        """See `Pool`."""
        return not self._live()

    def _live(self) -> dict[str, float]:
        return {d: self._shares[d] for d, part in self._parts.items() if not part.exhausted}

    def _turns(self, count: int) -> dict[str, int]:
        asked = {domain: part.state.taken for domain, part in self._parts.items()}
        live = self._live() or dict(self._shares)
        return turns(asked, live, count)

    def take(self, count: int) -> list[Problem]:
        """See `Pool`."""
        return [p for domain, own in self._turns(count).items() for p in self._parts[domain].take(own)]

    def more(self, count: int, asked: Container[str]) -> list[Problem]:
        """See `Pool`. Where a domain's epoch has no more, the others give nothing in its place."""
        return [p for domain, own in self._turns(count).items() for p in self._parts[domain].more(own, asked)]

    def observe(self, rates: Mapping[str, float]) -> None:
        """See `Pool`."""
        for part in self._parts.values():
            part.observe({i: rate for i, rate in rates.items() if i in part})

    def counts(self) -> dict[str, int]:
        """See `Pool`."""
        every = [part.counts() for part in self._parts.values()]
        return {name: sum(one[name] for one in every) for name in every[0]}
