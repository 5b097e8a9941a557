"""Selection and mixes: chance by record only, nested sets, and a funnel that adds up."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from acereason.curate.funnel import Funnel, table
from acereason.curate.mix import mix
from acereason.curate.select import (
    Band,
    StageSelection,
    by_difficulty,
    difficulty,
    length_balance,
    majority,
    stage_set,
    unsolved,
)
from acereason.draws import chance
from acereason.errors import ConfigError, DataError
from acereason.problems import Problem, Response, Verdict

RIGHT, WRONG = Verdict("correct", 1), Verdict("wrong", 0)
UNJUDGED, NOTHING = Verdict("unjudged", None), Verdict("no_answer", 0)


def problems(count: int, **fields: object) -> list[Problem]:
    return [Problem(str(i), "math", f"question {i}", **fields) for i in range(count)]  # type: ignore[arg-type]


def test_a_funnel_must_add_up() -> None:
    with pytest.raises(ValueError, match="the reasons explain 1"):
        Funnel("x", 5, 3, {"a": 1, "note: b": 1})
    text = table([Funnel("x", 5, 3, {"a": 2, "note: b": 1})])
    assert "60.0%" in text and "note: b" in text


def test_chance_is_uniform_and_depends_on_content_alone() -> None:
    draws = [chance(1, "length", str(i)) for i in range(20_000)]
    assert all(0 <= draw < 1 for draw in draws)
    assert abs(sum(draws) / len(draws) - 0.5) < 0.01
    assert chance(1, "a", "b") != chance(1, "ab") != chance(2, "ab")


@given(st.floats(0, 1), st.floats(0, 1), st.integers(0, 99))
@settings(deadline=None, max_examples=30)
def test_length_balance_keeps_nested_shares_in_any_order(a: float, b: float, seed: int) -> None:
    everything = problems(300)
    lengths = {p.id: 10.0 * i for i, p in enumerate(everything)}

    def kept(share: float, given: list[Problem]) -> set[str]:
        bands = [Band(0, 2000, share), Band(2000, None, 1.0)]
        out, funnel = length_balance(given, lengths, bands, seed)
        assert funnel.after == len(out)
        return {p.id for p in out}

    small, large = kept(min(a, b), everything), kept(max(a, b), everything)
    assert small <= large and {str(i) for i in range(200, 300)} <= small
    assert kept(a, random.sample(everything, len(everything))) == kept(a, everything)


def test_length_balance_refuses_overlapping_bands() -> None:
    with pytest.raises(ConfigError, match="rise without overlap"):
        length_balance([], {}, [Band(0, 3000, 0.5), Band(2000, None, 1.0)], 0)
    kept, funnel = length_balance(problems(2), {"0": 5}, [Band(0, None, 0.0)], 0)
    assert [p.id for p in kept] == ["1"] and funnel.reasons["note: no teacher length"] == 1


def test_difficulty_counts_only_what_was_judged() -> None:
    verdicts = {"0": [RIGHT, WRONG, UNJUDGED, NOTHING], "1": [UNJUDGED], "2": [WRONG] * 8}
    marked = difficulty(problems(4), verdicts)
    assert [p.difficulty for p in marked] == [2 / 3, None, 1.0, None]
    assert marked[0].meta == {"attempts": 3, "failures": 2}
    kept, funnel = by_difficulty(marked, high=7 / 8)
    assert [p.id for p in kept] == ["0"]
    assert funnel.reasons == {"difficulty unknown": 2, "too hard": 1}
    assert len(by_difficulty(marked, high=7 / 8, unknown=True)[0]) == 3


def test_majority() -> None:
    answers: dict[str, list[tuple[str | None, Verdict]]] = {
        "0": [("1/2", RIGHT), ("0.5", RIGHT), ("3", WRONG), ("3", WRONG), ("3", WRONG)],
        "1": [("1/2", RIGHT), ("0.5", RIGHT), ("3", WRONG), ("4", WRONG), ("5", WRONG)],
        "2": [("7", RIGHT), ("8", WRONG)],
        "3": [("7", RIGHT), (None, NOTHING), (None, NOTHING), (None, NOTHING)],
    }
    kept, funnel = majority(problems(5), answers)
    assert [p.id for p in kept] == ["1", "3"]
    assert all(p.meta["answer_checked"] for p in kept)
    assert funnel.reasons == {"majority answer differs from the reference": 2, "no attempts": 1}
    assert [p.id for p in majority(problems(5), answers, at_least=0.4)[0]] == ["1"]


def test_stage_sets() -> None:
    everything = difficulty(problems(16), {str(i): [RIGHT] * i + [WRONG] * (16 - i) for i in range(16)})
    hard = StageSelection("math-24k", "math", difficulty=(10 / 16, None))  # pass rate <= 6/16
    kept, _ = stage_set(everything, hard, {}, 0)
    assert [p.id for p in kept] == [str(i) for i in range(7)]
    simple = StageSelection("math-8k", tokens=(2000, 4000), limit=3)
    lengths = {str(i): 1000.0 * i for i in range(10)}
    kept, funnel = stage_set(everything, simple, lengths, 0)
    assert [p.id for p in kept] == ["2", "3", "4"] and funnel.reasons["teacher length unknown"] == 6
    limited, funnel = stage_set(everything, StageSelection("s", limit=5), {}, 3)
    reverse, _ = stage_set(everything[::-1], StageSelection("s", limit=5), {}, 3)
    assert len(limited) == 5 and funnel.reasons == {"over the stage's limit": 11}
    assert {p.id for p in limited} == {p.id for p in reverse}
    assert stage_set(everything, StageSelection("c", domain="code"), {}, 0)[0] == []


def test_unsolved() -> None:
    kept, _ = unsolved(problems(3), {"0": [True, True], "1": [True, False]})
    assert [p.id for p in kept] == ["1", "2"]


def test_mixes_are_nested_along_both_axes() -> None:
    everything = problems(60)
    responses = {p.id: [Response(p.id, k, f"{p.id}:{k}") for k in range(int(p.id) % 5)] for p in everything}
    sets = {}
    for p in (1, 7, 30, None):
        for r in (1, 2, 3, None):
            rows, manifest = mix(everything, responses, p, r, seed=5)
            sets[p, r] = {(row.problem_id, row.sample) for row in rows}
            assert len(rows) == manifest.responses == len(sets[p, r])
            assert manifest.prompts == len(manifest.ids) == (p or 48)
            if r:
                assert manifest.responses + manifest.missing == manifest.prompts * r
    for p, q in pairwise((1, 7, 30, None)):
        for r, s in pairwise((1, 2, 3, None)):
            assert sets[p, r] <= sets[q, r] and sets[p, r] <= sets[p, s]
    again = mix(everything[::-1], {k: v[::-1] for k, v in responses.items()}, 30, 2, seed=5)
    assert again == mix(everything, responses, 30, 2, seed=5)
    assert again[1].hash != mix(everything, responses, 30, 2, seed=6)[1].hash
    with pytest.raises(DataError, match="only 48 have a response"):
        mix(everything, responses, 49, 1, seed=5)
