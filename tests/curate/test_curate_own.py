"""Files of one's own: what is wrong with them is found before anything is learned, with file and line."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from acereason.config import Curate, Files, Recipe, parse
from acereason.curate import fit, tasks
from acereason.curate.tasks import Data
from acereason.errors import DataError
from acereason.problems import Problem

HELD = [{"id": "h", "domain": "math", "question": "How many legs has an ant?", "answer": "6"}]
GOOD = [
    {"id": f"p{i}", "domain": "math", "question": f"What is {i} + {i}?", "answer": str(2 * i)}
    for i in range(4)
]


def write(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def made(
    folder: Path, rl: list[dict[str, Any]] | str, held: Any = None, **more: Any
) -> tuple[Data, dict[str, Any]]:
    """The data of these rows, and what the funnel counted."""
    rl = rl if isinstance(rl, str) else write(folder / "rl.jsonl", rl)
    held = write(folder / "held.jsonl", HELD if held is None else held)
    settings = Curate(files=Files(rl, held, **more))
    data, funnels = tasks.make(settings, 1, folder / "out")
    return data, {reason: count for funnel in funnels for reason, count in funnel.reasons.items()}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"id": "p0"}, r"line 5: the id 'p0' is also that of line 1"),
        ({"domain": "Math"}, r"line 5: unknown domain 'Math'; did you mean 'math'"),
        ({"domain": "maths"}, r"did you mean 'math'"),
    ],
)
def test_what_no_one_can_have_meant_is_refused(tmp_path: Path, change: dict[str, Any], words: str) -> None:
    with pytest.raises(DataError, match=words):
        made(tmp_path, [*GOOD, GOOD[0] | {"id": "q"} | change])
    with pytest.raises(DataError, match=words.replace("line 5", "line 2").replace("p0", "h")):
        made(
            tmp_path, GOOD, [*HELD, HELD[0] | {"id": "q"} | change | ({"id": "h"} if "id" in change else {})]
        )


def test_rows_without_an_answer_are_set_aside_and_counted(tmp_path: Path) -> None:
    typo = {"id": "t", "domain": "math", "question": "What is 9 + 1?", "anwser": "10"}
    data, counted = made(tmp_path, [*GOOD, typo, {"id": "n", "domain": "math", "answer": "1"}])
    assert [p.id for p in data.rl] == ["p0", "p1", "p2", "p3"]
    assert counted["no answer"] == 1 and len(counted) == 2
    rows = [json.loads(x) for x in (tmp_path / "out" / "rejected.jsonl").read_text().splitlines()]
    assert [row["place"] for row in rows] == ["line 5", "line 6"]
    assert any("'anwser' is not known; is it 'answer'?" in row["reason"] for row in rows)


def test_nothing_left_is_an_error_that_says_why(tmp_path: Path) -> None:
    rows = [{k: v for k, v in row.items() if k != "answer"} | {"anwser": "1"} for row in GOOD]
    with pytest.raises(DataError, match=r"none that can be used: line 1, line 2, line 3 and 1 more: no ans"):
        made(tmp_path, rows)
    with pytest.raises(DataError, match="is empty"):
        made(tmp_path, [])
    with pytest.raises(DataError, match=r"line 1: no answer"):
        made(tmp_path, GOOD, rows[:1])


@pytest.mark.parametrize("name", ["ground_truth", "expected_answer", "gold", "Answer"])
def test_answers_stand_under_other_names(tmp_path: Path, name: str) -> None:
    rows = [{k: v for k, v in row.items() if k != "answer"} | {name: int(row["answer"])} for row in GOOD]
    assert [p.answer for p in made(tmp_path, rows)[0].rl] == ["0", "2", "4", "6"]


def test_files_in_other_dresses_give_the_same(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    wanted = made(tmp_path, GOOD)[0].rl
    (tmp_path / "a.json").write_text("\ufeff" + json.dumps(GOOD, indent=2))
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress((tmp_path / "rl.jsonl").read_bytes()))
    pq.write_table(pa.Table.from_pylist(GOOD), tmp_path / "a.parquet")
    cells = "\n".join(
        ["id,domain,question,answer", *(f'{r["id"]},math,"{r["question"]}",{r["answer"]}' for r in GOOD)]
    )
    (tmp_path / "a.csv").write_text(cells)
    verl = [
        {"data_source": "x", "prompt": [{"role": "user", "content": r["question"] + " Put it in \\boxed{}."}],
         "ability": "math", "reward_model": {"ground_truth": [r["answer"]], "style": "rule"},
         "extra_info": {"index": i}}
        for i, r in enumerate(GOOD)
    ]  # fmt: skip
    pq.write_table(pa.Table.from_pylist(verl), tmp_path / "verl.parquet")
    for name in ("a.json", "a.jsonl.gz", "a.parquet", "a.csv"):
        assert made(tmp_path, str(tmp_path / name))[0].rl == wanted, name
    found = made(tmp_path, str(tmp_path / "verl.parquet"))[0].rl
    assert [(p.question, p.answer) for p in found] == [(p.question, p.answer) for p in wanted]


def test_training_is_kept_apart_from_what_is_held_out(tmp_path: Path) -> None:
    leak = GOOD[0] | {"id": "leak", "question": "how many legs has an ant"}
    sft = write(tmp_path / "sft.jsonl", [*GOOD, leak])
    traces = write(
        tmp_path / "traces.jsonl", [{"problem_id": i, "text": "so</think>1"} for i in ("p1", "leak")]
    )
    data, counted = made(tmp_path, [*GOOD, leak], sft=sft, traces=traces)
    assert "leak" not in {p.id for p in [*data.rl, *data.sft]} and [t.problem_id for t in data.traces] == [
        "p1"
    ]
    assert counted["equal as held out"] >= 1
    assert json.loads((tmp_path / "out" / "contamination-rl.jsonl").read_text())["prompt"] == "leak"


def test_a_trace_answers_a_problem_and_says_something(tmp_path: Path) -> None:
    sft = write(tmp_path / "sft.jsonl", GOOD)
    rows = [
        {"problem_id": "p1", "text": ""},
        {"problem_id": "p1", "text": "so</think>2"},
        {"problem_id": "p2"},
    ]
    data, counted = made(tmp_path, GOOD, sft=sft, traces=write(tmp_path / "t.jsonl", rows))
    assert len(data.traces) == 1 and counted["empty text"] == 1
    with pytest.raises(DataError, match=r"t.jsonl, line 1: a trace answers 'nobody'"):
        made(
            tmp_path,
            GOOD,
            sft=sft,
            traces=write(tmp_path / "t.jsonl", [{"problem_id": "nobody", "text": "x"}]),
        )


def test_one_id_in_two_stages_is_one_problem(tmp_path: Path) -> None:
    first, second = (
        write(tmp_path / "a.jsonl", GOOD),
        write(tmp_path / "b.jsonl", [GOOD[1] | {"answer": "77"}]),
    )
    held = write(tmp_path / "held.jsonl", HELD)
    with pytest.raises(DataError, match=r"b.jsonl: the id 'p1' is that of another problem in .*a.jsonl"):
        tasks.make(Curate(files=Files({"x": first, "y": second}, held)), 1, tmp_path / "out")


def test_levels_in_words_are_numbers(tmp_path: Path) -> None:
    rows = [row | {"meta": {"level": f"Level {i}"}} for i, row in enumerate(GOOD)]
    assert [p.meta["level"] for p in made(tmp_path, rows)[0].rl] == [0, 1, 2, 3]


def recipe(**stage: Any) -> Recipe:
    new = {"vocab_size": 300, "hidden_size": 32, "max_position_embeddings": 700}
    first = {"name": "m", "domain": "math", "budget": 100, "steps": 1} | stage
    return parse({"name": "t", "model": {"new": new}, "stage": [first, first | {"name": "n", "budget": 600}]})


def test_prompts_that_leave_no_room_are_kept_out_of_their_stages() -> None:
    problems = [Problem(str(n), "math", "w " * n, answer="1") for n in (5, 200, 650)]
    kept, lines = fit.fitting(problems, recipe(), 700, lambda p: len(p.question.split()))
    assert [(p.id, p.meta.get("stages")) for p in kept] == [("5", None), ("200", ["m"])]
    notes = {"note: too long for n": 2, "note: too long for m": 1}
    assert lines[0].reasons == notes | {"too long for every stage": 1}
    with pytest.raises(DataError, match="shortest prompt of stage 'n' has 200 tokens"):
        fit.fitting(problems[1:], recipe(), 700, lambda p: len(p.question.split()))
    with pytest.raises(DataError, match=r"'650' has 650 tokens .* at most 50"):
        fit.check_held_out(problems, 100, 700, lambda p: len(p.question.split()))
