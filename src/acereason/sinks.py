"""Metrics sent elsewhere while a run writes them: TensorBoard files, Weights & Biases, Trackio, MLflow.

    run.listen(Feed("tensorboard", Place(run.path, recipe.name, config.resolved(recipe))))

`metrics.jsonl` stays the truth about a run; a sink is a copy for people who already look elsewhere. So a sink
must never kill or slow a run: it is opened, written and closed in a thread of its own, rows that it does not
take in time are dropped, and whatever it raises becomes one warning. Nested numbers get names with slashes
(`rl/length/mean`); text, lists and numbers that are not finite are left out. Of every step's responses the
first ROLLOUTS are sent as a table (not to TensorBoard, which has none).

A run that was killed does its last steps again. TensorBoard is told to forget them from the step on where the
run begins again, and is given once more what the run has kept of that step; the other two keep both.
"""

from __future__ import annotations

import importlib.util
import json
import logging
import math
import os
import queue
import re
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from acereason.errors import ConfigError
from acereason.files import write_atomic

log = logging.getLogger(__name__)
WAITING = 4096  # rows that may wait for a slow sink
ROLLOUTS = 64  # responses of a step that are sent as a table
TEXT = 8000  # characters of each
COLUMNS = (
    *("step", "problem_id", "sample", "outcome", "reward", "advantage", "tokens", "finish"),
    *("reference", "extracted", "question", "text"),
)
PATIENCE = 15.0  # seconds that a finished run waits for its sinks


class Sink(Protocol):
    """Where numbers go."""

    def write(self, values: Mapping[str, float], step: int) -> None:
        """Keep the numbers of one row."""
        ...

    def close(self) -> None:
        """Write what is left."""
        ...


@dataclass(frozen=True, slots=True)
class Place:
    """What a sink knows of the run: its folder, its recipe's name and the resolved recipe."""

    folder: Path
    name: str
    recipe: Mapping[str, Any]

    @property
    def id(self) -> str:
        """The run's name elsewhere: made at its first start, the same after a resume."""
        file = self.folder / "sinks" / "id"
        if not file.exists():
            file.parent.mkdir(parents=True, exist_ok=True)
            write_atomic(file, f"{self.folder.name}-{uuid.uuid4().hex[:8]}".encode())
        return file.read_text()


@dataclass(frozen=True, slots=True)
class Item:
    """What waits for a sink: numbers of a row, or a table of responses under its name."""

    step: int
    values: Mapping[str, float]
    name: str = ""
    table: Sequence[Sequence[Any]] = ()


class _TensorBoard:
    forgets = True

    def __init__(self, place: Place, step: int):
        from torch.utils.tensorboard import SummaryWriter

        self._writer: Any = SummaryWriter(str(place.folder / "sinks" / "tensorboard"), purge_step=step)
        self._writer.add_text("recipe", f"    {json.dumps(place.recipe)}", step)

    def write(self, values: Mapping[str, float], step: int) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        self._writer.close()


class _Wandb:
    def __init__(self, place: Place, step: int):
        import wandb

        self._run: Any = wandb.init(
            project="acereason",
            name=place.folder.name,
            group=place.name,
            id=place.id,
            resume="allow",
            dir=str(place.folder / "sinks"),
            config=dict(place.recipe),
            settings=wandb.Settings(console="off", silent=True),
        )
        self._run.define_metric("*", step_metric="step")

    def write(self, values: Mapping[str, float], step: int) -> None:
        self._run.log({**values, "step": step})

    def table(self, name: str, rows: Sequence[Sequence[Any]], step: int) -> None:
        import wandb

        texts = [[None if cell is None else str(cell) for cell in row] for row in rows]
        self._run.log({name: wandb.Table(columns=list(COLUMNS), data=texts), "step": step})

    def close(self) -> None:
        self._run.finish()


