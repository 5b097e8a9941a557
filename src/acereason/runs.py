"""A run's folder: the single truth about a run, and what resume reads.

    manifest.json    versions, seeds, hardware, and the recipe as the run began with it, with its hash
    recipe.json      the resolved recipe as it is now; once it is there, the run has begun
    data/            curated problems and traces, with their hashes
    metrics.jsonl    one row an event, see `Run.record`
    tokens/          the SFT traces as token ids
    evaluations/     every stage's evaluation, question by question
    responses/       one file a step: every response with its verdict
    checkpoints/     `step-000120/`: weights, optimiser, position; written whole or not at all
    models/          an ordinary Hugging Face folder for every finished stage
    summary.json     the final table
    report.html

Exactness: a checkpoint names the length and the hash of the metrics and the last step that belong to it.
Resuming cuts `metrics.jsonl` back to that point and deletes later response files, and the loop does those
steps again. Rows that tell of a start stay: they are what happened, and no step does them again.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
from safetensors import SafetensorError

from acereason import changes, config, kinds
from acereason.errors import RunError
from acereason.files import lock, sync, to_jsonl, write_atomic
from acereason.manifest import as_begun, check_recipe, manifest, pinned

__all__ = ["Run", "create", "disk_errors", "read_metrics", "resume"]

Listener = Callable[[str, Mapping[str, Any]], None]
Reader = Callable[[str, int, Sequence[Mapping[str, Any]]], None]
FOLDERS = ("data", "tokens", "responses", "checkpoints", "evaluations", "models")
_START = b'{"kind":"start"'
_TEMPORARY = re.compile(r"\..*\.tmp")


class Run:
    """An open run folder, locked against a second process. Use `create` or `resume`, then `close`.

    With `writes` false, as on all ranks but the first, the folder is only read and what is recorded is
    dropped."""

    def __init__(self, path: Path, recipe: config.Recipe, writes: bool = True):
        self.path, self.recipe, self.writes = path, recipe, writes
        self._lock = lock(path / ".lock") if writes else None
        if writes:
            _make_folders(path)
        self._metrics = (path / "metrics.jsonl" if writes else Path(os.devnull)).open("ab")
        if writes:
            sync(path)  # the file's name
        self._hash = _hash_of(path / "metrics.jsonl")
        self._listeners: list[Listener] = []
        self._readers: list[Reader] = []

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
        self._hash.update(line)
        for listener in self._listeners:
            listener(kind, row)

    def listen(self, listener: Listener) -> None:
        """Have `listener(kind, row)` called with every row from now on; it must be quick and never raise."""
        self._listeners.append(listener)

    def mark(self) -> tuple[int, str]:
        """The length and the hash of metrics.jsonl, which is on the disk then; a checkpoint keeps both."""
        with disk_errors(self.path):
            self._metrics.flush()
            if self.writes:
                os.fsync(self._metrics.fileno())
        return os.fstat(self._metrics.fileno()).st_size, self._hash.hexdigest()

    def has(self, size: int, digest: str) -> bool:
        """Whether metrics.jsonl begins with the rows of this mark."""
        file = self.path / "metrics.jsonl"
        return file.stat().st_size >= size and _hash_of(file, size).hexdigest() == digest

    def listen_to_responses(self, reader: Reader) -> None:
        """Have `reader(stage, step, rows)` called with every step's responses; as quick as a listener."""
        self._readers.append(reader)

    def write_responses(self, stage: str, step: int, rows: Iterable[Mapping[str, Any]]) -> None:
        """Write one step's responses with their verdicts, whole or not at all."""
        if not self.writes:
            return
        with disk_errors(self.path):
            kept = list(rows) if self._readers else rows
            write_atomic(self._responses / f"{stage}-{step:06d}.jsonl", to_jsonl(kept))
            self._drop_responses(step)
        for reader in self._readers:
            reader(stage, step, list(kept))

    @property
    def _responses(self) -> Path:
        return self.path / "responses"

    def _drop_responses(self, step: int) -> None:
        """Delete those of steps further back than `keep.responses`; evaluations stay."""
        kept = self.recipe.keep.responses
        if kept is None:
            return
        for file in self._responses.glob("*.jsonl"):
            if not file.name.startswith("evaluation-") and _step(file) <= step - kept:
                file.unlink()

    def missing_responses(self, step: int) -> int:
        """How many response files of steps up to `step` are not there although they would be kept."""
        kept = self.recipe.keep.responses
        oldest = 0 if kept is None else step - kept
        rows = [r for r in read_metrics(self.path) if r["kind"] == "rl" and oldest < r["step"] <= step]
        names = (f"{row['stage']}-{row['step']:06d}.jsonl" for row in rows)
        return sum(not (self._responses / name).exists() for name in names)

    def write_json(self, name: str, value: object) -> None:
        """Write a JSON file at the top of the folder, whole or not at all. JSON has no NaN: such a number is
        null, as in metrics.jsonl."""
        if not self.writes:
            return
        with disk_errors(self.path):
            write_atomic(self.path / name, msgspec.json.format(msgspec.json.encode(value)) + b"\n")

    def rewind(self, metrics_size: int, step: int) -> None:
        """Drop what was written after a checkpoint: metric rows past it, but for those that tell of a start,
        and response files of later steps."""
        if not self.writes:
            return
        with (self.path / "metrics.jsonl").open("rb") as file, disk_errors(self.path):
            file.seek(metrics_size)
            kept = [line for line in file if line.startswith(_START) and line.endswith(b"\n")]
            self._metrics.truncate(metrics_size)
            self._metrics.write(b"".join(kept))
            self._metrics.flush()
        self._hash = _hash_of(self.path / "metrics.jsonl")
        for file_ in self._responses.glob("*.jsonl"):
            if _step(file_) > step:
                file_.unlink()


