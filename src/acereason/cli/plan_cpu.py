"""`plan --cpu`: a recipe on processors."""

from __future__ import annotations

import json
from dataclasses import asdict, fields, replace

from rich.table import Table

from acereason import config, machine
from acereason.cli.common import out
from acereason.errors import ConfigError
from acereason.plan import processor
from acereason.plan.memory import GIB
from acereason.plan.processor import Plan, Processors, Rates
from acereason.shape import Shape

Asked = tuple[int | None, int, float | None]  # cores, ranks, GB
RATES = [f.name for f in fields(Rates)]


def show(recipe: config.Recipe, shape: Shape, asked: Asked, given: dict[str, float], as_json: bool) -> None:
    """Print the plan; ConfigError when the machine is too small, with what to change."""
    place = _machine(recipe, asked)
    cut = recipe.model.vocabulary == "data" and shape.vocab > processor.CUT
    shape = replace(shape, vocab=processor.CUT) if cut else shape
    speeds, measured = _rates(recipe, given)
    planned = processor.plan(recipe, shape, place, speeds)
    if as_json:
        out.print_json(json.dumps(_data(planned, speeds)))
        return
    _print(recipe, planned, cut)
    _print_rates(speeds, measured)
    if planned.memory > place.memory:
        raise ConfigError(
            f"this cannot fit: {planned.memory / GIB:.1f} GiB are needed, the machine has "
            f"{place.memory / GIB:.1f}. Change: {', or '.join(_changes(recipe, planned))}"
        )


def _machine(recipe: config.Recipe, asked: Asked) -> Processors:
    """What was asked for, else this machine."""
    cores, ranks, gigabytes = asked
    place = Processors(
        cores or machine.cores(), ranks, machine.memory() if gigabytes is None else gigabytes * 1e9
    )
    if ranks > place.cores:
        raise ConfigError(f"{ranks} ranks need as many processors, and there are {place.cores} (--cores)")
    if ranks > 1 and recipe.placement.parallel != "replicate":
        raise ConfigError(
            'several ranks on one machine want placement.parallel = "replicate" (--set): shards are for '
            "GPUs, and for models that fit no other way"
        )
    return place


def _rates(recipe: config.Recipe, given: dict[str, float]) -> tuple[Rates, str]:
    """The rates, and the type that a core's were measured in; empty where they were given."""
    kind: str = recipe.placement.compute
    measured = not {"flops", "bandwidth"} <= given.keys()
    core = (given.get("flops", 0.0), given.get("bandwidth", 0.0))
    if measured:
        from acereason.plan import rating

        kind = rating.product_type(kind)
        core = rating.core(kind)
    return replace(Rates(*core, *processor.SHARES[kind]), **given), kind if measured else ""


def _changes(recipe: config.Recipe, planned: Plan) -> list[str]:
    """What takes less memory."""
    changes = ["--ranks 1" if planned.machine.ranks > 1 else "a smaller model"]
    if planned.rank["cache"] > GIB / 2:
        changes.append("a lower sampling.slots")
    if recipe.rl.moments == "float32":
        changes.append('rl.moments = sft.moments = "8bit"')
    if not recipe.model.frozen_layers and recipe.lora is None:
        changes.append("model.frozen_layers")
    return changes


def _data(planned: Plan, rates: Rates) -> dict[str, object]:
    return {
        "parameters": planned.shape.parameters,
        "machine": asdict(planned.machine),
        "rank": planned.rank,
        "memory": planned.memory,
        "rates": asdict(rates),
        "sft_step": planned.sft,
        "stages": [{"name": s.name, "step": {**asdict(t), "total": t.total}} for s, t in planned.stages],
    }


def _print(recipe: config.Recipe, planned: Plan, cut: bool) -> None:
    place = planned.machine
    out.print(
        f"{recipe.name}: {planned.shape.parameters:,} parameters"
        f"{f' with a vocabulary cut to {processor.CUT:,} tokens (assumed)' if cut else ''}, {place.cores} "
        f"processors, {place.ranks} rank{'s' if place.ranks > 1 else ''}, {place.memory / GIB:.1f} GiB"
    )
    table = Table("part", title="Memory of a rank, GiB", title_justify="left")
    table.add_column("GiB", justify="right")
    for name, size in planned.rank.items():
        table.add_row(name, f"{size / GIB:.2f}")
    table.add_row("in all", f"{sum(planned.rank.values()) / GIB:.1f}", style="bold")
    out.print(table)
    out.print(f"all ranks: {planned.memory / GIB:.1f} GiB")
    if planned.sft is not None:
        out.print(f"a step of SFT: {planned.sft:.1f} s")
    for stage, step in planned.stages:
        out.print(
            f"a step of {stage.name}: {step.total:.1f} s (sample {step.sample:.1f}, learn {step.learn:.1f}); "
            f"{stage.steps} steps: {stage.steps * step.total / 60:.0f} min",
            markup=False,
        )


def _print_rates(rates: Rates, measured: str) -> None:
    out.print(
        "Curation, calibration and evaluations are not counted. Rates (--rate NAME=NUMBER for your own):"
    )
    for name, source in processor.SOURCES.items():
        here = measured and name in ("flops", "bandwidth")
        told = f"{source}, measured here{f' in {measured}' if name == 'flops' else ''}" if here else source
        out.print(f"  {name} = {getattr(rates, name):.3g}: {told}", markup=False)
