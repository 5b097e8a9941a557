"""The command line: one verb, one function. `acereason VERB --help` teaches each.

An error that acereason raises on purpose is printed without a traceback and exits with status 2.
"""

from __future__ import annotations

import json
import sys
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from acereason import config, fastmath, progress, runs
from acereason.errors import AceReasonError, ConfigError

app = typer.Typer(
    help="Make a base language model reason: curate, fine-tune, reinforce, calibrate, evaluate.\n\n"
    "Start with: acereason demo",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    rich_markup_mode="rich",
)
out = Console(highlight=False)
err = Console(stderr=True, highlight=False)

RecipeFile = Annotated[
    str, typer.Argument(help="a recipe: a TOML file, or the name of one that ships: demo")
]
OutFolder = Annotated[Path, typer.Option("--out", "-o", help="the run's folder")]
Settings = Annotated[
    list[str] | None,
    typer.Option(
        "--set", "-s", metavar="KEY=VALUE", help="override a key: sft.epochs=3, stage.NAME.steps=10"
    ),
]
Resume = Annotated[bool, typer.Option("--resume", help="go on with the run in the folder, exactly")]
Force = Annotated[bool, typer.Option("--force", help="delete the run in the folder and start anew")]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="print the resolved recipe and its hash, do nothing")
]
Silent = Annotated[bool, typer.Option("--quiet", "-q", help="no progress")]


def main() -> None:
    """Entry point of the `acereason` command."""
    try:
        app(standalone_mode=True)
    except AceReasonError as error:
        err.print(f"[bold red]error:[/] {type(error).__name__}", style="bold")
        err.print(str(error), markup=False)
        sys.exit(2)
    except KeyboardInterrupt:
        err.print("interrupted; a run goes on from its last checkpoint with --resume")
        sys.exit(130)


def find_recipe(name: str) -> Path:
    """A recipe file, or one that ships with acereason by its name."""
    path = Path(name)
    if path.exists() or path.suffix == ".toml":
        return path
    shipped = Path(str(files("acereason"))) / "recipes"
    if (shipped / f"{name}.toml").exists():
        return shipped / f"{name}.toml"
    known = ", ".join(sorted(p.stem for p in shipped.glob("*.toml")))
    raise ConfigError(f"no recipe file {name!r}, and none of that name ships; shipped: {known}")


def _open(
    recipe: str | None, folder: Path, settings: list[str] | None, resume: bool, force: bool
) -> runs.Run:
    """The run's folder: new, or the one to go on with."""
    if resume:
        chosen = config.load(find_recipe(recipe), settings or []) if recipe else None
        return runs.resume(folder, chosen)
    if recipe is None:
        raise ConfigError("give a recipe, or --resume with the folder of a run")
    return runs.create(folder, config.load(find_recipe(recipe), settings or []), force)


def _run(run: runs.Run, quiet: bool, until: str | None = None) -> None:
    """Do what is left of a run and print its table."""
    fast = fastmath.enable()  # before torch is imported
    from acereason import program
    from acereason.view.terminal import table

    with run:
        run.record("start", seconds={}, **{"arithmetic": fast.detail})
        summary = program.run_all(run, progress.for_terminal(quiet), until)
        if summary is not None:
            out.print(table(summary))
            out.print(f"report: {run.path / 'report.html'}", markup=False)


def _print_recipe(recipe: config.Recipe) -> None:
    out.print_json(json.dumps(config.resolved(recipe)))
    out.print(f"hash {config.digest(recipe)}")


@app.command()
def demo(
    folder: OutFolder = Path("runs/demo"),
    settings: Settings = None,
    resume: Resume = False,
    force: Force = False,
    dry_run: DryRun = False,
    quiet: Silent = False,
) -> None:
    """The whole recipe on a laptop: curate, SFT, calibrate, RL on math twice and code once, evaluate.

    Two CPU cores, nothing to download, about eight minutes."""
    run("demo", folder, settings, resume, force, dry_run, quiet)


@app.command()
def run(
    recipe: Annotated[
        str | None, typer.Argument(help="a recipe; may be left out with --resume")
    ] = None,
    folder: OutFolder = Path("runs/run"),
    settings: Settings = None,
    resume: Resume = False,
    force: Force = False,
    dry_run: DryRun = False,
    quiet: Silent = False,
    until: Annotated[
        str | None, typer.Option(help="stop after this stage (sft, or a stage's name)")
    ] = None,
) -> None:
    """A recipe from beginning to end. Killed at any moment, `--resume` goes on to the same weights."""
    if dry_run:
        if recipe is None:
            raise ConfigError("--dry-run needs a recipe")
        _print_recipe(config.load(find_recipe(recipe), settings or []))
        return
    _run(_open(recipe, folder, settings, resume, force), quiet, until)


@app.command()
def report(folder: Annotated[Path, typer.Argument(help="the run's folder")]) -> None:
    """Write a run's report.html: one file, opens anywhere."""
    from acereason.view.report import write_report

    out.print(str(write_report(folder)), markup=False)


@app.command()
def verify(
    source: Annotated[Path, typer.Argument(help="JSON Lines: a problem's fields and `response`")],
    target: Annotated[
        Path, typer.Option("--out", "-o", help="JSON Lines of verdicts, one per row, in order")
    ],
    workers: Annotated[int, typer.Option(help="judging processes")] = 2,
    mode: Annotated[str, typer.Option(help="how to judge, see docs/verifier.md")] = "strict",
) -> None:
    """Judge responses that were made anywhere: math answers by rule, programs by their tests in a sandbox."""
    from acereason.verify.files import verify_file

    counts: dict[str, Any] = verify_file(source, target, workers, mode)
    out.print("  ".join(f"{name} {count}" for name, count in counts.items()))


if __name__ == "__main__":
    main()
