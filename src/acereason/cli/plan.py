"""`plan`: whether a recipe fits a machine, and how long it takes."""

from __future__ import annotations

import json
from dataclasses import asdict, fields, replace
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.box import SIMPLE
from rich.table import Table

from acereason import config
from acereason.cli.common import Settings, find_recipe, out
from acereason.errors import ConfigError

if TYPE_CHECKING:
    from acereason.plan.memory import Means
    from acereason.plan.plan import Plan
    from acereason.plan.times import Rates


PAPERS_TRACES, PAPERS_LENGTH = 2_200_000, 8000  # the length is assumed


def plan(
    recipe: Annotated[
        str | None, typer.Argument(help="a recipe, as for run; not needed with --table")
    ] = None,
    gpus: Annotated[int, typer.Option(min=1, help="GPUs that learn")] = 8,
    gpu_memory: Annotated[
        float | None,
        typer.Option(
            "--memory",
            min=1,
            help="memory of one GPU, GB (10^9 bytes), 141 if left out; with --cpu the machine's",
        ),
    ] = None,
    cpu: Annotated[bool, typer.Option("--cpu", help="on processors: this machine's, or --cores")] = False,
    cores: Annotated[int | None, typer.Option(min=1, help="processors, with --cpu")] = None,
    processes: Annotated[
        int, typer.Option("--ranks", min=1, help="processes of torchrun on them, with --cpu")
    ] = 1,
    separate: Annotated[
        int, typer.Option(min=0, help="further GPUs that only sample; 0: those that learn sample, too")
    ] = 0,
    tensor_parallel: Annotated[int, typer.Option(min=1, help="GPUs of one vLLM server")] = 1,
    model: Annotated[
        str | None, typer.Option(help="another shape than the recipe's: a name or a folder")
    ] = None,
    sft_samples: Annotated[
        int | None,
        typer.Option(min=1, help="SFT traces; default the recipe's own, or the paper's 2.2 million"),
    ] = None,
    sft_length: Annotated[
        int | None,
        typer.Option(min=1, help="mean tokens of a trace; default 8000, or half a shorter context"),
    ] = None,
    rate: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=NUMBER", help="another rate than the printed one, e.g. mfu_rl=0.3"),
    ] = None,
    settings: Settings = None,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
    table: Annotated[bool, typer.Option("--table", help="print the table of docs/cluster.md")] = False,
) -> None:
    """Memory per GPU, tokens per micro-batch that fit, time per step and stage: arithmetic, nothing is run.

    What cannot fit is refused with what to change. With --cpu: memory of the machine and time of a step on
    processors; how quick a core is, is measured in a second unless --rate flops= and bandwidth= say it."""
    from acereason.plan import disk, shapes
    from acereason.plan import plan as planning
    from acereason.plan.memory import Machine

    if table:
        out.print(planning.table(), markup=False, soft_wrap=True)
        return
    if recipe is None:
        raise ConfigError("give a recipe, or --table")
    chosen = config.load(find_recipe(recipe), settings or [])
    shape = shapes.named(model) if model else shapes.of(chosen.model)
    if cpu:
        from acereason.cli import plan_cpu

        given = _given(rate or [], plan_cpu.RATES)
        plan_cpu.show(chosen, shape, (cores, processes, gpu_memory), given, as_json)
        return
    machine = Machine(gpus, (gpu_memory or 141) * 1e9, separate, tensor_parallel)
    rates = _rates(rate or [])
    samples, length = sft_samples or _samples(chosen), sft_length or _length(chosen)
    planned = planning.plan(chosen, shape, machine, rates, samples, length)
    ids = 4 * samples * length if chosen.sft else 0
    room = disk.needed(chosen, shape.parameters, ids)
    if as_json:
        out.print_json(json.dumps({**_data(planned, rates), "disk": room}))
    else:
        _show(chosen, planned, rates, f"{samples:,} traces of {length:,} tokens in each epoch")
        out.print(disk.said(room), markup=False)


def _samples(recipe: config.Recipe) -> int:
    """How many traces a recipe makes itself; the paper's number where the data are not known here."""
    made = sum(tasks.sft_prompts for tasks in recipe.curate.tasks.values())
    learned = max(1, round(made * recipe.curate.sft_share)) * recipe.curate.responses_per_prompt
    return learned if made else PAPERS_TRACES


