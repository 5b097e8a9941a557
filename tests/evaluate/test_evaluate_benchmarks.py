"""Benchmarks from files in their published columns: what is read, and what is refused with which words."""

from __future__ import annotations

import base64
import json
import pickle
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from acereason.chat import prompt
from acereason.errors import ConfigError, DataError
from acereason.evaluate.benchmarks.catalogue import BENCHMARKS, load
from acereason.files import write_jsonl
from acereason.problems import Problem, Response
from acereason.verify import Judge

Row = dict[str, Any]


def lcb(number: int, date: str, **changes: Any) -> Row:
    tests = json.dumps([{"input": "1\n", "output": "1\n", "testtype": "stdin"}])
    return {
        "question_title": f"Title {number}", "question_content": f"Question {number}", "platform": "atcoder",
        "question_id": f"abc{number}_a", "contest_id": f"abc{number // 2}",
        "contest_date": f"{date}T00:00:00", "starter_code": "", "difficulty": "easy",
        "public_test_cases": tests,
        "private_test_cases": base64.b64encode(zlib.compress(pickle.dumps(tests))).decode(),
        "metadata": "{}", **changes,
    }  # fmt: skip


ROWS: dict[str, Callable[[int], Row]] = {
    "HuggingFaceH4/aime_2024": lambda i: {
        "id": i, "problem": f"Q{i}", "solution": "s", "answer": f"{i:03d}", "url": "u", "year": "2024",
    },
    "math-ai/aime24": lambda i: {
        "id": i, "problem": f"Q{i}", "solution": f"so \\boxed{{1}} or rather \\boxed{{{i:03d}}}", "url": "u",
    },
    "math-ai/aime25": lambda i: {"problem": f"Q{i}", "answer": str(i), "id": str(i)},
    "opencompass/AIME2025": lambda i: {"question": f"Q{i}", "answer": str(i)},
    "MathArena/hmmt_feb_2025": lambda i: {
        "problem_idx": i, "problem": f"Q{i}", "answer": f"\\frac{{{i}}}{{7}}", "problem_type": ["Algebra"],
    },
    "MathArena/brumo_2025": lambda i: {
        "problem_idx": i, "problem": f"Q{i}", "answer": i, "problem_type": ["Algebra"],
    },
    "HuggingFaceH4/MATH-500": lambda i: {
        "problem": f"Q{i}", "solution": "s", "answer": f"x^{i}", "subject": "Algebra", "level": 2,
        "unique_id": f"test/algebra/{i}.json",
    },
    "livecodebench/code_generation_lite": lambda i: lcb(i, "2024-09-01"),
    "evalplus/humanevalplus": lambda i: {
        "task_id": f"HumanEval/{i}", "prompt": "def f(x):\n    ...", "canonical_solution": "",
        "entry_point": "f", "test": "def check(candidate): pass",
    },
    "agentica-project/rllm": lambda i: {
        "problem": f"Q{i}", "solution": "s", "answer": f"{i:03d}", "year": 2024, "aime_number": 1 + i // 15,
        "problem_number": 1 + i % 15, "difficulty": 2.0,
    },
    "MathArena/aime_2026": lambda i: {"problem_idx": i, "problem": f"Q{i}", "answer": i},
    "math-ai/aime26": lambda i: {"problem": f"Q{i}", "answer": str(i), "id": str(i)},
    "openai/gsm8k": lambda i: {"question": f"Q{i}", "answer": f"So <<1+{i}=2>>.\n#### 1,{i:03d}"},
    "EleutherAI/hendrycks_math": lambda i: {
        "problem": f"Q{i}", "level": "Level 5", "type": "Algebra", "solution": f"so $\\boxed{{x^{{{i}}}}}$",
    },
    "math-ai/amc23": lambda i: {"id": i, "question": f"Q{i}", "answer": float(i), "url": "u"},
    "math-ai/minervamath": lambda i: {"question": f"Q{i}", "answer": f"{i} eV"},
    "svc-huggingface/minerva-math": lambda i: {
        "problem": f"Q{i}", "solution": f"so $\\boxed{{{i}}}$", "type": "Physics", "idx": i,
    },
    "math-ai/olympiadbench": lambda i: {
        "id": i, "question": f"Q{i}", "final_answer": [f"{i}", f"{i + 1}"][: 1 + i % 2],
        "subfield": "Algebra", "context": None, "image_1": None,
    },
    "ChenxinAn-fdu/POLARIS": lambda i: {
        "data_source": "", "prompt": [{"role": "user", "content": f"Q{i}? Put it in \\boxed{{}}."}],
        "ability": "math", "reward_model": {"ground_truth": [f"${i}$"], "style": "rule"},
        "extra_info": {"index": i},
    },
    "Idavidrein/gpqa": lambda i: {
        "Question": f"Q{i}", "Correct Answer": f"right {i}", "Incorrect Answer 1": f"a {i}",
        "Incorrect Answer 2": f"b {i}", "Incorrect Answer 3": f"c {i}", "Record ID": f"rec{i}",
        "Subdomain": "x",
    },
    "TIGER-Lab/MMLU-Pro": lambda i: {
        "question_id": i, "question": f"Q{i}", "options": [f"o{k}" for k in range(9)] + ["N/A"],
        "answer": "ABCDEFGHI"[i % 9], "answer_index": i % 9, "cot_content": "", "category": "law", "src": "s",
    },
    "openai/openai_humaneval": lambda i: {
        "task_id": f"HumanEval/{i}", "prompt": "def f(x):\n    ...", "canonical_solution": "",
        "entry_point": "f", "test": "def check(candidate): pass",
    },
    "google-research-datasets/mbpp": lambda i: {
        "source_file": "", "task_id": i, "prompt": "Write f.", "code": "", "test_imports": [],
        "test_list": ["assert f(1) == 2"],
    },
    "PRIME-RL/PRIME": lambda i: {
        "source_file": "", "task_id": i, "prompt": "Write f.", "code": "", "test_imports": ["import math"],
        "test_list": ["assert f(1) == 2"], "instruction": "Write f.",
    },
    "evalplus/mbppplus": lambda i: {
        "task_id": i, "code": "", "prompt": "Write f.", "source_file": "", "test_imports": [],
        "test_list": ["assert f(1) == 2"], "test": "assert f(1) == 2",
    },
}  # fmt: skip
CASES = [
    (b.name, layout.id, layout.rows or b.rows)
    for b in BENCHMARKS.values()
    if b.name != "lcb_v6"
    for layout in b.layouts
]


