"""Files of responses, judged row by row."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from acereason.errors import DataError
from acereason.published.responses import Unread
from acereason.verify.files import verify_file


def rows() -> list[dict[str, Any]]:
    good = "</think>```python\ndef add(a, b): return a + b\n```"
    tests = [{"type": "functional", "input": "[1, 2]", "output": "3"}]
    return [
        {"id": "a", "domain": "math", "answer": "2", "response": "</think>\\boxed{2}", "extra": 1},
        {"id": "b", "domain": "code", "tests": tests, "function": "add", "response": good},
        {"id": "c", "domain": "math", "answer": "2", "response": "\\boxed{2}"},
        {"id": "d", "domain": "math", "answer": "2", "response": "</think>\\boxed{2}", "finish": "length"},
    ]


def test_a_file_is_judged_row_by_row(tmp_path: Path) -> None:
    source, target = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_text("\n".join(json.dumps(row) for row in rows()) + "\n\n")
    counts = verify_file(source, target, workers=1)
    found = [json.loads(line) for line in target.read_text().splitlines()]
    assert [row["id"] for row in found] == ["a", "b", "c", "d"]
    assert [row["reward"] for row in found] == [1, 1, 0, 0]
    assert set(found[0]) == {"id", "outcome", "reward", "extracted", "detail", "seconds"}
    assert counts == {"correct": 2, "no_answer": 2}


def test_a_row_without_a_response_keeps_its_place(tmp_path: Path) -> None:
    source, target = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    first, last = rows()[0], rows()[1]
    source.write_text(f'{json.dumps(first)}\n{{"id": "x"}}\n\n[]\n{json.dumps(last)}')
    aside: list[Unread] = []
    counts = verify_file(source, target, set_aside=aside.append)
    found = [json.loads(line) for line in target.read_text().splitlines()]
    assert [(v["id"], v["outcome"]) for v in found[1:3]] == [("", "unjudged")] * 2
    assert [u.place for u in aside] == ["line 2", "line 4"] and counts["unread"] == 2
    assert [v["reward"] for v in found] == [1, None, None, 1]


def test_a_file_without_responses_leaves_no_output(tmp_path: Path) -> None:
    source, target = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_text('{"id": "x"}\n')
    with pytest.raises(DataError, match="found none; line 1: "):
        verify_file(source, target)
    assert os.listdir(tmp_path) == ["in.jsonl"]
    with pytest.raises(DataError, match="cannot read"):
        verify_file(tmp_path / "none", target)
