"""What the rules need of a run that may be 200,000 steps long: a bounded part of its rows.

Of a stage of RL the first rows (what it began like) and the last `LAST` ones are kept; of SFT, whose loss is
looked at by thirds, every n-th row, n doubling as it grows. Evaluations are few and kept to `LAST` of them.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from acereason.config import Health
from acereason.health.findings import fatal, findings
from acereason.health.rows import Finding, Row

LAST = 500
STAGES = 40  # the last ones
KINDS = ("rl", "sft", "dev", "evaluation")


@dataclass
class _Ends:
    """The first rows and the last ones."""

    first: int
    head: list[Row] = field(default_factory=list)
    tail: deque[Row] = field(default_factory=lambda: deque(maxlen=LAST))

    def add(self, row: Row) -> None:
        (self.head if len(self.head) < self.first else self.tail).append(row)

    def rows(self) -> list[Row]:
        return [*self.head, *self.tail]


@dataclass
class _Thinned:
    """Every n-th row, so that each third of them is a third of the run."""

    every: int = 1
    seen: int = 0
    kept: list[Row] = field(default_factory=list)

    def add(self, row: Row) -> None:
        if self.seen % self.every == 0:
            self.kept.append(row)
        self.seen += 1
        if len(self.kept) > 2 * LAST:
            self.kept, self.every = self.kept[::2], 2 * self.every

    def rows(self) -> list[Row]:
        return self.kept


class Memory:
    """Takes a run's rows as they come, and says what is wrong by them."""

    def __init__(self, limits: Health = Health()) -> None:  # noqa: B008
        self.limits = limits
        self._kept: OrderedDict[tuple[str, str], _Ends | _Thinned] = OrderedDict()

    def add(self, kind: str, row: Mapping[str, Any]) -> None:
        """Take one row; it is a listener (`Run.listen`)."""
        if kind not in KINDS:
            return
        key = (kind, "" if kind == "evaluation" else str(row.get("stage")))
        if key not in self._kept:
            self._kept[key] = _Thinned() if kind == "sft" else _Ends(3 * self.limits.window)
            while len(self._kept) > 2 * STAGES:
                self._kept.popitem(last=False)
        self._kept[key].add({"kind": kind, **row})

    def findings(self) -> list[Finding]:
        """What is wrong, the worst first."""
        return findings([row for kept in self._kept.values() for row in kept.rows()], self.limits)

    def fatal(self, stage: str) -> Finding | None:
        """The finding that ends this stage, if the recipe says that one does."""
        if not self.limits.stop:
            return None
        return fatal([one for one in self.findings() if one.stage == stage], self.limits)
