"""A run's folder: the single truth about a run, and what resume reads.

    recipe.json      the resolved recipe, with its hash in manifest.json
    manifest.json    versions, seeds, hashes, hardware
    data/            curated problems and traces
    metrics.jsonl    one row an event, see `Run.record`
    responses/       one file a step: every response with its verdict
    checkpoints/     `step-000120/`: weights, optimiser, position; written whole or not at all
    models/          an ordinary Hugging Face folder for every finished stage
    summary.json     the final table
    report.html

Exactness: a checkpoint names the number of metric rows and the last step that belong to it. Resuming cuts
`metrics.jsonl` back to that point and deletes later response files, and the loop does those steps again.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import importlib.metadata
import json
import os
import platform
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
from safetensors import SafetensorError

from acereason import config
from acereason.errors import RunError
from acereason.problems import to_jsonl, write_atomic

Listener = Callable[[str, Mapping[str, Any]], None]
PACKAGES = ("acereason", "numpy", "tokenizers", "torch", "transformers")


class Run:
    """An open run folder, locked against a second process. Use `create` or `resume`, then `close`.

    With `writes` false, as on all ranks but the first, the folder is only read and what is recorded is
    dropped."""

    def __init__(self, path: Path, recipe: config.Recipe, writes: bool = True):
        self.path, self.recipe, self.writes = path, recipe, writes
        self._lock = _lock(path) if writes else None
        self._metrics = (path / "metrics.jsonl" if writes else Path(os.devnull)).open("ab")
        self._listeners: list[Listener] = []

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def data(self) -> Path:
        return self.path / "data"

    def model(self, stage: str) -> Path:
        """Where the Hugging Face folder of a finished stage stands."""
        return self.path / "models" / stage

    def close(self) -> None:
        """Release the folder."""
        self._metrics.close()
        if self._lock is not None:
            self._lock.close()

    def __enter__(self) -> Run:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def record(self, kind: str, **row: Any) -> None:
        """Append one row to metrics.jsonl. Times stand under the key `seconds`; all else is exact."""
        line = msgspec.json.encode({"kind": kind, **row}) + b"\n"
        with disk_errors(self.path):
            self._metrics.write(line)
            self._metrics.flush()
        for listener in self._listeners:
            listener(kind, row)

    def listen(self, listener: Listener) -> None:
        """Have `listener(kind, row)` called with every row from now on; it must be quick and never raise."""
        self._listeners.append(listener)

    def metrics_size(self) -> int:
        """Bytes of metrics.jsonl so far; a checkpoint keeps this number."""
        self._metrics.flush()
        return os.fstat(self._metrics.fileno()).st_size

    def write_responses(self, stage: str, step: int, rows: Iterable[Mapping[str, Any]]) -> None:
        """Write one step's responses with their verdicts, whole or not at all."""
        if not self.writes:
            return
        with disk_errors(self.path):
            write_atomic(self.path / "responses" / f"{stage}-{step:06d}.jsonl", to_jsonl(rows))

    def write_json(self, name: str, value: object) -> None:
        """Write a JSON file at the top of the folder, whole or not at all. JSON has no NaN: such a number is
        null, as in metrics.jsonl."""
        if not self.writes:
            return
        with disk_errors(self.path):
            write_atomic(self.path / name, msgspec.json.format(msgspec.json.encode(value)) + b"\n")

    def rewind(self, metrics_size: int, step: int) -> None:
        """Drop what was written after a checkpoint: metric rows past it and response files of later steps."""
        if not self.writes:
            return
        if self.metrics_size() < metrics_size:
            raise RunError(
                f"{self.path}/metrics.jsonl has {self.metrics_size()} bytes, the checkpoint was written "
                f"at {metrics_size}: the file was cut or replaced, so the run cannot be resumed exactly"
            )
        self._metrics.truncate(metrics_size)
        for file in (self.path / "responses").glob("*.jsonl"):
            if int(file.stem.rpartition("-")[2]) > step:
                file.unlink()


