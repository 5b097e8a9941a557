"""`calibrate`: the temperature at which the temperature-adjusted entropy meets a target."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer
from rich.table import Table

from acereason import config
from acereason.cli.common import PromptFormat, embedded, err, out
from acereason.errors import ConfigError
from acereason.files import write_atomic
from acereason.native import mkl as fastmath


def calibrate(
    budget: Annotated[int, typer.Option(help="most response tokens")],
    model: Annotated[str | None, typer.Argument(help="a Hugging Face folder or hub id")] = None,
    problems: Annotated[
        Path | None, typer.Option("--problems", "-p", help="JSON Lines of problems, for MODEL")
    ] = None,
    server: Annotated[
        str | None, typer.Option(help="instead of MODEL: an OpenAI-compatible server, http://…/v1")
    ] = None,
    prompts: Annotated[
        Path | None, typer.Option(help="for a server: JSON Lines with prompt, messages or question; or text")
    ] = None,
    model_name: Annotated[str | None, typer.Option(help="the server's name of the model")] = None,
    key: Annotated[str | None, typer.Option(help="environment variable that holds the server's key")] = None,
    samples: Annotated[int, typer.Option(min=1, help="for a server: responses per prompt")] = 1,
    target: Annotated[float, typer.Option(help="temperature-adjusted entropy wanted, nats")] = 0.3,
    candidates: Annotated[str, typer.Option(help="temperatures to begin with")] = "0.6,0.8,1.0,1.2",
    number: Annotated[int, typer.Option("--number", "-n", min=1, help="how many prompts to ask")] = 128,
    format: PromptFormat = None,
    seed: Annotated[int, typer.Option(help="of the draws")] = 1,
    plot: Annotated[Path | None, typer.Option(help="write the curve here, as SVG")] = None,
) -> None:
    """The sampling temperature whose temperature-adjusted entropy meets a target, with the curve."""
    rule = _rule(target, number, candidates)
    if server is not None:
        if prompts is None or model is not None:
            raise ConfigError("--server takes --prompts FILE, and no MODEL beside it")
        calibration = _of_server(server, prompts, rule, (model_name, key), (budget, samples, seed))
    elif model is not None and problems is not None:
        calibration = _of_model(model, problems, rule, format, budget, seed)
    else:
        raise ConfigError("give MODEL with --problems FILE, or --server URL with --prompts FILE")
    table = Table("T", "H_T, nats", "± se")
    for point in calibration.points:
        table.add_row(f"{point.T:.3f}", f"{point.H:.4f}", f"{point.se:.4f}")
    out.print(table)
    entropy = f"{calibration.check.H:.3f} ± {calibration.check.se:.3f}"
    out.print(f"T = {calibration.T:.3f} gives H_T = {entropy}; target {target}")
    if plot is not None:
        from acereason.sample.curve import svg

        write_atomic(plot, svg(calibration).encode())
        out.print(f"the curve is in {plot}")


def _rule(target: float, number: int, candidates: str) -> config.Temperature:
    try:
        values = [float(T) for T in candidates.split(",")]
        fields = {"rule": "calibrate", "target": target, "prompts": number, "candidates": values}
        return msgspec.convert(fields, config.Temperature)
    except ValueError as error:  # msgspec's is one, too
        raise ConfigError(f"--candidates, --target or --number: {error}") from error


def _of_model(
    model: str, problems: Path, rule: config.Temperature, format: str | None, budget: int, seed: int
) -> Any:
    fastmath.enable()
    from acereason.published.records import read_problems
    from acereason.sample.temperature import calibrate_policy

    policy, sampler = embedded(model, format)
    return calibrate_policy(policy, sampler, read_problems(problems, judged=False), budget, rule, (seed,))


def _of_server(
    url: str,
    prompts: Path,
    rule: config.Temperature,
    names: tuple[str | None, str | None],
    numbers: tuple[int, int, int],
) -> Any:
    """Measured from the server's log-probabilities; refuses raw ones."""
    from acereason.sample.servers import endpoint
    from acereason.sample.temperature import calibrate as meet

    (name, key), (budget, samples, seed) = names, numbers
    secret = os.environ.get(key or "", "")
    asked = endpoint.read_prompts(prompts)[: rule.prompts]
    e = endpoint.Endpoint(url, name or "", budget, samples, seed=seed, key=secret)
    if not name:
        e = msgspec.structs.replace(e, model=endpoint.first_model(e))
    whole = endpoint.check(e, asked)
    if not whole:
        err.print("the server knows no top_k, min_p or repetition_penalty: its own defaults apply")
    return meet(endpoint.measure(e, asked, whole), rule.target, sorted(rule.candidates))
