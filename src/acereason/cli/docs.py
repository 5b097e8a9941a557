"""`docs`: the reference of recipe keys in the terminal."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.table import Table

from acereason import reference
from acereason.cli.common import out


def docs(
    key: Annotated[
        str, typer.Argument(help="a key or a section: sft.epochs, stage.temperature, stage.math.budget")
    ] = "",
) -> None:
    """What a recipe's keys mean: type, default, unit, and whether the paper published it."""
    shown = reference.find(key) if key else list(reference.entries())
    if len(shown) == 1:
        (entry,) = shown
        default = "must be given" if entry.default is None else f"default {entry.default}"
        out.print(f"{entry.key}  ({entry.type}; {default})", markup=False, style="bold")
        out.print(f"{entry.meaning}\norigin: {entry.origin}", markup=False)
        return
    table = Table(box=None, pad_edge=False, show_edge=False)
    for name in ("key", "default", "meaning", "origin"):
        table.add_column(name, overflow="fold")
    for entry in shown:
        table.add_row(entry.key, entry.default or "required", entry.meaning, entry.origin)
    out.print(table, markup=False)
