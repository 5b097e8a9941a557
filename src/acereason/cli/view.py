"""`view` and `report`: the page over runs, served or as one file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from acereason.cli.common import out
from acereason.errors import ConfigError


def view(
    folder: Annotated[Path, typer.Argument(help="a run's folder, or one that holds runs")] = Path("runs"),
    host: Annotated[str, typer.Option(help="where to listen; others can read the runs there")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="where to listen; 0 takes a free one")] = 8755,
) -> None:
    """Serve a page over all runs in a folder, following those that are still going on."""
    try:
        from acereason.view.server import serve
    except ModuleNotFoundError as error:
        raise ConfigError(f"the page needs {error.name}: pip install 'acereason[view]'") from error
    serve(folder, host, port, ready=lambda address: out.print(f"{address}  (Ctrl-C ends it)", markup=False))


def report(folder: Annotated[Path, typer.Argument(help="the run's folder")]) -> None:
    """Write a run's report.html: one file, opens anywhere."""
    from acereason.runs import disk_errors
    from acereason.view.report import write_report

    with disk_errors(folder):
        out.print(str(write_report(folder)), markup=False)
