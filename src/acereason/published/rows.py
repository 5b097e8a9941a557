"""Rows of anyone's file: JSON Lines, a JSON array, Parquet or CSV, packed or not.

    for read in raw_rows(path):  read.row is a dict, or None with read.reason; read.place says where

A row that cannot be read (invalid UTF-8, an absurd length, no JSON object, cells missing) comes with the
reason in place of its fields, so that the caller counts it. JSON Lines, CSV and Parquet are read row by row
or in small batches, so a set of 90 GB needs little memory; a JSON array is read whole.
"""

from __future__ import annotations

import csv
import io
import json
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import msgspec

from acereason.errors import DataError, need
from acereason.kinds import near, said
from acereason.published.files import commit_of, find_files, opened

__all__ = ["Read", "Row", "commit_of", "find_files", "raw_rows"]

Row = Mapping[str, Any]
LINE_LIMIT = 1 << 28  # bytes of one row
BATCH = 256  # rows of a Parquet batch
LISTS = ("data", "rows", "examples", "problems", "questions", "items", "train", "test", "validation")
_SPACE = re.compile(r"\s*")
_object = msgspec.json.Decoder(dict[str, Any])


class Read(NamedTuple):
    """A raw row with its number (from 0), or the reason why it could not be read; and where it stands."""

    number: int
    row: Row | None
    reason: str
    excerpt: str
    place: str = ""


def raw_rows(path: Path) -> Iterator[Read]:
    """The rows of a file in order, unreadable ones with the reason. DataError for a file that holds none, or
    is no data at all."""
    if not path.is_file() and not path.is_fifo():
        raise DataError(f"cannot read {path}: expected a file of rows, found {said(path)}{near(path)}")
    try:
        file, head = opened(path)
        with file:
            yield from _rows(path, file, head)
    except (OSError, EOFError) as error:
        raise DataError(f"cannot read {path}: {error}") from error


def _rows(path: Path, file: BinaryIO, head: bytes) -> Iterator[Read]:
    if head.startswith(b"PAR1") or ".parquet" in path.suffixes[-2:]:
        return _parquet(path, file)
    if {".csv", ".tsv"} & set(path.suffixes[-2:]):
        return _csv(path, file)
    begin, lines = head.lstrip(), ".jsonl" in path.suffixes[-2:]
    if begin.startswith(b"[") and (rows := _array(path, file, lines)) is not None:
        return rows
    if begin.startswith(b"{") and not lines and (rows := _inside(path, file)) is not None:
        return rows
    return _json_lines(file)


def _array(path: Path, file: BinaryIO, lines: bool) -> Iterator[Read] | None:
    """The rows of a JSON array; None when the file named as lines is none."""
    begin, data = file.tell(), file.read()
    try:
        rows = msgspec.json.decode(data, type=list[msgspec.Raw])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        file.seek(begin)
        if lines or _one_value(data.partition(b"\n")[0]):
            return None
        if (loose := _loosely(data)) is not None:
            return (_row(i, row, f"row {i + 1}") for i, row in enumerate(loose))
        raise DataError(f"{path}: expected a JSON array, {error}") from error
    return (_decoded(i, bytes(raw), f"row {i + 1}") for i, raw in enumerate(rows))


def _one_value(line: bytes) -> bool:
    """Whether a first line is a JSON value of its own: then the file is lines, whatever its name."""
    try:
        msgspec.json.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    return True


def _loosely(data: bytes) -> Any:
    """JSON with the NaN and Infinity that pandas and Python write; None when it is none of either."""
    if b"NaN" not in data and b"Infinity" not in data:
        return None
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        return None


def _inside(path: Path, file: BinaryIO) -> Iterator[Read] | None:
    """The rows of the one list in a JSON object, such as {"data": […]}; None for JSON Lines."""
    begin = file.tell()
    first = file.readline(LINE_LIMIT)
    several = _one_value(first) and file.readline(LINE_LIMIT).strip()
    file.seek(begin)
    if several:
        return None
    try:
        whole = _object.decode(file.read())
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        file.seek(begin)
        rows = [] if _one_value(first) else _in_a_row(file.read())
        file.seek(begin)
        return (_row(i, row, f"row {i + 1}") for i, row in enumerate(rows)) if rows else None
    candidates = [whole[name] for name in LISTS if isinstance(whole.get(name), list)]
    if len(candidates) > 1 and all(len(rows) and isinstance(rows[0], dict) for rows in candidates):
        lists = ", ".join(
            f"{name} ({len(whole[name])})" for name in LISTS if isinstance(whole.get(name), list)
        )
        raise DataError(
            f"{path}: expected one list of rows, found {lists}; write the one that is meant to a file"
        )
    listed = len(candidates) == 1 and candidates[0] and all(isinstance(row, dict) for row in candidates[0])
    rows = candidates[0] if listed else _turned(whole) or [whole]
    return (_row(i, _unpaged(row), f"row {i + 1}") for i, row in enumerate(rows))


def _in_a_row(data: bytes) -> list[Any]:
    """JSON values that follow one another over several lines each, as `jq` writes them; empty: none do."""
    decoder, values, place = json.JSONDecoder(), list[Any](), 0
    try:
        text = data.decode()
        while (place := _after_space(text, place)) < len(text):
            value, place = decoder.raw_decode(text, place)
            values.append(value)
    except (ValueError, RecursionError):
        return []
    return values


