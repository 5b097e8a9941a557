"""The same problems in every layout that people keep them in: the same questions, answers and tests. What is
no table of rows is named as what it is."""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import json
import lzma
import pickle
import tarfile
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from acereason.errors import DataError
from acereason.published.records import problem_of, read_problems
from acereason.published.rows import raw_rows

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")

Rows = list[dict[str, Any]]
VERL: Rows = [
    {
        "prompt": [{"role": "user", "content": f"What is {i} + “{i}”,\nor twice it?"}],
        "reward_model": {"ground_truth": [str(2 * i)], "style": "rule"},
        "extra_info": {"index": f"x{i}", "level": "Level 5"},
    }
    for i in range(3)
]
ASSERTED: Rows = [
    {"task_id": i, "prompt": f"Write f{i} that adds {i}; say \"so\".",
     "test_list": [f"assert f{i}(1) == {i + 1}"], "test_imports": ["import math"]}
    for i in range(3)
]  # fmt: skip
PLAIN: Rows = [{"question": f"What is {i}?", "answer": 1000 + i, "note": None} for i in range(3)]


def lines(rows: Rows, end: str = "\n") -> bytes:
    return "".join(json.dumps(row, ensure_ascii=False) + end for row in rows).encode()


def table(rows: Rows, cell: Callable[[Any], str], delimiter: str = ",") -> bytes:
    out = io.StringIO()
    writer = csv.writer(out, delimiter=delimiter)
    writer.writerow(rows[0])
    for row in rows:
        writer.writerow(
            ["" if v is None else cell(v) if isinstance(v, list | dict) else v for v in row.values()]
        )
    return out.getvalue().encode()


def as_pandas(value: Any) -> str:
    """As a cell of verl's Parquet comes out of `to_csv`."""
    return repr(value).replace("['0']", "array(['0'], dtype=object)")


def parquet(rows: Rows) -> bytes:
    out = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), out)
    return out.getvalue()


def layouts(rows: Rows) -> dict[str, bytes]:
    text, whole = lines(rows).decode(), json.dumps(rows)
    columns = {k: {str(i): row[k] for i, row in enumerate(rows)} for k in rows[0]}
    viewer = {"rows": [{"row_idx": i, "row": row} for i, row in enumerate(rows)], "partial": False}
    cells = [{k: json.dumps(v) if isinstance(v, list | dict) else v for k, v in row.items()} for row in rows]
    return {
        "a.jsonl": lines(rows),
        "windows.jsonl": b"\xef\xbb\xbf" + lines(rows, "\r\n\r\n"),
        "utf16.jsonl": text.encode("utf-16"),
        "big-endian.jsonl": text.encode("utf-16-be"),
        "unmarked.jsonl": text.encode("utf-16-le"),
        "utf32.jsonl": text.encode("utf-32"),
        "packed": gzip.compress(lines(rows)),
        "a.json.gz": gzip.compress(b"\xef\xbb\xbf" + whole.encode()),
        "a.jsonl.bz2": bz2.compress(lines(rows)),
        "a.jsonl.xz": lzma.compress(lines(rows)),
        "array.json": whole.encode(),
        "spread.json": json.dumps(rows, indent=1).replace("\n", "\r\n").encode(),
        "jq.json": "".join(json.dumps(row, indent=2) + "\n" for row in rows).encode(),
        "data.json": json.dumps({"version": 1, "data": rows}).encode(),
        "viewer.json": json.dumps(viewer).encode(),
        "pandas.json": json.dumps(columns).encode(),
        "lists.json": json.dumps({k: [row[k] for row in rows] for k in rows[0]}).encode(),
        "cells.csv": table(rows, json.dumps),
        "pandas.csv": table(rows, as_pandas),
        "semicolons.csv": table(rows, json.dumps, ";"),
        "tabs.tsv": table(rows, json.dumps, "\t"),
        "utf16.csv": table(rows, json.dumps).decode().encode("utf-16"),
        "windows.csv.gz": gzip.compress(b"\xef\xbb\xbf" + table(rows, json.dumps)),
        "a.parquet": parquet(rows),
        "noname": parquet(rows),
        "cells.parquet": parquet(cells),
    }


def told(path: Path) -> list[Any]:
    found = read_problems(path)
    return [(p.question, p.answer, p.domain, p.tests, p.meta.get("_columns")) for p in found]


