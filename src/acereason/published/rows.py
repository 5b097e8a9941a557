"""Rows of data sets as they are published: JSON Lines and Parquet files, local or of a hub id.

A row that cannot be read (invalid UTF-8, an absurd length, no JSON object) comes with the reason in place of
its fields, so that the caller counts it. Files are read row by row or in small batches, so a set of 90 GB
needs little memory.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from acereason.errors import DataError, need

Row = Mapping[str, Any]
SUFFIXES = (".jsonl", ".json", ".parquet")
LINE_LIMIT = 1 << 28  # bytes of one row
BATCH = 256  # rows of a Parquet batch


class Read(NamedTuple):
    """A raw row with its number, or the reason why it could not be read."""

    number: int
    row: Row | None
    reason: str
    excerpt: str


def find_files(where: str, pattern: str = "*", revision: str | None = None) -> list[Path]:
    """The data files of a local file or folder, or of a hub id, which is downloaded first."""
    path = Path(where)
    if path.is_file():
        return [path]
    if not path.is_dir():
        path = _download(where, pattern, revision)
    files = sorted(p for p in path.rglob(pattern) if p.suffix in SUFFIXES and p.is_file())
    if not files:
        raise DataError(f"{where}: expected {', '.join(SUFFIXES)} files like {pattern}, found none")
    return files


def commit_of(files: Iterable[Path]) -> str | None:
    """The commit of files that came from a hub; None for local ones."""
    for path in files:
        name, _, rest = str(path).partition("/snapshots/")[2].partition("/")
        if rest and len(name) == 40:
            return name
    return None


def _download(where: str, pattern: str, revision: str | None) -> Path:
    if where.count("/") != 1 or where.startswith((".", "/", "~")):
        raise DataError(f"{where}: no such file or folder")
    from huggingface_hub import snapshot_download

    named = pattern.endswith(SUFFIXES)  # the data alone: no pictures, no scripts
    patterns = [pattern] if named else [f"{pattern}{suffix}" for suffix in SUFFIXES]
    try:
        found = snapshot_download(where, repo_type="dataset", revision=revision, allow_patterns=patterns)
    except Exception as error:  # the library raises a dozen kinds, none of ours
        raise DataError(
            f"{where}: no such file or folder here, and as a data set of the hub it cannot be "
            f"downloaded: {error}"
        ) from error
    return Path(found)


def raw_rows(path: Path) -> Iterator[Read]:
    """The rows of a file in order, unreadable ones with the reason."""
    try:
        yield from _parquet(path) if path.suffix == ".parquet" else _json_lines(path)
    except OSError as error:
        raise DataError(f"cannot read {path}: {error}") from error


def _json_lines(path: Path) -> Iterator[Read]:
    decoder = msgspec.json.Decoder(dict[str, Any])
    with path.open("rb") as file:
        number = -1
        while line := file.readline(LINE_LIMIT + 1):
            number += 1
            begin = line[:300].decode("utf-8", "replace")
            if len(line) > LINE_LIMIT:
                while line and not line.endswith(b"\n"):
                    line = file.readline(LINE_LIMIT)
                yield Read(number, None, "absurd length", begin)
                continue
            if line.isspace():
                number -= 1
                continue
            try:
                yield Read(number, decoder.decode(line), "", begin)
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
                kind = "invalid UTF-8" if _broken(line) else "not a JSON object"
                yield Read(number, None, kind, f"{error}: {begin}")


def _broken(line: bytes) -> bool:
    try:
        line.decode()
    except UnicodeDecodeError:
        return True
    return False


def _parquet(path: Path) -> Iterator[Read]:
    pa, pq = need("pyarrow", "data"), need("pyarrow.parquet", "data")
    try:
        file = pq.ParquetFile(path)
    except pa.ArrowInvalid as error:
        raise DataError(f"{path}: expected a Parquet file, {error}") from error
    number = 0
    for batch in file.iter_batches(batch_size=BATCH):
        try:
            rows: list[Row | None] = batch.to_pylist()
        except UnicodeDecodeError:
            rows = [_one(batch, i) for i in range(batch.num_rows)]
        for row in rows:
            yield Read(number, row, "" if row is not None else "invalid UTF-8", str(row)[:300])
            number += 1


def _one(batch: Any, position: int) -> Row | None:
    try:
        rows: list[Row] = batch.slice(position, 1).to_pylist()
    except UnicodeDecodeError:
        return None
    return rows[0]
