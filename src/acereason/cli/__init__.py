"""The command line: one verb, one function, a file per room. `acereason VERB --help` teaches each.

An error that acereason raises on purpose is printed without a traceback and exits with status 2; a run that
was asked to stop (SIGTERM) with 75.
"""

from __future__ import annotations

import sys

import typer

from acereason.cli import (
    calibrate,
    check,
    convert,
    curate,
    docs,
    evaluate,
    export,
    plan,
    run,
    study,
    verify,
    view,
)
from acereason.cli.common import err
from acereason.errors import AceReasonError
from acereason.stopping import STATUS, Preempted

app = typer.Typer(
    help="Make a base language model reason: curate, fine-tune, reinforce, calibrate, evaluate.\n\n"
    "Start with: acereason demo",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    rich_markup_mode="rich",
)
for verb in (
    *(run.demo, run.run, check.check, curate.curate, run.sft, run.rl, plan.plan, export.export),
    *(convert.convert, docs.docs),
    *(calibrate.calibrate, evaluate.evaluate, evaluate.compare, verify.verify, view.view, view.report),
):
    app.command()(verb)
app.add_typer(study.app, name="study")


def main() -> None:
    """Entry point of the `acereason` command."""
    try:
        app(standalone_mode=True)
    except AceReasonError as error:
        err.print(f"[bold red]error:[/] {type(error).__name__}", style="bold")
        err.print(str(error), markup=False)
        sys.exit(2)
    except Preempted:
        err.print("stopped as asked, after a checkpoint; the run goes on with --resume")
        sys.exit(STATUS)
    except KeyboardInterrupt:
        err.print("interrupted; a run goes on from its last checkpoint with --resume")
        sys.exit(130)
