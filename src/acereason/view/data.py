"""A run's folder as one dictionary that JSON can carry: all that the page knows of its numbers.

    recipe.json, manifest.json, summary.json ─┐
    metrics.jsonl (rows by "kind")            ├─▶ Reader.page() ─▶ {"sft": columns, "rl": columns, …}

Rows that are drawn against the step become columns (`columns.py`), thinned to POINTS; the others stay rows.
A run is read while it is being written and after it was killed, so a file or field that is missing, a
torn line and bytes that are not UTF-8 are no errors: what cannot be used is left out and said in `notes`.
Responses are read by `groups.py` and `index.py`.
"""

from __future__ import annotations

import shutil
from collections import deque
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import msgspec

from acereason.config import Health
from acereason.errors import RunError
from acereason.evaluate.decompose import Decomposition, decompose_shares
from acereason.files import read_file
from acereason.health.memory import Memory
from acereason.health.rows import Finding
from acereason.progress import RECENT, typical
from acereason.view.columns import Columns
from acereason.view.remaining import remaining
from acereason.view.tail import Row, Tail, decode

POINTS = 1000  # of a curve
EVENTS = 5000  # rows kept of each kind that is no curve
CURVES = ("sft", "rl")
KINDS = ("evaluation", "calibration", "funnel", "dev", "end")
LITTLE_SPACE = 64 << 20  # bytes free on the disk below which the page says so


class Reader:
    """Follows the metrics of one run. `advance` reads on, `page` says what is known."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.tail = Tail(folder / "metrics.jsonl")
        self._begin()

    def _begin(self) -> None:
        self.generation = self.tail.generation
        self.columns = {kind: Columns() for kind in CURVES}
        self.events: dict[str, deque[Row]] = {kind: deque(maxlen=EVENTS) for kind in KINDS}
        self.last: Row | None = None  # step
        self.memory = Memory(limits(self.folder))

    @property
    def cells(self) -> int:
        """Numbers held in memory."""
        return sum(columns.cells for columns in self.columns.values())

    def advance(self, seconds: float = float("inf")) -> None:
        """Read what is new, for at most about so many seconds."""
        for rows in self.tail.read(seconds):
            self._renew()
            kinds: dict[str, list[Row]] = {}
            for row in rows:
                kind = str(row.get("kind"))
                kinds.setdefault(kind, []).append(row)
                self.memory.add(kind, row)
                self.last = row if kind in CURVES else self.last
            for kind, columns in self.columns.items():
                columns.append(kinds.get(kind, []))
            for kind, events in self.events.items():
                events.extend(kinds.get(kind, []))
        self._renew()

    def _renew(self) -> None:
        """Forget everything when the file is not the one that was read."""
        if self.tail.generation != self.generation:
            self._begin()

    def version(self) -> str:
        """Another text whenever `page` would say something else."""
        stamps = [_stamp(self.folder / name) for name in ("summary.json", "manifest.json", "recipe.json")]
        tail = self.tail
        full = bool(space_note(self.folder))
        return f"{tail.generation}.{tail.offset}.{tail.torn:d}.{full:d}.{tail.missing}.{'.'.join(stamps)}"

    def step_seconds(self) -> float | None:
        """What a step of the present stage takes."""
        for kind in ("rl", "sft"):
            columns = self.columns[kind]
            times, stages = (
                column[-RECENT:] for column in (columns.column("seconds.total"), columns.text("stage"))
            )
            known = [
                t for t, stage in zip(times.tolist(), stages.tolist(), strict=True) if stage == stages[-1]
            ]
            if (seconds := typical([t for t in known if t == t])) is not None:
                return seconds
        return None

    def page(self, points: int = POINTS) -> Row:
        """Everything the page shows but for the responses."""
        notes = self.tail.notes()
        rl = self.columns["rl"]
        thin = rl.thinned(points)
        evaluation = self.evaluation()
        spans = stage_spans(rl)
        summary = read_object(self.folder / "summary.json", notes, optional=True)
        content = {
            "name": self.folder.resolve().name,
            "recipe": read_object(self.folder / "recipe.json", notes),
            "manifest": read_object(self.folder / "manifest.json", notes),
            "summary": summary,
            "results": _results(summary, evaluation, spans),
            "stages": spans,
            "funnel": list(self.events["funnel"]),
            "sft": self.columns["sft"].thinned(points),
            "rl": thin,
            "rows": {kind: len(columns) for kind, columns in self.columns.items()},
            "tokens": {kind: _total(columns, "tokens") for kind, columns in self.columns.items()},
            "calibration": list(self.events["calibration"]),
            "evaluation": evaluation,
            "modes": mode_changes(evaluation),
            "dev": list(self.events["dev"]),
            "now": self.now(),
            "health": [one._asdict() for one in self.health()],
            "behind": self.tail.behind / max(self.tail.size, 1),
            "version": self.version(),
        }
        return {**content, "notes": notes + space_note(self.folder)}

    def now(self) -> Row | None:
        """Where the run stands: its last step's numbers, which stage and step of how many, seconds left."""
        if self.last is None:
            return None
        kept = ("stage", "step", "stage_step", "reward", "H_T", "H_target", "T", "truncated", "loss")
        now = {name: self.last.get(name) for name in kept}
        recipe = read_object(self.folder / "recipe.json", [], optional=True) or {}
        dev = [row for row in self.events["dev"] if row.get("stage") == now["stage"]]
        now["held_out"] = dev[-1].get("accuracy") if dev else None
        done = self.last.get("stage_step", self.last.get("step"))
        return now | remaining(recipe, now["stage"], done, self.last.get("steps"), self.step_seconds())

    def health(self) -> list[Finding]:
        """What is wrong with the run; nothing where damaged rows cannot be looked at."""
        try:
            return self.memory.findings()
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError):
            return []

    def evaluation(self) -> list[Row]:
        """Evaluation rows whose stage and benchmark are texts."""
        return [
            {**row, "stage": str(row.get("stage")), "benchmark": str(row.get("benchmark"))}
            for row in self.events["evaluation"]
        ]


