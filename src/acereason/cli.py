"""The command line: one verb, one function. `acereason VERB --help` teaches each.

An error that acereason raises on purpose is printed without a traceback and exits with status 2.
"""

from __future__ import annotations

import json
import sys
import tomllib
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, cast, get_args

import msgspec
import typer
from rich.console import Console
from rich.table import Table

from acereason import config, fastmath, progress, runs
from acereason.chat import Format
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

RecipeFile = Annotated[str, typer.Argument(help="a recipe: a TOML file, or the name of one that ships: demo")]
OutFolder = Annotated[Path, typer.Option("--out", "-o", help="the run's folder")]
Settings = Annotated[
    list[str] | None,
    typer.Option(
        "--set", "-s", metavar="KEY=VALUE", help="override a key: sft.epochs=3, stage.NAME.steps=10"
    ),
]
Resume = Annotated[bool, typer.Option("--resume", help="go on with the run in the folder, exactly")]
Force = Annotated[bool, typer.Option("--force", help="delete the run in the folder and start anew")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="print the resolved recipe and its hash, do nothing")]
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
        run.record("start", seconds={}, arithmetic=fast.detail)
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
    recipe: Annotated[str | None, typer.Argument(help="a recipe; may be left out with --resume")] = None,
    folder: OutFolder = Path("runs/run"),
    settings: Settings = None,
    resume: Resume = False,
    force: Force = False,
    dry_run: DryRun = False,
    quiet: Silent = False,
    until: Annotated[str | None, typer.Option(help="stop after this stage (sft, or a stage's name)")] = None,
) -> None:
    """A recipe from beginning to end. Killed at any moment, `--resume` goes on to the same weights."""
    if dry_run:
        if recipe is None:
            raise ConfigError("--dry-run needs a recipe")
        _print_recipe(config.load(find_recipe(recipe), settings or []))
        return
    _run(_open(recipe, folder, settings, resume, force), quiet, until)


@app.command()
def curate(
    recipe: RecipeFile,
    folder: OutFolder = Path("data"),
    settings: Settings = None,
) -> None:
    """Only the first step: prompts and traces as JSON Lines, and the funnel of what was dropped and why.

    A file with [[sources]] runs the whole pipeline over published sets; see docs/curation.md."""
    path = find_recipe(recipe)
    if published := curation_of(path):
        from acereason.curate import funnel, pipeline

        out.print(funnel.table(pipeline.curate(published, folder, err.print)))
        return
    from acereason.curate import tasks

    chosen = config.load(path, settings or [])
    data, steps = tasks.make(chosen.curate, chosen.seed)
    folder.mkdir(parents=True, exist_ok=True)
    tasks.write(data, folder)
    for row in steps:
        reasons = ", ".join(f"{count} {why}" for why, count in row.reasons.items()) or "nothing dropped"
        out.print(f"{row.name}: {row.before} → {row.after} ({reasons})", markup=False)
    out.print(
        f"{len(data.sft)} SFT prompts, {len(data.traces)} traces, {len(data.rl)} RL prompts", markup=False
    )


def curation_of(path: Path) -> Any:
    """The settings of a curation file, known by its [[sources]]; None for a recipe."""
    try:
        data = tomllib.loads(path.read_text())
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"cannot read {path}: {error}") from error
    if "sources" not in data:
        return None
    from acereason.curate.settings import Curation

    try:
        return msgspec.convert(data, Curation)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{path}: {error}") from error


@app.command()
def sft(
    recipe: RecipeFile,
    folder: OutFolder = Path("runs/sft"),
    settings: Settings = None,
    resume: Resume = False,
    force: Force = False,
    quiet: Silent = False,
) -> None:
    """A recipe up to the fine-tuned model with its evaluation; `run --resume` goes on from there."""
    _run(_open(recipe, folder, settings, resume, force), quiet, until="sft")


@app.command()
def rl(
    recipe: RecipeFile,
    model: Annotated[Path, typer.Option("--model", "-m", help="the Hugging Face folder to start from")],
    folder: OutFolder = Path("runs/rl"),
    settings: Settings = None,
    resume: Resume = False,
    force: Force = False,
    quiet: Silent = False,
) -> None:
    """The RL stages of a recipe, from a fine-tuned model of one's own instead of the recipe's SFT."""
    if resume:
        _run(runs.resume(folder), quiet)
        return
    chosen = config.load(find_recipe(recipe), settings or [])
    start = msgspec.structs.replace(chosen.model, path=str(model), new=None)
    _run(runs.create(folder, msgspec.structs.replace(chosen, model=start, sft=None), force), quiet)


Model = Annotated[str, typer.Argument(help="a Hugging Face folder or hub id")]
Problems = Annotated[Path, typer.Option("--problems", "-p", help="JSON Lines of problems")]
PromptFormat = Annotated[str, typer.Option(help="prompt format: chatml-1.1, chatml-1.0 or plain")]


