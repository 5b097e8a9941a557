"""Every published set on rows of exactly its columns, its traps included; and files made to
hurt."""

from __future__ import annotations

import base64
import json
import os
import pickle
import zlib
from pathlib import Path
from typing import Any

import pytest

from acereason.curate.adapters import PUBLISHED, ColumnMap, generic_source, problem_id
from acereason.curate.sources import QUESTION_LIMIT, Rejected, SourceItem, read_source
from acereason.errors import DataError
from acereason.problems import Test
from acereason.published import tests as unpack
from acereason.published.tests import pickled_string, private_tests

IO = json.dumps({"inputs": ["1\n", "2\n"], "outputs": ["2\n", "4\n"]})
CALL = json.dumps({"fn_name": "twice", "inputs": [[1], [[2, 3]]], "outputs": [[2], [[4, 6]]]})


def write(folder: Path, rows: list[dict[str, Any]], name: str = "data.jsonl") -> Path:
    path = folder / name
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def read(
    folder: Path, name: str, rows: list[dict[str, Any]], option: Any = None
) -> tuple[list[SourceItem], list[Rejected]]:
    aside: list[Rejected] = []
    path = write(folder, rows)
    return list(read_source(PUBLISHED[name], str(path), aside.append, option, False)), aside


def row(name: str, **fields: Any) -> dict[str, Any]:
    return dict.fromkeys(PUBLISHED[name].columns, "x") | fields


