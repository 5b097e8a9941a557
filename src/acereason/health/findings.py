"""Findings over a run's metrics rows: severity, since when, why it matters, what to do.

    findings(rows, limits) ─▶ [Finding, …]        rows of metrics.jsonl in order, of any kind

Each stage is looked at by itself, the present one as it is now and a finished one as it was at its end:
a rule holds when it holds over the last `window` steps, and `since` is the step at which it began to. The
rules are pure functions (`rules`, `trends`); their thresholds are the `[health]` section of the recipe.
"""

from __future__ import annotations

from collections.abc import Sequence

from acereason.config import Health
from acereason.health import rules, trends
from acereason.health.rows import SEVERITIES, Finding, Row, by_stage


def findings(rows: Sequence[Row], limits: Health = Health()) -> list[Finding]:  # noqa: B008
    """Everything that is wrong, the worst first."""
    wrong: list[Finding] = []
    for stage in by_stage(rows, "rl"):
        wrong += [f for rule in (*rules.STEPS, *trends.STEPS) if (f := rule(stage, limits)) is not None]
    for stage in by_stage(rows, "sft"):
        wrong += [f for rule in trends.SFT if (f := rule(stage, limits)) is not None]
    wrong += trends.pass_at_k(rows)
    return sorted(wrong, key=lambda f: (-SEVERITIES.index(f.severity), -f.since))


def fatal(wrong: Sequence[Finding], limits: Health) -> Finding | None:
    """The finding that ends the run, when the recipe's `health.stop` names its rule and it is an alarm."""
    return next((f for f in wrong if f.rule in limits.stop and f.severity == "alarm"), None)
