"""`study list | run | report`: the paper's findings, run again with seeds and intervals."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, cast, get_args

import typer

from acereason.cli.common import err, goes_on_with, out
from acereason.errors import ConfigError, RunError
from acereason.kinds import near, said
from acereason.runs import disk_errors
from acereason.study import findings, plan, runner, spec
from acereason.study.records import Results
from acereason.study.verdicts import Verdict

app = typer.Typer(no_args_is_help=True, help="The paper's findings as experiments: claims, seeds, verdicts.")

Names = Annotated[list[str], typer.Argument(help="studies by name, TOML files of one's own, or all")]
SizeName = Annotated[str, typer.Option("--size", help="full: hours, small: minutes, tiny: the machinery")]
Split = Annotated[str | None, typer.Option(help="dev or test questions; default test at full size, else dev")]
Out = Annotated[Path, typer.Option("--out", "-o", help="where the runs are made")]
Findings = Annotated[
    Path | None,
    typer.Option("--findings", help="where records and findings are kept; default docs, or --out without it"),
]
Own = Annotated[Path | None, typer.Option("--model", "-m", help="a model of one's own instead of the lab's")]
Data = Annotated[
    list[str] | None,
    typer.Option("--data", metavar="KIND=FILE", help="its data: rl, held_out, and sft with traces"),
]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", "-s", metavar="KEY=VALUE", help="with --model: a setting of every recipe"),
]


@app.command("list")
def list_() -> None:
    """The claims, with their seeds and what decides them."""
    for name in spec.shipped():
        study = spec.load(name)
        out.print(f"{name:<8} {study.title}", markup=False)
        rules = "; ".join(f"{e.name} > {e.delta:g}" for e in study.effect if e.decides)
        out.print(f"         {rules}; {len(study.seeds)} seeds", style="dim", markup=False, soft_wrap=True)


@app.command()
def run(
    names: Names,
    size: SizeName = "small",
    split: Split = None,
    workers: Annotated[int, typer.Option("--workers", "-w", min=1, help="arms at a time")] = 1,
    folder: Out = Path("runs/studies"),
    kept: Findings = None,
    model: Own = None,
    data: Data = None,
    settings: Settings = None,
    keep: Annotated[bool, typer.Option(help="keep checkpoints and responses, too")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="say what would be run")] = False,
) -> None:
    """Run what is missing of some studies, then report. Killed anywhere, the same command goes on."""
    studies, ground = _studies(names), _ground(size, split, model, data, settings)
    planned = plan.plan(studies, ground)
    records, pages = _places(folder, kept, size, model)
    own = {ground.own.address: ground.own.model} if ground.own else {}
    folders = runner.Folders(folder, records, keep, own)
    jobs = runner.missing(planned, folders)
    there = sum(Results(records).get(a) is not None for a in planned.jobs)
    err.print(f"{len(planned.jobs)} arms: {there} are there, {len(jobs)} to run", markup=False)
    if dry_run:
        for job in jobs:
            out.print(f"{job.address}  {job.study} {job.name}, seed {job.seed}", markup=False)
        return
    for place in (folder, records):  # an arm's process would fail at each by itself
        with disk_errors(place):
            place.mkdir(parents=True, exist_ok=True)
    with goes_on_with():
        failed = runner.run(
            jobs, folders, workers, lambda text: err.print(text, markup=False, soft_wrap=True)
        )
    _told(findings.write(studies, ground, Results(records), pages), pages)
    if failed:
        raise typer.Exit(1)


@app.command()
def report(
    names: Annotated[list[str] | None, typer.Argument(help="studies; default all")] = None,
    size: SizeName = "full",
    split: Split = None,
    folder: Out = Path("runs/studies"),
    kept: Findings = None,
    model: Own = None,
    data: Data = None,
    settings: Settings = None,
) -> None:
    """Write findings.md, findings.json and the figures from the records that there are."""
    ground = _ground(size, split, model, data, settings)
    records, pages = _places(folder, kept, size, model)
    if next(records.glob("*.json"), None) is None:
        raise RunError(
            f"expected records of arms in {records}, found none ({pages} is {said(pages)}); "
            "acereason study run makes them"
        )
    _told(findings.write(_studies(names or ["all"]), ground, Results(records), pages), pages)


def _studies(names: list[str]) -> list[spec.Study]:
    return [spec.load(name) for given in names for name in (spec.shipped() if given == "all" else [given])]


def _ground(
    size: str, split: str | None, model: Path | None, data: list[str] | None, settings: list[str] | None
) -> plan.Ground:
    if size not in get_args(spec.Size):
        raise ConfigError(f"unknown size {size!r}; known: {', '.join(get_args(spec.Size))}")
    if split not in (None, "dev", "test"):
        raise ConfigError(f"unknown split {split!r}; known: dev, test")
    lab = spec.load_lab()
    chosen = cast(spec.Size, size)
    return plan.Ground(lab, chosen, split or lab.size[chosen].split, _own(model, data, settings))


def _own(model: Path | None, data: list[str] | None, settings: list[str] | None) -> plan.Own | None:
    if model is None:
        if data or settings:
            raise ConfigError("--data and --set belong to --model; the lab's own settings stand in studies/")
        return None
    from acereason.evaluate.benchmarks.job import fingerprint

    files = dict(item.partition("=")[::2] for item in data or [])
    unknown = files.keys() - {"rl", "held_out", "sft", "traces"}
    if unknown or not {"rl", "held_out"} <= files.keys():
        raise ConfigError(
            f"--model needs --data rl=FILE --data held_out=FILE, and sft=FILE with traces=FILE for claims "
            f"about fine-tuning; found {', '.join(files) or 'none'}"
        )
    address = fingerprint(str(model))
    if not address:
        raise ConfigError(f"{model} holds no *.safetensors: it is {said(model)}; give a Hugging Face folder")
    absolute = {kind: str(Path(file).expanduser().absolute()) for kind, file in files.items()}
    for kind, file in absolute.items():
        if not Path(file).is_file():
            raise ConfigError(
                f"--data {kind}: expected a file, {file} is {said(Path(file))}{near(Path(file))}"
            )
    return plan.Own(model.absolute(), address, absolute, tuple(settings or ()))


def _places(folder: Path, kept: Path | None, size: str, model: Path | None) -> tuple[Path, Path]:
    """Where records and pages are kept. What is not the full lab stays with the runs unless it is named."""
    here = size == "full" and model is None and Path("docs/findings.md").is_file()
    ours = Path("docs") if here else folder
    pages = kept or ours
    return pages / "findings" / "arms", pages


def _told(verdicts: list[Verdict], pages: Path) -> None:
    for v in verdicts:
        effect = next((e for e in v.effects if e.decides), None)
        shown = f": {effect.name} {findings.number(effect)}" if effect else f" ({v.done} of {v.arms} arms)"
        out.print(f"{v.study:<8} {v.verdict:<13} {v.title}{shown}", markup=False, soft_wrap=True)
    out.print(f"{pages / 'findings.md'}", markup=False)
