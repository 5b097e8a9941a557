"""A benchmark's score with its errors, as data and as tables; and the paired comparison of two.

Numbers are shares in [0, 1] here and per cent in tables. `se` is the question-level standard error (over
contests where questions share them), `generation noise` what re-sampling the same questions would show.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from acereason.errors import DataError, RunError
from acereason.evaluate import estimates
from acereason.evaluate.benchmarks.catalogue import Loaded
from acereason.evaluate.benchmarks.collect import Facts, table
from acereason.files import write_atomic

Verdicts = list[bool | None]
Rows = list[Verdicts]


class PassAtK(msgspec.Struct, frozen=True):
    """pass@k with its 95 % bootstrap band."""

    k: int
    mean: float
    low: float
    high: float


class Part(msgspec.Struct, frozen=True):
    """avg@k over some of the questions."""

    mean: float
    se: float
    n: int


class Score(msgspec.Struct, frozen=True):
    """Everything that is said of one benchmark. `right`: samples right, one string of 0 and 1 a question."""

    name: str
    title: str
    about: str
    n: int
    k: int
    mean: float
    se: float
    low: float
    high: float
    clustered_se: float | None
    generation_noise: float | None
    pass_at_k: list[PassAtK]
    majority: float | None
    truncated: float
    no_answer: float
    tokens_mean: float
    tokens_p95: float
    ids: list[str]
    right: list[str]
    without_unsound: Part | None = None


def score(loaded: Loaded, facts: Facts, k: int) -> Score:
    """The score of complete facts; DataError when a sample is missing."""
    rows = table(facts)
    average = estimates.average(rows, clusters=loaded.clusters, questions=len(loaded.problems), samples=k)
    flat = [fact for row in facts for fact in row if fact is not None]
    tokens = np.array([fact.tokens for fact in flat])
    return Score(
        loaded.name, loaded.title, loaded.about, average.n, average.k, average.mean, average.se, average.low,
        average.high, average.clustered_se, average.generation_noise, curve(rows, average.k),
        _majority(loaded, facts, rows),
        truncated=sum(fact.truncated for fact in flat) / len(flat),
        no_answer=sum(fact.outcome == "no_answer" for fact in flat) / len(flat),
        tokens_mean=float(tokens.mean()), tokens_p95=float(np.percentile(tokens, 95)),
        ids=[p.id for p in loaded.problems],
        right=["".join("1" if right else "0" for right in row) for row in rows],
        without_unsound=_sound(loaded, rows),
    )  # fmt: skip


def curve(rows: Rows, k: int) -> list[PassAtK]:
    """pass@k at the powers of two up to k, and at k."""
    points = (estimates.pass_at_k(rows, n) for n in sorted({*(1 << i for i in range(k.bit_length())), k}))
    return [PassAtK(e.k, e.mean, e.low, e.high) for e in points]


def _majority(loaded: Loaded, facts: Facts, rows: Rows) -> float | None:
    """majority@k of math questions; programs have no answer to vote on."""
    if any(problem.domain != "math" for problem in loaded.problems):
        return None
    votes = [[None if f is None else f.answer for f in row] for row in facts]
    return estimates.majority(rows, votes).mean


def _sound(loaded: Loaded, rows: Rows) -> Part | None:
    if not loaded.unsound:
        return None
    kept = [row for row, p in zip(rows, loaded.problems, strict=True) if p.id not in loaded.unsound]
    average = estimates.average(kept)
    return Part(average.mean, average.se, average.n)


def write(folder: Path, scores: Sequence[Score], model: str) -> None:
    """results.json and results.md, whole or not at all; scores of other benchmarks in there are kept."""
    kept = {s.name: s for s in read(folder)} if (folder / "results.json").exists() else {}
    kept |= {s.name: s for s in scores}
    write_atomic(folder / "results.json", _json({"model": model, "scores": list(kept.values())}))
    write_atomic(folder / "results.md", markdown(list(kept.values()), model).encode())


def _json(value: Any) -> bytes:
    return msgspec.json.format(msgspec.json.encode(value), indent=1) + b"\n"


def read(folder: Path) -> list[Score]:
    """The scores in a folder; RunError when there are none."""
    try:
        data = json.loads((folder / "results.json").read_text())
        return msgspec.convert([_finite(s) for s in data["scores"]], list[Score])
    except (OSError, ValueError, KeyError, msgspec.ValidationError) as error:
        raise RunError(f"{folder} holds no finished evaluation: {error}") from error


def _finite(data: dict[str, Any]) -> dict[str, Any]:
    """JSON has no NaN: null stands for an error that one question cannot have."""
    return {k: math.nan if v is None and k in ("se", "low", "high") else v for k, v in data.items()}


def per_cent(mean: float, se: float | None = None, digits: int = 1) -> str:
    """43.8 or 43.8 ± 3.2, in per cent."""
    shown = f"{100 * mean:.{digits}f}"
    return shown if se is None or math.isnan(se) else f"{shown} ± {100 * se:.{digits}f}"


COLUMNS = (
    "benchmark", "n", "k", "avg@k, %", "noise", "pass@k", "maj@k", "cut", "none", "tokens",
)  # fmt: skip
LEGEND = (
    "All but n, k and tokens in per cent. avg@k ± question-level standard error; noise: what re-sampling the "
    "same questions would show, a part of it; maj@k: majority of k answers; cut: at the budget; none: no "
    "answer, cut ones included; tokens: mean / 95th percentile."
)


def cells(s: Score) -> list[str]:
    """One row of the table."""
    se = s.se if s.clustered_se is None else s.clustered_se
    return [
        s.title, str(s.n), str(s.k), per_cent(s.mean, se),
        "–" if s.generation_noise is None else per_cent(s.generation_noise),
        per_cent(s.pass_at_k[-1].mean), "–" if s.majority is None else per_cent(s.majority),
        per_cent(s.truncated), per_cent(s.no_answer), f"{s.tokens_mean:.0f} / {s.tokens_p95:.0f}",
    ]  # fmt: skip


def notes(scores: Sequence[Score]) -> list[str]:
    """What a table needs said under it."""
    lines = [f"{s.title}: {s.about}." for s in scores]
    for s in scores:
        if s.clustered_se is not None:
            lines.append(f"{s.title}: standard error over contests; over questions {per_cent(s.se)}.")
        if (part := s.without_unsound) is not None:
            lines.append(
                f"{s.title} without its {s.n - part.n} unsound questions: {per_cent(part.mean, part.se)}."
            )
    return lines


def markdown(scores: Sequence[Score], model: str) -> str:
    """A table for a model card."""
    rows = [COLUMNS, ["---"] * len(COLUMNS), *map(cells, scores)]
    lines = [f"## Evaluation of {model}", "", *("| " + " | ".join(row) + " |" for row in rows), ""]
    lines += [LEGEND, ""]
    return "\n".join([*lines, *(f"- {note}" for note in notes(scores)), ""])


class Table(msgspec.Struct, frozen=True):
    """One benchmark's verdicts by question. `name` is what two evaluations share it under."""

    name: str
    title: str
    rows: dict[str, Verdicts]


