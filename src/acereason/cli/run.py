"""`demo`, `run`, `sft`, `rl`: a recipe from beginning to end, or a part of it."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from acereason import config, runs, sinks
from acereason.cli.check import before as preflight
from acereason.cli.check import show
from acereason.cli.common import (
    AsJson,
    DryRun,
    Force,
    OutFolder,
    RecipeFile,
    Resume,
    Settings,
    Silent,
    Sinks,
    err,
    find_recipe,
    out,
)
from acereason.cli.convert import AcceptLicence, ready
from acereason.errors import ConfigError
from acereason.native import mkl as fastmath
from acereason.preflight import findings


def demo(
    folder: OutFolder = Path("runs/demo"),
    settings: Settings = None,
    resume: Resume = False,
    force: Force = False,
    dry_run: DryRun = False,
    quiet: Silent = False,
    as_json: AsJson = False,
    sink: Sinks = None,
) -> None:
    """The whole recipe on a laptop: curate, SFT, calibrate, RL on math twice and code once, evaluate.

    Two CPU cores, nothing to download, about eight minutes."""
    run("demo", folder, settings, resume, force, dry_run, quiet, as_json, sink)


def run(
    recipe: Annotated[str | None, typer.Argument(help="a recipe; may be left out with --resume")] = None,
    folder: OutFolder = Path("runs/run"),
    settings: Settings = None,
    resume: Resume = False,
    force: Force = False,
    dry_run: DryRun = False,
    quiet: Silent = False,
    as_json: AsJson = False,
    sink: Sinks = None,
    until: Annotated[str | None, typer.Option(help="stop after this stage (sft, or a stage's name)")] = None,
    accept_licence: AcceptLicence = False,
) -> None:
    """A recipe from beginning to end. Killed at any moment, `--resume` goes on to the same weights.

    On SIGTERM (preemption) it writes a checkpoint at the end of its step and exits with status 75."""
    if dry_run:
        if recipe is None:
            raise ConfigError("--dry-run needs a recipe")
        chosen = config.load(find_recipe(recipe), settings or [])
        _print_recipe(chosen)
        show(findings(chosen, folder), err, softer=True)
        return
    sinks.check(sink or [])
    _run(
        lambda: _open(recipe, folder, settings, resume, force, until, accept_licence),
        quiet,
        as_json,
        sink,
        until,
    )


def sft(
    recipe: RecipeFile,
    folder: OutFolder = Path("runs/sft"),
    settings: Settings = None,
    resume: Resume = False,
    force: Force = False,
    quiet: Silent = False,
    as_json: AsJson = False,
    sink: Sinks = None,
    accept_licence: AcceptLicence = False,
) -> None:
    """A recipe up to the fine-tuned model with its evaluation; `run --resume` goes on from there."""
    sinks.check(sink or [])
    _run(
        lambda: _open(recipe, folder, settings, resume, force, "sft", accept_licence),
        quiet,
        as_json,
        sink,
        "sft",
    )


def rl(
    recipe: RecipeFile,
    model: Annotated[Path, typer.Option("--model", "-m", help="the Hugging Face folder to start from")],
    folder: OutFolder = Path("runs/rl"),
    settings: Settings = None,
    resume: Resume = False,
    force: Force = False,
    quiet: Silent = False,
    as_json: AsJson = False,
    sink: Sinks = None,
) -> None:
    """The RL stages of a recipe, from a fine-tuned model of one's own instead of the recipe's SFT."""
    sinks.check(sink or [])
    if resume:
        _run(lambda: runs.resume(folder), quiet, as_json, sink)
        return
    chosen = config.load(find_recipe(recipe), settings or [])
    start = msgspec.structs.replace(chosen.model, path=str(model), new=None)
    changed = msgspec.structs.replace(chosen, model=start, sft=None)
    _run(lambda: _create(folder, changed, force), quiet, as_json, sink)


def _create(folder: Path, recipe: config.Recipe, force: bool) -> runs.Run:
    preflight(recipe, folder)
    return runs.create(folder, recipe, force)


def _open(
    recipe: str | None,
    folder: Path,
    settings: list[str] | None,
    resume: bool,
    force: bool,
    until: str | None = None,
    accept_licence: bool = False,
) -> runs.Run:
    """The run's folder: new, or the one to go on with."""
    chosen = config.load(find_recipe(recipe), settings or []) if recipe else None
    if chosen is not None:
        config.check_stage(chosen, until)  # before a folder is made
    if resume:
        return runs.resume(folder, chosen)
    if chosen is None:
        raise ConfigError("give a recipe, or --resume with the folder of a run")
    ready(chosen.model.path, accept_licence)
    return _create(folder, chosen, force)


def _run(
    opened: Callable[[], runs.Run],
    quiet: bool,
    as_json: bool,
    sink: list[str] | None,
    until: str | None = None,
) -> None:
    """Do what is left of a run and print its table. Under `torchrun` the first rank opens the folder."""
    fast = fastmath.enable()  # before torch is imported
    from acereason import program, ranks, stopping

    with ranks.joined(), stopping.on_sigterm():
        if ranks.main():
            _lead(opened(), fast.detail, quiet, as_json, sink, until)
        else:
            program.follow()


def _lead(
    run: runs.Run, arithmetic: str, quiet: bool, as_json: bool, sink: list[str] | None, until: str | None
) -> None:
    from acereason import program
    from acereason.view.terminal import steps
    from acereason.view.terminal.summary import table

    with run, ExitStack() as stack, steps.display(quiet, as_json) as shown:
        _feed(run, sink or [], stack)
        run.listen(shown.row)
        summary = program.run_all(run, shown, until, {"arithmetic": arithmetic})
    if summary is not None and as_json:
        sys.stdout.write(json.dumps({"kind": "summary", **summary}) + "\n")
    elif summary is not None:
        out.print(table(summary))
        out.print(f"report: {run.path / 'report.html'}", markup=False)


def _feed(run: runs.Run, names: list[str], stack: ExitStack) -> None:
    """Send the run's metrics to sinks, too, until the stack unwinds."""
    place = sinks.Place(run.path, run.recipe.name, config.resolved(run.recipe))
    for name in names:
        feed = sinks.Feed(name, place)
        stack.callback(feed.close)
        run.listen(feed)


def _print_recipe(recipe: config.Recipe) -> None:
    out.print_json(json.dumps(config.resolved(recipe)))
    out.print(f"hash {config.digest(recipe)}")
