"""What a file or folder is, by what lies in it: a refusal then says what was found, and which verb takes it.

    is_run(folder)      a run's folder, rather than an export's `acereason/`, which holds a recipe as well
    runs_below(folder)  the runs in it, at most DEPTH folders down
    said(path)          "a model exported from a run; evaluate, chat, serve and generate take it"

Only names are looked at, and nothing is raised for what cannot be read.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

MARKS = ("recipe.json", "metrics.jsonl")  # either makes a folder a run's
OWN = "acereason"  # an export's folder of what made it
CARD = "evaluations.json"  # stands in that one alone
DEPTH = 3
DATA = (".jsonl", ".json", ".parquet", ".csv", ".tsv", ".ndjson", ".gz")
SOME = 3  # names that are told


def is_run(folder: Path) -> bool:
    """Whether this is a run's folder; an export keeps the recipe of its run, and is none."""
    return _has(folder, *MARKS) and not _has(folder, CARD)


def runs_below(folder: Path, depth: int = DEPTH) -> Iterator[Path]:
    """The folder itself when it is a run's, else the runs below it, by name; hidden folders are left out."""
    if is_run(folder):
        yield folder
        return
    if depth == 0:
        return
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError:
        return
    for entry in entries:
        if not entry.name.startswith(".") and entry.is_dir():
            yield from runs_below(Path(entry.path), depth - 1)


def is_shown(folder: Path) -> bool:
    """Whether there is a run, or findings of studies, for the page to show."""
    return next(runs_below(folder), None) is not None or _findings_below(folder)


def said(path: Path) -> str:
    """What lies there, in words, and who takes it."""
    if not path.is_dir():
        return _file(path)
    return next((words(path) for test, words in _KINDS if test(path)), _others(path))


def _findings_below(folder: Path) -> bool:
    return any(next(folder.glob(f"{depth}findings.json"), None) for depth in ("", "*/", "*/*/"))


def near(path: Path) -> str:
    """What stands beside it under a name that is alike; empty when nothing does, or it is there itself."""
    if path.exists():
        return ""
    beside = _names(path.parent, os.path.isdir if not path.suffix else os.path.exists)
    alike = difflib.get_close_matches(path.name, beside, n=SOME, cutoff=0.6)
    return f"; near: {', '.join(str(path.parent / name) for name in alike)}" if alike else ""


def _has(folder: Path, *names: str) -> bool:
    return any(os.path.isfile(folder / name) for name in names)


def _run(folder: Path) -> str:
    models = _names(folder / "models", os.path.isdir)
    have = f"; its models: {', '.join(str(folder / 'models' / name) for name in models)}" if models else ""
    return f"a run's folder (view, report, compare and export take it{have})"


def _checkpoint(folder: Path) -> str:
    run = Path(os.path.relpath(folder.resolve().parent.parent))
    return (
        f"a checkpoint, which only its run can open (acereason run --resume -o {run}); models that others "
        f"open stand in {run / 'models'}"
    )


def _findings(_: Path) -> str:
    return "findings of studies (acereason study report reads them, view shows them beside runs)"


def _runs(folder: Path) -> str:
    return f"a folder of runs: {', '.join(map(str, islice(runs_below(folder), SOME)))}"


def _others(folder: Path) -> str:
    names = _names(folder, os.path.exists)
    if not names:
        return "an empty folder" if os.access(folder, os.R_OK | os.X_OK) else "a folder that cannot be read"
    data = [name for name in names if name.endswith(DATA)]
    kind = f"a folder with data files: {', '.join(data[:SOME])}" if data else f"a folder with {names[0]}"
    return kind + ("" if len(data or names) <= (SOME if data else 1) else ", …")


def _file(path: Path) -> str:
    if not path.exists():
        return "nothing"
    if path.name.endswith(".toml"):
        return "a recipe's file"
    return "a file of data" if path.name.endswith(DATA) else "a file"


def _names(folder: Path, kind: Callable[[Path], bool]) -> list[str]:
    try:
        return sorted(name for name in os.listdir(folder) if name[0] != "." and kind(folder / name))
    except OSError:
        return []


_KINDS: tuple[tuple[Callable[[Path], bool], Callable[[Path], str]], ...] = (
    (is_run, _run),
    (
        lambda f: _has(f / OWN, CARD),
        lambda _: "a model exported from a run (evaluate, chat, serve and generate take it)",
    ),
    (lambda f: _has(f, CARD), lambda f: f"what an export tells of its run; the model is {f.parent}"),
    (lambda f: _has(f, "position.json"), _checkpoint),
    (lambda f: _has(f, "adapter_config.json"), lambda _: "an adapter without the weights it belongs to"),
    (lambda f: _has(f, "results.json"), lambda _: "a finished evaluation (compare takes it)"),
    (
        lambda f: _has(f, "config.json"),
        lambda _: "a model's folder (evaluate, chat, serve, generate and rl -m take it)",
    ),
    (lambda f: _has(f, "findings.json") or (f / "findings").is_dir(), _findings),
    (lambda f: next(runs_below(f), None) is not None, _runs),
)