def _length(recipe: config.Recipe) -> int:
    """The mean length of a trace, assumed."""
    new = recipe.model.new
    context = recipe.model.context or (new.max_position_embeddings if new else 2 * PAPERS_LENGTH)
    return min(PAPERS_LENGTH, max(context // 2, 1))


def _rates(assignments: list[str]) -> Rates:
    """The default rates with those that were given."""
    from acereason.plan.times import Rates

    return replace(Rates(), **_given(assignments, [f.name for f in fields(Rates)]))


def _given(assignments: list[str], known: list[str]) -> dict[str, float]:
    """The rates in NAME=NUMBER. ConfigError: no such name, or no positive number."""
    given: dict[str, float] = {}
    for text in assignments:
        name, _, number = text.partition("=")
        try:
            given[name] = float(number)
        except ValueError:
            raise ConfigError(f"--rate takes NAME=NUMBER, e.g. mfu_rl=0.3; found {text!r}") from None
        if name not in known or not given[name] > 0:
            raise ConfigError(f"--rate {text}: a positive number for one of {', '.join(known)}")
    return given


def _data(planned: Plan, rates: Rates) -> dict[str, Any]:
    return {
        "parameters": planned.shape.parameters,
        "machine": asdict(planned.machine),
        "means": asdict(planned.means),
        "learning": planned.learning,
        "sampling": planned.sampling,
        "tokens_that_fit": planned.fitting,
        "cache_tokens": planned.cache,
        "rates": asdict(rates),
        "sft_seconds": planned.sft,
        "stages": [
            {
                "name": s.stage.name,
                "step": {**asdict(s.step), "total": s.step.total},
                "measuring": s.measuring,
                "total": s.total,
            }
            for s in planned.stages
        ],
    }


def _show(recipe: config.Recipe, planned: Plan, rates: Rates, traces: str) -> None:
    from acereason.plan.memory import GIB, fitting

    machine = planned.machine
    place = f"and {machine.separate} that sample" if machine.separate else "that sample, too (colocated)"
    out.print(
        f"{recipe.name}: {planned.shape.parameters:,} parameters on {machine.gpus} GPUs of "
        f"{machine.memory / GIB:.0f} GiB {place}; activation checkpointing "
        f"{'on' if planned.means.checkpointing else 'off'}{_means(planned.means)}"
    )
    out.print(_memory(planned))
    on = planned.means.checkpointing
    other = fitting(planned.shape, machine, replace(planned.means, checkpointing=not on))
    out.print(
        f"micro-batches of up to {planned.fitting:,} tokens fit ({other:,} with activation checkpointing "
        f"{'off' if on else 'on'}); a server's cache holds {planned.cache:,} tokens"
    )
    out.print(_times(planned))
    hours = ((planned.sft or 0) + sum(s.total for s in planned.stages)) / 3600
    gpu_hours = hours * (machine.gpus + machine.separate)
    out.print(f"in all {hours:,.0f} h, {gpu_hours:,.0f} GPU hours; evaluations are not counted")
    if planned.sft is not None:
        out.print(f"sft: {traces} (--sft-samples, --sft-length)")
    _print_rates(rates)


def _means(means: Means) -> str:
    """What else is done about memory, in words."""
    parts = [
        *([f"adapters of rank {means.rank}"] if means.rank else []),
        *(["8-bit moments"] if means.moments == "8bit" else []),
        *([f"offloaded: {', '.join(means.offload)}"] if means.offload else []),
        *([f"{means.sequence} ranks share a sequence"] if means.sequence > 1 else []),
    ]
    return "".join(f"; {part}" for part in parts)


def _memory(planned: Plan) -> Table:
    from acereason.plan.memory import GIB

    table = Table("", "part", title="Memory of one GPU, GiB", title_justify="left")
    table.add_column("GiB", justify="right")
    for phase, parts in (("learning", planned.learning), ("sampling", planned.sampling)):
        for name, size in parts.items():
            table.add_row(phase, name, f"{size / GIB:.1f}")
        total = sum(parts.values()) / GIB
        table.add_row(phase, "in all", f"{total:.1f}", style="bold", end_section=True)
    return table


def _times(planned: Plan) -> Table:
    table = Table(
        title="Time: seconds of a step and its parts; hours of a stage", title_justify="left", box=SIMPLE
    )
    table.add_column("stage", no_wrap=True)
    for name in ("sample", "judge", "learn", "publish", "step", "steps", "first", "all"):
        table.add_column(name, justify="right", no_wrap=True)
    if planned.sft is not None:
        table.add_row("sft", *["–"] * 7, f"{planned.sft / 3600:,.1f}")
    for s in planned.stages:
        parts = (s.step.sample, s.step.judge, s.step.learn, s.step.publish, s.step.total)
        hours = (f"{s.measuring / 3600:,.1f}", f"{s.total / 3600:,.1f}")
        table.add_row(s.stage.name, *(f"{x:,.0f}" for x in parts), str(s.stage.steps), *hours)
    return table


def _print_rates(rates: Rates) -> None:
    from acereason.plan.times import SOURCES

    out.print("first: filter and calibration before the first step. Rates (--rate NAME=NUMBER for your own):")
    for name, source in SOURCES.items():
        out.print(f"  {name} = {getattr(rates, name):g}: {source}", markup=False)
