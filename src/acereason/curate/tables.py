"""Problems and responses as Parquet tables, row group by row group, and back.

Columns are the record's fields; tests and `meta` are JSON in strings. Rows of one list of records
give the same bytes with the same version of pyarrow.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from acereason.curate.steps import batches
from acereason.errors import DataError, need
from acereason.files import replacing
from acereason.problems import Problem, Response

Record = TypeVar("Record", Problem, Response)
ROWS = 2048  # of a row group
_TYPES: dict[type, dict[str, str]] = {
    Problem: {
        "id": "string",
        "domain": "string",
        "question": "string",
        "answer": "string",
        "tests": "string",
        "function": "string",
        "starter_code": "string",
        "time_limit": "double",
        "memory_limit": "int64",
        "source": "string",
        "difficulty": "double",
        "released": "string",
        "meta": "string",
    },
    Response: {
        "problem_id": "string",
        "sample": "int64",
        "text": "string",
        "finish": "string",
        "temperature": "double",
        "meta": "string",
    },
}
_PACKED = ("tests", "meta")


def _schema(kind: type) -> Any:
    pa = need("pyarrow", "data")
    make = {"string": pa.string, "double": pa.float64, "int64": pa.int64}
    return pa.schema([(name, make[of]()) for name, of in _TYPES[kind].items()])


def _cell(record: object, name: str) -> Any:
    value = getattr(record, name)
    return msgspec.json.encode(value).decode() if name in _PACKED else value


def write_table(path: Path, records: Iterable[Record], kind: type[Record]) -> int:
    """Write records to a Parquet file, atomically; returns their number. Tokens, log-probabilities
    and entropies of responses are not written."""
    pa, pq = need("pyarrow", "data"), need("pyarrow.parquet", "data")
    count, schema = 0, _schema(kind)
    with replacing(path) as file, pq.ParquetWriter(file, schema, compression="zstd") as writer:
        for part in batches(records, ROWS):
            columns = {name: [_cell(record, name) for record in part] for name in schema.names}
            writer.write_table(pa.table(columns, schema=schema))
            count += len(part)
    return count


def read_table(path: Path, kind: type[Record]) -> Iterator[Record]:
    """The records of such a file; DataError when its columns are others."""
    pa, pq = need("pyarrow", "data"), need("pyarrow.parquet", "data")
    try:
        file = pq.ParquetFile(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError(f"{path}: expected a Parquet file of {kind.__name__} records, {error}") from error
    if missing := sorted(set(_TYPES[kind]) - set(file.schema_arrow.names)):
        raise DataError(f"{path}: expected the columns of {kind.__name__}, missing: {missing}")
    for batch in file.iter_batches(batch_size=ROWS, columns=list(_TYPES[kind])):
        for row in batch.to_pylist():
            cells = {
                name: msgspec.json.decode(value) if name in _PACKED else value
                for name, value in row.items()
                if value is not None
            }
            yield msgspec.convert(cells, kind)
