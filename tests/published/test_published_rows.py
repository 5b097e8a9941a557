"""Files as people have them, and what only looks like one; rows under anyone's columns; others' responses."""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import json
import lzma
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from acereason.errors import DataError
from acereason.published import fields
from acereason.published.records import problem_of, read_problems
from acereason.published.responses import answered
from acereason.published.rows import raw_rows
from acereason.verify.files import verify_file

ROWS: list[dict[str, Any]] = [{"q": "one, “two”", "a": "1"}, {"q": 'three\n"four"', "a": "2"}]


def lines(rows: list[dict[str, Any]]) -> bytes:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


def table(rows: list[dict[str, Any]], delimiter: str = ",") -> bytes:
    out = io.StringIO()
    writer = csv.DictWriter(out, list(rows[0]), delimiter=delimiter)
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue().encode()


DRESSES: dict[str, bytes] = {
    "a.jsonl": lines(ROWS),
    "blank.jsonl": b"\n" + lines(ROWS).replace(b"}\n", b"}\n\n"),
    "no-end.jsonl": lines(ROWS).rstrip(),
    "windows.jsonl": lines(ROWS).replace(b"\n", b"\r\n"),
    "lines.json": lines(ROWS),
    "bom.jsonl": b"\xef\xbb\xbf" + lines(ROWS),
    "utf16.jsonl": lines(ROWS).decode().encode("utf-16"),
    "array.json": json.dumps(ROWS).encode(),
    "array.jsonl": json.dumps(ROWS, indent=1).encode(),
    "bom.json": b"\xef\xbb\xbf" + json.dumps(ROWS, indent=4).encode(),
    "inside.json": json.dumps({"version": 1, "data": ROWS}, indent=2).encode(),
    "viewer.json": json.dumps({"rows": [{"row_idx": i, "row": r} for i, r in enumerate(ROWS)]}).encode(),
    "a.jsonl.gz": gzip.compress(lines(ROWS)),
    "gz-by-content.jsonl": gzip.compress(lines(ROWS)),
    "a.json.bz2": bz2.compress(json.dumps(ROWS).encode()),
    "a.jsonl.xz": lzma.compress(lines(ROWS)),
    "a.csv": table(ROWS),
    "bom.csv": b"\xef\xbb\xbf" + table(ROWS),
    "semicolon.csv": table(ROWS, ";"),
    "a.tsv": table(ROWS, "\t"),
    "a.csv.gz": gzip.compress(table(ROWS)),
    "no-name": lines(ROWS),
}


@pytest.mark.parametrize("name", DRESSES)
def test_every_dress_gives_the_same_rows(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(DRESSES[name])
    assert [read.row for read in raw_rows(path)] == ROWS


@pytest.mark.parametrize("packed", [False, True])
def test_parquet_by_its_content(packed: bool, tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    pq.write_table(pa.Table.from_pylist(ROWS), tmp_path / "a")
    if packed:
        (tmp_path / "a").write_bytes(gzip.compress((tmp_path / "a").read_bytes()))
    assert [read.row for read in raw_rows(tmp_path / "a")] == ROWS


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", "pointer of Git LFS"),
        (b"<!DOCTYPE html><html><body>404</body></html>", "a page of HTML"),
        (b"\n  <html lang=en>", "a page of HTML"),
        (b"<?xml version='1.0'?><a/>", "XML"),
        (b"PK\x03\x04rest", "zip archive"),
        (b"(\xb5/\xfdrest", "zstandard"),
        (b"", "is empty"),
        (b" \n\n", "is empty"),
        (gzip.compress(b""), "is empty"),
        (gzip.compress(lines(ROWS * 999))[:-9], "cannot read"),
    ],
)
@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.csv", "a.parquet"])
def test_what_is_no_data_is_named(name: str, data: bytes, words: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(DataError, match=words):
        list(raw_rows(tmp_path / name))


def test_bad_rows_have_a_place_and_a_reason(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(b'{"q": 1}\n\n[1]\n{"q": "\xff"}\n{"q": NaN}\n')
    found = [(r.place, r.reason) for r in raw_rows(tmp_path / "a.jsonl")]
    assert found == [
        ("line 1", ""),
        ("line 3", "not a JSON object"),
        ("line 4", "invalid UTF-8"),
        ("line 5", ""),
    ]
    (tmp_path / "a.json").write_text('[{"q": 1}, 2, {"q": 3}]')
    assert [(r.place, r.reason) for r in raw_rows(tmp_path / "a.json")][1] == ("row 2", "not a JSON object")
    (tmp_path / "a.csv").write_bytes(b"q,a\n1,2\n3\n\xff,4\n5,\n")
    table = list(raw_rows(tmp_path / "a.csv"))
    assert [r.reason for r in table] == ["", "expected 2 cells, found 1", "invalid UTF-8", ""]
    assert [r.place for r in table] == ["line 2", "line 3", "line 4", "line 5"]
    assert table[3].row == {"q": "5", "a": None}
    (tmp_path / "b.json").write_text('[{"q": 1}, {"q": ')
    with pytest.raises(DataError, match="expected a JSON array"):
        list(raw_rows(tmp_path / "b.json"))


CELLS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1)


@given(st.lists(st.fixed_dictionaries({"q": CELLS, "a": CELLS}), min_size=1, max_size=4))
def test_lines_arrays_and_tables_say_the_same(rows: list[dict[str, str]]) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "a.jsonl").write_bytes(lines(rows))
        (folder / "a.json").write_text(json.dumps(rows))
        (folder / "a.csv").write_bytes(table(rows))
        for file in folder.iterdir():
            assert [read.row for read in raw_rows(file)] == rows, file.name