def _after_space(text: str, place: int) -> int:
    space = _SPACE.match(text, place)
    return space.end() if space else place


def _turned(whole: dict[str, Any]) -> list[dict[str, Any]]:
    """The rows of an object of columns, as pandas writes a table, or of rows by their ids; empty: neither."""
    values = list(whole.values())
    if len(whole) > 1 and all(isinstance(v, list) for v in values) and len({len(v) for v in values}) == 1:
        return [dict(zip(whole, cells, strict=True)) for cells in zip(*values, strict=True)]
    if not values or not all(isinstance(v, dict) and v.keys() == values[0].keys() for v in values):
        return []
    if all(key.isdecimal() for key in values[0]):  # columns, whose cells have a number
        return [{name: column[place] for name, column in whole.items()} for place in values[0]]
    return [{"id": name, **row} for name, row in whole.items()] if len(whole) > 1 else []


def _row(number: int, row: Any, place: str) -> Read:
    reason = "" if isinstance(row, dict) else "not a JSON object"
    return Read(number, None if reason else row, reason, str(row)[:300] if reason else "", place)


def _unpaged(row: dict[str, Any]) -> dict[str, Any]:
    """A row as the hub's viewer gives it, {"row_idx": 0, "row": {…}}, without that dress."""
    inner = row.get("row")
    return inner if "row_idx" in row and isinstance(inner, dict) else row


def _json_lines(file: BinaryIO) -> Iterator[Read]:
    number, place = -1, 0
    while line := file.readline(LINE_LIMIT + 1):
        place += 1
        if line.isspace():
            continue
        number += 1
        if len(line) > LINE_LIMIT:
            begin = line[:300].decode("utf-8", "replace")
            while line and not line.endswith(b"\n"):
                line = file.readline(LINE_LIMIT)
            yield Read(number, None, "absurd length", begin, f"line {place}")
            continue
        yield _decoded(number, line, f"line {place}")


def _decoded(number: int, data: bytes, place: str) -> Read:
    begin = data[:300].decode("utf-8", "replace")
    try:
        return Read(number, _object.decode(data), "", begin, place)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        if isinstance(loose := _loosely(data), dict):
            return Read(number, loose, "", begin, place)
        kind = "invalid UTF-8" if _broken(data) else "not a JSON object"
        return Read(number, None, kind, f"{error}: {begin}", place)


def _broken(line: bytes) -> bool:
    try:
        line.decode()
    except UnicodeDecodeError:
        return True
    return False


def _csv(path: Path, file: BinaryIO) -> Iterator[Read]:
    """Rows under a header; an empty cell is none."""
    csv.field_size_limit(min(LINE_LIMIT, sys.maxsize))
    start = file.tell()
    begin = file.readline().decode("utf-8", "replace")
    file.seek(start)
    with io.TextIOWrapper(file, "utf-8", errors="surrogateescape", newline="") as text:
        yield from _table(path, csv.reader(text, delimiter=max("\t;,", key=begin.count), strict=True))


def _table(path: Path, rows: Any) -> Iterator[Read]:
    try:
        header = [name.strip() for name in next(rows)]
        if len(set(header)) < len(header):
            raise DataError(f"{path}: expected a header of different names, found {', '.join(header)}")
        for number, cells in enumerate(row for row in rows if row):
            yield _cells(number, header, cells, f"line {rows.line_num}")
    except csv.Error as error:
        raise DataError(f"{path}, line {rows.line_num}: expected CSV, {error}") from error


def _cells(number: int, header: list[str], cells: list[str], place: str) -> Read:
    begin = ",".join(cells)[:300]
    if len(cells) != len(header):
        return Read(number, None, f"expected {len(header)} cells, found {len(cells)}", begin, place)
    if any("\udc80" <= c <= "\udcff" for cell in cells for c in cell if not c.isascii()):
        return Read(number, None, "invalid UTF-8", begin.encode("utf-8", "replace").decode(), place)
    return Read(
        number, {name: cell or None for name, cell in zip(header, cells, strict=True)}, "", begin, place
    )


def _parquet(path: Path, source: BinaryIO) -> Iterator[Read]:
    pa, pq = need("pyarrow", "data"), need("pyarrow.parquet", "data")
    try:
        file = pq.ParquetFile(path if isinstance(source, io.BufferedReader) else io.BytesIO(source.read()))
    except pa.ArrowInvalid as error:
        raise DataError(f"{path}: expected a Parquet file, {error}") from error
    number = 0
    for batch in file.iter_batches(batch_size=BATCH):
        try:
            rows: list[Row | None] = batch.to_pylist()
        except UnicodeDecodeError:
            rows = [_one(batch, i) for i in range(batch.num_rows)]
        for row in rows:
            reason = "" if row is not None else "invalid UTF-8"
            yield Read(number, row, reason, "", f"row {number + 1}")
            number += 1


def _one(batch: Any, position: int) -> Row | None:
    try:
        rows: list[Row] = batch.slice(position, 1).to_pylist()
    except UnicodeDecodeError:
        return None
    return rows[0]
