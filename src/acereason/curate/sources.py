"""Published data sets, or anyone's JSON Lines and Parquet files, as problems and responses.

    rows of a file ──adapter──▶ (Problem, responses), or a rejected row with its reason, set aside

`PUBLISHED` (in `adapters.py`) pins, for each set, its id, columns and number of rows; missing
columns or another number fail with the difference. Rows that do not fit (missing fields, invalid
UTF-8, absurd lengths, tests that are not JSON, a pickle that is not a plain string) are counted and
set aside, never fatal, never executed. Files are read row by row or in small batches, so a set of
90 GB needs little memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from acereason.curate.extras import need
from acereason.errors import DataError
from acereason.problems import Problem, Response

Row = Mapping[str, Any]
SUFFIXES = (".jsonl", ".json", ".parquet")
LINE_LIMIT = 1 << 28  # bytes of one row
QUESTION_LIMIT, ANSWER_LIMIT, RESPONSE_LIMIT = 100_000, 10_000, 2_000_000  # characters
BATCH = 256  # rows of a Parquet batch


class Item(NamedTuple):
    """What a row gives: a problem, and responses where the set has them."""

    problem: Problem
    responses: list[Response]


class Rejected(msgspec.Struct, frozen=True):
    """A row that was set aside: where it stood, why, and how it begins."""

    source: str
    file: str
    row: int
    reason: str
    excerpt: str


class Skip(Exception):
    """Raised by an adapter for a row that is fine but not wanted, or not usable."""


class Source(msgspec.Struct, frozen=True):
    """A published set: where it is, what its rows hold, and how a row becomes a problem.

    rows: the published number; None where none is known. columns must all be there; with `exact`,
    no others may be. `option` is what the adapter wants to know beyond the row (a split, a
    table)."""

    name: str
    id: str
    columns: frozenset[str]
    adapt: Callable[[Row, Any], Item]
    rows: int | None = None
    exact: bool = True
    revision: str | None = None
    files: str = "*"
    optional: frozenset[str] = frozenset()


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


def check_columns(source: Source, found: set[str], where: Path) -> None:
    """DataError with the difference when a file's columns are not those of the published set."""
    missing = source.columns - found
    extra = found - source.columns - source.optional if source.exact else set()
    if missing or extra:
        raise DataError(
            f"{where}: not the columns of {source.id}"
            + (f"; missing: {', '.join(sorted(missing))}" if missing else "")
            + (f"; unexpected: {', '.join(sorted(extra))}" if extra else "")
            + f"; expected: {', '.join(sorted(source.columns))}. Check the file and its revision, "
            "or name the columns in a generic source."
        )


def check_item(item: Item) -> Item:
    """The item, or Skip when a field's length is absurd or the question is empty."""
    problem = item.problem
    if not problem.question.strip():
        raise Skip("empty question")
    if len(problem.question) > QUESTION_LIMIT or len(problem.answer or "") > ANSWER_LIMIT:
        raise Skip("absurd length")
    if any(len(response.text) > RESPONSE_LIMIT for response in item.responses):
        raise Skip("absurd length")
    return item


def read_source(
    source: Source,
    where: str,
    aside: Callable[[Rejected], None],
    option: Any = None,
    check_rows: bool = True,
) -> Iterator[Item]:
    """The items of a set at a path or hub id, in the order of the files; bad rows go to `aside`.

    check_rows: whether the number of rows must be the published one."""
    total = 0
    for path in find_files(where, source.files, source.revision):
        checked = False
        for number, row, reason, excerpt in raw_rows(path):
            total += 1
            if row is not None:
                if not checked:
                    check_columns(source, set(row), path)
                    checked = True
                try:
                    yield check_item(source.adapt(row, option))
                    continue
                except (Skip, DataError) as error:
                    reason = str(error)
                except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
                    reason = f"field missing or of another type: {type(error).__name__} {error}"
            aside(Rejected(source.name, path.name, number, reason[:300], excerpt[:300]))
    if check_rows and source.rows is not None and total != source.rows:
        raise DataError(
            f"{where}: expected the {source.rows:,} rows of {source.id}, found {total:,} "
            f"({total - source.rows:+,}). Download it again, or set `check_rows = false`."
        )
