"""Where each problem of a run stands in the run's data, so that any of 100,000 is read in a moment.

    data/rl.jsonl, held_out.jsonl, … ─▶ ProblemsAt.advance ─▶ ProblemsAt.get(id) ─▶ the problem's row

Only places are kept. A file that changed is read again; rows that are no problems are passed over.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from acereason.files import open_file
from acereason.view.tail import Row, decode

FIRST = ("rl.jsonl", "held_out.jsonl", "sft.jsonl")
OTHER_ROWS = ("traces", "contamination", "rejected")  # files that hold no problems to be asked
Stamp = tuple[int, int]


class Brief(msgspec.Struct, frozen=True):
    """What makes a row a problem; both must be there."""

    id: str
    question: msgspec.Raw


_brief = msgspec.json.Decoder(Brief)


class ProblemsAt:
    """The problems of one run, by id."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "data"
        self._places: dict[str, tuple[Path, int]] = {}
        self._known: dict[Path, Stamp] = {}
        self._reading: Iterator[None] | None = None

    def advance(self, seconds: float = float("inf")) -> bool:
        """Read on for at most about so many seconds; whether all is known."""
        end = time.monotonic() + seconds
        while True:
            if self._reading is None:
                path = next((path for path in self._files() if self._known.get(path) != _stamp(path)), None)
                if path is None:
                    return True
                self._reading = self._read(path)
            for _ in self._reading:
                if time.monotonic() > end:
                    return False
            self._reading = None

    def place(self, name: str) -> tuple[Path, Stamp] | None:
        """The file that the problem stands in and its stamp, another one as soon as the file changes."""
        found = self._places.get(name)
        return found and (found[0], _stamp(found[0]))

    def get(self, name: str) -> Row | None:
        """The problem's row; None when it is not known, or not there any more."""
        place = self._places.get(name)
        if place is None:
            return None
        try:
            with open_file(place[0]) as file:
                file.seek(place[1])
                row = decode(file.readline())
        except OSError:
            return None
        return row if isinstance(row, dict) and row.get("id") == name else None

    def _files(self) -> list[Path]:
        found = [path for path in self._folder.glob("*.jsonl") if not path.name.startswith(OTHER_ROWS)]
        return sorted(found, key=lambda path: (path.name not in FIRST, path.name != "rl.jsonl", path.name))

    def _read(self, path: Path) -> Iterator[None]:
        """Note every problem of a file that an earlier one did not have; pauses after every line."""
        self._known[path] = _stamp(path)
        at = 0
        try:
            with open_file(path) as file:
                for line in file:
                    name = _id_of(line)
                    if name is not None and self._places.setdefault(name, (path, at))[0] == path:
                        self._places[name] = path, at
                    at += len(line)
                    yield
        except OSError:
            return


def _id_of(line: bytes) -> str | None:
    try:
        return _brief.decode(line).id
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def _stamp(path: Path) -> Stamp:
    try:
        status: Any = path.stat()
    except OSError:
        return 0, 0
    return status.st_size, status.st_mtime_ns
