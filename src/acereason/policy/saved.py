"""Which format a model is asked in: the one in its folder, unless another is asked for by name.

`prompt.json` in a model's folder is the format it was trained with. Where there is none, the run that the
folder belongs to tells it, then the model's own chat template.
"""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import msgspec

from acereason.errors import CheckpointError, ConfigError
from acereason.files import write_atomic
from acereason.policy import hub
from acereason.policy.templates import from_model
from acereason.prompts import CHATML, FORMATS, NAMES, Prompt, Settings, unknown

FILE = "prompt.json"
SCHEMA = 1  # of that file
log = logging.getLogger(__name__)


def write(prompt: Prompt, folder: Path) -> None:
    """Put the format into a model's folder."""
    data = {"schema": SCHEMA, **msgspec.to_builtins(prompt)}
    write_atomic(folder / FILE, msgspec.json.format(msgspec.json.encode(data)) + b"\n")


def read(path: str | Path) -> Prompt | None:
    """The format that a model's folder or hub id tells; None when it tells none.

    CheckpointError: its prompt.json cannot be read."""
    folder = Path(path).expanduser()
    if not folder.is_dir() and hub.commit(str(path)):
        folder = hub.folder(str(path), hub.TEXT)
    return _of_file(folder / FILE) if (folder / FILE).exists() else _of_run(folder)


def _of_file(path: Path) -> Prompt:
    try:
        data = msgspec.json.decode(path.read_bytes(), type=dict[str, Any])
        if (schema := data.pop("schema", SCHEMA)) != SCHEMA:
            raise CheckpointError(
                f"{path} has schema {schema}; this acereason reads {SCHEMA}. Upgrade it, or name the format"
            )
        return msgspec.convert(data, Prompt)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{path} is no prompt format: {error}") from error


def _of_run(folder: Path) -> Prompt | None:
    """For models of runs that wrote no prompt.json: the format of the run's recipe."""
    for recipe in (folder.parent.parent / "recipe.json", folder / "acereason" / "recipe.json"):
        try:
            name = json.loads(recipe.read_text())["model"]["format"]
        except (OSError, ValueError, KeyError, TypeError):
            continue
        if name in FORMATS:
            return FORMATS[name]
    return None


def choose(
    path: str | Path | None, tokenizer: Any, asked: str | None = None, settings: Settings | None = None
) -> Prompt:
    """The format in which the model at `path` is asked: as `asked` by name (or the file of one) and changed
    by `settings`, else as its folder says. Warns, with both names, where the two differ.

    path None: a model that is made here. ConfigError: no format is called so, or it has no chat template."""
    check_name(asked)
    told, changes = read(path) if path is not None else None, settings or Settings()
    chosen = _named(asked, tokenizer, changes, told) or changes.on(told or _default(path, tokenizer))
    if told is not None and not same(told, chosen):
        log.warning(
            "%s was trained with the prompt format %r and is asked with %r", path, told.name, chosen.name
        )
    return chosen


def check_name(asked: str | None) -> None:
    """ConfigError when no format is called so."""
    if asked is not None and asked not in NAMES and not asked.endswith(".json"):
        raise ConfigError(unknown(asked))


def _named(asked: str | None, tokenizer: Any, changes: Settings, told: Prompt | None) -> Prompt | None:
    """The format that is asked for; None: none is."""
    if asked == "template":
        own = told is not None and told.name.startswith("template")  # its template by now renders this
        return changes.on(told) if told is not None and own else from_model(tokenizer, changes)
    if asked in FORMATS:
        return changes.on(FORMATS[asked])
    if asked is not None and asked.endswith(".json"):
        return changes.on(_of_file(Path(asked)))
    if asked == "own" and not changes.pieces():
        raise ConfigError(
            "format 'own' stands in a recipe's [model.prompt]; give the file prompt.json instead"
        )
    return changes.on(Prompt()) if changes.pieces() else None


def same(one: Prompt, other: Prompt) -> bool:
    """Whether two formats ask the same, whatever they are called. An open `bos` agrees with both."""
    changes: dict[str, Any] = {"name": ""} | ({"bos": None} if None in (one.bos, other.bos) else {})
    return msgspec.structs.replace(one, **changes) == msgspec.structs.replace(other, **changes)


def _default(path: str | Path | None, tokenizer: Any) -> Prompt:
    if path is None:
        return CHATML
    if getattr(tokenizer, "chat_template", None):
        return from_model(tokenizer)
    log.warning(
        "%s does not say how it is asked (no %s, no chat template): %r is taken, unless another is named",
        path, FILE, CHATML.name,
    )  # fmt: skip
    return CHATML