@pytest.mark.parametrize(
    ("row", "answer"),
    [
        ({"answer": "7"}, "7"),
        ({"answer": 7}, "7"),
        ({"answer": 7.0}, "7"),
        ({"answer": 0}, "0"),
        ({"answer": ["7"]}, "7"),
        ({"Answer": "7"}, "7"),
        ({"Correct Answer": "7"}, "7"),
        ({"ground_truth": "7"}, "7"),
        ({"expected_answer": "7"}, "7"),
        ({"gold": "\\boxed{204}"}, "204"),
        ({"answer": "so $\\boxed{\\frac{1}{2}}$."}, "\\frac{1}{2}"),
        ({"answer": "\\boxed 7"}, "7"),
        ({"answer": "\\fbox{7}"}, "7"),
        ({"answer": "1+1=2\n#### 1,200"}, "1,200"),
        ({"ground_truth": "He sells 18.\nA: 18"}, "18"),
        ({"answer": None, "solution": "thus \\boxed{7}"}, "7"),
        ({"answer": "n/a", "solution": "thus \\framebox{7}"}, "7"),
        ({"reward_model": {"ground_truth": "7", "style": "rule"}}, "7"),
        ({"reward_model": '{"ground_truth": ["7"]}'}, "7"),
        ({"answer": "[1,2]"}, "[1,2]"),
        ({"answer": "{1, 2}"}, "{1, 2}"),
        ({"answer": ""}, None),
        ({"answer": float("nan")}, None),
        ({"solution": "no box"}, None),
    ],
)
def test_answers_in_their_dresses(row: dict[str, Any], answer: str | None) -> None:
    assert problem_of({"question": "q?"} | row).answer == answer


def test_several_answers_are_no_answer() -> None:
    with pytest.raises(DataError, match="expected one reference answer"):
        problem_of({"question": "q?", "answer": ["1", "2"]})


@pytest.mark.parametrize(
    ("question", "bare"),
    [
        ("How many? Let's think step by step and output the final answer within \\boxed{}.", "How many?"),
        ("How many? Please reason step by step, and put your final answer within \\boxed{}.", "How many?"),
        ("How many?\n\nPresent the answer in LaTex format: \\boxed{Your answer}", "How many?"),
        ("Find n and put it in \\boxed{}.", "Find n and put it in \\boxed{}."),
        ("Put 3 in \\boxed{}.", "Put 3 in \\boxed{}."),
        ("What does \\boxed{5} mean?", "What does \\boxed{5} mean?"),
    ],
)
def test_requests_for_a_box_are_cut_and_questions_are_not(question: str, bare: str) -> None:
    assert fields.bare(question) == bare


def test_problems_without_ids_get_some(tmp_path: Path) -> None:
    rows = [{"problem": "q?", "answer": 1}, {"problem": "r?", "answer": 2}, {"problem": "q?", "answer": 1}]
    (tmp_path / "a.jsonl").write_bytes(lines(rows))
    ids = [p.id for p in read_problems(tmp_path / "a.jsonl")]
    assert len(set(ids)) == 3 and ids[2] == f"{ids[0]}-2"


def test_responses_of_others_with_their_verdicts(tmp_path: Path) -> None:
    several = {"gt": "4", "code": ["so \\boxed{4}", "\\boxed{5}"], "score": [True, False]}
    nested = {
        "question": "2+2?", "ground_truth": "It is 4.\nA: 4",
        "a": {"solution": "x\nA: 4", "is_correct": True},
        "b": {"solution": "y\nA: 5", "is_correct": False},
    }  # fmt: skip
    chat = {"answer": "4", "messages": [], "completion": [{"role": "assistant", "content": "\\boxed{4}"}]}
    wrong = {"answer": "4", "response": "\\boxed{5}", "correct": True}
    (tmp_path / "a.jsonl").write_bytes(lines([several, nested, chat, wrong]))
    counts = verify_file(tmp_path / "a.jsonl", tmp_path / "out.jsonl", thinking=False)
    assert (counts["correct"], counts["wrong"], counts["agreed"], counts["differed"]) == (3, 3, 4, 1)
    out = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [row.get("sample") for row in out] == [0, 1, 0, 1, None, None]
    with pytest.raises(DataError, match="found the columns answer"):
        answered({"answer": "4"})
