"""The comparison lab as the page asks for it: `view.lab`'s table with the curves of every run.

What is said of the runs is worked out again only when an evaluation or a recipe changed.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from acereason.view import lab
from acereason.view.runs_folder import Followed
from acereason.view.tail import Row

POINTS = 300  # of a run's curves
PATIENCE = 0.3  # seconds of reading each run on
CURVES = ("step", "reward", "H_T", "T", "length.mean", "truncated", "all_wrong", "gradient_norm")


class Lab:
    """Compares runs, and remembers the last comparison."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._stamp: Any = None
        self._table: Row = {}

    def of(self, runs: Sequence[Followed]) -> Row:
        """The runs as groups with their differences, comparisons and curves."""
        pages = [_page(run) for run in runs]
        members = [
            lab.member(run.name, run.folder, _scores(page)) for run, page in zip(runs, pages, strict=True)
        ]
        stamp = [(m.name, _stamps(m.folder), m.scores) for m in members]
        with self._lock:
            if stamp != self._stamp:
                self._stamp, self._table = stamp, lab.table(members)
            table = self._table
        group = {run["name"]: one["label"] for one in table["groups"] for run in one["runs"]}
        curves = [
            {"name": m.name, "seed": m.seed, "group": group[m.name], **_curves(page)}
            for m, page in zip(members, pages, strict=True)
            if m.name in group
        ]
        return {**table, "curves": curves}


def _page(run: Followed) -> Row:
    with run.lock:
        run.reader.advance(PATIENCE)
        return run.reader.page(POINTS)


def _curves(page: Row) -> Row:
    rl, sft = page["rl"], page["sft"]
    return {
        "rl": {name: rl[name] for name in (*CURVES, "seconds.total") if name in rl},
        "sft": {name: sft[name] for name in ("step", "loss") if name in sft},
    }


def _scores(page: Row) -> dict[str, dict[str, tuple[float, float]]]:
    """(mean, se) by stage and benchmark, as the metrics tell them."""
    scores: dict[str, dict[str, tuple[float, float]]] = {}
    for stage in page["results"]:
        for benchmark, row in (stage.get("evaluation") or {}).items():
            mean, se = (row.get(key) if isinstance(row, dict) else None for key in ("accuracy", "se"))
            if isinstance(mean, float | int) and isinstance(se, float | int):
                scores.setdefault(str(stage.get("name")), {})[str(benchmark)] = (mean, se)
    return scores


def _stamps(folder: Path) -> list[tuple[str, int, int]]:
    """What changes when an evaluation or the recipe does."""
    files = [folder / "recipe.json", *sorted((folder / "evaluations").glob("*.json"))]
    return [(p.name, s.st_mtime_ns, s.st_size) for p in files if p.exists() and (s := p.stat())]
