"""`demo`, `run`, `sft`, `rl`: a recipe from beginning to end, or a part of it."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import typer

from acereason import config, runs, sinks
from acereason.cli.check import before as preflight
from acereason.cli.check import show
from acereason.cli.common import (
    AlertUrl,
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
    goes_on_with,
    out,
)
from acereason.cli.convert import AcceptLicence, ready
from acereason.cli.shared import with_options
from acereason.errors import ConfigError
from acereason.health.alert import Alert
from acereason.health.alert import check as check_alert
from acereason.native import heap
from acereason.native import mkl as fastmath
from acereason.preflight import findings


@dataclass(frozen=True)
class Options:
    """What every verb that makes a run takes."""

    folder: OutFolder = Path("runs/run")
    settings: Settings = None
    resume: Resume = False
    force: Force = False
    dry_run: DryRun = False
    quiet: Silent = False
    as_json: AsJson = False
    sink: Sinks = None
    alert: AlertUrl = None
    accept_licence: AcceptLicence = False


@with_options(Options, folder="runs/demo", leave_out=("accept_licence",))
def demo(options: Options) -> None:
    """The whole recipe on a laptop: curate, SFT, calibrate, RL on math twice and code once, evaluate.

    Two CPU cores, nothing to download, about eight minutes."""
    _work("demo", options)


@with_options(Options)
def run(
    options: Options,
    recipe: Annotated[str | None, typer.Argument(help="a recipe; may be left out with --resume")] = None,
    until: Annotated[str | None, typer.Option(help="stop after this stage (sft, or a stage's name)")] = None,
) -> None:
    """A recipe from beginning to end. Killed at any moment, `--resume` goes on to the same weights.

    On SIGTERM (preemption) it writes a checkpoint at the end of its step and exits with status 75."""
    _work(recipe, options, until)


@with_options(Options, folder="runs/sft")
def sft(recipe: RecipeFile, options: Options) -> None:
    """A recipe up to the fine-tuned model with its evaluation; `run --resume` goes on from there."""
    _work(recipe, options, "sft")


@with_options(Options, folder="runs/rl")
def rl(
    recipe: RecipeFile,
    options: Options,
    model: Annotated[
        str | None,
        typer.Option(
            "--model", "-m", help="the Hugging Face folder or hub id to start from; default the recipe's"
        ),
    ] = None,
) -> None:
    """The RL stages of a recipe, from a fine-tuned model of one's own instead of the recipe's SFT."""
    if model is None and options.resume:
        return _work(None, options)
    start = _starting_at(model) if model else []
    changed = replace(options, settings=[*start, *(options.settings or []), "sft="])
    if _chosen(recipe, changed).model.path is None:
        raise ConfigError("RL needs a model to start from, and the recipe only makes a new one: give --model")
    return _work(recipe, changed)


def _starting_at(model: str) -> list[str]:
    """The settings that put a model, a folder or ID@REVISION, in the place of the recipe's."""
    from acereason.policy import hub

    path, revision = hub.split(model)
    of_hub = f"model.revision={json.dumps(revision)}" if revision else "model.revision="
    return [f"model.path={json.dumps(path)}", of_hub, "model.new="]


def _work(recipe: str | None, options: Options, until: str | None = None) -> None:
    """Print a recipe, or do what is left of its run."""
    if options.dry_run:
        chosen = _chosen(recipe, options)
        _print_recipe(chosen)
        show(findings(chosen, options.folder), err, softer=True)
        return
    sinks.check(options.sink or [])
    if options.alert is not None:
        check_alert(options.alert)
    _run(lambda: _open(recipe, options, until), options, until)


def _chosen(recipe: str | None, options: Options) -> config.Recipe:
    if recipe is None:
        raise ConfigError("give a recipe, or --resume with the folder of a run")
    return config.load(find_recipe(recipe), options.settings or [], recorded=options.resume)


def _open(recipe: str | None, options: Options, until: str | None) -> runs.Run:
    """The run's folder: new, or the one to go on with."""
    if options.resume and recipe is None:
        return runs.resume(options.folder)
    chosen = _chosen(recipe, options)
    config.check_stage(chosen, until)  # before a folder is made
    if options.resume:
        return runs.resume(options.folder, chosen)
    ready(chosen.model.path, options.accept_licence)
    preflight(chosen, options.folder)
    return runs.create(options.folder, chosen, options.force)


def _run(opened: Callable[[], runs.Run], options: Options, until: str | None) -> None:
    """Do what is left of a run and print its table. Under `torchrun` the first rank opens the folder."""
    fast = fastmath.enable()  # before torch is imported
    heap.keep()
    from acereason import program, ranks, stopping

    with ranks.joined(), stopping.on_sigterm():
        if ranks.main():
            _lead(opened(), fast.detail, options, until)
        else:
            program.follow()


def _lead(run: runs.Run, arithmetic: str, options: Options, until: str | None) -> None:
    from acereason import program
    from acereason.view.terminal import steps
    from acereason.view.terminal.summary import table

    more = ["--until", until] if until else []
    with (
        goes_on_with("run", "--resume", "--out", str(run.path), *more),
        run,
        ExitStack() as stack,
        steps.display(options.quiet, options.as_json, limits=run.recipe.health) as shown,
    ):
        _feed(run, options.sink or [], stack)
        _alert(run, options.alert, stack)
        run.listen(shown.row)
        summary = program.run_all(run, shown, until, {"arithmetic": arithmetic})
    if summary is not None and options.as_json:
        sys.stdout.write(json.dumps({"kind": "summary", **summary}) + "\n")
    elif summary is not None:
        out.print(table(summary))
        out.print(f"report: {run.path / 'report.html'}", markup=False)
        out.print(f"look at it: acereason view {shlex.quote(str(run.path))}", markup=False)


def _feed(run: runs.Run, names: list[str], stack: ExitStack) -> None:
    """Send the run's metrics to sinks, too, until the stack unwinds."""
    place = sinks.Place(run.path, run.recipe.name, config.resolved(run.recipe))
    for name in names:
        feed = sinks.Feed(name, place)
        stack.callback(feed.close)
        run.listen(feed)
        run.listen_to_responses(feed.responses)


def _alert(run: runs.Run, url: str | None, stack: ExitStack) -> None:
    """Post what the rules of health find to a webhook, until the stack unwinds."""
    if url is not None:
        alert = Alert(url, str(run.path), run.recipe.health)
        stack.callback(alert.close)
        run.listen(alert)


def _print_recipe(recipe: config.Recipe) -> None:
    out.print_json(json.dumps(config.resolved(recipe)))
    out.print(f"hash {config.digest(recipe)}")
