"""Metric rows as columns: one array of numbers per quantity, small in memory, thinned for drawing.

A row {"step": 7, "length": {"mean": 31.5}} adds to the columns "step" and "length.mean". Where a row lacks
a quantity the number is NaN (None for text). Rows are drawn against their step: they come out in its order,
and of equal steps the last row counts, as after a rewind.

Thinning n rows to m points takes means over ⌈n/m⌉ rows, maxima of what is a maximum already, and the last
step and text; so a spike of the sampler–trainer difference survives, one of the reward is averaged.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterable, Sequence
from operator import itemgetter
from typing import Any

import numpy as np
from numpy.typing import NDArray

Row = dict[str, Any]
Numbers = NDArray[np.float64]
Whole = NDArray[np.int64]

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
        self._texts: dict[str, list[tuple[int, Whole]]] = {}  # the same, of the words' numbers
        self._words: dict[str, int] = {}

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
        for name, values in _transposed(rows):
            kinds = set(map(type, values))
            if dict in kinds and depth > 1:
                nested = [value if type(value) is dict else {} for value in values]
                self._add(f"{prefix}{name}.", nested, depth - 1)
            if kinds & _REAL:
                self._keep(self._numbers, prefix + name, _numbers(values, kinds))
            elif str in kinds:
                self._keep(self._texts, prefix + name, np.array([self._word(v) for v in values], np.int64))

    def _word(self, value: Any) -> int:
        if type(value) is not str:
            return -1
        return self._words.setdefault(value[:LONGEST_WORD], len(self._words))

    def _keep(self, store: dict[str, Any], name: str, values: Any) -> None:
        if name != "kind" and (name in store or len(self._numbers) + len(self._texts) < MOST_COLUMNS):
            store.setdefault(name, []).append((self.rows, values))

    def column(self, name: str) -> Numbers:
        """All numbers of one quantity in the order they came, NaN where there is none."""
        return np.asarray(_joined(self._numbers, name, np.full(self.rows, math.nan)))

    def text(self, name: str) -> Whole:
        """All texts of one quantity as numbers of `words`, -1 where there is none."""
        return np.asarray(_joined(self._texts, name, np.full(self.rows, -1)))

    def words(self) -> list[str | None]:
        """The texts behind the numbers of `text`; the last one, at -1, is None."""
        return [*self._words, None]

    def order(self) -> Whole:
        """Rows by step, the last one of each step."""
        if self._ordered:
            return np.arange(self.rows)
        steps = self.column("step")
        by_step = np.argsort(steps, kind="stable")
        last = np.append(np.diff(steps[by_step]) > 0, True) if len(by_step) else np.zeros(0, bool)
        return np.asarray(by_step[last])

    def stages(self) -> list[Whole]:
        """The rows of each stage in order of their steps."""
        order = self.order()
        changes = 1 + np.flatnonzero(np.diff(self.text("stage")[order]))
        return [part for part in np.split(order, changes) if len(part)]

    def thinned(self, points: int) -> dict[str, list[Any]]:
        """{quantity: values} with at most so many points (and one more per stage), six significant digits,
        None where there is none."""
        order = self.order()
        starts = self._starts(order, points)
        ends = np.append(starts[1:], len(order)) - 1
        quantities: dict[str, list[Any]] = {}
        words = self.words()
        for name in self._texts:
            quantities[name] = [words[number] for number in self.text(name)[order[ends]].tolist()]
        for name in self._numbers:
            values = self.column(name) if self._ordered else self.column(name)[order]
            whole = name.rpartition(".")[2] in ("step", "stage_step", "epoch")
            quantities[name] = _exact(values[ends]) if whole else _rounded(_reduce(values, starts, name))
        return quantities

    def _starts(self, order: Whole, points: int) -> Whole:
        """Where each point's rows begin; no point spans two stages."""
        if len(order) <= points:
            return np.arange(len(order))
        even = np.linspace(0, len(order), points + 1).astype(np.int64)[:-1]
        changes = 1 + np.flatnonzero(np.diff(self.text("stage")[order]))
        return np.unique(np.concatenate([even, changes]))


def _transposed(rows: Sequence[Row]) -> Iterable[tuple[str, Sequence[Any]]]:
    """Each name of the rows with a value per row, None where a row lacks it."""
    names = [*rows[0], *sorted(set().union(*rows) - rows[0].keys())]
    if len(names) > 1:
        with contextlib.suppress(KeyError):  # rows of a kind mostly have the same names: all of it in C
            return zip(names, list(zip(*map(itemgetter(*names), rows), strict=True)), strict=True)
    return [(name, [row.get(name) for row in rows]) for name in names]


def _joined(store: dict[str, list[tuple[int, Any]]], name: str, whole: Any) -> Any:
    """The pieces of one quantity put into `whole`, which then takes their place."""
    pieces = store.get(name, [])
    for start, values in pieces:
        whole[start : start + len(values)] = values
    if len(pieces) > 1:
        store[name] = [(0, whole)]
    return whole


def _numbers(values: Sequence[Any], kinds: set[type]) -> Numbers:
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


def _reduce(values: Numbers, starts: Whole, name: str) -> Numbers:
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