def create(path: Path, recipe: config.Recipe, force: bool = False) -> Run:
    """Make a new run folder. An existing one is refused unless it is empty, holds a run that was killed
    before it began, or `force` is given."""
    if path.exists() and not unbegun(path):
        if not force:
            raise RunError(
                f"{path} already holds a run; continue it with --resume, replace it with --force, or "
                "choose another --out"
            )
        if not (path / "recipe.json").exists():
            raise RunError(f"{path} is not a run's folder (no recipe.json), so --force will not delete it")
        shutil.rmtree(path)
    recipe = pinned(recipe)
    with disk_errors(path):
        _make_folders(path)
        write_atomic(path / "manifest.json", json.dumps(manifest(recipe), indent=2).encode())
        write_atomic(path / "recipe.json", json.dumps(config.resolved(recipe), indent=2).encode())
        sync(path.parent)
    return Run(path, recipe)


def check_run(path: Path) -> None:
    """RunError when a folder is not a run's: it says what it is, and which runs lie below it."""
    if not kinds.is_run(path):
        raise RunError(f"{path} is not a run's folder: found {kinds.said(path)}{kinds.near(path)}")


def check_runs(path: Path) -> None:
    """RunError when a folder is neither a run's nor holds any, nor findings of studies."""
    if path.is_dir() and not kinds.is_shown(path):
        raise RunError(f"{path} holds no run: it is {kinds.said(path)}")


def unbegun(path: Path) -> bool:
    """Whether this is an empty folder, or that of a run that was killed before its recipe was written."""
    if not path.is_dir() or (path / "recipe.json").exists():
        return False
    known = {*FOLDERS, "manifest.json", ".lock", "metrics.jsonl"}
    inside = [p for name in FOLDERS if (path / name).is_dir() for p in (path / name).iterdir()]
    return not inside and all(p.name in known or _TEMPORARY.fullmatch(p.name) for p in path.iterdir())


def resume(path: Path, recipe: config.Recipe | None = None) -> Run:
    """Open a run folder to go on. What its weights depend on must be as it was when the run began: another
    recipe, and a changed recipe.json, are refused with the keys that differ. The rest (see `changes`) is
    taken from the recipe given."""
    if recipe is not None and unbegun(path):
        return create(path, recipe)
    if unbegun(path) and any(path.iterdir()):
        raise RunError(f"{path} is not a run's folder yet, it has no recipe; give the recipe, too")
    check_run(path)
    try:
        data = json.loads((path / "recipe.json").read_text())
    except (OSError, ValueError) as error:
        raise RunError(f"{path} is not a run's folder: recipe.json cannot be read ({error})") from error
    own = config.parse(data, f"{path}/recipe.json", recorded=True)
    check_recipe(path, own, f"{path}/recipe.json")
    recipe = recipe and as_begun(recipe, own)
    if recipe is None or not changes.differences(own, recipe):
        return Run(path, own)
    check_recipe(path, recipe, "the recipe given")
    run = Run(path, recipe)
    with disk_errors(path):
        write_atomic(path / "recipe.json", json.dumps(config.resolved(recipe), indent=2).encode())
    return run


def read_metrics(path: Path) -> Iterator[dict[str, Any]]:
    """The rows of a run's metrics.jsonl; a torn last line (a killed or live run) is left out."""
    try:
        data = (path / "metrics.jsonl").read_bytes()
    except OSError:
        return
    for line in data.split(b"\n")[:-1]:
        yield json.loads(line)


def _hash_of(path: Path, size: int | None = None) -> Any:
    """The running hash of a file's first bytes; of nothing where there is no file."""
    digest, left = hashlib.sha256(), size
    with contextlib.suppress(FileNotFoundError), path.open("rb") as file:
        while block := file.read(1 << 20 if left is None else min(left, 1 << 20)):
            digest.update(block)
            left = None if left is None else left - len(block)
    return digest


def _make_folders(path: Path) -> None:
    with disk_errors(path):
        for folder in FOLDERS:
            (path / folder).mkdir(parents=True, exist_ok=True)


def _step(responses: Path) -> int:
    """The step in the name of a file of responses."""
    return int(responses.stem.rpartition("-")[2])


@contextlib.contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn a full or read-only disk into an error that says what to do."""
    try:
        yield
    except (OSError, SafetensorError) as error:
        number = error.errno if isinstance(error, OSError) else None
        if number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG) or "os error 28" in str(error):
            raise RunError(
                f"the disk that holds {path} is full. Free some space and give the command again, of a run "
                "with --resume: what it had at its last checkpoint is kept"
            ) from error
        raise RunError(f"cannot write into {path}: {error}") from error
