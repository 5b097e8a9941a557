"""What the verbs share: the two consoles, the common options, finding a recipe or a model, and what is said
when a verb is interrupted."""

from __future__ import annotations

import shlex
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from acereason.errors import ConfigError
from acereason.kinds import near, said
from acereason.stopping import Preempted

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
    typer.Option(
        "--sink",
        help="send metrics and responses to wandb, trackio, mlflow or tensorboard too; may be repeated",
    ),
]
AlertUrl = Annotated[
    str | None,
    typer.Option("--alert", metavar="URL", help="POST what is found wrong with the run to this webhook"),
]

Model = Annotated[str, typer.Argument(help="a Hugging Face folder, or a hub id: ID or ID@REVISION")]
Problems = Annotated[Path, typer.Option("--problems", "-p", help="a file of problems")]
ServedTokenizer = Annotated[str | None, typer.Option(help="of a served model: its folder or hub id")]
ServedModel = Annotated[str | None, typer.Option(help="its name, where servers have several")]
PromptFormat = Annotated[
    str | None,
    typer.Option(
        help="how the model is asked: chatml-1.1, deepseek-r1, plain, template (its own chat template), or a "
        "prompt.json; default: what it was trained with, as its folder says"
    ),
]


def find_recipe(name: str) -> Path:
    """A recipe file, or one that ships with acereason by its name."""
    path = Path(name)
    if path.is_file():
        return path
    if path.exists() or path.suffix == ".toml":
        raise ConfigError(
            f"cannot read the recipe {name}: expected a TOML file, found {said(path)}{near(path)}"
        )
    shipped = Path(str(files("acereason"))) / "recipes"
    if (shipped / f"{name}.toml").exists():
        return shipped / f"{name}.toml"
    known = ", ".join(sorted(p.stem for p in shipped.glob("*.toml")))
    raise ConfigError(f"no recipe file {name!r}, and none of that name ships; shipped: {known}")


def embedded(model: str, format: str | None, slots: int = 256) -> tuple[Any, Any]:
    """A policy, asked in `format` or as its folder says, and its embedded sampler."""
    from acereason.policy import model as models
    from acereason.policy import saved
    from acereason.policy.policy import Policy
    from acereason.sample.engines.embedded import EmbeddedSampler

    saved.check_name(format)
    loaded, tokenizer = models.load_model(model), models.load_tokenizer(model)
    policy = Policy(loaded, tokenizer, saved.choose(model, tokenizer, format))
    return policy, EmbeddedSampler(policy.model, slots=slots, eos_ids=policy.end_ids)


@contextmanager
def goes_on_with(*command: str) -> Iterator[None]:
    """Have an interruption say which command goes on with the work; none given: the same one."""
    try:
        yield
    except (KeyboardInterrupt, Preempted) as stop:
        said = f"it goes on with:\n{shlex.join([*_program(), *(command or sys.argv[1:])])}"
        raise type(stop)(said) from None


@contextmanager
def until_told() -> Iterator[None]:
    """What a server's verb does from when it listens. SIGINT and SIGTERM end it alike, with status 0: it did
    what it was asked for."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with suppress(KeyboardInterrupt):
            yield
        err.print("ended")
    finally:
        signal.signal(signal.SIGTERM, before)


def _program() -> list[str]:
    """How this program was started."""
    return ["acereason"] if Path(sys.argv[0]).name == "acereason" else [sys.executable, "-m", "acereason"]