def read_run(folder: Path) -> Row:
    """Everything the page shows of the numbers in `folder`; RunError when it is no folder."""
    folder = Path(folder)
    if not folder.is_dir():
        raise RunError(f"expected a run's folder, found nothing at {folder}; check the path")
    reader = Reader(folder)
    reader.advance()
    return reader.page()


def read_rows(path: Path, notes: list[str]) -> Iterator[Row]:
    """The objects of a JSON Lines file; lines that are none are left out and noted."""
    tail = Tail(path)
    for rows in tail.read():
        yield from rows
    notes += tail.notes()


def stage_spans(rl: Columns) -> list[Row]:
    """Stages in the order they were trained: first and last step, what they were, T and H_T at the end."""
    stages, domains, words = rl.text("stage"), rl.text("domain"), rl.words()
    steps, T, H_T, budget, group = map(rl.column, ("step", "T", "H_T", "budget", "group"))
    spans: list[Row] = []
    for rows in rl.stages():
        first, last = rows[0], rows[-1]
        span = {"name": words[stages[first]] or "", "first": int(steps[first]), "last": int(steps[last])}
        what = {
            "domain": words[domains[first]],
            "budget": _known(budget[first]),
            "group": _known(group[first]),
        }
        spans.append({**span, **what, "T": _known(T[last]), "H_T": _known(H_T[last])})
    return spans


def limits(folder: Path) -> Health:
    """The thresholds of the run's recipe, or the defaults where it has none that can be read."""
    recipe = read_object(folder / "recipe.json", []) or {}
    try:
        return msgspec.convert(recipe.get("health") or {}, Health)
    except msgspec.ValidationError:
        return Health()


def _total(columns: Columns, name: str) -> int:
    values = columns.column(name)
    return int(values[values == values].sum())


def mode_changes(evaluation: list[Row]) -> list[Row]:
    """Per benchmark and family: what modes did to accuracy from the first stage to the last one."""
    changes = []
    for benchmark in dict.fromkeys(row["benchmark"] for row in evaluation):
        own = [row for row in evaluation if row["benchmark"] == benchmark]
        by_stage = {row["stage"]: row for row in own if isinstance(row.get("modes"), dict)}
        if len(by_stage) < 2:
            continue
        first, *_, last = by_stage.values()
        for family in first["modes"].keys() & last["modes"].keys():
            part = _family_change(first["modes"][family], last["modes"][family])
            if part is not None:
                where = {"from": first["stage"], "to": last["stage"], "family": family}
                changes.append({"benchmark": benchmark, **where, **asdict(part)})
    return sorted(changes, key=lambda change: (change["benchmark"], change["family"]))


def _family_change(before: Any, after: Any) -> Decomposition | None:
    """None when the shares and accuracies are not all there, or are no shares."""
    try:
        sides = [
            {mode: (float(of["share"]), float(of["accuracy"] or 0)) for mode, of in side.items()}
            for side in (before, after)
        ]
    except (AttributeError, KeyError, TypeError, ValueError, OverflowError):
        return None
    numbers = [number for side in sides for pair in side.values() for number in pair]
    return decompose_shares(*sides) if all(0 <= number <= 1 for number in numbers) else None


def _results(summary: Row | None, evaluation: list[Row], spans: list[Row]) -> list[Row]:
    """Stages with their evaluations: those of the summary, or what the metrics know so far."""
    stages = (summary or {}).get("stages")
    if isinstance(stages, list) and stages:
        return [stage for stage in stages if isinstance(stage, dict)]
    so_far: dict[str, Row] = {}
    for row in evaluation:
        stage = so_far.setdefault(row["stage"], {"name": row["stage"], "evaluation": {}})
        stage["evaluation"][row["benchmark"]] = row
    for span in spans:
        if span["name"] in so_far:
            known = {name: span[name] for name in ("T", "H_T", "domain")}
            so_far[span["name"]] |= {**known, "steps": span["last"] - span["first"] + 1}
    return list(so_far.values())


def _known(number: float) -> float | None:
    return None if number != number else float(number)


def read_object(path: Path, notes: list[str], optional: bool = False) -> Row | None:
    """The JSON object of a file; None when there is none, which is noted unless it is `optional`."""
    try:
        value = decode(read_file(path))
    except OSError as error:
        missing = isinstance(error, FileNotFoundError)
        if not (missing and optional):
            notes.append(f"{path.name} is not there" if missing else f"{path.name}: {error.strerror}")
        return None
    if not isinstance(value, dict):
        notes.append(f"{path.name}: not a JSON object; it is left out")
        return None
    return value


def space_note(folder: Path) -> list[str]:
    """A warning when the disk that holds the run is full, or nearly."""
    try:
        free = shutil.disk_usage(folder).free
    except OSError:
        return []
    if free >= LITTLE_SPACE:
        return []
    left = f"the disk that holds this run has {free >> 20} MiB left"
    return [f"{left}: a run that cannot write stops, and goes on with --resume"]


def _stamp(path: Path) -> str:
    try:
        return str(path.stat().st_mtime_ns)
    except OSError:
        return "-"
