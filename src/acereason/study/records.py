"""What is kept of an arm: per question how many samples were right, and how training went. A few kilobytes.

ADDRESS.json in the results' folder: committed, so that another machine goes on from it
ADDRESS.WEIGHTS.json: of a start that was run again and became another model (see `study.copies`)
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec

from acereason import config
from acereason.files import write_atomic
from acereason.study.plan import Job


class Outcome(msgspec.Struct, frozen=True):
    """One domain's held-out questions after a stage: `right[q]` of `k` samples. `questions` hashes the ids,
    so only equal questions are paired; `modes` are {family/mode: [samples, right]}. An unjudged sample
    counts as not right, and is counted."""

    questions: str
    k: int
    right: list[int]
    modes: dict[str, tuple[int, int]]
    unjudged: int = 0


class Training(msgspec.Struct, frozen=True):
    """One RL stage: means of up to 30 equal parts of its steps, in order; totals."""

    steps: int
    tokens: int
    curves: dict[str, list[float]]


class Record(msgspec.Struct, frozen=True):
    """An arm that ended. `seconds` are of the processor; `resumed` says that some were lost to a kill.
    `wall`: seconds of the RL steps on the clock, None in records from before it was kept. `weights` and
    `began` tell the model that it left, and the copy of its start that it began from, from others; "" where
    there is none, or from before they were kept."""

    address: str
    name: str
    study: str
    seed: int
    split: str
    phase: str
    start: str | None
    outcomes: dict[str, dict[str, Outcome]]  # stage → domain
    training: dict[str, Training]
    sft_tokens: int
    sft_steps: int
    seconds: float
    resumed: bool
    version: str
    recipe: dict[str, Any]
    wall: float | None = None
    weights: str = ""
    began: str = ""


class Results:
    """A folder of records, and of what failed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._known: dict[str, Record] = {}

    def get(self, address: str) -> Record | None:
        """The record of that address; a file that cannot be read is as if it were not there."""
        if address not in self._known:
            try:
                data = (self.folder / f"{address}.json").read_bytes()
                self._known[address] = msgspec.json.decode(data, type=Record)
            except (OSError, msgspec.DecodeError):
                return None
        return self._known[address]

    def copy(self, address: str, weights: str) -> Record | None:
        """The record of the copy with these weights, the first or one that was run again."""
        first = self.get(address)
        return first if first is None or first.weights == weights else self.get(f"{address}.{weights}")

    def again(self, address: str, weights: str) -> bool:
        """Whether these are the weights of a copy that was made after the first."""
        return self.get(f"{address}.{weights}") is not None

    def last(self, address: str) -> Record | None:
        """The record that was put last, of whichever copy."""
        files = [p for p in self.folder.glob(f"{address}.*json") if p != self._failed(address)]
        return self.get(max(files, key=lambda p: p.stat().st_mtime_ns).stem) if files else None

    def put(self, record: Record) -> None:
        """Keep a record; beside the first where that is of other weights. The first stays as it is."""
        self.folder.mkdir(parents=True, exist_ok=True)
        first = self.get(record.address)
        if first is not None and first.weights == record.weights:
            (self.folder / f"{record.address}.json").touch()
        else:
            name = record.address if first is None else f"{record.address}.{record.weights}"
            write_atomic(self.folder / f"{name}.json", _encoded(record))

    def fail(self, job: Job, error: str) -> None:
        """Keep why an arm failed."""
        self.folder.mkdir(parents=True, exist_ok=True)
        row = {"address": job.address, "study": job.study, "name": job.name, "seed": job.seed, "error": error}
        write_atomic(self._failed(job.address), json.dumps(row, indent=1).encode() + b"\n")

    def forget(self, job: Job) -> None:
        """An arm is tried again: what was said of it before does not count."""
        self._failed(job.address).unlink(missing_ok=True)

    def failure(self, address: str) -> str | None:
        """Why an arm failed the last time, or None."""
        try:
            return str(json.loads(self._failed(address).read_text())["error"])
        except (OSError, ValueError, KeyError):
            return None

    def _failed(self, address: str) -> Path:
        return self.folder / f"{address}.failed.json"


def _encoded(record: Record) -> bytes:
    """JSON with a line for every field: small, and a change shows as one."""
    fields = msgspec.to_builtins(record)
    lines = [f" {json.dumps(key)}: {msgspec.json.encode(value).decode()}" for key, value in fields.items()]
    return ("{\n" + ",\n".join(lines) + "\n}\n").encode()


def model_of(work: Path, address: str) -> Path | None:
    """The model that a finished arm left in its folder, or None."""
    models = work / address / "models"
    names = [p for p in models.glob("[!.]*") if (p / "config.json").exists()]
    done = (work / address / "summary.json").exists()
    return max(names, key=lambda p: (p / "config.json").stat().st_mtime_ns) if names and done else None


def parsed(job: Job, start: Path | None) -> config.Recipe:
    """A job's recipe, its start and its files put in."""
    model, curate = dict(job.recipe["model"]), dict(job.recipe["curate"])
    if start is not None:
        model = {**{k: v for k, v in model.items() if k != "new"}, "path": str(start)}
    if job.files:
        curate["files"] = {**curate["files"], **job.files}
    return config.parse({**job.recipe, "model": model, "curate": curate}, f"{job.study}, arm {job.name}")
