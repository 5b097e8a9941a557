"""The report of a synthetic run: self-contained, inert, and tolerant of what is missing."""

from __future__ import annotations

import io
import json
import re
import tempfile
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from acereason.errors import RunError
from acereason.problems import Test
from acereason.verify.excerpt import excerpt
from acereason.view.assets import asset
from acereason.view.columns import Columns
from acereason.view.groups import choose, fill, grouped
from acereason.view.report import embed, page, with_responses, write_report
from acereason.view.terminal.summary import table
from view_run import HOSTILE, Row, lines, make_run


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return make_run(tmp_path / "demo-run")


def embedded(text: str) -> Row:
    found = re.search(r'<script type="application/json" id="run">(.*?)</script>', text, re.DOTALL)
    assert found
    return dict(json.loads(found[1]))


def test_the_file_is_self_contained(run: Path) -> None:
    path = write_report(run)
    text = path.read_text()
    assert path == run / "report.html"
    markup = re.sub(r"<script.*?</script>", "", text, flags=re.DOTALL)
    assert not re.search(r"(src|href)\s*=\s*[\"']?\s*(?!#)[\w/]", markup)
    assert not re.search(r"url\(|@import", markup)
    own = text.replace(asset("vendor/katex/katex.min.js"), "")  # its parser has a method of that name
    assert len(own) < len(text)
    assert not re.search(r"\b(fetch|XMLHttpRequest|WebSocket|importScripts|sendBeacon)\b", own)
    assert "default-src 'none'" in text and "unsafe" not in text[: text.index("<style>")]
    assert embedded(text)["name"] == "demo-run"


def test_hostile_content_cannot_leave_the_data(run: Path) -> None:
    text = write_report(run).read_text()
    assert text.count("<script") == text.count("</script>") == 2
    assert "owned'" in json.dumps(embedded(text))
    data = text[text.index('id="run">') + 9 :]
    assert not set("<>&") & set(data[: data.index("</script>")])
    assert embedded(text)["recipe"]["note"] == HOSTILE
    assert page({"name": "<b>&{{data}}"}).count("<title>&lt;b&gt;&amp;{{data}} ") == 1


def test_embedding_round_trips() -> None:
    value = {"a": HOSTILE, "b": [1, 2.5, None, "ü\ud800"]}
    assert json.loads(embed(value)) == value
    assert embed(value).isascii()


def test_a_run_that_is_cut_off_is_still_a_page(run: Path) -> None:
    with (run / "metrics.jsonl").open("ab") as file:
        file.write(b'not json\n[1]\n\xff\xfe{"kind": "rl", "step"')
    with (run / "responses" / "code-000270.jsonl").open("ab") as file:
        file.write(b'{"problem_id": "x", "text": "\xff')
    (run / "summary.json").write_text("{")
    (run / "manifest.json").unlink()
    data = embedded(write_report(run).read_text())
    notes = "\n".join(data["notes"])
    assert "metrics.jsonl: the last line is not complete" in notes
    assert "metrics.jsonl: 2 unreadable lines left out, first line 28" in notes
    assert "code-000270.jsonl: the last line is not complete" in notes
    assert "manifest.json is not there" in notes
    assert "summary.json: not a JSON object" in notes
    assert len(data["rl"]["step"]) == 150
    assert [stage["name"] for stage in data["results"]] == [
        "sft",
        "math-short",
        "math-long",
        "code",
    ]
    assert data["results"][1]["evaluation"]["math"]["accuracy"] == 0.45
    assert data["results"][1]["steps"] == 60


def test_an_empty_folder_is_a_page_and_no_folder_an_error(tmp_path: Path) -> None:
    assert len(embedded(write_report(tmp_path).read_text())["notes"]) == 3
    with pytest.raises(RunError, match="expected a run's folder"):
        write_report(tmp_path / "nowhere")


def test_invalid_bytes_in_a_response_are_text(run: Path) -> None:
    row = b'{"problem_id": "p", "text": "a\xffb</think>c", "reward": 1}\n'
    (run / "responses" / "code-000300.jsonl").write_bytes(row)
    stage = with_responses(run)["responses"][2]
    (response,) = stage["groups"][0]["responses"]
    assert (stage["step"], response["thinking"], response["answer"]) == (300, "a\ufffdb", "c")


NAMES = ["kind", "step", "stage", "epoch", "benchmark", "modes", "reward", "points", "stages", "T"]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=4),
    max_leaves=8,
)
KINDS = st.sampled_from(["rl", "sft", "evaluation", "calibration", "funnel", None])
ROWS = st.lists(st.dictionaries(st.sampled_from(NAMES), JSON), max_size=4)


@given(ROWS, KINDS, JSON)
@settings(max_examples=80, deadline=None)
def test_rows_of_any_shape_are_a_page(rows: list[Row], kind: str | None, other: Any) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "responses").mkdir()
        (folder / "metrics.jsonl").write_text(lines([{**row, "kind": kind} for row in rows]))
        (folder / "responses" / "a-1.jsonl").write_text(lines(rows))
        (folder / "summary.json").write_text(json.dumps(other))
        embedded(write_report(folder).read_text())


