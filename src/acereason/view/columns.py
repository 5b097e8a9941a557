"""Metric rows as columns: one array of numbers per quantity, small in memory, thinned for drawing.

A row {"step": 7, "length": {"mean": 31.5}} adds to the columns "step" and "length.mean". Where a row lacks
a quantity the number is NaN (None for text). Rows are drawn against their step: they come out in its order,
and of equal steps the last row counts, as after a rewind.

Thinning n rows to m points takes means over ⌈n/m⌉ rows, maxima of what is a maximum already, and the last
step and text; so a spike of the sampler–trainer difference survives, one of the reward is averaged.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Row = dict[str, Any]
Numbers = NDArray[np.float64]

MOST_COLUMNS = 400
LONGEST_WORD = 200  # characters of a text that are kept
DEPTH = 3  # of nested quantities
_REAL = {float, int, bool}
_NUMBERS = _REAL | {type(None)}
_LARGEST_STEP = 2**53


class Columns:
    """Rows of one kind, appended batch by batch."""

    def __init__(self) -> None:
        self.rows = 0
        self._ordered = True
        self._last = -math.inf
        self._numbers: dict[str, list[tuple[int, Numbers]]] = {}  # pieces with the row they begin at
        self._texts: dict[str, list[tuple[int, list[str | None]]]] = {}
        self._words: dict[str, str] = {}  # equal texts are kept once

    def __len__(self) -> int:
        return self.rows

    @property
    def cells(self) -> int:
        """Numbers held, for keeping an eye on memory."""
        return self.rows * (len(self._numbers) + len(self._texts))

    def append(self, rows: Sequence[Row]) -> None:
        """Add rows that have a whole number as their step; others are passed over."""
        rows = [row for row in rows if type(row.get("step")) is int and abs(row["step"]) < _LARGEST_STEP]
        if not rows:
            return
        self._add("", rows, DEPTH)
        steps = np.array([row["step"] for row in rows], np.float64)
        self._ordered &= bool(steps[0] > self._last and (np.diff(steps) > 0).all())
        self._last = float(steps[-1])
        self.rows += len(rows)

    def _add(self, prefix: str, rows: Sequence[Row], depth: int) -> None:
        for name in dict.fromkeys(name for row in rows for name in row):
            values = [row.get(name) for row in rows]
            kinds = set(map(type, values))
            if dict in kinds and depth > 1:
                nested = [value if type(value) is dict else {} for value in values]
                self._add(f"{prefix}{name}.", nested, depth - 1)
            if kinds & _REAL:
                self._keep(self._numbers, prefix + name, _numbers(values, kinds))
            elif str in kinds:
                self._keep(self._texts, prefix + name, [self._word(v) for v in values])

    def _word(self, value: Any) -> str | None:
        return (
            self._words.setdefault(value[:LONGEST_WORD], value[:LONGEST_WORD]) if type(value) is str else None
        )

    def _keep(self, store: dict[str, Any], name: str, values: Any) -> None:
        if name != "kind" and (name in store or len(self._numbers) + len(self._texts) < MOST_COLUMNS):
            store.setdefault(name, []).append((self.rows, values))

    def column(self, name: str) -> Numbers:
        """All numbers of one quantity in the order they came, NaN where there is none."""
        pieces = self._numbers.get(name, [])
        whole = np.full(self.rows, math.nan)
        for start, values in pieces:
            whole[start : start + len(values)] = values
        if len(pieces) > 1:
            self._numbers[name] = [(0, whole)]
        return whole

    def text(self, name: str) -> list[str | None]:
        """All texts of one quantity, None where there is none."""
        whole: list[str | None] = [None] * self.rows
        for start, values in self._texts.get(name, []):
            whole[start : start + len(values)] = values
        return whole

    def order(self) -> NDArray[np.int64]:
        """Rows by step, the last one of each step."""
        if self._ordered:
            return np.arange(self.rows)
        steps = self.column("step")
        by_step = np.argsort(steps, kind="stable")
        last = np.append(np.diff(steps[by_step]) > 0, True) if len(by_step) else np.zeros(0, bool)
        return np.asarray(by_step[last])

    def thinned(self, points: int) -> dict[str, list[Any]]:
        """{quantity: values} with at most so many points (and one more per stage), six significant digits,
        None where there is none."""
        order = self.order()
        starts = self._starts(order, points)
        ends = np.append(starts[1:], len(order)) - 1
        found: dict[str, list[Any]] = {}
        for name in self._texts:
            texts = self.text(name)
            found[name] = [texts[at] for at in order[ends].tolist()]
        for name in self._numbers:
            values = self.column(name)[order]
            whole = name.rpartition(".")[2] in ("step", "stage_step", "epoch")
            found[name] = _exact(values[ends]) if whole else _rounded(_reduce(values, starts, name))
        return found

    def _starts(self, order: NDArray[np.int64], points: int) -> NDArray[np.int64]:
        """Where each point's rows begin; no point spans two stages."""
        if len(order) <= points:
            return np.arange(len(order))
        even = np.linspace(0, len(order), points + 1).astype(np.int64)[:-1]
        stages = self.text("stage")
        which = np.fromiter((id(stages[at]) for at in order.tolist()), np.int64, len(order))
        return np.unique(np.concatenate([even, 1 + np.flatnonzero(np.diff(which))]))


def _numbers(values: list[Any], kinds: set[type]) -> Numbers:
    """Values as float64; what is no number, or no finite one, is NaN."""
    try:
        clean = values if kinds <= _NUMBERS else [v if type(v) in _NUMBERS else None for v in values]
        numbers = np.array(clean, np.float64)
    except OverflowError:
        numbers = np.array([_number(value) for value in values])
    numbers[~np.isfinite(numbers)] = math.nan
    return numbers


def _number(value: Any) -> float:
    try:
        return float(value) if type(value) in _REAL else math.nan
    except OverflowError:
        return math.nan


def _reduce(values: Numbers, starts: NDArray[np.int64], name: str) -> Numbers:
    if len(starts) == len(values):
        return values
    if name.endswith(".max"):
        return np.asarray(np.fmax.reduceat(values, starts))
    known = ~np.isnan(values)
    count = np.add.reduceat(known.astype(np.float64), starts)
    total = np.add.reduceat(np.where(known, values, 0.0), starts)
    return np.asarray(np.divide(total, count, out=np.full(len(starts), math.nan), where=count > 0))


def _exact(values: Numbers) -> list[int | None]:
    return [None if value != value else int(value) for value in values.tolist()]


def _rounded(values: Numbers) -> list[float | None]:
    return [None if value != value else float(f"{value:.6g}") for value in values.tolist()]
