"""Published data sets, or anyone's JSON Lines and Parquet files, as problems and responses.

    rows of a file ──adapter──▶ (Problem, responses), or a rejected row with its reason, set aside

`PUBLISHED` (in `adapters.py`) pins, for each set, its id, columns and number of rows; missing
columns or another number fail with the difference. Rows that do not fit (missing fields, invalid
UTF-8, absurd lengths, tests that are not JSON, a pickle that is not a plain string) are counted and
set aside, never fatal, never executed. Files are read row by row or in small batches, so a set of
90 GB needs little memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from acereason.errors import DataError
from acereason.problems import Problem, Response
from acereason.published.rows import Row, find_files, raw_rows

QUESTION_LIMIT, ANSWER_LIMIT, RESPONSE_LIMIT = 100_000, 10_000, 2_000_000  # characters


class SourceItem(NamedTuple):
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
    no others may be; with `loose`, a column that some row has may be missing in others. `option` is
    what the adapter wants to know beyond the row (a split, a table)."""

    name: str
    id: str
    columns: frozenset[str]
    adapt: Callable[[Row, Any], SourceItem]
    rows: int | None = None
    exact: bool = True
    revision: str | None = None
    files: str = "*"
    optional: frozenset[str] = frozenset()
    loose: bool = False


def check_columns(source: Source, columns: set[str], where: Path) -> None:
    """DataError with the difference when a file's columns are not those of the published set."""
    missing = source.columns - columns
    extra = columns - source.columns - source.optional if source.exact else set()
    if missing or extra:
        raise DataError(
            f"{where}: not the columns of {source.id}"
            + (f"; missing: {', '.join(sorted(missing))}" if missing else "")
            + (f"; unexpected: {', '.join(sorted(extra))}" if extra else "")
            + f"; expected: {', '.join(sorted(source.columns))}. Check the file and its revision, "
            "or name the columns in a generic source."
        )


def check_item(item: SourceItem) -> SourceItem:
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
) -> Iterator[SourceItem]:
    """The items of a set at a path or hub id, in the order of the files; bad rows go to `aside`.

    check_rows: whether the number of rows must be the published one."""
    total, seen = 0, set[str]()
    for path in find_files(where, source.files, source.revision):
        checked = False
        for number, row, reason, excerpt, _ in raw_rows(path):
            total += 1
            if row is not None:
                if source.loose:
                    seen.update(row)
                elif not checked:
                    check_columns(source, set(row), path)
                    checked = True
                try:
                    yield check_item(source.adapt(row, option))
                    continue
                except (Skip, DataError) as error:
                    reason = str(error)
                except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
                    reason = f"field missing or of another type: {type(error).__name__} {error}"
            aside(Rejected(source.name, path.name, number, reason[:300], (excerpt or str(row))[:300]))
    if source.loose and total:
        check_columns(source, seen, Path(where))
    if check_rows and source.rows is not None and total != source.rows:
        raise DataError(
            f"{where}: expected the {source.rows:,} rows of {source.id}, found {total:,} "
            f"({total - source.rows:+,}). Download it again, or set `check_rows = false`."
        )
