"""What a run was made with, and whether that is still what lies in its folder.

`manifest.json` holds the run's schema, versions, hardware, and the recipe it began with, with a hash; it is
written before anything else. `data/hashes.json` holds the hash of every file of its data. A run goes on only
from what it began with: what changed since is refused, with the difference.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import json
import os
import platform
import sys
from pathlib import Path
from typing import Any

import msgspec
from msgspec.structs import replace

from acereason import changes, config
from acereason.errors import RunError
from acereason.files import file_hash, write_atomic

SCHEMA = 2  # of a run's folder; earlier ones said nothing
PACKAGES = ("acereason", "numpy", "tokenizers", "torch", "transformers")
TRUSTED = 1 << 28  # bytes of a file from which on an unchanged size and time of change spare the hash
HASHES = "hashes.json"


def manifest(recipe: config.Recipe) -> dict[str, Any]:
    """What the run is made with: versions, seed, recipe, hardware."""
    return {
        "schema": SCHEMA,
        "recipe": recipe.name,
        "recipe_sha256": config.digest(recipe),
        "resolved": config.resolved(recipe),
        "seed": recipe.seed,
        "model_revision": recipe.model.revision,
        "python": platform.python_version(),
        "packages": {name: importlib.metadata.version(name) for name in PACKAGES},
        "machine": {
            "platform": platform.platform(),
            "processor": _processor(),
            "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        },
        "command": sys.argv[1:],
    }


def pinned(recipe: config.Recipe) -> config.Recipe:
    """The recipe with the commit of its hub's model, as it is now, which a run keeps."""
    from acereason.policy import hub  # its libraries are slow to import, and not needed to read

    commit = hub.commit(recipe.model.source) if recipe.model.source else None
    return _at(recipe, commit) if commit else recipe


def as_begun(recipe: config.Recipe, began: config.Recipe) -> config.Recipe:
    """The recipe with the commit that a run began with, where it names the same model by no commit of its
    own: main, a branch or a tag may have moved since."""
    now, then = recipe.model, began.model
    moves = now.revision is None or len(now.revision) < 40
    return _at(recipe, then.revision) if now.path == then.path and moves else recipe


def _at(recipe: config.Recipe, revision: str | None) -> config.Recipe:
    return replace(recipe, model=replace(recipe.model, revision=revision))


def begun_with(path: Path) -> config.Recipe:
    """The recipe that the run in `path` began with. RunError: of another schema, or changed since."""
    data = read_json(path / "manifest.json")
    schema = data.get("schema", 1)
    if schema != SCHEMA:
        version = data.get("packages", {}).get("acereason", "?")
        raise RunError(
            f"{path} was begun by acereason {version} in schema {schema} of runs; this one goes on with "
            f"schema {SCHEMA} alone, since draws and checkpoints differ. It can be looked at, exported and "
            "evaluated here; go on with the version that began it, or start a new run from its models/"
        )
    began = data.get("resolved", {})
    if _digest(began) != data.get("recipe_sha256"):
        raise RunError(f"{path}/manifest.json was changed since the run began; restore it from a copy")
    return config.parse(began, f"{path}/manifest.json", recorded=True)


def check_recipe(path: Path, now: config.Recipe, where: str) -> None:
    """RunError with the difference when the run's weights depend on what differs from its beginning."""
    changed = changes.differences(begun_with(path), now)
    bound = {key: change for key, change in changed.items() if not changes.free(key)}
    if bound:
        raise RunError(
            f"{where} is not the recipe that {path} was started with; it differs in: {changes.said(bound)}. "
            "Resume with the recipe it was started with (leave the recipe out), or start a new run"
        )


def stamp(folder: Path) -> None:
    """Write the hash of every file of the run's data."""
    stamps = {file.name: _stamp(file) for file in _files(folder)}
    write_atomic(folder / HASHES, json.dumps(stamps, indent=1).encode() + b"\n")


def check_data(folder: Path) -> None:
    """RunError with the difference when a file of the data is not as it was when the run began."""
    began: dict[str, dict[str, Any]] = read_json(folder / HASHES)
    wrong = [text for name, was in began.items() if (text := _difference(folder / name, was))]
    if wrong:
        raise RunError(
            f"the data of the run were changed since it began: {'; '.join(wrong)}. Restore {folder} from a "
            "copy, or start a new run"
        )


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file of a run; RunError when it cannot be read."""
    try:
        data: dict[str, Any] = msgspec.json.decode(path.read_bytes(), type=dict[str, Any])
    except (OSError, msgspec.DecodeError) as error:
        raise RunError(f"{path} cannot be read ({error}); restore it from a copy") from error
    return data


def _files(folder: Path) -> list[Path]:
    return sorted(
        f for f in folder.iterdir() if f.is_file() and not f.name.startswith(".") and f.name != HASHES
    )


def _stamp(file: Path) -> dict[str, Any]:
    status = file.stat()
    with file.open("rb") as opened:
        lines = sum(block.count(b"\n") for block in iter(lambda: opened.read(1 << 20), b""))
    numbers = {"bytes": status.st_size, "lines": lines, "changed": status.st_mtime_ns}
    return {"sha256": file_hash(file), **numbers}


def _difference(file: Path, was: dict[str, Any]) -> str:
    """What is different in a file, in words; empty when nothing is."""
    if not file.is_file():
        return f"{file.name} is gone"
    status = file.stat()
    if status.st_size == was["bytes"] >= TRUSTED and status.st_mtime_ns == was["changed"]:
        return ""
    now = _stamp(file)
    if now["sha256"] == was["sha256"]:
        return ""
    sizes = [f"{of['lines']:,} lines, {of['bytes']:,} bytes, sha256 {of['sha256'][:12]}" for of in (was, now)]
    return f"{file.name} had {sizes[0]}, and has {sizes[1]}"


def _digest(resolved: dict[str, Any]) -> str:
    """As `config.digest`, of the data as they stand there."""
    return hashlib.sha256(msgspec.json.encode(resolved, order="sorted")).hexdigest()[:16]


def _processor() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor()
