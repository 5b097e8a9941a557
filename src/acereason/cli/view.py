"""`view`, `report` and `plot`: the page over runs, served or as one file, and curves as a figure."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from acereason.cli.common import out, until_told
from acereason.errors import ConfigError


def view(
    folder: Annotated[Path, typer.Argument(help="a run's folder, or one that holds runs")] = Path("runs"),
    host: Annotated[str, typer.Option(help="where to listen; others can read the runs there")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="where to listen; 0 takes a free one")] = 8755,
) -> None:
    """Serve a page over all runs in a folder, following those that are still going on."""
    try:
        from acereason.view.server import serve
    except ModuleNotFoundError as error:
        raise ConfigError(f"the page needs {error.name}: pip install 'acereason[view]'") from error
    from acereason.runs import check_runs

    check_runs(folder)
    with until_told():
        serve(folder, host, port, lambda at: out.print(f"{at}  (Ctrl-C ends it)", markup=False))


def plot(
    folders: Annotated[list[Path], typer.Argument(metavar="RUN...", help="the folders of one or more runs")],
    output: Annotated[Path, typer.Option("--output", "-o", help="the SVG to write")] = Path("figure.svg"),
    panel: Annotated[
        list[str] | None,
        typer.Option(help="a quantity of the RL rows, e.g. reward or length.mean; may be repeated"),
    ] = None,
) -> None:
    """Draw the curves of one or more runs as an SVG for a paper: reward, H_T, length and truncation."""
    from acereason.files import write_atomic
    from acereason.runs import check_run
    from acereason.view.plot import PANELS, figure

    for folder in folders:
        check_run(folder)
    if output.suffix != ".svg":
        raise ConfigError(f"a figure is written as .svg, found {output}; convert it with your own tools")
    write_atomic(output, figure(folders, tuple(panel) if panel else PANELS).encode())
    out.print(str(output), markup=False)


def report(folder: Annotated[Path, typer.Argument(help="the run's folder")]) -> None:
    """Write a run's report.html: one file, opens anywhere."""
    from acereason.runs import check_run, disk_errors
    from acereason.view.report import write_report

    check_run(folder)
    with disk_errors(folder):
        out.print(str(write_report(folder)), markup=False)
