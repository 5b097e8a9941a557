"""The command line: one verb, one function, a file per room. `acereason VERB --help` teaches each.

An error that acereason raises on purpose, and one of the disk or the network, is printed without a traceback
and exits with status 2; a verb that was interrupted with 130; a run that was asked to stop (SIGTERM) with 75.
"""

from __future__ import annotations

import errno
import os
import sys
from importlib.metadata import version
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from acereason.cli import (
    calibrate,
    chat,
    check,
    compare,
    convert,
    curate,
    docs,
    evaluate,
    export,
    generate,
    plan,
    run,
    serve,
    study,
    verify,
    view,
)
from acereason.cli.common import err
from acereason.errors import AceReasonError
from acereason.stopping import STATUS, Preempted


class Verbs(TyperGroup):
    """Says what an interruption means; typer itself ends without a word."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as stop:
            err.print(f"interrupted; {stop}" if str(stop) else "interrupted", markup=False, soft_wrap=True)
            raise typer.Exit(130) from None


app = typer.Typer(
    cls=Verbs,
    help="Make a base language model reason: curate, fine-tune, reinforce, calibrate, evaluate.\n\n"
    "Start with: acereason demo",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    rich_markup_mode="rich",
)
for verb in (
    *(run.demo, run.run, check.check, curate.curate, run.sft, run.rl, plan.plan, export.export),
    *(convert.convert, docs.docs, generate.generate, chat.chat, serve.serve),
    *(calibrate.calibrate, evaluate.evaluate, compare.compare, verify.verify),
    *(view.view, view.report, view.plot),
):
    app.command()(verb)
app.add_typer(study.app, name="study")


def _print_version(wanted: bool) -> None:
    if wanted:
        sys.stdout.write(f"acereason {version('acereason')}\n")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="print the version"),
    ] = False,
) -> None:
    """What stands before a verb."""


def main() -> None:
    """Entry point of the `acereason` command."""
    try:
        app(standalone_mode=True)
    except AceReasonError as error:
        _fail(type(error).__name__, str(error))
    except Preempted as stop:
        err.print(f"stopped as asked, after a checkpoint; {stop}", markup=False, soft_wrap=True)
        sys.exit(STATUS)
    except OSError as error:
        if error.errno is None or error.errno == errno.EPIPE:
            raise
        place = f"{os.fsdecode(error.filename)}: " if isinstance(error.filename, (str, bytes)) else ""
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        mend = ". Free some space there and give the command again" if full else ""
        _fail(type(error).__name__, f"{place}{error.strerror}{mend}")


def _fail(kind: str, said: str) -> None:
    err.print(f"[bold red]error:[/] {kind}", style="bold")
    err.print(said, markup=False)
    sys.exit(2)
