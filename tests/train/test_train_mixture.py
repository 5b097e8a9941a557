"""Several domains in one stage: each gets its share, nobody is asked more often, a restored pool goes on."""

from __future__ import annotations

from collections import Counter
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from acereason.config import Filter, Recipe, parse
from acereason.curate.fit import fitting
from acereason.problems import Problem
from acereason.train import mixture
from acereason.train.mixture import Mixture, interleaved, pool_of, turns
from acereason.train.stages import PoolState, PromptPool

SIZES = {"math": 23, "code": 11, "own": 5}


def problems(sizes: dict[str, int]) -> list[Problem]:
    return [Problem(f"{d}{i}", d, f"q{d}{i}", answer="1") for d, n in sizes.items() for i in range(n)]


def chosen(sizes: dict[str, int]) -> dict[str, list[Problem]]:
    every = problems(sizes)
    return {d: [p for p in every if p.domain == d] for d in sizes}


def pool(shares: dict[str, float], sizes: dict[str, int], state: PoolState | None = None, **rule: Any) -> Any:
    state = state or mixture.begun(chosen(sizes))
    return pool_of(problems(sizes), state, shares, "s", 1, Filter(**rule))


shares_of = st.lists(st.floats(0.05, 1), min_size=2, max_size=4).map(
    lambda values: {f"d{i}": v / sum(values) for i, v in enumerate(values)}
)


@given(shares_of, st.lists(st.integers(1, 9), min_size=1, max_size=12))
def test_over_any_steps_each_domain_is_within_one_of_its_share(
    shares: dict[str, float], counts: list[int]
) -> None:
    asked = Counter[str]()
    for count in counts:
        told = turns(asked, shares, count)
        assert sum(told.values()) == count and min(told.values()) >= 0
        asked.update(told)
        total = sum(asked.values())
        assert all(abs(asked[d] - total * share) <= len(shares) - 1 for d, share in shares.items())
    assert turns(Counter(), shares, sum(counts)) == {d: asked[d] for d in shares}  # however it is cut


@given(st.integers(2, 9), st.integers(1, 30))
def test_within_a_domain_nobody_is_asked_more_often_than_others(batch: int, steps: int) -> None:
    shares = {"math": 0.6, "code": 0.3, "own": 0.1}
    mixed, seen = pool(shares, SIZES), Counter[str]()
    for _ in range(steps):
        taken = [p.id for p in mixed.take(batch)]
        assert len(set(taken)) == len(taken) == batch
        seen.update(taken)
    for domain, size in SIZES.items():
        own = [seen[f"{domain}{i}"] for i in range(size)]
        assert max(own) - min(own) <= 1
        assert abs(sum(own) - steps * batch * shares[domain]) <= 2


def test_one_domain_is_the_plain_pool() -> None:
    assert isinstance(pool({"math": 1.0}, {"math": 5}), PromptPool)
    assert isinstance(pool({"math": 0.5, "code": 0.5}, {"math": 5, "code": 5}), Mixture)


@given(st.integers(1, 9), st.integers(0, 12))
def test_a_restored_mixture_goes_on_as_the_other_would(batch: int, before: int) -> None:
    shares = {"math": 0.7, "code": 0.3}
    sizes = {"math": 9, "code": 6}
    rule: Any = {"drop": "both", "refresh_every": 3, "retire_above": 0.95}
    mixed = pool(shares, sizes, **rule)
    for _ in range(before):
        mixed.take(batch)
    mixed.observe({"math0": 1.0, "code1": 0.0, "math3": 0.5})
    state = msgspec.json.decode(msgspec.json.encode(mixed.state), type=PoolState)
    again = pool(shares, sizes, state, **rule)
    for _ in range(6):
        taken = [[p.id for p in one.take(batch)] for one in (mixed, again)]
        more = [[p.id for p in one.more(2, taken[0])] for one in (mixed, again)]
        assert taken[0] == taken[1] and more[0] == more[1] and not set(taken[0]) & set(more[0])
    assert mixed.counts() == again.counts() and mixed.counts()["prompts"] == 15


def test_what_is_retired_leaves_its_share_to_the_others() -> None:
    mixed = pool({"math": 0.5, "code": 0.5}, {"math": 4, "code": 4}, retire_above=0.9)
    mixed.observe({f"code{i}": 1.0 for i in range(4)})
    assert mixed.counts() == {"prompts": 8, "dropped": 0, "retired": 4} and not mixed.exhausted
    taken = [p.domain for _ in range(3) for p in mixed.take(4)]
    assert taken[4:] == ["math"] * 8  # the first batch was in order before they left
    mixed.observe({f"math{i}": 1.0 for i in range(4)})
    assert mixed.exhausted


def test_calibration_asks_in_the_same_proportions() -> None:
    every = chosen({"math": 9, "code": 3})
    mixed = interleaved(every, {"math": 0.75, "code": 0.25})
    assert sorted(p.id for p in mixed) == sorted(p.id for some in every.values() for p in some)
    assert Counter(p.domain for p in mixed[:8]) == {"math": 6, "code": 2}
    assert [p.id for p in interleaved({"math": every["math"]}, {"math": 1.0})] == [
        p.id for p in every["math"]
    ]


STAGES: list[dict[str, Any]] = [
    {"name": "a", "domain": "math", "budget": 20, "steps": 1, "filter": {"levels": [2, 3]}},
    {"name": "b", "domain": "code", "budget": 20, "steps": 1},
    {"name": "c", "domain": ["code", "own"], "budget": 40, "steps": 1},
]


def recipe(**third: Any) -> Recipe:
    stages = [*STAGES[:2], {**STAGES[2], **third}]
    return parse({"name": "r", "model": {"path": "x/y"}, "stage": stages})


def test_shares_are_weights_and_what_is_replayed() -> None:
    def shares(**third: Any) -> dict[str, float]:
        given = recipe(**third)
        return given.shares_of(given.stage[2])

    assert shares() == {"code": 0.5, "own": 0.5}
    assert shares(weights=[3, 1]) == {"code": 0.75, "own": 0.25}
    replaying = shares(weights=[3, 1], replay=0.2)
    assert (
        replaying == pytest.approx({"code": 0.6, "own": 0.2, "math": 0.2}) and list(replaying)[-1] == "math"
    )
    both = recipe(domain="own", replay=0.2)
    assert both.shares_of(both.stage[2]) == pytest.approx({"own": 0.8, "math": 0.1, "code": 0.1})
    assert both.filter_of(both.stage[2], "math").levels == (2, 3)  # as it was asked before
    assert both.filter_of(both.stage[2], "own").levels is None


def test_problems_of_an_earlier_stages_file_are_replayed_where_they_fit() -> None:
    given = recipe(domain="own", replay=0.2)
    long = Problem("long", "math", "q" * 600, answer="1", meta={"stages": ["a"]})
    short = msgspec.structs.replace(long, id="short")
    other = Problem("other", "own", "q", answer="1", meta={"stages": ["c"]})
    kept, _ = fitting([long, short, other], given, 70, lambda p: 45 if p.id == "long" else 5)
    assert {p.id: p.meta["stages"] for p in kept} == {"long": ["a"], "short": ["a", "c"], "other": ["c"]}