def test_acereason_math(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [
        {"problem": " What is 2+2? ", "answer": "4"},
        {"problem": "What is 7?", "answer": 7},
    ]
    items, aside = read(tmp_path, "acereason-math", rows)
    assert [(i.problem.question, i.problem.answer) for i in items] == [
        ("What is 2+2?", "4"),
        ("What is 7?", "7"),
    ]
    assert not aside and items[0].problem.id == problem_id("math", "what is $2 + 2$")


def test_openmathreasoning(tmp_path: Path) -> None:
    name, said = "openmathreasoning", "<think>\nso 4</think>4"
    rows = [
        row(name, pass_rate_72b_tir="0.25", inference_mode="cot", generated_solution=said),
        row(name, pass_rate_72b_tir="n/a", inference_mode="tir", generated_solution="code"),
        row(name, pass_rate_72b_tir="often"),
    ]  # fmt: skip
    items, aside = read(tmp_path, name, rows)
    assert [i.problem.difficulty for i in items] == [0.75, None]
    assert [r.text for i in items for r in i.responses] == ["so 4</think>4"]
    assert len(aside) == 1 and "ValueError" in aside[0].reason


def test_numinamath(tmp_path: Path) -> None:
    name, yes = "numinamath-1.5", {"problem_is_valid": "Yes"}
    rows = [
        row(name, answer="proof", **yes),
        row(name, answer="notfound", **yes),
        row(name, answer="5", **yes),
        row(name, answer="5", problem_is_valid="Problem not solved"),
    ]
    items, aside = read(tmp_path, name, rows)
    assert [i.problem.answer for i in items] == [None, None, "5"]
    assert aside[0].reason == "problem not marked valid"


def test_deepscaler(tmp_path: Path) -> None:
    items, _ = read(tmp_path, "deepscaler", [row("deepscaler", answer="\\frac{1}{2}")])
    assert items[0].problem.answer == "\\frac{1}{2}"


def test_taco_and_apps(tmp_path: Path) -> None:
    more = {"time_limit": "2.0 seconds", "memory_limit": "256.0 megabytes", "date": "2021-05-06"}
    rows = [
        row("taco", input_output=IO, solutions='["a", "b"]', url="https://a/b", **more),
        row("taco", input_output=CALL, solutions="[]", starter_code="def twice(x):"),
        row("taco", input_output="not json", solutions="[]"),
        row("taco", input_output='{"inputs": [1], "outputs": []}', solutions="[]"),
        row("taco", input_output="", solutions=""),
    ]
    items, aside = read(tmp_path, "taco", rows)
    first, call, empty = (item.problem for item in items)
    assert first.tests == (Test("stdin", "1\n", "2\n"), Test("stdin", "2\n", "4\n"))
    assert (first.time_limit, first.memory_limit, first.released) == (2.0, 256, "2021-05-06")
    assert first.meta["solutions"] == ["a", "b"] and first.meta["url"] == "https://a/b"
    assert call.function == "twice" and call.starter_code == "def twice(x):"
    assert call.tests == (Test("functional", "[1]", "2"), Test("functional", "[[2,3]]", "[4,6]"))
    assert empty.tests == ()
    assert ["JSON" in r.reason or "as many outputs" in r.reason for r in aside] == [True, True]
    items, _ = read(tmp_path, "apps", [row("apps", problem_id=3, input_output="", solutions="")])
    assert items[0].problem.tests == ()


def test_opencodereasoning_rejoins(tmp_path: Path) -> None:
    name = "opencodereasoning"
    key = {"dataset": "taco", "split": "train", "index": "17"}
    rows = [
        row(name, input="Add.", output="<think>\na</think>b"),
        row(name, input="-", output="<think>\nc</think>d", **key),
        row(name, input="-", output="e", **(key | {"index": "18"})),
    ]
    items, aside = read(tmp_path, name, rows, {("taco", "train", "17"): "Multiply."})
    assert [i.problem.question for i in items] == ["Add.", "Multiply."]
    assert items[1].responses[0].text == "c</think>d"
    assert "rejoined from taco" in aside[0].reason


def test_deepcoder(tmp_path: Path) -> None:
    listed = json.dumps([{"input": "1", "output": "2", "testtype": "stdin"}])
    called = json.dumps([{"input": "1\n[2]", "output": "3", "testtype": "functional"}])
    rows: list[dict[str, Any]] = [
        {"problem": "p", "tests": listed},
        {"problem": "q", "tests": IO},
        {"problem": "r", "tests": called, "starter_code": "def f", "metadata": {"func_name": "f"}},
    ]
    items, _ = read(tmp_path, "deepcoder", rows, "taco/train")
    assert [len(i.problem.tests) for i in items] == [1, 2, 1]
    assert items[2].problem.function == "f"
    assert items[2].problem.tests[0] == Test("functional", "[1,[2]]", "3")
    items, aside = read(tmp_path, "deepcoder", rows, "lcbv5/test")
    assert not items and "evaluation window" in aside[0].reason


def test_eurus(tmp_path: Path) -> None:
    tail = "\n\nPresent the answer in LaTex format: \\boxed{Your answer}"
    system = {"role": "system", "content": "When tackling complex reasoning tasks"}
    math = row("eurus-2", ability="math", prompt=[system, {"role": "user", "content": "2+2?" + tail}])
    math["reward_model"] = {"ground_truth": "4", "style": "rule"}
    code = row("eurus-2", ability="code", prompt=[{"role": "user", "content": "Double it."}])
    code["reward_model"] = {"ground_truth": IO, "style": "rule"}
    items, _ = read(tmp_path, "eurus-2", [math, code])
    assert (items[0].problem.question, items[0].problem.answer) == ("2+2?", "4")
    assert items[1].problem.domain == "code" and len(items[1].problem.tests) == 2


def test_synthetic(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [
        {
            "problem_id": "1", "prompt": "2+2?", "verification_info": '{"ground_truth": "4"}',
            "a_responses": ["<think>\nx</think>4", "5"], "a_avg_reward": 0.5,
            "b_responses": ["6"], "b_avg_reward": 0.0,
        },
        {"problem_id": "2", "prompt": "q", "verification_info": "", "a_avg_reward": None},
    ]  # fmt: skip
    items, _ = read(tmp_path, "synthetic-2", rows)
    assert [i.problem.difficulty for i in items] == [0.5, None]
    assert [r.text for r in items[0].responses] == ["x</think>4", "5"]
    items, _ = read(tmp_path, "synthetic-2", rows, "b")
    assert items[0].problem.difficulty == 1.0 and items[0].responses[0].text == "6"


def test_codeforces(tmp_path: Path) -> None:
    good = row(
        "codeforces", title="Add", description="Add two.", examples=[{"input": "1", "output": "2"}],
        official_tests=[{"input": "1 2", "output": "3"}], official_tests_complete=True,
        time_limit=1.5, memory_limit=256.0, generated_checker=None,
    )  # fmt: skip
    items, aside = read(tmp_path, "codeforces", [good, good | {"official_tests_complete": False}])
    problem = items[0].problem
    assert (problem.time_limit, problem.memory_limit) == (1.5, 256)
    assert problem.tests == (Test("stdin", "1 2", "3"),)
    assert "Input:\n1\nOutput:\n2" in problem.question
    assert aside[0].reason == "official tests incomplete"


def test_traces(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [
        {"category": "code", "source": "s", "input": "q", "output": "<think>\na</think>\nb"}
    ] * 2
    items, _ = read(tmp_path, "acereason-1.1-sft", rows)
    assert items[0].problem.domain == "code" and items[0].responses[0].text == "a</think>\nb"
    turns = [
        {"role": "user", "content": "q"},
        {"role": "assistant", "content": "<think>a</think>b"},
    ]
    rows = [{"messages": t, "num_tokens": 7, "source": "s"} for t in (turns, [])]
    items, aside = read(tmp_path, "mixture-of-thoughts", rows, "science")
    assert items[0].problem.domain == "science" and items[0].responses[0].text == "a</think>b"
    assert len(aside) == 1


def test_generic_parquet_and_jsonl_give_the_same(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    rows = [{"q": f"Find {i}.", "a": str(i), "level": i / 10, "other": None} for i in range(700)]
    source = generic_source("mine", ColumnMap(question="q", answer="a", difficulty="level"))
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet")
    path = write(tmp_path, rows)
    first = list(read_source(source, str(tmp_path / "a.parquet"), print))
    assert first == list(read_source(source, str(path), print))
    assert first[3].problem.difficulty == 0.3 and len(first) == 700
    assert len(list(read_source(source, str(tmp_path), print))) == 1400  # a folder: all files


def test_wrong_columns_and_counts_name_the_difference(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"missing: answer; unexpected: reply; expected: answer, pr"):
        read(tmp_path, "acereason-math", [{"problem": "x", "reply": "y"}])
    path = write(tmp_path, [{"problem": "What is 2?", "answer": "2"}])
    with pytest.raises(DataError, match=r"expected the 49,585 rows .* found 1 \(-49,584\)"):
        list(read_source(PUBLISHED["acereason-math"], str(path), print))
    with pytest.raises(DataError, match="no such file"):
        list(read_source(PUBLISHED["acereason-math"], str(tmp_path / "none"), print))


def test_bad_rows_are_set_aside(tmp_path: Path) -> None:
    good = b'{"problem": "What is 2?", "answer": "2"}\n'
    lines = [
        good,
        b'{"problem": "\xff\xfe", "answer": "2"}\n',
        b'{"problem": "cut off\n',
        b"[1, 2]\n",
        b"\n",
        b'{"problem": null, "answer": "2"}\n',
        b'{"answer": "2"}\n',
        b'{"problem": "  ", "answer": "2"}\n',
        b'{"problem": "' + b"x" * (QUESTION_LIMIT + 1) + b'", "answer": "2"}\n',
        good,
        b'{"problem": "no newline at the end of the file", "answer": "2"}',
    ]
    path = tmp_path / "data.jsonl"
    path.write_bytes(b"".join(lines))
    aside: list[Rejected] = []
    items = list(read_source(PUBLISHED["acereason-math"], str(path), aside.append, None, False))
    assert len(items) == 3
    assert [(r.row, r.reason.split(":")[0]) for r in aside] == [
        (1, "invalid UTF-8"),
        (2, "not a JSON object"),
        (3, "not a JSON object"),
        (4, "problem is not text"),
        (5, "field missing or of another type"),
        (6, "empty question"),
        (7, "absurd length"),
    ]
    assert all(len(r.excerpt) <= 300 for r in aside)


def test_invalid_utf8_in_parquet_costs_its_row_only(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    raw = pa.array([b"good one", b"\xff\xfe", b"good two"], pa.binary())
    texts = pa.Array.from_buffers(pa.string(), 3, raw.buffers())
    table = pa.table({"problem": texts, "answer": ["1", "2", "3"]})
    pq.write_table(table, tmp_path / "a.parquet")
    aside: list[Rejected] = []
    source = PUBLISHED["acereason-math"]
    items = list(read_source(source, str(tmp_path), aside.append, None, False))
    assert [i.problem.answer for i in items] == ["1", "3"]
    assert [r.reason for r in aside] == ["invalid UTF-8"]
    (tmp_path / "b.parquet").write_bytes(b"PAR1 nothing")
    with pytest.raises(DataError, match="expected a Parquet file"):
        list(read_source(source, str(tmp_path / "b.parquet"), aside.append))


def packed(data: bytes) -> str:
    return base64.b64encode(zlib.compress(data)).decode()


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_private_tests_of_every_protocol(protocol: int) -> None:
    text = json.dumps([{"input": "1 é", "output": "2", "testtype": "stdin"}])
    assert private_tests(packed(pickle.dumps(text, protocol))) == [Test("stdin", "1 é", "2")]
    assert private_tests(text) == unpack.tests(text)


class Bomb:
    def __reduce__(self) -> Any:
        return os.system, ("touch /tmp/acereason-was-here",)


@pytest.mark.parametrize(
    "data",
    [
        pickle.dumps(Bomb()),
        pickle.dumps(["a"]),
        pickle.dumps(b"a"),
        pickle.dumps(("a", "b")),
        b"cposix\nsystem\n(S'true'\ntR.",
        b"",
        b"\x80\x04\x8c\xff",
        b"not a pickle",
    ],
)
def test_pickles_of_anything_else_are_refused(data: bytes) -> None:
    for attempt in (lambda: pickled_string(data), lambda: private_tests(packed(data))):
        with pytest.raises(DataError):
            attempt()
    assert not Path("/tmp/acereason-was-here").exists()


def test_bombs_and_damage_are_refused() -> None:
    with pytest.raises(DataError, match="at most 1,000 bytes"):
        private_tests(packed(pickle.dumps("x" * 10**7)), limit=1000)
    for text in [
        "%%%",
        "AAAA",
        packed(pickle.dumps("[1]")),
        packed(pickle.dumps("{")),
        '{"inputs": 3}',
    ]:
        with pytest.raises(DataError):
            private_tests(text)
    with pytest.raises(DataError):
        unpack.tests("[" * 100_000)