def create(path: Path, recipe: config.Recipe, force: bool = False) -> Run:
    """Make a new run folder. An existing one is refused unless it is empty or `force` is given."""
    if path.exists() and any(path.iterdir()):
        if not force:
            raise RunError(
                f"{path} already holds a run; continue it with --resume, replace it with --force, or "
                "choose another --out"
            )
        if not (path / "recipe.json").exists():
            raise RunError(f"{path} is not a run's folder (no recipe.json), so --force will not delete it")
        shutil.rmtree(path)
    with disk_errors(path):
        for folder in ("data", "responses", "checkpoints", "models"):
            (path / folder).mkdir(parents=True, exist_ok=True)
        write_atomic(path / "recipe.json", json.dumps(config.resolved(recipe), indent=2).encode())
        write_atomic(path / "manifest.json", json.dumps(manifest(recipe), indent=2).encode())
    return Run(path, recipe)


def resume(path: Path, recipe: config.Recipe | None = None) -> Run:
    """Open a run folder to go on. A different recipe is refused with the keys that differ; `placement` and
    `sampling`, which say where things run, are taken from the one given."""
    try:
        data = json.loads((path / "recipe.json").read_text())
    except (OSError, ValueError) as error:
        raise RunError(f"{path} is not a run's folder: recipe.json cannot be read ({error})") from error
    own = config.parse(data, f"{path}/recipe.json")
    if recipe is not None:
        own = msgspec.structs.replace(own, placement=recipe.placement, sampling=recipe.sampling)
    if recipe is not None and config.digest(recipe) != config.digest(own):
        keys = sorted(_different(config.resolved(own), config.resolved(recipe)))
        raise RunError(
            f"{path} was started with another recipe; it differs in: {', '.join(keys)}. Resume with the "
            "recipe it was started with (leave the recipe out), or start a new run"
        )
    return Run(path, own)


def manifest(recipe: config.Recipe) -> dict[str, Any]:
    """What the run was made with: versions, seed, recipe hash, hardware."""
    return {
        "recipe": recipe.name,
        "recipe_sha256": config.digest(recipe),
        "seed": recipe.seed,
        "python": platform.python_version(),
        "packages": {name: importlib.metadata.version(name) for name in PACKAGES},
        "machine": {
            "platform": platform.platform(),
            "processor": _processor(),
            "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        },
        "command": sys.argv[1:],
    }


def read_metrics(path: Path) -> Iterator[dict[str, Any]]:
    """The rows of a run's metrics.jsonl; a torn last line (a killed or live run) is left out."""
    try:
        data = (path / "metrics.jsonl").read_bytes()
    except OSError:
        return
    for line in data.split(b"\n")[:-1]:
        yield json.loads(line)


def file_hash(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _different(a: Any, b: Any, where: str = "") -> Iterator[str]:
    if isinstance(a, dict) and isinstance(b, dict):
        for key in a.keys() | b.keys():
            yield from _different(a.get(key), b.get(key), f"{where}.{key}" if where else key)
    elif a != b:
        yield f"{where} ({a!r} → {b!r})" if not isinstance(a, list | dict) else where


def _lock(path: Path) -> Any:
    try:
        file = (path / ".lock").open("w")
    except OSError as error:
        raise RunError(f"cannot open the run's folder {path}: {error.strerror}") from error
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        file.close()
        raise RunError(f"another process is working in {path}; wait for it or stop it") from error
    return file


@contextlib.contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn a full or read-only disk into an error that says what to do."""
    try:
        yield
    except (OSError, SafetensorError) as error:
        number = error.errno if isinstance(error, OSError) else None
        if number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG) or "os error 28" in str(error):
            raise RunError(
                f"the disk that holds {path} is full. Free some space and continue with --resume; "
                "everything up to the last checkpoint is kept"
            ) from error
        raise RunError(f"cannot write into {path}: {error}") from error


def _processor() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor()
