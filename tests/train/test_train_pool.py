"""The pool that remembers: drops, readmissions, retirement and refills, each against what it says."""

from __future__ import annotations

from collections import Counter
from typing import Any

import msgspec
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from acereason.config import Filter, Readmit, Rl, Stage
from acereason.problems import Problem
from acereason.sample.ask import Batch
from acereason.train import objective, streaming
from acereason.train.stages import PoolState, PromptPool
from learn_groups import groups


def pool_of(size: int, seed: int = 1, **rule: Any) -> PromptPool:
    made = [Problem(f"p{i}", "math", f"q{i}", answer="1") for i in range(size)]
    return PromptPool(made, PoolState(ids=[p.id for p in made]), "s", seed, Filter(**rule))


def epoch(pool: PromptPool, size: int) -> set[str]:
    """The ids that the next whole epoch asks."""
    pool.take(len(pool.state.order) - pool.state.cursor)
    first = pool.take(1)
    rest = pool.take(len(pool.state.order) - pool.state.cursor)
    assert len(rest) < size
    return {p.id for p in [*first, *rest]}


RATES = {f"p{i}": [0.0, 0.5, 1.0, 0.9][i % 4] for i in range(40)}


@pytest.mark.parametrize(
    ("rule", "left"),
    [
        ({}, {0.0, 0.5, 0.9, 1.0}),
        ({"drop": "solved"}, {0.0, 0.5, 0.9}),
        ({"drop_solved": True}, {0.0, 0.5, 0.9}),
        ({"drop": "both"}, {0.5, 0.9}),
        ({"retire_above": 0.9}, {0.0, 0.5}),
        ({"drop": "both", "retire_above": 0.9}, {0.5}),
        ({"drop": "both", "readmit": Readmit(hard=1.0, easy=1.0)}, {0.0, 0.5, 0.9, 1.0}),
    ],
)
def test_an_epoch_leaves_out_what_the_rule_drops(rule: dict[str, Any], left: set[float]) -> None:
    pool = pool_of(40, **rule)
    pool.take(40)
    pool.observe(RATES)
    assert {RATES[i] for i in epoch(pool, 41)} == left


def test_readmitted_shares_are_met_and_change_with_the_epoch() -> None:
    pool = pool_of(2000, drop="both", readmit=Readmit(hard=0.1, easy=0.01))
    rates = {f"p{i}": float(i % 2) for i in range(1998)} | {"p1998": 0.5, "p1999": 0.5}
    pool.observe(rates)
    first, second = epoch(pool, 2001), epoch(pool, 2001)
    for asked in (first, second):
        share = Counter(rates[i] for i in asked)
        assert 70 <= share[0.0] <= 130 and 2 <= share[1.0] <= 22 and share[0.5] == 2
    assert first != second


def test_a_refresh_asks_the_dropped_again_and_not_the_retired() -> None:
    pool = pool_of(8, drop="both", refresh_every=3, retire_above=1.0)
    pool.take(8)
    pool.observe({"p0": 0.0, "p1": 1.0})
    counts = [len(epoch(pool, 9)) for _ in range(6)]
    assert counts == [6, 6, 7, 6, 6, 7] and "p1" in pool.state.retired


def test_what_is_retired_never_returns_and_a_pool_of_them_is_exhausted() -> None:
    pool = pool_of(3, retire_above=0.9)
    pool.take(3)
    pool.observe({"p0": 0.9, "p1": 0.89, "p2": 1.0})
    pool.observe({"p0": 0.0})
    assert epoch(pool, 4) == {"p1"} and not pool.exhausted
    pool.observe({"p1": 1.0})
    assert pool.exhausted


