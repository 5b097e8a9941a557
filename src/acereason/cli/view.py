"""`report`: the page over a run's folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from acereason.cli.common import out


def report(folder: Annotated[Path, typer.Argument(help="the run's folder")]) -> None:
    """Write a run's report.html: one file, opens anywhere."""
    from acereason.view.report import write_report

    out.print(str(write_report(folder)), markup=False)
