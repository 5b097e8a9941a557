"""`check`: everything that can be found wrong with a recipe before anything is paid for it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from acereason import config
from acereason.cli.common import RecipeFile, Settings, err, find_recipe, out
from acereason.preflight import Finding, findings, refuse

COLOURS = {"error": "bold red", "warning": "yellow", "note": "dim"}


def check(
    recipe: RecipeFile,
    folder: Annotated[Path, typer.Option("--out", "-o", help="where the run would be")] = Path("runs/run"),
    settings: Settings = None,
) -> None:
    """Read a recipe and everything it names, in seconds: files, rows, ids, formats, contexts, budgets,
    servers, disk and memory.

    Exits with 2 when something is wrong. `run`, `sft` and `rl` do the same before their first step; a file
    with kind = "curation" is checked as that."""
    from acereason.cli.curate import curation_of

    path = find_recipe(recipe)
    if (curation := curation_of(path)) is not None:
        from acereason.preflight.curation import findings as of_curation

        noted = of_curation(curation)
    else:
        noted = findings(config.load(path, settings or []), folder)
    show(noted, out)
    wrong = sum(finding.kind == "error" for finding in noted)
    if wrong:
        out.print(f"{wrong} {'thing is' if wrong == 1 else 'things are'} wrong")
        raise typer.Exit(2)
    out.print("nothing is wrong")


def show(noted: Iterable[Finding], console: Console, softer: bool = False) -> None:
    """Print findings, one a line; `softer` calls what is wrong a warning."""
    for finding in noted:
        kind = "warning" if softer and finding.kind == "error" else finding.kind
        line = Text.assemble((kind, COLOURS[kind]), f"  {finding.about}: {finding.text}")
        console.print(line, soft_wrap=True)


def before(recipe: config.Recipe, folder: Path) -> None:
    """What every verb does before a run's folder is made: warnings are printed, errors raised."""
    noted = findings(recipe, folder)
    for finding in noted:
        if finding.kind == "warning":
            err.print(f"warning: {finding.about}: {finding.text}", markup=False, soft_wrap=True)
    refuse(noted)
