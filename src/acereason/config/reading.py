"""A recipe read from a file or from plain data, and written as plain data again."""

from __future__ import annotations

import hashlib
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from acereason import keys
from acereason.config import used
from acereason.config.recipe import SCHEMA, Recipe
from acereason.errors import ConfigError

KINDS = ("recipe", "curation")


def kind_of(data: Mapping[str, Any], origin: str) -> str:
    """What a file of settings is: what its `kind` says, else a recipe. One from before kinds that has
    [[sources]], as no recipe does, is a curation. ConfigError: there is no such kind."""
    kind = data.get("kind", "curation" if "sources" in data else "recipe")
    if kind not in KINDS:
        raise ConfigError(f'{origin}: expected kind = "recipe" or kind = "curation", found {kind!r}')
    return str(kind)


def load(path: str | Path, settings: Sequence[str] = (), recorded: bool = False) -> Recipe:
    """Read a recipe and apply `--set` assignments to it; `recorded` as in `parse`.

    Raises ConfigError: no such file, bad TOML, unknown key, wrong value."""
    try:
        data = tomllib.loads(Path(path).read_text())
    except OSError as error:
        raise ConfigError(f"cannot read the recipe {path}: {error.strerror}") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path} is not valid TOML: {error}") from error
    if kind_of(data, str(path)) != "recipe":
        raise ConfigError(f"{path} is a curation, no recipe: acereason curate {path} runs it")
    try:
        return parse(keys.assigned(data, settings), str(path), recorded)
    except ConfigError:
        if blamed := keys.blamed(data, settings, parse):
            parse(keys.assigned(data, settings), ", ".join(f"--set {setting}" for setting in blamed))
        raise


def parse(data: Mapping[str, Any], origin: str = "recipe", recorded: bool = False) -> Recipe:
    """A recipe from plain data; one of an earlier schema is brought up to date. Where it is `recorded`, i.e.
    `resolved` of a run that has begun, settings without an effect are taken as they are (`used.check`)."""
    data = _current(data, origin)
    try:
        keys.check(data, Recipe)
        recipe = msgspec.convert(data, Recipe, strict=False)
        if not recorded:
            used.check(recipe)
        return recipe
    except (ConfigError, msgspec.ValidationError) as error:
        raise ConfigError(f"{origin}: {error}{keys.valid(str(error), Recipe)}") from error


def _current(data: Mapping[str, Any], origin: str) -> dict[str, Any]:
    """The data in the present schema. ConfigError for that of a later acereason."""
    schema, data = data.get("schema", 1), {**data, "schema": SCHEMA}
    if isinstance(schema, int) and schema > SCHEMA:
        raise ConfigError(
            f"{origin} has schema {schema}; this acereason reads up to {SCHEMA}. Upgrade it: "
            "pip install -U acereason"
        )
    data.pop("kind", None)
    if "keep_responses" in data:  # schema 1
        none = not data.pop("keep_responses")
        data["keep"] = {**data.get("keep", {}), **({"responses": 0} if none else {})}
    return data


def stage_names(recipe: Recipe) -> list[str]:
    """The names of a run's stages in order; SFT is the first, also where it is only evaluated."""
    return ["sft", *(s.name for s in recipe.stage)]


def check_stage(recipe: Recipe, name: str | None) -> None:
    """ConfigError when the recipe has no stage of this name."""
    if name is not None and name not in stage_names(recipe):
        raise ConfigError(f"there is no stage {name!r}; the recipe has: {', '.join(stage_names(recipe))}")


def resolved(recipe: Recipe) -> dict[str, Any]:
    """The whole recipe, defaults included, as JSON-able data."""
    data: dict[str, Any] = msgspec.to_builtins(recipe)
    return data


def digest(recipe: Recipe) -> str:
    """A hash of the resolved recipe (16 hex digits)."""
    canonical = msgspec.json.encode(resolved(recipe), order="sorted")
    return hashlib.sha256(canonical).hexdigest()[:16]