class _Trackio:
    def __init__(self, place: Place, step: int):
        import trackio

        self._run: Any = trackio.init(
            project="acereason", name=place.id, group=place.name, config=dict(place.recipe), resume="allow"
        )

    def write(self, values: Mapping[str, float], step: int) -> None:
        self._run.log(dict(values), step=step)

    def table(self, name: str, rows: Sequence[Sequence[Any]], step: int) -> None:
        import pandas
        import trackio

        frame = pandas.DataFrame(list(map(list, rows)), columns=list(COLUMNS))
        self._run.log({name: trackio.Table(dataframe=frame)}, step=step)

    def close(self) -> None:
        self._run.finish()


class _MLflow:
    """To MLFLOW_TRACKING_URI, or into a database in the run's own folder."""

    def __init__(self, place: Place, step: int):
        import mlflow

        folder = place.folder / "sinks"
        folder.mkdir(parents=True, exist_ok=True)
        local = f"sqlite:///{folder.resolve() / 'mlflow.db'}"
        self._client: Any = mlflow.MlflowClient(os.environ.get("MLFLOW_TRACKING_URI") or local)
        existing = self._client.get_experiment_by_name("acereason")
        artifacts = None if os.environ.get("MLFLOW_TRACKING_URI") else (folder / "mlflow").resolve().as_uri()
        experiment = (
            existing.experiment_id if existing else self._client.create_experiment("acereason", artifacts)
        )
        known = self._client.search_runs([experiment], f"tags.acereason = '{place.id}'", max_results=1)
        tags = {"acereason": place.id, "recipe": place.name}
        self._id = known[0].info.run_id if known else self._new(experiment, place, tags)

    def _new(self, experiment: str, place: Place, tags: dict[str, str]) -> str:
        made: str = self._client.create_run(experiment, tags=tags, run_name=place.folder.name).info.run_id
        self._client.log_dict(made, dict(place.recipe), "recipe.json")
        return made

    def write(self, values: Mapping[str, float], step: int) -> None:
        from mlflow.entities import Metric

        now = int(1000 * time.time())
        rows = [Metric(_NOT_MLFLOW.sub("_", name), value, now, step) for name, value in values.items()]
        for start in range(0, len(rows), 1000):
            self._client.log_batch(self._id, metrics=rows[start : start + 1000])

    def table(self, name: str, rows: Sequence[Sequence[Any]], step: int) -> None:
        columns = {
            column: list(cells) for column, cells in zip(COLUMNS, zip(*rows, strict=True), strict=True)
        }
        self._client.log_table(self._id, columns, f"{name}/{step:06d}.json")

    def close(self) -> None:
        self._client.set_terminated(self._id)


_NOT_MLFLOW = re.compile(r"[^\w./ -]")  # what its names must not hold

SINKS: dict[str, Callable[[Place, int], Sink]] = {
    "mlflow": _MLflow,
    "tensorboard": _TensorBoard,
    "trackio": _Trackio,
    "wandb": _Wandb,
}


def check(names: Iterable[str]) -> None:
    """ConfigError for a sink that does not exist or whose package is not installed."""
    for name in names:
        if name not in SINKS:
            raise ConfigError(f"unknown sink {name!r}; known: {', '.join(SINKS)}")
        if importlib.util.find_spec(name) is None:
            raise ConfigError(
                f"the sink {name!r} needs the package of that name: pip install 'acereason[{name}]'"
            )


