"""`curate`: from sources to SFT traces and RL prompts."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import msgspec

from acereason import config
from acereason.cli.common import OutFolder, RecipeFile, Settings, err, find_recipe, goes_on_with, out
from acereason.errors import ConfigError


def curate(
    recipe: RecipeFile,
    folder: OutFolder = Path("data"),
    settings: Settings = None,
) -> None:
    """Only the first step: prompts and traces as JSON Lines, and the funnel of what was dropped and why.

    A file with kind = "curation" runs the whole pipeline over published sets or files of one's own; see
    docs/curation.md. A source needs a name and a path: [[sources]] name = "mine", path = "rows.json". Without
    stages and mixes everything that stays is published as rl/all."""
    path = find_recipe(recipe)
    if published := curation_of(path):
        from acereason.curate import funnel, pipeline

        with goes_on_with():
            steps = pipeline.curate(published, folder, err.print)
        out.print(funnel.table(steps))
        out.print(f"in {folder}: README.md (the card), manifest.json, sft/, rl/, reports/", soft_wrap=True)
        return
    from acereason.curate import tasks

    chosen = config.load(path, settings or [])
    data, steps = tasks.make(chosen.curate, chosen.of_data, folder)
    folder.mkdir(parents=True, exist_ok=True)
    tasks.write(data, folder)
    for row in steps:
        reasons = ", ".join(f"{count} {why}" for why, count in row.reasons.items()) or "nothing dropped"
        out.print(f"{row.name}: {row.before} → {row.after} ({reasons})", markup=False)
    out.print(
        f"{len(data.sft)} SFT prompts, {len(data.traces)} traces, {len(data.rl)} RL prompts", markup=False
    )


def curation_of(path: Path) -> Any:
    """The settings of a file that is a curation; None for a recipe."""
    try:
        data = tomllib.loads(path.read_text())
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"cannot read {path}: {error}") from error
    if config.kind_of(data, str(path)) != "curation":
        return None
    if data.pop("kind", None) is None:
        err.print(f'warning: {path} does not say what it is; put kind = "curation" at its top', markup=False)
    from acereason.curate.settings import Curation

    try:
        return msgspec.convert(data, Curation)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{path}: {error}") from error
