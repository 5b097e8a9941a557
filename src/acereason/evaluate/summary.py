"""What a run comes to: accuracy per stage, and the gain over the SFT model with paired intervals.

Every stage's evaluation is kept per question, so that two stages are compared on the same questions with the
same draws. `summary.json` holds the table; the gain of a domain is its last stage minus the SFT model.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from itertools import pairwise
from typing import Any

import msgspec
import numpy as np

from acereason.config import Recipe
from acereason.errors import RunError
from acereason.evaluate import estimates
from acereason.evaluate.decompose import decompose
from acereason.evaluate.held_out import correctness, finite, mode
from acereason.files import write_atomic
from acereason.problems import Problem
from acereason.runs import Run, read_metrics
from acereason.sample.ask import Groups

log = logging.getLogger(__name__)
SFT = "sft"
KEPT = ("accuracy", "se", "n", "k", "pass_at_k", "pass_at_k_se", "unjudged")  # of an evaluation's row


class Result(msgspec.Struct, frozen=True):
    """One benchmark's outcome per question: ids, samples right or wrong, and the response modes."""

    ids: list[str]
    right: list[list[bool | None]]
    families: list[str]
    modes: list[list[str]]

    @classmethod
    def of(cls, groups: Groups) -> Result:
        """From judged answers."""
        return cls(
            [g[0].problem.id for g in groups],
            correctness(groups),
            [str(g[0].problem.meta.get("family", "")) for g in groups],
            [[mode(a) for a in g] for g in groups],
        )


def by_domain(problems: Sequence[Problem]) -> dict[str, list[Problem]]:
    """Problems by domain, math first."""
    parts: dict[str, list[Problem]] = defaultdict(list)
    for problem in problems:
        parts[problem.domain].append(problem)
    return dict(sorted(parts.items(), reverse=True))


def keep(run: Run, stage: str, results: Mapping[str, Result]) -> None:
    """Write a stage's evaluation per question."""
    write_atomic(run.path / "evaluations" / f"{stage}.json", msgspec.json.encode(results))


def load(run: Run, stage: str) -> dict[str, Result]:
    """Read a stage's evaluation back; empty, and said, where it was deleted meanwhile."""
    path = run.path / "evaluations" / f"{stage}.json"
    try:
        return msgspec.json.decode(path.read_bytes(), type=dict[str, Result])
    except FileNotFoundError:
        log.warning("%s was deleted; the summary has no gain from or to this stage", path)
        return {}
    except (OSError, msgspec.DecodeError) as error:
        raise RunError(f"the evaluation {path} cannot be read: {error}") from error


def gain(before: Result, after: Result) -> dict[str, float | None]:
    """The paired difference of avg@k on the same questions, with its 95 % interval (fractions). Questions
    that could not be judged in both are left out; what has no value is None."""
    if before.ids != after.ids:
        raise RunError("the two evaluations asked different questions and cannot be paired")
    if not any(judged(a) and judged(b) for a, b in zip(before.right, after.right, strict=True)):
        return dict.fromkeys(("mean", "se", "low", "high"))
    difference = estimates.paired_difference(before.right, after.right, allow_ragged=True)
    return {name: finite(getattr(difference, name)) for name in ("mean", "se", "low", "high")}


def gain_pass_at_k(before: Result, after: Result) -> dict[str, dict[str, float | None]]:
    """By k = 2, 4, … up to the fewest samples of a question: the paired difference of pass@k over the
    questions that were judged in both, with its 95 % interval (fractions)."""
    sides = [dict(zip(one.ids, one.right, strict=True)) for one in (before, after)]
    tables = [{i: [r for r in row if r is not None] for i, row in side.items()} for side in sides]
    common = [i for i in tables[0] if tables[0][i] and tables[1].get(i)]
    fewest = min((len(table[i]) for table in tables for i in common), default=0)
    return {
        str(k): _interval([estimates.pass_rates(*_counts(t, common), k) for t in tables])
        for k in (2**e for e in range(1, fewest.bit_length()))
        if k <= fewest
    }


def _counts(table: Mapping[str, list[bool]], ids: Sequence[str]) -> tuple[Any, Any]:
    right = [float(sum(table[i])) for i in ids]
    return np.array(right), np.array([float(len(table[i])) for i in ids])