class Feed:
    """A listener (`Run.listen`) that hands the run's rows to one sink, in a thread of its own.

    The sink is opened at the row that tells of the start, or else at the first with numbers."""

    def __init__(self, name: str, place: Place, make: Callable[[Place, int], Sink] | None = None):
        self._name, self._place = name, place
        self._make = make or SINKS[name]
        self._rows: queue.Queue[Item | None] = queue.Queue(WAITING)
        self._kept = 0  # bytes of metrics.jsonl when the run began again
        self._step = 0
        self._warned = False
        self._thread = threading.Thread(target=self._work, name=f"sink {name}", daemon=True)
        self._thread.start()

    def __call__(self, kind: str, row: Mapping[str, Any]) -> None:
        """Take one metrics row; returns at once."""
        self._step = int(row.get("step", self._step))
        if kind == "start":
            file = self._place.folder / "metrics.jsonl"
            self._kept = file.stat().st_size if file.exists() else 0
        values = {} if kind == "start" else dict(flatten(row, prefix(kind, row)))
        if values or kind == "start":
            self._put(Item(self._step, values))

    def responses(self, name: str, step: int, rows: Sequence[Mapping[str, Any]]) -> None:
        """Take a step's responses, the first of them as a table; returns at once."""
        told = [_cells(step, row) for row in rows[:ROLLOUTS]]
        if told:
            self._put(Item(step, {}, f"rollouts/{name}", told))

    def _put(self, item: Item) -> None:
        try:
            self._rows.put_nowait(item)
        except queue.Full:
            self._warn(f"is too slow: {WAITING} rows are waiting for it, later ones are left out")

    def close(self) -> None:
        """Let the sink finish, for at most `PATIENCE` seconds."""
        try:
            self._rows.put(None, timeout=PATIENCE)
            self._thread.join(PATIENCE)
        except queue.Full:
            pass
        if self._thread.is_alive():
            self._warn(f"did not finish within {PATIENCE:.0f} s and is left behind")

    def _work(self) -> None:
        item: Item | None = Item(0, {})
        try:
            sink: Sink | None = None
            while (item := self._rows.get()) is not None:
                sink = sink or self._opened(item.step)
                if item.values:
                    sink.write(item.values, item.step)
                elif item.table and (table := getattr(sink, "table", None)):
                    table(item.name, item.table, item.step)
            if sink is not None:
                sink.close()
        except BaseException as error:  # SystemExit too: a library must not end the run
            self._warn(f"failed and gets no more rows: {type(error).__name__}: {error}")
            while item is not None:
                item = self._rows.get()

    def _opened(self, step: int) -> Sink:
        sink = self._make(self._place, step)
        if getattr(sink, "forgets", False):
            for values in _rows_of(self._place.folder, self._kept, step):
                sink.write(values, step)
        return sink

    def _warn(self, text: str) -> None:
        if not self._warned:
            self._warned = True
            log.warning("the sink %s %s. The run goes on; metrics.jsonl has everything", self._name, text)


def _cells(step: int, row: Mapping[str, Any]) -> list[Any]:
    """A response under COLUMNS: numbers and texts, these not longer than TEXT."""
    return [step, *(_cell(row.get(name)) for name in COLUMNS[1:])]


def _cell(value: Any) -> Any:
    if value is None or isinstance(value, int | float):
        return value
    return len(value) if isinstance(value, list) else str(value)[:TEXT]


def _rows_of(folder: Path, size: int, step: int) -> Iterator[dict[str, float]]:
    """The numbers of a step in the first `size` bytes of the run's metrics."""
    if size:
        with (folder / "metrics.jsonl").open("rb") as file:
            for line in file.read(size).splitlines():
                row = json.loads(line)
                kind = row.pop("kind")
                if row.get("step") == step and kind != "start":
                    yield dict(flatten(row, prefix(kind, row)))


def prefix(kind: str, row: Mapping[str, Any]) -> str:
    """Under which name a row's numbers stand: its kind, then the benchmark or stage that it is about."""
    if kind == "evaluation":
        return f"evaluation/{'epoch/' if 'epoch' in row else ''}{row.get('benchmark', 'all')}"
    if kind in ("calibration", "funnel"):
        return f"{kind}/{row.get('stage', row.get('name', 'all'))}"
    return kind


def flatten(value: Mapping[str, Any], name: str = "") -> Iterator[tuple[str, float]]:
    """The finite numbers in nested data, each with its path: {"a": {"b": 1}} → ("a/b", 1.0)."""
    for key, inner in value.items():
        path = f"{name}/{key}" if name else str(key)
        if isinstance(inner, Mapping):
            yield from flatten(inner, path)
        elif isinstance(inner, int | float) and math.isfinite(inner):
            yield path, float(inner)
