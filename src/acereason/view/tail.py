"""Following a JSON Lines file that another process is writing: every whole line once, no database.

    read(seconds) ─▶ batches of decoded objects, as far as they are on the disk or the time allows

A file may be torn (a last line without its newline waits for the rest), cut back or replaced (a resumed run
rewinds it: reading starts over), or gone. A line that is no JSON object is counted and left out; bytes that
are not UTF-8 become U+FFFD. Whether the file was rewound and grew again between two looks is seen by the
bytes before the place that was read last.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from acereason.files import open_file

Row = dict[str, Any]

CHUNK = 1 << 20  # bytes decoded at once
LONGEST = 64 << 20  # bytes of a line that is still read
_WITNESS = 256  # bytes before the place read last that must still be there
_decoder = msgspec.json.Decoder()


def decode(data: bytes) -> Any:
    """The JSON value, or None; bytes that are not UTF-8 become U+FFFD."""
    try:
        return _decoder.decode(data.decode("utf-8", "replace"))
    except (msgspec.DecodeError, RecursionError):
        return None


class Tail:
    """A place in a JSON Lines file. `size` is how long the file was when last looked at."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.missing = ""  # why the file cannot be read, if so
        self.size = 0
        self.generation = 0  # how often reading started over
        self._start_over()

    def _start_over(self) -> None:
        self.offset = self.lines = 0
        self.broken: list[int] = []  # numbers of the lines that were left out
        self.torn = False
        self._inode = 0
        self._witness = b""

    def _forget(self) -> None:
        self.generation += 1
        self._start_over()

    @property
    def behind(self) -> int:
        """Bytes not read yet, a torn line aside."""
        return 0 if self.torn else self.size - self.offset

    def read(self, seconds: float = float("inf")) -> Iterator[list[Row]]:
        """Batches of new objects until the end of the file, or until the time is over.

        When `generation` has changed, the first batch is again the file's beginning."""
        end = time.monotonic() + seconds
        try:
            file = open_file(self.path)
        except FileNotFoundError:
            self.missing = "is not there"
            if self.offset:
                self._forget()
            return
        except OSError as error:
            self.missing = f"cannot be read: {error.strerror}"
            return
        with file:
            self.missing = ""
            self._look(file)
            while time.monotonic() < end:
                data = self._whole_lines(file)
                if not data:
                    return
                yield self._objects(data)

    def notes(self) -> list[str]:
        """What a reader should know about the file."""
        name, notes = self.path.name, []
        if self.missing:
            notes.append(f"{name} {self.missing}")
        if self.torn:
            notes.append(f"{name}: the last line is not complete; it is left out")
        if self.broken:
            count, first = len(self.broken), self.broken[0]
            notes.append(f"{name}: {count} unreadable lines left out, first line {first}")
        return notes

    def _look(self, file: Any) -> None:
        """Start over when the file is not the one that was read, or no longer as long."""
        status = os.fstat(file.fileno())
        self.size = status.st_size
        file.seek(max(0, self.offset - len(self._witness)))
        if self.offset and (
            status.st_ino != self._inode
            or self.size < self.offset
            or file.read(len(self._witness)) != self._witness
        ):
            self._forget()
        self._inode = status.st_ino

    def _whole_lines(self, file: Any) -> bytes:
        """The next bytes that end with a newline; none when only a torn line is left."""
        file.seek(self.offset)
        data: bytes = file.read(CHUNK)
        end = data.rfind(b"\n") + 1
        while not end and len(data) < LONGEST and (more := file.read(len(data))):
            end = len(data) + more.rfind(b"\n") + 1 if b"\n" in more else 0
            data += more
        self.torn = bool(data) and not end
        self.size = max(self.size, self.offset + len(data))
        data = data[:end]
        self.offset += end
        self._witness = (self._witness + data)[-_WITNESS:]
        return data

    def _objects(self, data: bytes) -> list[Row]:
        try:
            rows = _decoder.decode_lines(data)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            rows = []
        if len(rows) != data.count(b"\n"):  # one by one; empty lines keep the numbers right
            rows = [decode(line) if line.strip() else {} for line in data.split(b"\n")[:-1]]
        objects = [row for row in rows if isinstance(row, dict)]
        if len(objects) < len(rows):
            self.broken += [self.lines + at for at, row in enumerate(rows, 1) if not isinstance(row, dict)]
        self.lines += len(rows)
        return objects