def of_score(score: Score) -> Table:
    """The verdicts behind a score."""
    rows: dict[str, Verdicts] = {
        name: [c == "1" for c in row] for name, row in zip(score.ids, score.right, strict=True)
    }
    return Table(score.name, score.title, rows)


class Compared(msgspec.Struct, frozen=True):
    """after − before on the `n` questions in common: mean, standard error and 95 % bootstrap interval, as
    shares. `left_out` questions were asked in one of the two only."""

    title: str
    n: int
    before: float
    after: float
    mean: float
    se: float
    low: float
    high: float
    left_out: int = 0


def compare(before: Sequence[Score | Table], after: Sequence[Score | Table]) -> list[Compared]:
    """The paired comparison of each benchmark that both have; DataError when there is none, or when no
    question is common."""
    first, second = ([t if isinstance(t, Table) else of_score(t) for t in of] for of in (before, after))
    named = {table.name: table for table in second}
    both = [(table, named[table.name]) for table in first if table.name in named]
    if not both:
        raise DataError(f"expected a benchmark in both, found {[t.name for t in first]} and {list(named)}")
    return [_compared(*pair) for pair in both]


def _compared(a: Table, b: Table) -> Compared:
    common = [name for name in a.rows if name in b.rows]
    if not common:
        raise DataError(
            f"{a.title}: expected questions in common, found none among {len(a.rows)} and {len(b.rows)}"
        )
    first, second = ([table.rows[name] for name in common] for table in (a, b))
    difference = estimates.paired_difference(first, second, allow_ragged=True)
    shares = [estimates.average(rows, allow_ragged=True).mean for rows in (first, second)]
    return Compared(
        a.title, difference.n, shares[0], shares[1], difference.mean, difference.se, difference.boot_low,
        difference.boot_high,
        left_out=len(a.rows.keys() ^ b.rows.keys()),
    )  # fmt: skip
