"""Everything that can be found wrong with a recipe before its first step, in seconds and without a model.

    findings(recipe, folder)   what is wrong, what deserves a look, and what was found, in that order
    refuse(noted)              an error when something is wrong

Each check is a function of the recipe that yields findings; what it raises on purpose is a finding, too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from acereason.config import Recipe
from acereason.errors import AceReasonError, ConfigError
from acereason.preflight import data, machine, model
from acereason.preflight.finding import Finding, Kind

__all__ = ["Finding", "Kind", "findings", "refuse"]

Check = Callable[[Recipe, Path], Iterator[Finding]]
CHECKS: tuple[tuple[str, Check], ...] = (
    ("model", model.model),
    ("second model", model.second),
    ("budgets", model.budgets),
    ("placement", model.heads),
    ("data", data.data),
    ("servers", machine.servers),
    ("judge", machine.judge),
    ("disk", machine.disk),
    ("memory", machine.memory),
)


def findings(recipe: Recipe, folder: Path) -> list[Finding]:
    """What every check finds, errors first. folder: where the run would be."""
    noted: list[Finding] = []
    for about, check in CHECKS:
        try:
            noted += check(recipe, folder)
        except AceReasonError as error:
            noted.append(Finding("error", about, str(error)))
    order = ("error", "warning", "note")
    return sorted(noted, key=lambda finding: order.index(finding.kind))


def refuse(noted: Iterable[Finding]) -> None:
    """ConfigError with everything that is wrong, when anything is."""
    wrong = [finding for finding in noted if finding.kind == "error"]
    if len(wrong) == 1:
        raise ConfigError(f"{wrong[0].about}: {wrong[0].text}")
    if wrong:
        lines = "\n".join(f"  {finding.about}: {finding.text}" for finding in wrong)
        raise ConfigError(f"{len(wrong)} things are wrong:\n{lines}")