@given(st.integers(2, 20), st.integers(1, 9), st.integers(0, 3), st.integers(1, 15), st.randoms())
def test_a_streaming_refill_asks_nobody_more_often_than_others(
    size: int, batch: int, rounds: int, steps: int, chance: Any
) -> None:
    """Whichever prompts are idle, and in whatever order their groups come back: after every step each prompt
    was asked as often as any other, but for one time; nobody twice in a step; the bound holds. Half of the
    prompts have a gradient always, so a draw that favoured or shunned them would show."""
    pool, seen = pool_of(size), Counter[str]()
    for _ in range(steps):
        first = pool.take(batch)
        refill, flying, asked = streaming.Refill(first, rounds, pool.more), list(first), list(first)
        while flying:
            chance.shuffle(flying)
            back = [flying.pop() for _ in range(chance.randint(1, len(flying)))]
            idle = torch.tensor([[int(p.id[1:]) % 2 * chance.random()] * 4 for p in back])
            further = refill.after(idle)
            flying, asked = [*flying, *further], [*asked, *further]
        ids = [p.id for p in asked]
        assert len(set(ids)) == len(ids) <= len(first) * (1 + rounds)
        seen.update(ids)
        assert max(seen.values()) - min(seen[f"p{i}"] for i in range(size)) <= 1


@given(st.integers(1, 9), st.integers(0, 40), st.integers(0, 5))
def test_a_restored_pool_goes_on_as_the_other_would(batch: int, before: int, seed: int) -> None:
    rule: Any = {"drop": "both", "readmit": Readmit(0.3, 0.2), "refresh_every": 4, "retire_above": 0.95}
    pool = pool_of(12, seed, **rule)
    pool.take(before)
    pool.observe({f"p{i}": [0.0, 0.5, 1.0][i % 3] for i in range(9)})
    again = pool_of(12, seed, **rule)
    state = msgspec.json.decode(msgspec.json.encode(pool.state), type=PoolState)
    again = PromptPool(list(again._by_id.values()), state, "s", seed, Filter(**rule))
    for _ in range(9):
        taken = [[p.id for p in one.take(batch)] for one in (pool, again)]
        more = [[p.id for p in one.more(2, taken[0])] for one in (pool, again)]
        assert taken[0] == taken[1] and more[0] == more[1]


@pytest.mark.parametrize("rounds", [0, 1, 2, 9])
def test_a_refill_asks_what_is_missing_and_no_more_rounds_than_stated(rounds: int) -> None:
    """Every second prompt has a gradient."""
    stage = Stage("s", "math", budget=20, steps=1, group=4, prompts=4, filter=Filter(refill=rounds))
    made = [Problem(f"p{i}", "math", f"q{i}", answer="1") for i in range(40)]
    plain = groups(3, shape=(1, 4), rewards=[[1, 0, 1, 0]])[0]
    idle = groups(3, shape=(1, 4), rewards=[[1, 1, 1, 1]])[0]
    asked: list[int] = []

    def ask(part: Any) -> Batch:
        asked.append(len(part))
        start = sum(asked[:-1])
        return Batch([(plain, idle)[(start + i) % 2] for i in range(len(part))], 1.0, 0.5)

    def more(count: int, known: Any) -> list[Problem]:
        return [p for p in made if p.id not in known][:count]

    batch = streaming._refilled(ask(made[:4]), made[:4], ask, more, stage, Rl())
    assert asked == [4, 2, 1][: rounds + 1] and batch.sample_seconds == len(asked)
    assert len(batch.groups) == sum(asked)


def test_the_entropy_pull_has_the_gradient_of_the_entropy() -> None:
    logits = torch.randn(7, dtype=torch.float64, generator=torch.Generator().manual_seed(2)).requires_grad_()
    log_p = logits.log_softmax(0)
    H = -(log_p.exp() * log_p).sum()
    true = torch.autograd.grad(H, logits, retain_graph=True)[0]
    pull = objective.entropy_pull(log_p, H)
    found = torch.autograd.grad((log_p.detach().exp() * pull * log_p).sum(), logits)[0]
    assert torch.allclose(found, true, rtol=0, atol=1e-10)
