"""Findings over a run's metrics rows: severity, since when, why it matters, what to do.

    findings(rows, limits) ─▶ [Finding, …]        rows of metrics.jsonl in order, of any kind

Each stage is looked at by itself, the present one as it is now and a finished one as it was at its end:
a rule holds when it holds over the last `window` steps, and `since` is the step at which it began to. The
rules are pure functions (`rules`, `trends`); their thresholds are the `[health]` section of the recipe.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

from acereason.config import Health

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


def findings(rows: Sequence[Row], limits: Health = Health()) -> list[Finding]:  # noqa: B008
    """Everything that is wrong, the worst first."""
    from acereason.health import rules, trends  # they are written with what stands above

    found: list[Finding] = []
    for stage in by_stage(rows, "rl"):
        found += [f for rule in (*rules.STEPS, *trends.STEPS) if (f := rule(stage, limits)) is not None]
    for stage in by_stage(rows, "sft"):
        found += [f for rule in trends.SFT if (f := rule(stage, limits)) is not None]
    found += trends.pass_at_k(rows)
    return sorted(found, key=lambda f: (-SEVERITIES.index(f.severity), -f.since))


def fatal(found: Sequence[Finding], limits: Health) -> Finding | None:
    """The finding that ends the run, when the recipe's `health.stop` names its rule and it is an alarm."""
    return next((f for f in found if f.rule in limits.stop and f.severity == "alarm"), None)
