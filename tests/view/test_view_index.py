"""The index of responses against a naive scan, and what a damaged or hostile file does to it."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from acereason.view.data import Reader
from acereason.view.groups import group, grouped, listing, whole
from acereason.view.index import Filter, Index
from acereason.view.lab import member, table
from acereason.view.runs_folder import RunsFolder
from view_run import HOSTILE, Row, lines, make_run

TEXTS = st.text(st.sampled_from('ab"\\\n<é🙂\x1b'), max_size=6)
ROW = st.fixed_dictionaries(
    {
        "problem_id": st.sampled_from(["p", "q", "ü"]),
        "sample": st.integers(0, 9),
        "text": TEXTS,
        "finish": st.sampled_from(["stop", "length"]),
        "outcome": st.sampled_from(["correct", "wrong"]),
        "family": st.sampled_from([None, "f", "g"]),
    },
    optional={"extracted": st.none() | TEXTS, "detail": TEXTS, "tokens": st.integers(0, 99)},
)
FILES = st.dictionaries(
    st.tuples(st.sampled_from(["math", "code-long"]), st.integers(0, 5)),
    st.lists(ROW, max_size=6),
    max_size=4,
)
WANTED = st.builds(
    Filter,
    st.sampled_from([None, "math", "code-long", "none"]),
    st.sampled_from([None, 1, 2]),
    st.sampled_from([None, "correct", "wrong", "timeout"]),
    st.sampled_from([None, True, False]),
    st.sampled_from([None, "f"]),
    st.text(st.sampled_from('ab"\\\né🙂'), max_size=2),
)


def write(folder: Path, files: dict[tuple[str, int], list[Row]]) -> None:
    (folder / "responses").mkdir(exist_ok=True)
    for (stage, step), rows in files.items():
        (folder / "responses" / f"{stage}-{step:06d}.jsonl").write_text(lines(rows))


def naive(files: dict[tuple[str, int], list[Row]], wanted: Filter) -> list[tuple[str, int, int]]:
    found = []
    for (stage, step), rows in sorted(files.items(), key=lambda item: (-item[0][1], item[0][0])):
        for at, row in enumerate(rows):
            texts = [row["text"], row.get("extracted") or "", row.get("detail", ""), row["problem_id"]]
            if (
                wanted.stage in (None, stage)
                and wanted.step in (None, step)
                and wanted.outcome in (None, row["outcome"])
                and wanted.truncated in (None, row["finish"] == "length")
                and wanted.family in (None, row["family"])
                and any(wanted.text in text for text in texts)
            ):
                found.append((stage, step, at))
    return found


@given(FILES, WANTED, st.integers(0, 8), st.integers(1, 5))
@settings(deadline=None, max_examples=150)
def test_filters_find_what_a_scan_finds(
    files: dict[tuple[str, int], list[Row]], wanted: Filter, start: int, limit: int
) -> None:
    with tempfile.TemporaryDirectory() as name:
        write(Path(name), files)
        index = Index(Path(name))
        index.advance()
        found = index.find(wanted, start, limit, seconds=60)
        expected = naive(files, wanted)
        assert found.matching == len(expected) and found.searched == 1
        assert [(file.stage, file.step, at) for file, at in found.rows] == expected[start : start + limit]
        assert found.more == (len(expected) > start + limit)
        for file, at in found.rows:
            assert index.read(file, at) == files[file.stage, file.step][at]


def test_a_search_that_is_out_of_time_says_how_far_it_came(tmp_path: Path) -> None:
    row = {"problem_id": "p", "text": "needle"}
    write(tmp_path, {("math", step): [row] for step in range(8)})
    index = Index(tmp_path)
    index.advance()
    found = index.find(Filter(text="needle"), seconds=0)
    assert found.matching >= 1 and found.searched < 1 and found.more
    for _ in range(8):  # asked again, it goes on
        found = index.find(Filter(text="needle"), seconds=0)
    assert (found.matching, found.searched, found.more) == (8, 1, False)


def test_files_come_change_and_go(tmp_path: Path) -> None:
    row = {"problem_id": "p", "outcome": "wrong"}
    write(tmp_path, {("math", 1): [row], ("math", 2): [row]})
    index = Index(tmp_path)
    index.advance(0)
    assert index.total == 1 and index.indexed == 0.5
    index.advance()
    assert index.total == 2 and index.indexed == 1
    write(tmp_path, {("math", 2): [row, row], ("math", 3): [row]})
    (tmp_path / "responses" / "math-000001.jsonl").unlink()
    index.advance()
    assert index.total == 3 and index.choices()["stages"] == {"math": [2, 3]}


def test_a_damaged_file_is_read_as_far_as_it_goes(tmp_path: Path) -> None:
    (tmp_path / "responses").mkdir()
    good = {"problem_id": "p", "sample": 0, "text": HOSTILE + "x" * 1_000_000, "outcome": "wrong"}
    odd = {"problem_id": ["a"], "sample": "x", "tokens": [1, 2], "outcome": {"b": 1}, "text": 5, "family": 7}
    data = lines([good, odd]).encode() + b'{"problem_id": "q", "text": "a\xffb"}\nno\n[3]\n{"problem_id"'
    (tmp_path / "responses" / "math-000001.jsonl").write_bytes(data)
    (tmp_path / "responses" / "no-number.jsonl").write_text("{}\n")
    index = Index(tmp_path)
    index.advance()
    (file,) = index.files.values()
    assert (len(file), file.broken) == (3, 3)
    assert file.tokens.tolist() == [-1, 2, -1] and file.sample.tolist() == [0, -1, -1]
    found = index.find(Filter(text="\x1b[31m"))
    assert [at for _, at in found.rows] == [0]
    assert index.read(file, 2)["text"] == "a\ufffdb"
    json.dumps(listing(index, Filter(), 0, 50))
    one = group(tmp_path, index, "math-000001", "p")
    assert one and "characters left out" in one["responses"][0]["thinking"] and one["responses"][0]["cut"]
    full = whole(index, "math-000001", "p", "0")
    assert full and full["thinking"] == good["text"]
    assert group(tmp_path, index, "math-000001", "nobody") is None


def test_a_group_has_its_question_and_tests(tmp_path: Path) -> None:
    write(tmp_path, {("code", 1): [{"problem_id": "p", "sample": 0, "text": "x"}]})
    (tmp_path / "data").mkdir()
    tests = [{"type": "stdin", "input": "1", "output": "2"}] * 100
    other = {"id": "q", "question": "of p?", "answer": '"id":"p"'}
    problem = {"id": "p", "question": "Why?", "tests": tests}
    (tmp_path / "data" / "rl.jsonl").write_text(lines([other, problem]))
    index = Index(tmp_path)
    index.advance()
    one: Any = group(tmp_path, index, "code-000001", "p")
    assert one["question"] == "Why?" and one["of_tests"] == 100 and len(one["tests"]) == 64
    assert one["tests"][0] == {"input": "1", "output": "2"}


def test_the_advantage_is_what_the_run_wrote_and_never_worked_out_again() -> None:
    rows: list[dict[str, Any]]
    rows = [{"reward": 1, "advantage": 0.25, "weight": 0.0}, {"reward": 0, "advantage": None}, {"reward": 0}]
    assert [one["advantage"] for one in grouped("p", rows)["responses"]] == [0.25, None, None]


def page(folder: Path) -> Row:
    reader = Reader(folder)
    reader.advance()
    return reader.page()


def test_two_runs_are_paired_by_question(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    folders = [make_run(tmp_path / name) for name in ("one", "two")]
    ids = [f"q{n}" for n in range(200)]
    hard = random.random(200)
    for side, folder in enumerate(folders):
        right = (random.random((200, 8)) < np.clip(hard + 0.1 * side, 0, 1)[:, None]).tolist()
        order = random.permutation(200)  # another order of the same questions
        kept = {"ids": [ids[n] for n in order], "right": [right[n] for n in order]}
        (folder / "evaluations").mkdir()
        (folder / "evaluations" / "sft.json").write_text(json.dumps({"math": kept}))
    found = table([member(folder.name, folder) for folder in folders])
    (average, wide) = (row for row in found["comparisons"] if row["benchmark"] == "math")
    assert [average["measure"], wide["measure"]] == ["avg@k", "pass@8"]
    one = average["difference"]
    assert one["paired"] and one["questions"] == 200 and one["left_out"] == 0
    assert one["low"] < 0.1 * 0.95 < one["high"] and one["high"] - one["low"] < 0.07
    assert "B is ahead of A by" in average["verdict"] and "runs alone" in average["verdict"]
    assert average["flips"]["gained"] > average["flips"]["lost"] > 0
    other = {"ids": [f"x{n}" for n in range(200)], "right": kept["right"]}
    (folders[1] / "evaluations" / "sft.json").write_text(json.dumps({"math": other}))
    refused = table([member(folder.name, folder) for folder in folders])["comparisons"][0]
    assert (
        refused["difference"] == {"refused": True} and "no question was asked of both" in refused["verdict"]
    )


def test_the_overview_says_how_each_run_is_doing(tmp_path: Path) -> None:
    from acereason import config, runs
    from tiny_run import RECIPE

    make_run(tmp_path / "finished")
    with runs.create(tmp_path / "alive", config.parse(RECIPE)) as run:
        run.record("sft", step=1, stage="sft", epoch=1, loss=2.0, tokens=100, seconds={"total": 0.1})
        folder = RunsFolder(tmp_path)
        rows = {row["name"]: row for row in folder.overview()["runs"]}
        assert rows["finished"]["state"] == "finished" and rows["finished"]["stage"] == "code"
        assert rows["finished"]["accuracy"]["math"]["accuracy"] == 0.54
        alive = rows["alive"]
        assert (alive["state"], alive["stage"], alive["step"], alive["tokens"]) == ("running", "sft", 1, 100)
        run.record("sft", step=2, stage="sft", epoch=1, loss=1.0, tokens=100, seconds={"total": 0.1})
        assert {row["name"]: row["step"] for row in folder.overview()["runs"]}["alive"] == 2
    from acereason.view import liveness

    path = tmp_path / "alive"
    later = (liveness.written(path) or 0) + 7200
    assert liveness.state(path, later, False, None) == "stopped"
    assert liveness.state(path, later, True, None) == "torn"
    with runs.resume(path):
        assert liveness.state(path, later, False, None) == "stalled"
        assert liveness.state(path, later, False, 1000.0) == "running"
