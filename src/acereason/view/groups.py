"""Responses as the page shows them: all G answers to one prompt side by side, with the problem they answer.

The advantage of a response and its weight in the loss are what the run wrote beside it. Long texts lose their
middle unless they are asked for whole.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from acereason.chat import END_THINK, final_part
from acereason.files import open_file
from acereason.problems import FailedTest, Got
from acereason.verify.excerpt import KEPT
from acereason.view.data import read_rows
from acereason.view.index import File, Filter, Index
from acereason.view.tail import Row, decode

GROUPS = 4  # of each stage's last step, in a report
THINKING, ANSWER = 16_000, 8_000  # characters of a response that are kept
WHOLE = 8_000_000  # characters when a text is asked for whole
TESTS = 64  # of a code problem
FAILED = 4  # tests of a response that are shown with what it answered
LONG = 8_000  # characters of a failed test's input, and of what it expected
_FAILED = re.compile(r"\btest (\d{1,9}) of \d+:")


def listing(index: Index, wanted: Filter, start: int, limit: int, seconds: float = 0.15) -> Row:
    """A page of the responses that match, each with what a list shows of it."""
    page = index.find(wanted, start, limit, seconds)
    return {
        "rows": [_listed(index, file, row) for file, row in page.rows],
        "matching": page.matching,
        "more": page.more,
        "searched": page.searched,
        "total": index.total,
        "indexed": index.indexed,
        "broken": index.broken,
        **index.choices(),
    }


def _listed(index: Index, file: File, row: int) -> Row:
    whole = index.read(file, row)
    kept = ("sample", "finish", "outcome", "reward", "weight", "family", "level")
    return {
        **{name: whole.get(name) for name in kept},
        "file": file.name.removesuffix(".jsonl"),
        "stage": file.stage,
        "step": file.step,
        "problem_id": str(whole.get("problem_id")),
        "tokens": int(file.tokens[row]),
        "said": cut(_said(whole), 120),
    }


def _said(row: Row) -> Any:
    """What stands for the response in a list: its extracted answer, or how its text ends."""
    if row.get("extracted") not in (None, ""):
        return row["extracted"]
    return str(row.get("text", "")).rstrip()[-120:]


def group(folder: Path, index: Index, name: str, problem: str) -> Row | None:
    """All answers to one problem in one file; None when there are none."""
    located = index.group(name, problem)
    if located is None or not located[1]:
        return None
    file, at = located
    rows = [index.read(file, row) for row in at]
    one = grouped(problem, [row for row in rows if row])
    add_problems(folder, [one])
    others = [other for other in index.steps_of(problem) if other["file"] != name]
    return {"file": name, "stage": file.stage, "step": file.step, "others": others, **one}


def whole(index: Index, name: str, problem: str, sample: str) -> Row | None:
    """The whole text of one response, up to WHOLE characters."""
    located = index.group(name, problem)
    for at in located[1] if located else []:
        row = index.read(located[0], at) if located else {}
        if str(row.get("sample")) == sample:
            return response(row, WHOLE, WHOLE)
    return None


def report_groups(folder: Path, stages: Sequence[str], notes: list[str]) -> list[Row]:
    """A few groups from the last step of each stage, and from the last evaluation: what a report holds."""
    last: dict[str, tuple[int, Path]] = {}
    for path in sorted((folder / "responses").glob("*.jsonl")):
        name, _, step = path.stem.rpartition("-")
        if name and step.isdecimal():
            last[name] = max(last.get(name, (-1, path)), (int(step), path))
    evaluated = [last[name][0] for name in last if name not in stages]
    order = {stage: place for place, stage in enumerate(stages)}
    names = [n for n in last if n in order or last[n][0] == max(evaluated)]
    names.sort(key=lambda name: (order.get(name, len(order)), name))
    chosen = [_stage_responses(name, *last[name], notes) for name in names]
    add_problems(folder, [one for stage in chosen for one in stage["groups"]])
    return chosen


def _stage_responses(stage: str, step: int, path: Path, notes: list[str]) -> Row:
    groups: dict[str, list[Row]] = {}
    for row in read_rows(path, notes):
        groups.setdefault(str(row.get("problem_id")), []).append(row)
    return {
        "stage": stage,
        "step": step,
        "file": path.stem,
        "total": sum(map(len, groups.values())),
        "of_groups": len(groups),
        "groups": [grouped(name, groups[name]) for name in choose(groups)],
    }


def choose(groups: dict[str, list[Row]], wanted: int = GROUPS) -> list[str]:
    """Groups with right and wrong answers first, one family after the other, as many as wanted."""
    seen: dict[tuple[bool, str], int] = {}
    ranked = []
    for place, (name, rows) in enumerate(groups.items()):
        uniform = len({str(row.get("reward")) for row in rows}) < 2
        family = (uniform, str(rows[0].get("family")))
        seen[family] = seen.get(family, 0) + 1
        ranked.append((uniform, seen[family], place, name))
    return [name for *_, name in sorted(ranked)[:wanted]]


def grouped(name: str, rows: Sequence[Row]) -> Row:
    """One group of responses as the page shows it."""
    first = rows[0] if rows else {}
    return {
        "problem_id": name,
        "family": first.get("family"),
        "level": first.get("level"),
        "question": cut(first.get("question"), ANSWER),
        "reference": cut(first.get("reference"), ANSWER),
        "responses": [{**response(row), "advantage": number(row.get("advantage"))} for row in rows],
    }


def number(value: Any) -> float | None:
    """The value where it is a number. A response that was not learned from has no advantage."""
    return float(value) if isinstance(value, float | int) and not isinstance(value, bool) else None


def response(row: Row, thinking: int = THINKING, answer: int = ANSWER) -> Row:
    """One response, its text divided at the end of the reasoning."""
    text = str(row.get("text", ""))
    last = final_part(text)
    before = text if last is None else text[: -len(END_THINK + last)]
    tokens = row.get("tokens")
    kept = ("sample", "finish", "temperature", "outcome", "reward", "weight")
    traced = isinstance(row.get("trace"), dict) and len(text) <= WHOLE
    return {
        **{name: row[name] for name in kept if name in row},
        **({"trace": row["trace"], "text": text} if traced else {}),
        "tokens": len(tokens) if isinstance(tokens, list) else tokens,
        "thinking": cut(before, thinking),
        "answer": cut(last, answer),
        "extracted": cut(row.get("extracted"), answer),
        "detail": cut(row.get("detail"), answer),
        **({"failed": known} if (known := failed(row)) else {}),
        "cut": len(before) > thinking or len(last or "") > answer,
    }


def failed(row: Row) -> list[Row]:
    """Tests that a response is known to have failed, with what it answered. Runs from before that was kept
    name one test in `detail`; what it answered is then not there, which is not the same as None."""
    try:
        tests = [one for one in msgspec.convert(row.get("failed") or [], list[FailedTest]) if _bounded(one)]
    except msgspec.ValidationError:
        tests = []
    if tests:
        return [msgspec.to_builtins(one) for one in tests[:FAILED]]
    named = _FAILED.search(str(row.get("detail", ""))) if row.get("outcome") != "unjudged" else None
    return [{"number": int(named[1])}] if named else []


def _bounded(test: FailedTest) -> bool:
    """Whether it is as a judge writes it; a damaged or made-up file may say anything."""
    got = test.got or Got("")
    numbers = (test.number, got.at, got.expected_at, got.size)
    return len(got.text) <= LONG and all(0 <= number < 2**53 for number in numbers)


def cut(text: Any, limit: int) -> str | None:
    """The text without its middle when it is longer than `limit` characters."""
    if text is None or text == "":
        return None
    whole = str(text)
    if len(whole) <= limit:
        return whole
    head, tail = whole[: limit * 2 // 3], whole[-(limit // 3) :]
    return f"{head}\n\n[… {len(whole) - len(head) - len(tail):,} characters left out …]\n\n{tail}"


def add_problems(folder: Path, groups: Sequence[Row]) -> None:
    """Fill in questions, references and tests from the run's own problems."""
    wanted: dict[str, list[Row]] = {}
    for one in groups:
        wanted.setdefault(one["problem_id"], []).append(one)
    for path in sorted((folder / "data").glob("*.jsonl")):
        for name in [name for name in wanted if any(not one.get("question") for one in wanted[name])]:
            for row in _problems(path, name):
                for one in wanted[name]:
                    fill(one, row)


