"""Steps that are done once: a step's folder is named by a hash of all it depends on, and complete
or absent.

    key = BLAKE2b(step, version of its code, its settings, keys of its inputs)

A step works in a folder of another name and takes its own by one rename, so after a kill at any
moment the next run finds each step done or not begun. (The teacher can itself go on and does not
work this way.) Files given from outside are hashed whole.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import msgspec

from acereason.curate.funnel import Funnel
from acereason.files import lock, replacing, write_atomic
from acereason.problems import Problem

VERSION = 2  # of the steps' code: a change of what a step writes raises it
Record = TypeVar("Record")


class Finished(NamedTuple):
    """A finished step: where its files are, its key, and its lines of the funnel."""

    folder: Path
    key: str
    funnels: list[Funnel]

    def __truediv__(self, name: str) -> Path:
        return self.folder / name


def key_of(*parts: Any) -> str:
    """A hash of settings and keys."""
    data = msgspec.json.encode([VERSION, *parts], order="sorted")
    return hashlib.blake2b(data, digest_size=10).hexdigest()


def file_key(path: Path) -> str:
    """A hash of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=10)).hexdigest()


class Steps:
    """The steps of one output folder."""

    def __init__(self, folder: Path, tell: Callable[[str], None]) -> None:
        self.folder, self.tell = folder, tell
        folder.mkdir(parents=True, exist_ok=True)

    def run(self, name: str, depends: Any, make: Callable[[Path], list[Funnel]]) -> Finished:
        """Do a step unless it is done. make(folder) writes the step's files and returns its
        funnel."""
        key = key_of(name, depends)
        final = self.folder / f"{name}-{key}"
        marker = final / "done.json"
        if marker.exists():
            return Finished(final, key, msgspec.json.decode(marker.read_bytes(), type=list[Funnel]))
        self.tell(name)
        work = self.folder / f".{name}-{key}.unfinished"
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir(parents=True)
        funnels = make(work)
        write_atomic(work / "done.json", msgspec.json.encode(funnels))
        work.rename(final)
        return Finished(final, key, funnels)


@contextmanager
def only_one(folder: Path) -> Iterator[None]:
    """Hold a folder for one run; RunError when another run holds it."""
    folder.mkdir(parents=True, exist_ok=True)
    with lock(folder / ".lock"):
        yield


def batches(records: Iterable[Record], size: int = 2048) -> Iterator[list[Record]]:
    """Lists of at most `size` records."""
    part: list[Record] = []
    for record in records:
        part.append(record)
        if len(part) == size:
            yield part
            part = []
    if part:
        yield part


def add(funnels: Iterable[Funnel], name: str) -> Funnel:
    """One line for a step that was done batch by batch."""
    before = after = 0
    reasons: dict[str, int] = {}
    for funnel in funnels:
        before, after = before + funnel.before, after + funnel.after
        for reason, count in funnel.reasons.items():
            reasons[reason] = reasons.get(reason, 0) + count
    return Funnel(name, before, after, reasons)


def sieve(
    problems: Iterable[Problem],
    target: Path,
    name: str,
    step: Callable[[list[Problem]], tuple[list[Problem], Funnel]],
) -> Funnel:
    """Apply a step that looks at each problem alone, batch by batch, and write what stays."""
    funnels = []
    with replacing(target) as out:
        for part in batches(problems):
            kept, funnel = step(part)
            funnels.append(funnel)
            for problem in kept:
                out.write(msgspec.json.encode(problem) + b"\n")
    return add(funnels, name)