def write(path: Path, rows: list[Row]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.mark.parametrize(("name", "layout", "rows"), CASES)
def test_every_published_layout_is_read(name: str, layout: str, rows: int, tmp_path: Path) -> None:
    file = write(tmp_path / "test.jsonl", [ROWS[layout](i) for i in range(rows)])
    loaded = load(name, str(file))
    assert len(loaded.problems) == rows and loaded.k == BENCHMARKS[name].k
    assert len({p.id for p in loaded.problems}) == rows
    assert all(prompt(p, "chatml-1.1").endswith("<think>\n") for p in loaded.problems)
    assert f"{rows} questions" in loaded.about


@pytest.mark.parametrize(("name", "layout", "rows"), CASES)
def test_other_columns_or_numbers_are_refused_with_the_difference(
    name: str, layout: str, rows: int, tmp_path: Path
) -> None:
    made = [ROWS[layout](i) for i in range(rows)]
    short = write(tmp_path / "test_short.jsonl", made[:-2])
    with pytest.raises(DataError, match=rf"expected the {rows} questions .* found {rows - 2} \(-2\)"):
        load(name, str(short))
    assert f"instead of {rows}" in load(name, str(short), check_rows=False).about
    renamed = [{("Other" if k == next(iter(row)) else k): v for k, v in row.items()} for row in made]
    with pytest.raises(DataError, match=rf"missing: {next(iter(made[0]))}; unexpected: .*Other"):
        load(name, str(write(tmp_path / "test_renamed.jsonl", renamed)))
    with pytest.raises(DataError, match="some twice"):
        load(name, str(write(tmp_path / "test_twice.jsonl", [*made[:-1], made[0]])))


def test_answers_are_what_is_meant(tmp_path: Path) -> None:
    def answers(name: str, layout: str, rows: int) -> list[str | None]:
        file = write(
            tmp_path / f"test-{len(list(tmp_path.iterdir()))}.jsonl", [ROWS[layout](i) for i in range(rows)]
        )
        return [p.answer for p in load(name, str(file)).problems]

    assert answers("aime24", "HuggingFaceH4/aime_2024", 30)[7] == "7"
    assert answers("aime24", "math-ai/aime24", 30)[7] == "7"
    assert answers("brumo25", "MathArena/brumo_2025", 30)[7] == "7"
    assert answers("gsm8k", "openai/gsm8k", 1319)[7] == "1007"
    assert answers("math", "EleutherAI/hendrycks_math", 5000)[7] == "x^{7}"
    assert answers("amc23", "math-ai/amc23", 40)[7] == "7"
    assert answers("olympiadbench", "math-ai/olympiadbench", 674)[7] == "7, 8"
    assert answers("olympiadbench", "ChenxinAn-fdu/POLARIS", 675)[7] == "$7$"
    bad = [ROWS["math-ai/aime25"](i) | {"answer": "12 or so"} for i in range(30)]
    with pytest.raises(DataError, match=r"line 1: .*aime25/0.*integer.*'12 or so'"):
        load("aime25", str(write(tmp_path / "bad.jsonl", bad)))


def test_a_folder_of_files_in_parquet(tmp_path: Path) -> None:
    """AIME 2025 comes as two contests of 15."""
    rows = [ROWS["opencompass/AIME2025"](i) for i in range(30)]
    for part in range(2):
        pq.write_table(pa.Table.from_pylist(rows[15 * part :][:15]), tmp_path / f"aime{part}.parquet")
    assert [p.answer for p in load("aime25", str(tmp_path)).problems] == [str(i) for i in range(30)]


def test_livecodebench_windows_are_by_date_with_unsound_items_named(tmp_path: Path) -> None:
    v5 = [lcb(i, f"2024-{8 + i % 5:02d}-01") for i in range(278)] + [lcb(278, "2025-01-31")]
    v5[3] |= {"question_id": "abc362_c"}
    v5[4] |= {"question_title": "find the peaks", "platform": "leetcode"}
    v6 = [lcb(1000 + i, "2025-02-01") for i in range(174)] + [lcb(1174, "2025-04-30")]
    outside = [lcb(3000, "2024-07-31"), lcb(3001, "2025-05-01")]
    write(tmp_path / "test4.jsonl", [*v5[:100], *outside])
    write(tmp_path / "test5.jsonl", [*v5[100:], *v6[:50]])
    write(tmp_path / "test6.jsonl", v6[50:])
    (tmp_path / "README.jsonl").write_text("not a row of it\n")
    first, second = load("lcb_v5", str(tmp_path)), load("lcb_v6", str(tmp_path))
    assert (len(first.problems), len(second.problems)) == (279, 175)
    assert first.unsound == {"abc362_c", "abc4_a"} and not second.unsound
    assert "2024-08-01 ≤ date < 2025-02-01 (found 2024-08-01 … 2025-01-31)" in first.about
    assert "2 known to be unsound" in first.about
    assert first.mode == "lcb" and len(first.problems[0].tests) == 2
    assert first.clusters is not None and len(set(first.clusters)) > 100


class Evil:
    """Runs a program when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (open, ("/tmp/acereason-evil", "w"))


@pytest.mark.parametrize("payload", [pickle.dumps(Evil()), pickle.dumps(["[]"]), b"\x80\x04\x8c\xff", b""])
def test_a_pickle_that_is_no_string_is_refused_and_not_run(payload: bytes, tmp_path: Path) -> None:
    packed = base64.b64encode(zlib.compress(payload)).decode()
    file = write(tmp_path / "test.jsonl", [lcb(1, "2024-09-01", private_test_cases=packed)])
    with pytest.raises(DataError, match=r"line 1: .*pickle"):
        load("lcb_v5", str(file))
    assert not Path("/tmp/acereason-evil").exists()


def test_functional_tests_need_the_function_named(tmp_path: Path) -> None:
    functional = json.dumps([{"input": "1\n[2]", "output": "3", "testtype": "functional"}])
    row = lcb(1, "2024-09-01", public_test_cases=functional, private_test_cases="[]")
    with pytest.raises(DataError, match="belong together"):
        load("lcb_v5", str(write(tmp_path / "test.jsonl", [row])))
    row["metadata"] = '{"func_name": "f"}'
    found = load("lcb_v5", str(write(tmp_path / "test.jsonl", [row])), check_rows=False)
    assert found.problems[0].function == "f" and found.problems[0].tests[0].input == "[1,[2]]"


def test_ones_own_problems_and_unknown_names(tmp_path: Path) -> None:
    problems = [Problem(f"p{i}", "math", "?", answer="1") for i in range(3)]
    write_jsonl(tmp_path / "mine.jsonl", problems)
    assert load("mine", str(tmp_path / "mine.jsonl")).problems == problems
    with pytest.raises(ConfigError, match=r"unknown benchmark 'aime2024'; known: aime24"):
        load("aime2024")
    write_jsonl(tmp_path / "twice.jsonl", [*problems, problems[0]])
    with pytest.raises(DataError, match=r"line 4: the id .p0. is also that of line 1"):
        load("mine", str(tmp_path / "twice.jsonl"))
    with pytest.raises(DataError, match="no such file or folder"):
        load("aime24", str(tmp_path / "nowhere"))


HUMAN = """
import numpy as np

def assertion(out, exp, atol):
    assert np.allclose(out, exp, atol=atol) if isinstance(exp, float) else out == exp

def check(candidate):
    inputs = [[1], [2.5]]
    results = [2, 5.0]
    for i, (inp, exp) in enumerate(zip(inputs, results)):
        assertion(candidate(*inp), exp, 1e-6)
"""
FUTURE = "from __future__ import annotations\ndef twice(x: int):\n    return x + x\nprint(twice(3))\n"
GUARD = "def twice(x):\n    return 2 * x\nif __name__ == '__main__':\n    print(twice(int(input())))\n"
TYPED = (
    "from __future__ import annotations\nfrom dataclasses import dataclass\n@dataclass\nclass Box:\n"
    "    n: float\ndef twice(x):\n    return Box(2 * x).n\n"
)
RIGHT = ["def twice(x):\n    return 2 * x\n", FUTURE, GUARD, TYPED]
WRONG = [
    "def twice(x):\n    return x\n",
    "def double(x):\n    return 2 * x\n",
    "import os\ndef twice(x):\n    os._exit(0)\n",
    "import sys\ndef twice(x):\n    sys.exit(0)\n",
    "def twice(x)\n    return 2 * x\n",
]


@pytest.mark.parametrize("name", ["humaneval_plus", "mbpp_plus"])
def test_programs_of_assertions_judge(name: str, tmp_path: Path) -> None:
    human = ROWS["evalplus/humanevalplus"](1) | {"test": HUMAN, "entry_point": "twice"}
    mbpp = ROWS["evalplus/mbppplus"](1) | {
        "test": HUMAN.replace("def check(candidate):", "for candidate in [twice]:")
    }
    row = human if name == "humaneval_plus" else mbpp
    problem = load(name, str(write(tmp_path / "t.jsonl", [row])), check_rows=False).problems[0]
    with Judge(2) as judge:
        for code in [*RIGHT, *WRONG]:
            response = Response(problem.id, 0, f"</think>\n```python\n{code}```\n")
            expected = "correct" if code in RIGHT else "wrong"
            assert judge.verify(problem, response).outcome == expected, code


@pytest.mark.parametrize(
    ("name", "layout"), [("gpqa_diamond", "Idavidrein/gpqa"), ("mmlu_pro", "TIGER-Lab/MMLU-Pro")]
)
def test_choices_are_shown_under_letters_and_judged_by_the_letter(
    name: str, layout: str, tmp_path: Path
) -> None:
    made = [ROWS[layout](i) for i in range(40)]
    problems = load(name, str(write(tmp_path / "test_diamond.jsonl", made)), check_rows=False).problems
    again = load(name, str(tmp_path / "test_diamond.jsonl"), check_rows=False).problems
    assert problems == again and len({p.answer for p in problems}) >= 4
    with Judge(1) as judge:
        for problem, row in zip(problems, made, strict=True):
            right, options = str(problem.answer), problem.meta["options"]
            wanted = row.get("Correct Answer", f"o{row.get('answer_index')}")
            assert options["ABCDEFGHIJ".index(right)] == wanted and "N/A" not in options
            assert f"({right}) {wanted}\n" in prompt(problem, "chatml-1.1") + "\n"
            other = "B" if right == "A" else "A"
            for said, verdict in {
                right: "correct", f"({right.lower()})": "correct", f"\\text{{{right}.}}": "correct",
                f"{right}) {wanted}": "correct", f"\\textbf{{({right})}}": "correct", wanted: "correct",
                other: "wrong", f"{right} or {other}": "wrong", "Z": "wrong", "42": "wrong",
            }.items():  # fmt: skip
                response = Response(problem.id, 0, f"so</think>\\boxed{{{said}}}")
                assert judge.verify(problem, response).outcome == verdict, said


def test_livecodebench_by_any_window(tmp_path: Path) -> None:
    dates = ["2024-09-01", "2024-10-01", "2024-12-31", "2025-01-01"]
    file = str(write(tmp_path / "test.jsonl", [lcb(i, date) for i, date in enumerate(dates)]))
    found = load("lcb_2024-10-01_2025-01-01", file)
    assert [p.released for p in found.problems] == dates[
        1:3
    ] and "2 questions, contests 2024-10-01" in found.about
    with pytest.raises(DataError, match="found none"):
        load("lcb_2023-01-01_2023-02-01", file)
    with pytest.raises(ConfigError, match="first day before"):
        load("lcb_2025-01-01_2024-10-01", file)


def test_livecodebench_dates_may_be_timestamps(tmp_path: Path) -> None:
    import datetime

    rows = [lcb(1, "x") | {"contest_date": datetime.datetime(2024, 9, 1)}]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "lcb.parquet")
    found = load("lcb_v5", str(tmp_path / "lcb.parquet"), check_rows=False)
    assert found.problems[0].released == "2024-09-01"