def fill(one: Row, problem: Row) -> None:
    """A group's question, reference and tests from its problem's row; what failed tests asked with them."""
    tests = problem.get("tests")
    one["question"] = one["question"] or cut(problem.get("question"), ANSWER)
    one["reference"] = one["reference"] or cut(problem.get("answer"), ANSWER)
    if isinstance(tests, list) and tests:
        kept = [test for test in tests[:TESTS] if isinstance(test, dict)]
        one["tests"] = [{key: cut(test.get(key), 400) for key in ("input", "output")} for test in kept]
        one["of_tests"] = len(tests)
        for row in one["responses"]:
            for failing in row.get("failed", ()):
                _asked(failing, tests)


def _asked(failing: Row, tests: list[Any]) -> None:
    """Add to a failed test what it asked and expected: that part of it which the kept answer is to be read
    beside."""
    number, got = failing["number"], failing.get("got")
    test = tests[number - 1] if 0 < number <= len(tests) else None
    if not isinstance(test, dict):
        return
    failing["input"], expected = cut(test.get("input"), LONG), str(test.get("output"))
    if got and _is_piece(got):
        begin = got["expected_at"]
        failing["expected"] = expected[begin : begin + len(got["text"])]
        failing["expected_size"] = len(expected)
    else:
        failing["expected"] = cut(expected, LONG)


def _is_piece(got: Row) -> bool:
    """Whether the kept answer is, or may be, a part: bytes that are no text are more in the text than they
    were, so that its size alone does not tell."""
    text = got["text"]
    return bool(got["at"]) or len(text) >= KEPT or len(text.encode("utf-8", "replace")) < got["size"]


def _problems(path: Path, name: str) -> Iterator[Row]:
    """The first problem with that id: found by its bytes, so that other lines are not decoded."""
    quoted = msgspec.json.encode(name)
    needles = (b'"id":' + quoted, b'"id": ' + quoted)
    try:
        with open_file(path) as file:
            line = next((line for line in file if needles[0] in line or needles[1] in line), b"")
    except OSError:
        return
    row = decode(line)
    if isinstance(row, dict) and row.get("id") == name and "question" in row:
        yield row
