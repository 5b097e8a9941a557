"""Metrics that runs of this program recorded, cut to five digits, and the same with one thing doctored.

demo-3, demo-4  `acereason demo` with the seeds 3 and 4      dead  a tiny run in which nothing was ever right
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

Row = dict[str, Any]
Change = Callable[[float, Row], Row]  # from the share of the stage that is done, and its row
FOLDER = Path(__file__).parent / "recorded"


@cache
def recorded(name: str) -> list[Row]:
    """The rows of a run in their order; not to be changed."""
    return [
        json.loads(line) for line in gzip.decompress((FOLDER / f"{name}.jsonl.gz").read_bytes()).splitlines()
    ]


def changed(stage: str, change: Change, dev: Change | None = None) -> list[Row]:
    """The demo up to the end of a stage, its rows doctored; `dev` adds evaluations inside it."""
    rows = recorded("demo-3")
    steps = [row for row in rows if row["kind"] == "rl" and row["stage"] == stage]
    kept = rows[: rows.index(steps[0])]
    for at, row in enumerate(steps):
        t = at / (len(steps) - 1)
        kept.append(row | change(t, row))
        if dev is not None and at % 10 == 4:
            kept.append({"kind": "dev", "stage": stage, "step": row["step"], "se": 0.02, **dev(t, row)})
    return kept


def _hacked(t: float, row: Row) -> Row:
    short = {name: value * (1 - 0.8 * t) for name, value in row["length"].items()}
    return {"reward": 0.3 + 0.6 * t, "length": short}


def _dead(t: float, row: Row) -> Row:
    return {"all_wrong": 0.9 + 0.1 * t, "all_right": 0.0, "reward": 0.01}


def _hot(t: float, row: Row) -> Row:
    return {"H_T": row["H_T"] * (1 + 6 * t), "T": 1 + t}


def _cold(t: float, row: Row) -> Row:
    return {"H_T": row["H_T"] * (1 - t) ** 2, "T": 1 - 0.6 * t}


def _mismatched(t: float, row: Row) -> Row:
    return {"logprob_difference": {"mean": 0.01, "k3": 0.001 + 0.02 * t}}


def _collapsing(t: float, row: Row) -> Row:
    return {"same_answer": 0.1 + 0.85 * t}


def _worse(t: float, row: Row) -> Row:
    return {"accuracy": 0.6 - 0.2 * t}


DOCTORED: dict[str, tuple[list[Row], set[str]]] = {
    "healthy": (recorded("demo-3"), set()),
    "dead": (changed("math-short", _dead), {"no_gradient"}),
    "hacked": (changed("math-long", _hacked, _worse), {"held_out", "shorter"}),
    "hot": (changed("math-long", _hot), {"entropy_hot"}),
    "cold": (changed("math-long", _cold), {"entropy_cold"}),
    "mismatched": (changed("math-short", _mismatched), {"mismatch"}),
    "collapsing": (changed("code", _collapsing), {"same_answers"}),
}
