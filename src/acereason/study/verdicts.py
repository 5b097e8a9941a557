"""What a study comes to: its effects, the verdict that follows from its own rule, and what is missing.

supported      every deciding interval lies above its δ
contradicted   one lies below its δ
undecided      else, with about how many seeds it would take
not run yet    an arm is missing; failed arms are named with their reasons
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Literal

import msgspec

from acereason.errors import DataError
from acereason.study import spec
from acereason.study.copies import matched, mixed
from acereason.study.effects import Estimate, estimate
from acereason.study.plan import Ground, Plan, seeds
from acereason.study.records import Record, Results
from acereason.study.spec import Study

Word = Literal["supported", "contradicted", "undecided", "not run yet"]
MOST = 100  # seeds; more are said as "more than"


class Told(msgspec.Struct, frozen=True):
    """One effect with its δ and unit."""

    name: str
    value: float
    low: float
    high: float
    se: float
    p: float
    by_seed: tuple[float, ...]
    delta: float
    decides: bool
    unit: str


class Verdict(msgspec.Struct, frozen=True):
    """A study's result, as JSON and on the page. `stated` is the hash of the study's file; `holm` says
    whether the verdict stands when all claims of the report are taken together (Holm, 5 %); `mixed`, which
    arms of a seed began from different copies of their start (`study.copies`)."""

    study: str
    title: str
    claim: str
    paper: str
    verdict: Word
    effects: list[Told]
    seeds: tuple[int, ...]
    size: str
    split: str
    stated: str
    arms: int
    done: int
    seconds: float
    failed: dict[str, str]
    seeds_needed: int | None = None
    holm: bool | None = None
    why: str = ""
    note: str = ""
    needs: str = ""
    mixed: tuple[str, ...] = ()


def arms_of(study: str, plan: Plan, results: Results) -> dict[tuple[str, int], Record]:
    """The records of a study's arms that there are."""
    records = {key: results.get(address) for key, address in plan.arms[study].items()}
    there = {key: record for key, record in records.items() if record is not None}
    return matched(there, results.copy)


def verdict(study: Study, plan: Plan, ground: Ground, results: Results) -> Verdict:
    """Decide a study from the records that there are."""
    arms, wanted, taken = arms_of(study.name, plan, results), plan.arms[study.name], seeds(study, ground)
    effects, why = _effects(study, arms, taken)
    word: Word = _word(effects, taken) if not why else "not run yet"
    return Verdict(
        study=study.name,
        title=study.title,
        claim=study.claim,
        paper=study.paper,
        verdict=word,
        effects=effects,
        seeds=taken,
        size=ground.size,
        split=ground.split,
        stated=spec.digest(study),
        arms=len(wanted),
        done=len(arms),
        seconds=sum(record.seconds for record in arms.values()),
        failed=failures(wanted, plan, results),
        seeds_needed=_needed(effects, len(taken)) if word == "undecided" else None,
        why=why,
        note=study.note,
        needs=study.needs,
        mixed=mixed(arms, plan.jobs, results.again),
    )


def _effects(
    study: Study, arms: Mapping[tuple[str, int], Record], taken: Sequence[int]
) -> tuple[list[Told], str]:
    """The effects, or why there are none."""
    try:
        return [_told(e, estimate(e, arms, taken)) for e in study.effect], ""
    except DataError as error:
        return [], str(error)


def _told(effect: spec.Effect, of: Estimate) -> Told:
    parts = (of.value, of.low, of.high, of.se, of.p, of.by_seed)
    return Told(effect.name, *parts, effect.delta, effect.decides, effect.unit)


def _word(effects: Sequence[Told], taken: Sequence[int]) -> Word:
    deciding = [e for e in effects if e.decides]
    if len(taken) < 2 or not deciding:
        return "undecided"
    if any(e.high < e.delta for e in deciding):
        return "contradicted"
    return "supported" if all(e.low > e.delta for e in deciding) else "undecided"


def _needed(effects: Sequence[Told], seeds: int) -> int:
    """Seeds for which the widest open question would be decided, if the estimates stay where they are."""
    needed = seeds + 1
    for e in effects:
        distance = abs(e.value - e.delta)
        if e.decides and e.low <= e.delta <= e.high:
            ratio = (e.high - e.low) / 2 / distance if distance else math.inf
            needed = max(needed, MOST if ratio > math.sqrt(MOST) else math.ceil(seeds * ratio**2))
    return min(needed, MOST)


def failures(wanted: Mapping[tuple[str, int], str], plan: Plan, results: Results) -> dict[str, str]:
    """Why arms of these (arm, seed) → address failed, their starts' failures included."""
    reasons = {}
    for (name, seed), address in wanted.items():
        start = plan.jobs[address].start
        for at in (address, start or address):
            why = results.failure(at)
            if why is not None and results.get(address) is None:
                reasons[f"{name}, seed {seed}"] = why
    return reasons


def with_holm(verdicts: Sequence[Verdict]) -> list[Verdict]:
    """Every verdict with whether it stands among all of them. A claim of several effects stands with its
    weakest, a contradicted one with the strongest that lies below its δ."""
    decided = sorted((_p(v), v.study) for v in verdicts if v.verdict in ("supported", "contradicted"))
    family = sum(v.verdict != "not run yet" for v in verdicts)
    stands: set[str] = set()
    for rank, (p, name) in enumerate(decided):
        if p > 0.05 / (family - rank):
            break
        stands.add(name)
    told = ("supported", "contradicted")
    return [
        msgspec.structs.replace(v, holm=v.study in stands if v.verdict in told else None) for v in verdicts
    ]


def _p(verdict: Verdict) -> float:
    deciding = [e for e in verdict.effects if e.decides]
    if verdict.verdict == "supported":
        return max(e.p for e in deciding)
    return min(e.p for e in deciding if e.high < e.delta)
