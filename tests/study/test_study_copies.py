"""Arms of one start began from one copy of it, or it is said."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import msgspec

from acereason.study.copies import matched, mixed
from acereason.study.records import Record, Results
from study_records import outcome, record

HERE, THERE = "acereason 0.1 (ab), torch 2.13, one", "acereason 0.1 (cd), torch 2.13, other"


def arm(name: str, seed: int = 1, **changes: object) -> Record:
    made = record(name, seed, {"math": outcome([1])})
    return msgspec.structs.replace(made, **{"version": HERE, "start": "sft-1", **changes})


def arms(*records: Record) -> Mapping[tuple[str, int], Record]:
    return {(r.name, r.seed): r for r in records}


def never(address: str, weights: str) -> bool:
    """No copy is known to have been made after the first."""
    return False


def test_copies_are_told_apart_by_their_weights() -> None:
    start = arm("sft", start=None, weights="w")
    children = [arm(f"a{n}", began="w", version=THERE) for n in range(2)]
    assert mixed(arms(start, *children), {"sft-1"}, never) == ()
    other = arm("b", began="x")
    assert mixed(arms(start, *children, other), {"sft-1"}, never) == ("seed 1: a0, a1, sft | b",)
    assert mixed(arms(*children), {"sft-1"}, never) == ()  # all from a copy that is not the start's record
    assert mixed(arms(start, other), {"elsewhere"}, never) == ()  # a model of one's own is one


def test_records_of_before_go_by_their_machine() -> None:
    start, child, again = arm("sft", start=None), arm("a"), arm("b", version=THERE, began="w")
    assert mixed(arms(start, child), {"sft-1"}, never) == ()
    assert mixed(arms(start, child, again), {"sft-1"}, never) == ("seed 1: a, sft | b",)
    other = arm("c", seed=2, start="sft-2", version=THERE)
    assert mixed(arms(start, child, other), {"sft-1", "sft-2"}, never) == ()  # each seed has its own


def test_a_copy_made_again_is_another_on_the_same_kind_of_machine() -> None:
    start, before = arm("sft", start=None), arm("a")
    later = arms(start, before, arm("b", began="w"))
    assert mixed(later, {"sft-1"}, never) == ()  # of one copy, whose weights were kept from then on
    assert mixed(later, {"sft-1"}, lambda *key: key == ("sft-1", "w")) == ("seed 1: a, sft | b",)
    both = {**later, **arms(arm("c", began="v"))}
    assert mixed(both, {"sft-1"}, lambda *key: key == ("sft-1", "w")) == ("seed 1: a, c, sft | b",)
    assert len(mixed(both, {"sft-1"}, never)) == 1  # other weights are another copy


def test_many_names_are_counted() -> None:
    many = [arm(f"a{n}", began="w") for n in range(7)]
    assert mixed(arms(*many, arm("b", began="x")), {"sft-1"}, never) == (
        "seed 1: a0, a1, a2, a3 and 3 more | b",
    )


def test_an_arm_is_compared_with_the_copy_that_it_began_from() -> None:
    first, again = arm("sft", start=None, weights="w"), arm("sft", start=None, weights="x")
    kept = {("sft-1", "w"): first, ("sft-1", "x"): again}

    def taken(*children: Record) -> Record:
        return matched(arms(first, *children), lambda *key: kept.get(key))["sft", 1]

    assert taken() is first and taken(arm("a", began="w")) is first
    assert taken(arm("a", began="x"), arm("b", began="x")) is again
    assert taken(arm("a", began="w"), arm("b", began="x")) is first  # there is no one copy
    assert taken(arm("a", began="y")) is first  # nothing is kept of it
    assert taken(arm("a", began="")) is first  # from before it was kept
    children = [arm("a", began="x"), arm("b", began="x")]
    assert mixed(matched(arms(first, *children), lambda *key: kept.get(key)), {"sft-1"}, never) == ()


def test_what_is_run_again_is_kept_beside_the_first(tmp_path: Path) -> None:
    first, again = arm("sft", start=None, weights="w"), arm("sft", start=None, weights="x")
    Results(tmp_path).put(first)
    before = (tmp_path / "sft-1.json").read_bytes()
    results = Results(tmp_path)
    for put, files in ((first, 1), (again, 2), (first, 2)):
        results.put(put)
        assert len(list(tmp_path.iterdir())) == files and results.last("sft-1") == put
    assert results.get("sft-1") == first and (tmp_path / "sft-1.json").read_bytes() == before
    assert results.copy("sft-1", "x") == again and results.copy("sft-1", "w") == first
    assert results.again("sft-1", "x") and not results.again("sft-1", "w")
    assert results.copy("sft-1", "y") is None and results.last("other") is None
