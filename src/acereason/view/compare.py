"""Two runs side by side: their curves, and the paired differences of their evaluations.

    difference = mean over questions of p_q(second) - p_q(first), on the questions that both were asked

Two evaluations pair by question id; then the interval is the paired one of `evaluate.estimates`, which is
narrower than two error bars suggest. Questions that only one run was asked are left out and counted. Where
fewer than half of the questions are common, or no verdicts were kept, the difference of the two means is
given, its error the root of the two variances' sum; where none is common, two benchmarks share only a name,
and no difference is given. Differences are fractions, second minus first; intervals cover 95 %.
"""

from __future__ import annotations

import contextlib
import math
from pathlib import Path
from typing import Any

import msgspec

from acereason.errors import DataError
from acereason.evaluate.estimates import Z95, paired_difference
from acereason.files import read_file
from acereason.view.tail import Row

ENOUGH = 0.5  # of the questions that must be common for a paired difference


class Kept(msgspec.Struct):
    """One benchmark of `evaluations/<stage>.json`: verdicts per question."""

    ids: list[str]
    right: list[list[bool | None]]


def compare(first: Path, second: Path, pages: tuple[Row, Row]) -> Row:
    """Both runs' pages, and a row for every stage and benchmark that both were evaluated on; last, how their
    final stages differ."""
    stages = [[str(result.get("name")) for result in page["results"]] for page in pages]
    pairs = [(name, name) for name in stages[0] if name in stages[1]]
    if stages[0] and stages[1] and (ends := (stages[0][-1], stages[1][-1])) not in pairs:
        pairs.append(ends)
    rows = [row for pair in pairs for row in _benchmarks(first, second, pages, pair)]
    return {"runs": list(pages), "differences": rows}


def _benchmarks(first: Path, second: Path, pages: tuple[Row, Row], pair: tuple[str, str]) -> list[Row]:
    results = [_result(page, name) for page, name in zip(pages, pair, strict=True)]
    kept = [_kept(folder, name) for folder, name in zip((first, second), pair, strict=True)]
    rows = []
    for benchmark in results[0]:
        if benchmark in results[1]:
            both = [result[benchmark] for result in results]
            difference = _difference(kept[0].get(benchmark), kept[1].get(benchmark), both)
            scores = [{name: one.get(name) for name in ("accuracy", "se", "n", "k")} for one in both]
            rows.append({"stages": pair, "benchmark": benchmark, "scores": scores, "difference": difference})
    return rows


def _result(page: Row, stage: str) -> dict[str, Row]:
    for result in page["results"]:
        if str(result.get("name")) == stage and isinstance(result.get("evaluation"), dict):
            found = result["evaluation"]
            return {name: row for name, row in found.items() if isinstance(row, dict)}
    return {}


def _kept(folder: Path, stage: str) -> dict[str, Kept]:
    """The stage's verdicts; empty when they were not kept or are damaged. A stage's name is no path."""
    if Path(stage).name != stage:
        return {}
    try:
        data = read_file(folder / "evaluations" / f"{stage}.json")
        return msgspec.json.decode(data, type=dict[str, Kept])
    except (OSError, ValueError):
        return {}


def _difference(first: Kept | None, second: Kept | None, scores: list[Row]) -> Row | None:
    """Paired where enough questions are common, else of the two means; None where a mean is not known."""
    tables = [dict(zip(one.ids, one.right, strict=False)) if one else {} for one in (first, second)]
    common = [name for name in tables[0] if name in tables[1]]
    about = {"questions": len(common), "left_out": len(tables[0].keys() ^ tables[1].keys())}
    if all(tables) and not common:
        return {"paired": False, "refused": True, **dict.fromkeys(("mean", "low", "high")), **about}
    if common and len(common) >= ENOUGH * max(map(len, tables)):
        verdicts = [[table[name] for name in common] for table in tables]
        with contextlib.suppress(DataError):
            found = paired_difference(verdicts[0], verdicts[1], allow_ragged=True)
            return {"paired": True, **_interval(found.mean, found.low, found.high), **about}
    unpaired = _unpaired(scores)
    return unpaired and {"paired": False, **unpaired, **about}


def _unpaired(scores: list[Row]) -> Row | None:
    numbers: list[Any] = [one.get(name) for name in ("accuracy", "se") for one in scores]
    if any(not isinstance(number, float | int) for number in numbers[:2]):
        return None
    mean = numbers[1] - numbers[0]
    known = all(isinstance(number, float | int) for number in numbers[2:])
    reach = Z95 * math.hypot(numbers[2], numbers[3]) if known else math.nan
    return _interval(mean, mean - reach, mean + reach)


def _interval(mean: float, low: float, high: float) -> Row:
    """NaN, the error of a single question, is no number in JSON."""
    known = math.isfinite(low) and math.isfinite(high)
    return {"mean": mean, "low": low if known else None, "high": high if known else None}
