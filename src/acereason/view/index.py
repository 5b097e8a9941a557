"""Where every response of a run stands, and what it is: so that 100,000 of them are filtered in a moment.

    responses/<stage>-<step>.jsonl ─▶ Index.advance ─▶ per file: offsets and small columns
                                      Index.find(filter) ─▶ the matching rows, newest step first

Texts stay on the disk. A text filter is a search for the bytes that JSON writes for it, file after file,
for at most `seconds`; what has not been searched yet is said, and the page asks on. It is exact: upper and
lower case differ. A file is written whole, so one that changed is read again, and one that is gone is
forgotten.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from acereason.files import open_file, read_file
from acereason.view.tail import Row, decode

TEXTS = 4  # searches that are remembered
LIMIT = 200  # rows of one answer at most
_WORD = 500  # characters of a name that are told apart


class Brief(msgspec.Struct, frozen=True):
    """What the index takes from a row; the text is skipped. Any type may stand in a damaged file."""

    problem_id: Any = None
    sample: Any = None
    tokens: Any = None
    finish: Any = None
    outcome: Any = None
    family: Any = None
    level: Any = None


class Texts(msgspec.Struct, frozen=True):
    """What a text filter looks into."""

    text: str = ""
    extracted: str | None = None
    detail: str = ""
    problem_id: str = ""


_texts = msgspec.json.Decoder(Texts)


@dataclass(frozen=True, slots=True)
class Filter:
    """Which responses are wanted; None wants all."""

    stage: str | None = None
    step: int | None = None
    outcome: str | None = None
    truncated: bool | None = None
    family: str | None = None
    text: str = ""


@dataclass(slots=True)
class File:
    """One responses file: where each row starts and how long it is in bytes; names are codes of the index."""

    name: str
    stage: str
    step: int
    stamp: tuple[int, int, int]
    starts: NDArray[np.int64]
    lengths: NDArray[np.int64]
    problem: NDArray[np.int32]
    sample: NDArray[np.int32]
    tokens: NDArray[np.int32]
    truncated: NDArray[np.bool_]
    outcome: NDArray[np.int32]
    family: NDArray[np.int32]
    broken: int

    def __len__(self) -> int:
        return len(self.sample)


@dataclass(frozen=True, slots=True)
class Found:
    """A page of matches as (file, row), how many there are (at least, while `searched` < 1), and whether more
    follow."""

    rows: list[tuple[File, int]]
    matching: int
    more: bool
    searched: float


class Index:
    """The responses of one run."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "responses"
        self.files: dict[str, File] = {}
        self.names: list[str] = []
        self._codes: dict[str, int] = {}
        self._waiting: dict[str, tuple[int, int, int]] = {}
        self._searches = 0
        self._decoder = msgspec.json.Decoder(Brief)
        self._texts: dict[str, dict[str, tuple[tuple[int, int, int], NDArray[np.bool_]]]] = {}

    def advance(self, seconds: float = float("inf")) -> None:
        """Index what is new, for at most about so many seconds (at least one file)."""
        end = time.monotonic() + seconds
        here = dict(_listed(self.folder))
        for name in self.files.keys() - here.keys():
            del self.files[name]
        self._waiting = {n: s for n, s in here.items() if n not in self.files or self.files[n].stamp != s}
        for name in sorted(self._waiting, key=_step_of, reverse=True):
            file = self._index(name, self._waiting.pop(name))
            if file is not None:
                self.files[name] = file
            if time.monotonic() > end:
                return

    @property
    def indexed(self) -> float:
        """The share of files that are indexed."""
        return len(self.files) / max(1, len(self.files) + len(self._waiting))

    @property
    def total(self) -> int:
        """Responses indexed."""
        return sum(map(len, self.files.values()))

    @property
    def broken(self) -> int:
        """Lines that could not be read."""
        return sum(file.broken for file in self.files.values())

    def choices(self) -> Row:
        """What can be filtered by: stages with their steps, outcomes, families."""
        stages: dict[str, list[int]] = {}
        for file in sorted(self.files.values(), key=lambda file: file.step):
            stages.setdefault(file.stage, []).append(file.step)
        used = {
            field: sorted(
                {self.names[code] for file in self.files.values() for code in np.unique(getattr(file, field))}
            )
            for field in ("outcome", "family")
        }
        return {"stages": stages, "outcomes": used["outcome"], "families": [f for f in used["family"] if f]}

    def find(self, wanted: Filter, start: int = 0, limit: int = 50, seconds: float = 0.15) -> Found:
        """Matches number `start` and on, newest step first, then in the order of the file."""
        end = time.monotonic() + seconds
        rows: list[tuple[File, int]] = []
        matching = done = 0
        limit = min(limit, LIMIT)
        files = [file for file in self._newest() if _of_file(file, wanted)]
        for file in files:
            searches = self._searches
            hits = self._hits(file, wanted)
            first, last = (max(0, bound - matching) for bound in (start, start + limit))
            rows += [(file, at) for at in hits[first:last].tolist()]
            matching += len(hits)
            done += 1
            if self._searches > searches and time.monotonic() > end:
                break
        searched = done / len(files) if files else 1.0
        return Found(rows, matching, matching > start + limit or searched < 1, searched)

    def read(self, file: File, row: int) -> Row:
        """One response, decoded; an empty object when it cannot be read any more."""
        try:
            with open_file(self.folder / file.name) as data:
                data.seek(int(file.starts[row]))
                decoded = decode(data.read(int(file.lengths[row])))
        except OSError:
            return {}
        return decoded if isinstance(decoded, dict) else {}

    def group(self, name: str, problem: str) -> tuple[File, list[int]] | None:
        """The file of that name (without its ending), and the rows that answer the problem."""
        file = self.files.get(f"{name}.jsonl")
        code = self._codes.get(problem)
        if file is None or code is None:
            return None
        return file, np.flatnonzero(file.problem == code).tolist()

    def steps_of(self, problem: str) -> list[Row]:
        """The files that hold answers to the problem, by step: how many, and how many of them are right."""
        code, right = self._codes.get(problem), self._codes.get("correct", -1)
        found = []
        for file in sorted(self.files.values(), key=lambda file: (file.step, file.stage)):
            rows = np.flatnonzero(file.problem == code)
            if len(rows):
                about = {"file": file.name.removesuffix(".jsonl"), "stage": file.stage, "step": file.step}
                found.append({**about, "of": len(rows), "right": int((file.outcome[rows] == right).sum())})
        return found

    def _newest(self) -> list[File]:
        return sorted(self.files.values(), key=lambda file: (-file.step, file.stage))

    def _hits(self, file: File, wanted: Filter) -> NDArray[np.int64]:
        keep = np.ones(len(file), bool)
        if wanted.outcome is not None:
            keep &= file.outcome == self._codes.get(wanted.outcome, -1)
        if wanted.family is not None:
            keep &= file.family == self._codes.get(wanted.family, -1)
        if wanted.truncated is not None:
            keep &= file.truncated == wanted.truncated
        if wanted.text and keep.any():
            keep &= self._holding(file, wanted.text)
        return np.flatnonzero(keep)

    def _holding(self, file: File, text: str) -> NDArray[np.bool_]:
        """Which rows hold the text; remembered for the last TEXTS texts, so that a search can go on."""
        known = self._texts.pop(text, {})
        self._texts[text] = known
        if len(self._texts) > TEXTS:
            del self._texts[next(iter(self._texts))]
        remembered = known.get(file.name)
        if remembered is None or remembered[0] != file.stamp:
            remembered = known[file.name] = file.stamp, self._search(file, text)
        return remembered[1]

    def _search(self, file: File, text: str) -> NDArray[np.bool_]:
        """Which rows hold the text: found among the file's bytes, confirmed in the row."""
        self._searches += 1
        hits = np.zeros(len(file), bool)
        try:
            data = read_file(self.folder / file.name)
        except OSError:
            return hits
        for needle in {msgspec.json.encode(text)[1:-1], json.dumps(text).encode()[1:-1]}:
            at = data.find(needle)
            while at >= 0:
                row = int(np.searchsorted(file.starts, at, "right")) - 1
                if row >= 0 and not hits[row]:
                    begin = int(file.starts[row])
                    hits[row] = _says(data[begin : begin + int(file.lengths[row])], text)
                if row + 1 >= len(file):
                    break
                at = data.find(needle, int(file.starts[row + 1]))
        return hits

    def _code(self, value: Any) -> int:
        name = "" if value is None else str(value)[:_WORD]
        if name not in self._codes:
            self._codes[name] = len(self.names)
            self.names.append(name)
        return self._codes[name]

    def _index(self, name: str, stamp: tuple[int, int, int]) -> File | None:
        try:
            data = read_file(self.folder / name)
        except OSError:
            return None
        kept, starts, lengths, at, broken = [], [], [], 0, 0
        for line in data.split(b"\n"):
            brief = self._brief(line) if line.strip() else None
            if brief is not None:
                kept.append(brief)
                starts.append(at)
                lengths.append(len(line))
            elif line.strip():
                broken += 1
            at += len(line) + 1
        stage, _, step = name.removesuffix(".jsonl").rpartition("-")
        return File(
            name,
            stage,
            int(step),
            stamp,
            np.array(starts, np.int64),
            np.array(lengths, np.int64),
            np.array([self._code(b.problem_id) for b in kept], np.int32),
            np.array([_count(b.sample) for b in kept], np.int32),
            np.array([_count(b.tokens) for b in kept], np.int32),
            np.array([b.finish == "length" for b in kept], bool),
            np.array([self._code(b.outcome) for b in kept], np.int32),
            np.array([self._code(b.family) for b in kept], np.int32),
            broken,
        )

    def _brief(self, line: bytes) -> Brief | None:
        try:
            return self._decoder.decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            value = decode(line)
            return msgspec.convert(value, Brief) if isinstance(value, dict) else None


