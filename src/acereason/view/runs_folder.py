"""All runs under a folder, each followed by a reader that is kept while memory allows.

A run is what `acereason.kinds` calls one, a few folders down at most. Its name on the page
is its path below the folder; the name is looked up among what was found and never joined to a path, so no
name leads elsewhere.
"""

from __future__ import annotations

import math
import threading
import time
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from acereason.kinds import is_run, runs_below
from acereason.view import liveness
from acereason.view.data import Reader
from acereason.view.desk import Desk
from acereason.view.index import Index
from acereason.view.lab import differing, recipe_of
from acereason.view.tail import Row

AGE = 2.0  # seconds after which a folder is searched for new runs again
CELLS = 12_000_000  # numbers held for all runs together: about 100 MB
TOLD = ("severity", "stage", "since", "sentence")  # of a finding
SPARK = 60  # points of an overview row's small curve


@dataclass
class Followed:
    """One run: its numbers and its responses, read by one thread at a time."""

    name: str
    folder: Path
    reader: Reader
    index: Index
    desk: Desk
    lock: threading.Lock = field(default_factory=threading.Lock)


class RunsFolder:
    """The runs below `root`, or `root` itself where it is a run."""

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()
        self._lock = threading.Lock()
        self._names: dict[str, Path] = {}
        self._looked = -math.inf
        self._followed: OrderedDict[str, Followed] = OrderedDict()
        self._rows: dict[str, tuple[str, Row]] = {}  # overview rows by version
        self._recipes: dict[str, tuple[str, Mapping[str, Any] | None]] = {}

    def names(self) -> dict[str, Path]:
        """Every run's name and folder, looked for again when the last look is AGE seconds old."""
        if time.monotonic() - self._looked > AGE:
            self._names = {_name(path, self.root): path for path in sorted(runs_below(self.root))}
            self._looked = time.monotonic()
        return {name: folder for name, folder in self._names.items() if is_run(folder)}

    def get(self, name: str) -> Followed | None:
        """The run of that name; None when there is none, or none any more."""
        folder = self.names().get(name)
        return None if folder is None else self._follow(name, folder)

    def overview(self, seconds: float = 0.5) -> Row:
        """A row per run, the one written last first. Reads on for at most about so many seconds in all."""
        end = time.monotonic() + seconds
        names = self.names()
        rows = [self._row(name, folder, max(0.0, end - time.monotonic())) for name, folder in names.items()]
        rows.sort(key=lambda row: (-(row["written"] or 0), row["name"]))
        self._rows = {name: kept for name, kept in self._rows.items() if name in names}
        recipes = self._recipes_of(names)
        differs = differing([recipes[row["name"]] for row in rows])
        for place, row in enumerate(rows):
            row["differs"] = {key: values[place] for key, values in differs.items()}
        return {"folder": str(self.root), "runs": rows, "differing": list(differs), "now": time.time()}

    def _recipes_of(self, names: dict[str, Path]) -> dict[str, Mapping[str, Any] | None]:
        """The runs' recipes, read again when they change."""
        stamps = {name: _stamp(folder / "recipe.json") for name, folder in names.items()}
        for name, stamp in stamps.items():
            if self._recipes.get(name, (None,))[0] != stamp:
                self._recipes[name] = stamp, recipe_of(names[name])
        self._recipes = {name: self._recipes[name] for name in names}
        return {name: kept[1] for name, kept in self._recipes.items()}

    def _row(self, name: str, folder: Path, seconds: float) -> Row:
        signature = _signature(folder)
        known = self._rows.get(name)
        if known is None or known[0] != signature or known[1]["behind"]:
            run = self._follow(name, folder)
            with run.lock:
                run.reader.advance(seconds)
                known = signature, _summary(name, run.reader)
            self._rows[name] = known
        row = known[1]
        now = time.time()
        state = liveness.state(folder, now, row["torn"], row["step_seconds"])
        return {**row, "state": state, "written": liveness.written(folder), "begun": liveness.begun(folder)}

    def _follow(self, name: str, folder: Path) -> Followed:
        """The run's reader, made when first needed; those looked at longest ago are given up for it."""
        with self._lock:
            run = self._followed.get(name)
            if run is None or run.folder != folder:
                index = Index(folder)
                run = Followed(name, folder, Reader(folder), index, Desk(folder, index))
            self._followed[name] = run
            self._followed.move_to_end(name)
            while len(self._followed) > 1 and sum(r.reader.cells for r in self._followed.values()) > CELLS:
                self._followed.popitem(last=False)
            return run


def _name(path: Path, root: Path) -> str:
    return path.name if path == root else path.relative_to(root).as_posix()


def _signature(folder: Path) -> str:
    return " ".join(_stamp(folder / name) for name in ("metrics.jsonl", "summary.json", "recipe.json"))


def _stamp(path: Path) -> str:
    try:
        status = path.stat()
    except OSError:
        return "-"
    return f"{status.st_ino}.{status.st_size}.{status.st_mtime_ns}"


def _summary(name: str, reader: Reader) -> Row:
    """What the overview says of a run, from what has been read."""
    page = reader.page(SPARK)
    sft, rl = page["sft"], page["rl"]
    steps = [step for step in (*sft.get("step", [])[-1:], *rl.get("step", [])[-1:]) if step is not None]
    evaluated: dict[str, Row] = {}
    for row in page["evaluation"]:
        evaluated[row["benchmark"]] = {key: row.get(key) for key in ("accuracy", "se", "stage")}
    stages = [
        stage.get("name") for stage in (page["recipe"] or {}).get("stage", []) if isinstance(stage, dict)
    ]
    current = page["stages"][-1]["name"] if page["stages"] else "sft" if sft.get("step") else None
    return {
        "name": name,
        "recipe": (page["recipe"] or {}).get("name"),
        "seed": (page["recipe"] or {}).get("seed"),
        "stage": current,
        "stages": ["sft", *stages],
        "step": max(steps, default=None),
        "accuracy": evaluated,
        "tokens": sum(page["tokens"].values()),
        "reward": rl.get("reward", []),
        "H_T": next((value for value in reversed(rl.get("H_T", [])) if value is not None), None),
        "T": next((value for value in reversed(rl.get("T", [])) if value is not None), None),
        "step_seconds": reader.step_seconds(),
        "behind": page["behind"],
        "torn": reader.tail.torn,
        "notes": page["notes"],
        "health": [
            {key: one[key] for key in ("severity", "stage", "since", "sentence")} for one in page["health"]
        ],
    }
