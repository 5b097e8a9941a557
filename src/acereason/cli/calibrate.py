"""`calibrate`: the temperature at which the temperature-adjusted entropy meets a target."""

from __future__ import annotations

from typing import Annotated

import msgspec
import typer
from rich.table import Table

from acereason import config, fastmath
from acereason.cli.common import Model, Problems, PromptFormat, embedded, out


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

    policy, sampler = embedded(model, format)
    asked = list(read_jsonl(problems, Problem))
    found = calibrate_policy(policy, sampler, asked, budget, rule, (seed,))
    table = Table("T", "H_T, nats", "± se")
    for point in found.points:
        table.add_row(f"{point.T:.3f}", f"{point.H:.4f}", f"{point.se:.4f}")
    out.print(table)
    out.print(f"T = {found.T:.3f} gives H_T = {found.check.H:.3f} ± {found.check.se:.3f}; target {target}")