def _says(line: bytes, text: str) -> bool:
    try:
        row = _texts.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        value = decode(line)
        fields = ("text", "extracted", "detail", "problem_id")
        return isinstance(value, dict) and any(text in str(value.get(name, "")) for name in fields)
    return text in row.text or text in (row.extracted or "") or text in row.detail or text in row.problem_id


def _of_file(file: File, wanted: Filter) -> bool:
    return wanted.stage in (None, file.stage) and wanted.step in (None, file.step)


def _count(value: Any) -> int:
    if isinstance(value, list):
        value = len(value)
    return value if type(value) is int and 0 <= value < 2**31 else -1


def _listed(folder: Path) -> Iterator[tuple[str, tuple[int, int, int]]]:
    """Responses files by name, with what changes when one is written anew."""
    try:
        entries = list(os.scandir(folder))
    except OSError:
        return
    for entry in entries:
        if entry.name.endswith(".jsonl") and _step_of(entry.name) >= 0 and entry.is_file():
            try:
                status = entry.stat()
            except OSError:
                continue
            yield entry.name, (status.st_ino, status.st_size, status.st_mtime_ns)


def _step_of(name: str) -> int:
    stage, _, step = name.removesuffix(".jsonl").rpartition("-")
    return int(step) if stage and step.isdecimal() and step.isascii() and len(step) < 16 else -1
