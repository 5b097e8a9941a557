"""A run's folder as tables for one's own analysis.

    tables = acereason.load_run("runs/demo")        # {"rl": …, "sft": …, "evaluation": …, "responses": …}
    tables["rl"].plot(x="step", y="reward")

One table per kind of metrics row, nested quantities as columns with a dot ("length.mean"), and one of the
responses with their stage and step. Units are those of `metrics.jsonl`: shares in [0, 1], nats, seconds.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from acereason.errors import ConfigError, RunError
from acereason.view.tail import Tail

LIBRARIES = ("polars", "pandas")


def load_run(path: str | Path, library: str | None = None, responses: bool = True) -> dict[str, Any]:
    """The tables of a run as data frames of `library` ("pandas" or "polars"; None: polars where it is
    installed, else pandas). Torn and broken lines are left out; kinds without a row have no table.

    RunError: no run is there. ConfigError: the library is not installed."""
    folder = Path(path)
    if not (folder / "metrics.jsonl").is_file():
        raise RunError(f"expected a run's folder, found no metrics.jsonl in {folder}; check the path")
    made = _library(library)
    tables: dict[str, list[dict[str, Any]]] = {}
    for row in _rows(folder / "metrics.jsonl"):
        tables.setdefault(str(row.pop("kind", "unknown")), []).append(flat(row))
    if responses and (rows := list(_responses(folder))):
        tables["responses"] = rows
    return {kind: _frame(made, rows) for kind, rows in tables.items()}


def flat(row: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    """Nested objects as keys with dots: {"length": {"mean": 3}} is {"length.mean": 3}."""
    flattened: dict[str, Any] = {}
    for key, value in row.items():
        if isinstance(value, Mapping):
            flattened |= flat(value, f"{before}{key}.")
        else:
            flattened[f"{before}{key}"] = value
    return flattened


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    for rows in Tail(path).read():
        yield from rows


def _responses(folder: Path) -> Iterator[dict[str, Any]]:
    for path in sorted((folder / "responses").glob("*.jsonl")):
        stage, _, step = path.stem.rpartition("-")
        if step.isdecimal():
            for row in _rows(path):
                row.pop("trace", None)  # per token, packed: of use beside the text alone
                yield {"stage": stage, "step": int(step), **flat(row)}


def _library(name: str | None) -> Any:
    for one in LIBRARIES if name is None else (name,):
        if one not in LIBRARIES:
            raise ConfigError(f"expected one of {', '.join(LIBRARIES)}, found {name!r}")
        try:
            return importlib.import_module(one)
        except ModuleNotFoundError:
            continue
    wanted = name or " or ".join(LIBRARIES)
    raise ConfigError(f"tables need {wanted}, which is not installed: pip install 'acereason[frames]'")


def _frame(library: Any, rows: list[dict[str, Any]]) -> Any:
    """Columns in the order in which they are first seen; what a row lacks is missing there."""
    columns = {
        name: [row.get(name) for row in rows] for name in dict.fromkeys(k for row in rows for k in row)
    }
    return (
        library.DataFrame(columns, strict=False)
        if library.__name__ == "polars"
        else library.DataFrame(columns)
    )