@pytest.mark.parametrize("rows", [VERL, ASSERTED, PLAIN], ids=["verl", "asserted", "plain"])
@pytest.mark.parametrize("name", layouts(PLAIN))
def test_every_layout_says_the_same(tmp_path: Path, rows: Rows, name: str) -> None:
    (tmp_path / "plain.jsonl").write_bytes(lines(rows))
    (tmp_path / name).write_bytes(layouts(rows)[name])
    wanted = told(tmp_path / "plain.jsonl")
    assert told(tmp_path / name) == wanted and len(wanted) == 3
    assert all(answer or tests for _, answer, _, tests, _ in wanted)


def test_rows_by_their_ids(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text(json.dumps({f"q{i}": row for i, row in enumerate(PLAIN)}))
    assert [(p.id, p.answer) for p in read_problems(path)] == [("q0", "1000"), ("q1", "1001"), ("q2", "1002")]


def tar() -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as file:
        file.addfile(tarfile.TarInfo("a.jsonl"))
    return out.getvalue()


def stream() -> bytes:
    out = io.BytesIO()
    with pa.ipc.new_stream(out, (rows := pa.Table.from_pylist(PLAIN)).schema) as file:
        file.write_table(rows)
    return out.getvalue()


@pytest.mark.parametrize(
    ("name", "data", "said"),
    [
        ("a.arrow", stream(), "a stream of Arrow"),
        ("a.feather", b"ARROW1\0\0x", "an Arrow file"),
        ("a.zip", b"PK\x03\x04xx", "a zip archive"),
        ("a.xlsx", b"PK\x03\x04xx", "an Excel workbook"),
        ("a.zst", b"(\xb5/\xfdxx", "packed by zstandard"),
        ("a.pkl", pickle.dumps(PLAIN), "a pickle"),
        ("a.tar", tar(), "a tar archive"),
        ("a.7z", b"7z\xbc\xaf'\x1c", "a 7z archive"),
        ("a.db", b"SQLite format 3\0", "a database of SQLite"),
        ("a.npy", b"\x93NUMPY\x01\0", "an array of numpy"),
        ("a.pdf", b"%PDF-1.4", "a PDF"),
        ("a.jsonl", b"\xff\xfe\x00\xd8\x00\xd8", "begins as UTF-16 and is none"),
        ("splits.json", json.dumps({"train": PLAIN, "test": PLAIN}).encode(), "found train (3), test (3)"),
    ],
)
def test_what_holds_no_rows_is_named(tmp_path: Path, name: str, data: bytes, said: str) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(DataError) as error:
        list(raw_rows(tmp_path / name))
    assert said in str(error.value) and str(tmp_path / name) in str(error.value)


@pytest.mark.parametrize(
    ("given", "answer"),
    [
        ("['204']", "204"), ('["204"]', "204"), (["204", "204"], "204"), ([["204"]], "204"),
        ({"value": "204"}, "204"), ('{"target": 204.0}', "204"), (Decimal("204.50"), "204.5"),
        ("[1, 2]", "[1, 2]"), ("{1, 2}", "{1, 2}"), ("(1, 2)", "(1, 2)"), ("[1]", "[1]"), ("['a", "['a"),
    ],
)  # fmt: skip
def test_an_answer_in_a_dress(given: Any, answer: str) -> None:
    assert problem_of({"question": "What is it?", "answer": given}).answer == answer


@pytest.mark.parametrize(
    "row",
    [
        {"question": {"text": "Why?"}, "answer": "1"},
        {"data": {"question": "Why?", "answer": "1"}, "split": "train"},
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "Why?"}]}], "answer": 1},
        {"prompt": "[{'role': 'user', 'content': 'Why?'}]", "reward_model": '{"ground_truth": "1"}'},
    ],
)
def test_a_question_in_a_struct(row: dict[str, Any]) -> None:
    found = problem_of(row)
    assert (found.question, found.answer) == ("Why?", "1")


def test_text_that_only_looks_like_a_list_stays_text() -> None:
    for question in ('["a", "b"] is a list. Why?', '["a", "b"]', "[x for x in y]", '{"a": 1}'):
        assert problem_of({"prompt": question, "answer": "1"}).question == question