@app.command()
def calibrate(
    model: Model,
    problems: Problems,
    budget: Annotated[int, typer.Option(help="most response tokens")],
    target: Annotated[float, typer.Option(help="temperature-adjusted entropy wanted, nats")] = 0.3,
    candidates: Annotated[str, typer.Option(help="temperatures to begin with")] = "0.6,0.8,1.0,1.2",
    prompts: Annotated[int, typer.Option(help="how many problems to ask")] = 128,
    format: PromptFormat = "chatml-1.1",
    seed: Annotated[int, typer.Option(help="of the draws")] = 1,
) -> None:
    """The sampling temperature whose temperature-adjusted entropy meets a target, with the curve."""
    rule = msgspec.convert(
        {
            "rule": "calibrate",
            "target": target,
            "prompts": prompts,
            "candidates": [float(T) for T in candidates.split(",")],
        },
        config.Temperature,
    )
    fastmath.enable()
    from acereason.problems import Problem, read_jsonl
    from acereason.sample.temperature import calibrate_policy

    policy, sampler = _policy(model, format)
    asked = list(read_jsonl(problems, Problem))
    found = calibrate_policy(policy, sampler, asked, budget, rule, (seed,))
    table = Table("T", "H_T, nats", "± se")
    for point in found.points:
        table.add_row(f"{point.T:.3f}", f"{point.H:.4f}", f"{point.se:.4f}")
    out.print(table)
    out.print(f"T = {found.T:.3f} gives H_T = {found.check.H:.3f} ± {found.check.se:.3f}; target {target}")


@app.command()
def evaluate(
    model: Model,
    problems: Problems,
    k: Annotated[int, typer.Option("-k", help="samples per problem")] = 8,
    budget: Annotated[int, typer.Option(help="most response tokens")] = 32768,
    temperature: Annotated[float, typer.Option(help="sampling temperature")] = 0.6,
    top_p: Annotated[float, typer.Option(help="probability mass kept")] = 0.95,
    format: PromptFormat = "chatml-1.1",
    seed: Annotated[int, typer.Option(help="of the draws")] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
) -> None:
    """avg@k and pass@k of a model on problems of one's own, with the question-level standard error."""
    settings = config.Evaluation(k, temperature, top_p, budget)
    fastmath.enable()
    from acereason.evaluate import evaluate as evaluation
    from acereason.evaluate.summary import by_domain
    from acereason.problems import Problem, read_jsonl
    from acereason.verify import Judge

    policy, sampler = _policy(model, format)
    results: dict[str, Any] = {}
    with Judge() as judge:
        for domain, part in by_domain(list(read_jsonl(problems, Problem))).items():
            with progress.for_terminal(as_json).task(domain, len(part) * k) as advance:
                groups = evaluation.evaluate(
                    policy, sampler, judge, part, settings, seed, lambda _: advance(1, "")
                )
            results[domain] = evaluation.summarise(groups)
    if as_json:
        out.print_json(json.dumps(results))
        return
    for domain, row in results.items():
        passes = "  ".join(f"pass@{n} {value:.1%}" for n, value in row["pass_at_k"].items())
        score = f"{row['accuracy']:.1%} ± {row['se']:.1%}"
        out.print(f"{domain}: avg@{row['k']} {score} over {row['n']} problems  {passes}", markup=False)


def _policy(model: str, format: str) -> tuple[Any, Any]:
    """A policy and its embedded sampler."""
    from acereason.policy import model as models
    from acereason.policy.policy import Policy
    from acereason.sample.embedded import EmbeddedSampler

    if format not in get_args(Format):
        raise ConfigError(f"unknown prompt format {format!r}; known: {', '.join(get_args(Format))}")
    policy = Policy(models.load_model(model), models.load_tokenizer(model), cast(Format, format))
    return policy, EmbeddedSampler(policy.model, eos_ids=policy.end_ids)


@app.command()
def report(folder: Annotated[Path, typer.Argument(help="the run's folder")]) -> None:
    """Write a run's report.html: one file, opens anywhere."""
    from acereason.view.report import write_report

    out.print(str(write_report(folder)), markup=False)


@app.command()
def verify(
    source: Annotated[
        Path | None, typer.Argument(help="JSON Lines: a problem's fields and `response`")
    ] = None,
    target: Annotated[
        Path | None, typer.Option("--out", "-o", help="verdicts, one per row, in order")
    ] = None,
    workers: Annotated[int, typer.Option(help="judging processes")] = 2,
    mode: Annotated[
        str, typer.Option(help="strict, lcb, math_verify or acereason; docs/verifier.md")
    ] = "strict",
    serve: Annotated[
        bool, typer.Option("--serve", help="judge over HTTP instead: JSON in, JSON out")
    ] = False,
    host: Annotated[str, typer.Option(help="where to listen")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="where to listen")] = 8765,
    token: Annotated[str, typer.Option(help="what callers must send as a bearer token")] = "",
) -> None:
    """Judge responses that were made anywhere: math answers by rule, programs by their tests in a sandbox."""
    if serve:
        from acereason.verify.serve import serve as listen

        listen(host, port, workers, mode, token, ready=out.print)
        return
    if source is None or target is None:
        raise ConfigError("give a file of responses and --out for the verdicts, or --serve")
    from acereason.verify.files import verify_file

    counts: dict[str, Any] = verify_file(source, target, workers, mode)
    out.print("  ".join(f"{name} {count}" for name, count in counts.items()))


if __name__ == "__main__":
    main()