TESTS = st.lists(st.fixed_dictionaries({}, optional={"input": JSON, "output": JSON}) | JSON, max_size=3)
NUMBER = st.integers(-1, 4) | st.sampled_from([10**30, 1.5, "1"])
GOT = st.fixed_dictionaries(
    {"text": st.text(max_size=3)}, optional=dict.fromkeys(("at", "expected_at", "size"), NUMBER)
)
FAILED = st.lists(
    st.fixed_dictionaries({"number": NUMBER}, optional={"got": st.none() | GOT | JSON}), max_size=6
)


@given(
    FAILED | JSON,
    st.sampled_from(["", "test 2 of 3: no", "turned over on purpose (was wrong) test 9999999999 of 3: x"]),
    TESTS,
)
def test_failed_tests_of_any_shape_are_bounded_and_can_be_written(
    failed: Any, detail: str, tests: Any
) -> None:
    one = grouped("p", [{"failed": failed, "detail": detail, "outcome": "wrong"}])
    fill(one, {"tests": tests})
    (response,) = one["responses"]
    shown = response.get("failed", [])
    assert msgspec.json.encode(one) and len(shown) <= 4
    assert all(test.keys() <= {"number", "got", "input", "expected", "expected_size"} for test in shown)
    if not failed and detail.startswith("test 2"):
        assert [test["number"] for test in shown] == [2] and "got" not in shown[0]


def test_what_was_expected_is_cut_as_the_kept_answer_was() -> None:
    """Bytes that are no text: the kept piece is longer in bytes than the whole answer was."""
    expected = "1" * 3000
    got = excerpt(Test("stdin", "", expected), b"\xff" * 1500)
    assert len(got.text.encode()) > got.size
    one = grouped("p", [{"failed": [{"number": 1, "got": msgspec.to_builtins(got)}], "outcome": "wrong"}])
    fill(one, {"tests": [{"input": "", "output": expected}]})
    (failing,) = one["responses"][0]["failed"]
    assert len(failing["expected"]) == len(failing["got"]["text"]) and failing["expected_size"] == 3000


def test_long_responses_lose_their_middle(run: Path) -> None:
    row = {"problem_id": "p", "text": "x" * 2_000_000, "tokens": [1, 2, 3]}
    (run / "responses" / "code-000300.jsonl").write_text(lines([row]))
    (response,) = with_responses(run)["responses"][2]["groups"][0]["responses"]
    assert len(response["thinking"]) < 17_000
    assert "characters left out" in response["thinking"]
    assert (response["answer"], response["tokens"]) == (None, 3)


def test_columns_are_by_step_and_the_last_row_of_a_step_counts() -> None:
    columns = Columns()
    columns.append(
        [{"kind": "rl", "step": 2, "a": {"b": 1.23456789}}, {"kind": "rl", "step": 1, "a": {"b": 5}}]
    )
    columns.append([{"kind": "rl", "step": 2, "a": {"b": 7.0, "c": "x"}}])
    assert columns.thinned(9) == {"step": [1, 2], "a.b": [5, 7.0], "a.c": [None, "x"]}
    assert Columns().thinned(9) == {}


def test_groups_that_teach_come_first_family_by_family() -> None:
    def group(family: str, *rewards: int) -> list[Row]:
        return [{"family": family, "reward": reward} for reward in rewards]

    groups = {
        "same": group("f", 1, 1),
        "f1": group("f", 1, 0),
        "f2": group("f", 0, 1),
        "g1": group("g", 1, 0),
    }
    assert choose(groups, 3) == ["f1", "g1", "f2"]
    assert choose(groups, 9)[-1] == "same"


def test_responses_are_of_each_stages_last_step_and_the_last_evaluation(run: Path) -> None:
    found = [(stage["stage"], stage["step"]) for stage in with_responses(run)["responses"]]
    trained = [("math-short", 180), ("math-long", 230), ("code", 270)]
    assert found == [*trained, ("evaluation-math-code", 270)]


def test_questions_and_references_come_from_the_runs_problems(run: Path) -> None:
    groups = {group["problem_id"]: group for group in with_responses(run)["responses"][0]["groups"]}
    assert groups["math-short/0"]["question"] == "Add 0 and 42."
    assert groups["math-short/1"]["reference"] == "42"


def test_the_gain_is_decomposed_from_first_to_last_stage(run: Path) -> None:
    changes = with_responses(run)["modes"]
    assert {(c["benchmark"], c["family"]) for c in changes} == {
        (benchmark, family) for benchmark in ("math", "code") for family in ("chain", "search")
    }
    for change in changes:
        assert (change["from"], change["to"]) == ("sft", "code")
        assert change["within"] + change["shift"] == pytest.approx(change["after"] - change["before"])


def test_the_terminal_table_has_stages_and_intervals(run: Path) -> None:
    summary = json.loads((run / "summary.json").read_text())
    summary["stages"][1]["name"] = "[bold]math-short"
    console = Console(width=120, record=True, file=io.StringIO())
    console.print(table(summary))
    text = console.export_text()
    assert "[bold]math-short" in text
    assert "54.0 ± 3.5" in text
    assert "+22.6 points  (95 % interval +19.1 to +26.2)" in text
    console.print(table({}), table({"stages": [{"name": "sft"}]}))