def _interval(sides: Sequence[Any]) -> dict[str, float | None]:
    difference = sides[1] - sides[0]
    mean = float(difference.mean())
    se = float(difference.std(ddof=1) / np.sqrt(len(difference))) if len(difference) > 1 else None
    reach = None if se is None else estimates.Z95 * se
    low, high = (None, None) if reach is None else (mean - reach, mean + reach)
    return {"mean": mean, "se": se, "low": low, "high": high}


def judged(row: Sequence[bool | None]) -> bool:
    """Whether a sample of the question could be judged."""
    return any(right is not None for right in row)


def _mode_rows(result: Result) -> list[tuple[str, str, bool]]:
    return [
        (family, name, right)
        for family, names, row in zip(result.families, result.modes, result.right, strict=True)
        for name, right in zip(names, row, strict=True)
        if right is not None
    ]


def _decomposition(before: Result, after: Result) -> dict[str, Any] | None:
    """What moved, over the families that were judged on both sides; None when there is none."""
    rows = [_mode_rows(before), _mode_rows(after)]
    common = set.intersection(*({family for family, _, _ in side} for side in rows))
    kept = [[row for row in side if row[0] in common] for side in rows]
    return asdict(decompose(*kept)) if common else None


def summarise(run: Run) -> dict[str, Any]:
    """The summary of a finished run from its folder alone."""
    rows = list(read_metrics(run.path))
    names = evaluated(run.recipe)
    results = {name: load(run, name) for name in names}
    stages = [stage_row(rows, name) for name in names]
    first, last = results[names[0]], results[names[-1]]
    domains = _both(first, last)
    return {
        "recipe": run.recipe.name,
        "seed": run.recipe.seed,
        "split": run.recipe.curate.split,
        "stages": stages,
        "gain": {d: gain(first[d], last[d]) for d in domains} if names[0] == SFT else {},
        "gain_pass_at_k": {d: gain_pass_at_k(first[d], last[d]) for d in domains} if names[0] == SFT else {},
        "gain_per_stage": _per_stage(names, results, gain),
        "gain_pass_at_k_per_stage": _per_stage(names, results, gain_pass_at_k),
        "decomposition": {d: parts for d in domains if (parts := _decomposition(first[d], last[d]))},
        "seconds": sum(r["seconds"]["total"] for r in rows if r["kind"] == "end"),
    }


def _per_stage(
    names: Sequence[str], results: Mapping[str, Mapping[str, Result]], gained: Callable[[Result, Result], Any]
) -> dict[str, dict[str, Any]]:
    """What each stage gained over the one before it, by domain."""
    return {
        after: {
            d: gained(results[before][d], results[after][d]) for d in _both(results[before], results[after])
        }
        for before, after in pairwise(names)
    }


def evaluated(recipe: Recipe) -> list[str]:
    """The stages of a run that are evaluated, in order: all, or all but the start."""
    stages = [s.name for s in recipe.stage]
    return [SFT, *stages] if recipe.sft or recipe.evaluation.start or not stages else stages


def _both(before: Mapping[str, Result], after: Mapping[str, Result]) -> list[str]:
    """The domains that both stages were evaluated on, math first."""
    return sorted(before.keys() & after.keys(), reverse=True)


def stage_row(rows: Sequence[Mapping[str, Any]], name: str) -> dict[str, Any]:
    """One stage's line of the summary from a run's metrics rows."""
    steps = [r for r in rows if r.get("stage") == name and r["kind"] in ("sft", "rl")]
    tokens = sum(r["tokens"] for r in steps)
    tempered = [r for r in steps if r["kind"] == "rl"]
    return {
        "name": name,
        "domain": tempered[-1]["domain"] if tempered else "all",
        "steps": len(steps),
        "T": tempered[-1]["T"] if tempered else None,
        "H_T": sum(r["H_T"] * r["tokens"] for r in tempered) / tokens if tempered else None,
        "evaluation": {
            r["benchmark"]: {k: r.get(k) for k in KEPT}
            for r in rows
            if r["kind"] == "evaluation" and r["stage"] == name and "epoch" not in r
        },
    }


def write(run: Run) -> dict[str, Any]:
    """Write summary.json and return it."""
    result = summarise(run)
    run.write_json("summary.json", result)
    return result
