"""Which prompts are worth training on: by teacher length, by difficulty, by agreement.

    length_balance   a random share of each band of teacher lengths (paper: prompts of under 2,000
                     tokens dropped or thinned, 2,000-4,000 thinned; the shares are unpublished)
    difficulty       failures of n attempts, as a share: 0 every attempt right … 1 none
    by_difficulty    keep a range of it (paper, code: 8 attempts, 8 failures dropped)
    majority         keep a problem when its attempts' most frequent answer is judged correct
                     (paper, math)
    stage_set        the prompts of one RL stage

Attempts are responses with verdicts; an attempt that could not be judged is no attempt at all.
Every share that the paper does not print is an argument without which nothing is thinned.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence

import msgspec

from acereason.curate.funnel import NOTE, Funnel
from acereason.draws import chance
from acereason.errors import ConfigError
from acereason.problems import Problem, Verdict
from acereason.verify.answers.votes import alike


class Band(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Teacher lengths of `low` <= tokens < `high` (None: no bound): keep this share of the
    prompts."""

    low: int
    high: int | None
    keep: float


class StageSelection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What one RL stage trains on. Ranges are inclusive; None: no bound.

    difficulty: share of failed attempts. tokens: the teacher's mean length. unknown: what happens
    to a prompt without difficulty or length where a bound asks for one. limit: at most so many
    prompts, drawn by chance."""

    name: str
    domain: str | None = None
    difficulty: tuple[float | None, float | None] = (None, None)
    tokens: tuple[float | None, float | None] = (None, None)
    unknown: bool = False
    limit: int | None = None


def _filter(
    problems: Iterable[Problem], name: str, why: Callable[[Problem], str | None]
) -> tuple[list[Problem], Funnel]:
    kept, reasons, before = [], Counter[str](), 0
    for problem in problems:
        before += 1
        reason = why(problem)
        if reason is None or reason.startswith(NOTE):
            kept.append(problem)
        if reason:
            reasons[reason] += 1
    return kept, Funnel(name, before, len(kept), dict(reasons))


def length_balance(
    problems: Iterable[Problem], tokens: Mapping[str, float], bands: Sequence[Band], seed: int
) -> tuple[list[Problem], Funnel]:
    """Keep a share of each band of teacher lengths. tokens: the teacher's mean length by problem
    id."""
    for first, second in itertools.pairwise(bands):
        if first.high is None or second.low < first.high:
            raise ConfigError(f"length bands must rise without overlap: {first} stands before {second}")

    def why(problem: Problem) -> str | None:
        length = tokens.get(problem.id)
        if length is None:
            return NOTE + "no teacher length"
        for band in bands:
            inside = band.low <= length and (band.high is None or length < band.high)
            if inside and chance(seed, "length", problem.id) >= band.keep:
                return f"teacher length {band.low:,}-{band.high or 'more'}: thinned to {band.keep:.0%}"
        return None

    return _filter(problems, "length balance", why)


def difficulty(problems: Iterable[Problem], verdicts: Mapping[str, Sequence[Verdict]]) -> list[Problem]:
    """The problems with `difficulty` set from judged attempts (failures / attempts) and the counts
    in `meta`; a problem without judged attempts stays as it is."""
    out = []
    for problem in problems:
        rewards = [v.reward for v in verdicts.get(problem.id, ()) if v.reward is not None]
        if rewards:
            failures = len(rewards) - sum(rewards)
            meta = {**problem.meta, "attempts": len(rewards), "failures": failures}
            problem = msgspec.structs.replace(problem, difficulty=failures / len(rewards), meta=meta)
        out.append(problem)
    return out


def _within(value: float, bounds: tuple[float | None, float | None]) -> bool:
    low, high = bounds
    return (low is None or value >= low) and (high is None or value <= high)


def by_difficulty(
    problems: Iterable[Problem], low: float = 0.0, high: float = 1.0, unknown: bool = False
) -> tuple[list[Problem], Funnel]:
    """Keep low <= difficulty <= high; prompts without a difficulty are kept only if `unknown`."""

    def why(problem: Problem) -> str | None:
        if problem.difficulty is None:
            return NOTE + "difficulty unknown" if unknown else "difficulty unknown"
        if problem.difficulty < low:
            return "too easy"
        return "too hard" if problem.difficulty > high else None

    return _filter(problems, "difficulty", why)


def majority(
    problems: Iterable[Problem],
    answers: Mapping[str, Sequence[tuple[str | None, Verdict]]],
    at_least: float = 0.0,
) -> tuple[list[Problem], Funnel]:
    """Keep where the most frequent answer is judged correct, and mark those answers as checked.

    answers: (extracted answer, verdict) of each attempt. Answers of one value are one answer, however
    written, right or wrong. A tie with a wrong answer does not count. at_least: least share of the
    attempts that agree."""

    def why(problem: Problem) -> str | None:
        attempts = answers.get(problem.id, ())
        if not attempts:
            return "no attempts"
        numbers = alike([answer for answer, verdict in attempts if verdict.outcome == "wrong"])
        wrong = max(Counter(n for n in numbers if n is not None).values(), default=0)
        right = sum(verdict.outcome == "correct" for _, verdict in attempts)
        if right <= wrong:
            return "majority answer differs from the reference"
        return "too little agreement" if right < at_least * len(attempts) else None

    kept, funnel = _filter(problems, "majority answer", why)
    return [_checked(problem) for problem in kept], funnel


def _checked(problem: Problem) -> Problem:
    return msgspec.structs.replace(problem, meta={**problem.meta, "answer_checked": True})


def stage_set(
    problems: Iterable[Problem], stage: StageSelection, tokens: Mapping[str, float], seed: int
) -> tuple[list[Problem], Funnel]:
    """The prompts of one RL stage, in the order of the input. tokens: teacher's mean length by
    id."""

    def bound(value: float | None, bounds: tuple[float | None, float | None], what: str) -> str | None:
        if bounds == (None, None) or (value is None and stage.unknown):
            return None
        if value is None:
            return f"{what} unknown"
        return None if _within(value, bounds) else f"{what} outside the stage's range"

    def why(problem: Problem) -> str | None:
        if stage.domain and problem.domain != stage.domain:
            return "other domain"
        reason = bound(problem.difficulty, stage.difficulty, "difficulty")
        return reason or bound(tokens.get(problem.id), stage.tokens, "teacher length")

    kept, funnel = _filter(problems, f"stage {stage.name}", why)
    if stage.limit is None or len(kept) <= stage.limit:
        return kept, funnel
    order = sorted(kept, key=lambda p: (chance(seed, "stage", stage.name, p.id), p.id))
    chosen = {problem.id for problem in order[: stage.limit]}
    limited = [problem for problem in kept if problem.id in chosen]
    reasons = {**funnel.reasons, "over the stage's limit": len(kept) - len(limited)}
    return limited, Funnel(funnel.name, funnel.before, len(limited), reasons)


def unsolved(
    problems: Iterable[Problem], passes: Mapping[str, Sequence[bool]]
) -> tuple[list[Problem], Funnel]:
    """Drop what every rollout of the last epoch solved (paper: code, from the second epoch on)."""
    return _filter(
        problems,
        "not solved by every rollout",
        lambda p: "solved by every rollout" if passes.get(p.id) and all(passes[p.id]) else None,
    )
