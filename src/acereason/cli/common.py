"""What the verbs share: the two consoles, the common options, and finding a recipe or a model."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, cast, get_args

import typer
from rich.console import Console

from acereason.chat import Format
from acereason.errors import ConfigError

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
DryRun = Annotated[
    bool,
    typer.Option("--dry-run", help="print the resolved recipe, its hash and what `check` finds"),
]
Silent = Annotated[bool, typer.Option("--quiet", "-q", help="no progress")]
AsJson = Annotated[bool, typer.Option("--json", help="metrics rows as JSON lines on standard output")]
Sinks = Annotated[
    list[str] | None,
    typer.Option("--sink", help="send metrics to tensorboard, wandb or trackio as well; may be repeated"),
]

Model = Annotated[str, typer.Argument(help="a Hugging Face folder or hub id")]
Problems = Annotated[Path, typer.Option("--problems", "-p", help="JSON Lines of problems")]
PromptFormat = Annotated[str, typer.Option(help="prompt format: chatml-1.1, chatml-1.0 or plain")]


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


def embedded(model: str, format: str) -> tuple[Any, Any]:
    """A policy and its embedded sampler."""
    from acereason.policy import model as models
    from acereason.policy.policy import Policy
    from acereason.sample.engines.embedded import EmbeddedSampler

    if format not in get_args(Format):
        raise ConfigError(f"unknown prompt format {format!r}; known: {', '.join(get_args(Format))}")
    policy = Policy(models.load_model(model), models.load_tokenizer(model), cast(Format, format))
    return policy, EmbeddedSampler(policy.model, eos_ids=policy.end_ids)
