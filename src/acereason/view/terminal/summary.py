"""The final table of a run for a terminal: accuracy of every stage, gains with their intervals.

Accuracies are percentages with ± 1.96 standard errors (95 %), gains are percentage points.
"""

from __future__ import annotations

import math
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from acereason.evaluate.estimates import Z95, boundary_safe


def table(summary: dict[str, Any]) -> RenderableType:
    """The content of `summary.json` as a rich renderable; missing fields show as "–"."""
    stages = summary.get("stages") or []
    domains = list(dict.fromkeys(d for stage in stages for d in stage.get("evaluation") or {}))
    grid = Table(title="Accuracy after each stage, % ± 95 %", title_justify="left")
    grid.add_column("stage")
    for name in ("steps", "T", "H_T", *domains):
        grid.add_column(name, justify="right")
    for stage in stages:
        evaluation = stage.get("evaluation") or {}
        grid.add_row(
            Text(str(stage.get("name", "–"))),
            _number(stage.get("steps"), "d"),
            _number(stage.get("T"), ".2f"),
            _number(stage.get("H_T"), ".2f"),
            *(_accuracy(evaluation.get(domain)) for domain in domains),
        )
    wide = summary.get("gain_pass_at_k") or {}
    lines = []
    for domain, gain in (summary.get("gain") or {}).items():
        lines.append(_gain(domain, gain))
        if k := max(map(int, wide.get(domain) or {}), default=0):
            lines.append(_gain(f"{domain} pass@{k}", wide[domain][str(k)]))
    return Group(grid, *lines)


def _accuracy(result: dict[str, Any] | None) -> Text:
    if not result or result.get("accuracy") is None:
        return Text("–")
    text = Text(f"{100 * result['accuracy']:.1f}")
    share, se, n = result["accuracy"], result.get("se"), result.get("n") or 0
    if n and min(share, 1 - share) < Z95 * (se or math.inf):
        low, high = boundary_safe(share, se, n, result.get("k") or 1)
        return text.append(f" ({100 * low:.0f} to {100 * high:.0f})", style="dim")
    if se is not None:
        text.append(f" ± {100 * Z95 * result['se']:.1f}", style="dim")
    return text


def _gain(domain: str, gain: dict[str, float | None]) -> Text:
    """One line a domain; green or red only when the interval excludes 0."""
    mean, low, high = (gain.get(name) for name in ("mean", "low", "high"))
    text = Text(f"{domain}  ")
    if mean is None:
        return text.append("no question could be judged at both ends")
    if low is None or high is None:
        return text.append(f"{100 * mean:+.1f} points", style="bold").append("  (a single question)")
    style = "green" if low > 0 else "red" if high < 0 else ""
    text.append(f"{100 * mean:+.1f} points", style=f"bold {style}".strip())
    return text.append(f"  (95 % interval {100 * low:+.1f} to {100 * high:+.1f})")


def _number(value: Any, form: str) -> str:
    return "–" if value is None else format(value, form)
