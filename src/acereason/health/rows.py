"""What the rules of health are written with: a finding, a stage's rows, and numbers over them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

Row = Mapping[str, Any]
Severity = Literal["notice", "warning", "alarm"]
SEVERITIES: tuple[Severity, ...] = ("notice", "warning", "alarm")


class Finding(NamedTuple):
    """One thing that is wrong. `chart` names the metric whose curve shows it."""

    rule: str
    severity: Severity
    stage: str
    since: int
    sentence: str
    why: str
    remedy: str
    chart: str


class StageRows(NamedTuple):
    """The rows of one stage by kind; `rl` (or `sft`) in the order of their steps."""

    name: str
    steps: list[Row]
    dev: list[Row]


Holds = Callable[[Sequence[Row]], bool]


def by_stage(rows: Sequence[Row], kind: str) -> list[StageRows]:
    """The stages that have step rows of a kind ("rl" or "sft"), in their order."""
    stages: dict[str, StageRows] = {}
    for row in rows:
        if row.get("kind") == kind:
            name = str(row.get("stage"))
            stages.setdefault(name, StageRows(name, [], [])).steps.append(row)
        elif row.get("kind") == "dev" and (name := str(row.get("stage"))) in stages:
            stages[name].dev.append(row)
    return list(stages.values())


def number(row: Row, path: str) -> float | None:
    """A number of a row by its path ("length.mean"); None when it is not there or no number."""
    value: Any = row
    for key in path.split("."):
        value = value.get(key) if isinstance(value, Mapping) else None
    return float(value) if isinstance(value, int | float) and value == value else None


def mean(rows: Sequence[Row], path: str) -> float | None:
    """The mean of a column over rows that have it."""
    values = [v for row in rows if (v := number(row, path)) is not None]
    return sum(values) / len(values) if values else None


def since(steps: Sequence[Row], holds: Holds, window: int) -> int | None:
    """The step at which `holds` began to hold over every window up to the last one; None when it does not
    hold over the last one, or there are fewer rows than a window."""
    if len(steps) < window or not holds(steps[-window:]):
        return None
    first = len(steps) - window
    while first > 0 and holds(steps[first - 1 : first - 1 + window]):
        first -= 1
    return int(number(steps[first], "step") or 0)
