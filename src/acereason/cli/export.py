"""`export`: a stage of a run as a Hugging Face folder with a model card."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from acereason.cli.common import out


def export(
    folder: Annotated[Path, typer.Argument(metavar="RUN", help="the run's folder")],
    target: Annotated[Path, typer.Option("--out", "-o", help="the folder to write")],
    stage: Annotated[str | None, typer.Option(help="sft or a stage's name; the last finished one")] = None,
    licence: Annotated[
        str | None,
        typer.Option("--license", help="of the weights, e.g. apache-2.0; the base model's if known"),
    ] = None,
    adapter: Annotated[
        bool, typer.Option("--adapter", help="the adapter alone, for a run with [lora]; else it is merged")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="replace an earlier export")] = False,
    push: Annotated[str | None, typer.Option(metavar="REPO", help="upload to this hub repository")] = None,
    public: Annotated[bool, typer.Option("--public", help="make a new repository public")] = False,
) -> None:
    """A finished stage as an ordinary Hugging Face folder with a model card, also for the hub."""
    from acereason import export as exporting

    exporting.export(folder, target, stage, licence, force, push, adapter)
    out.print(f"{target}: {exporting.gather(folder, stage).name} with its card", markup=False)
    if push is not None:
        out.print(exporting.push(target, push, public), markup=False)
