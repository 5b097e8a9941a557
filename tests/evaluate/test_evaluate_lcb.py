"""`mode="lcb"` against the verdicts of LiveCodeBench's own runner, program by program.

`tests/evaluate/lcb_programs.jsonl` holds our programs with the official verdict on each, derived again by
`benchmarks/lcb_official.py`; `lcb_problems.jsonl` the problems in the benchmark's row format.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from acereason.problems import Problem, Response
from acereason.verify.judge import Judge
from acereason.verify.lcb import ONE, code_block, same_output, same_result

CASES = Path(__file__).parent
Case = dict[str, Any]


def read(name: str) -> list[Case]:
    return [json.loads(line) for line in (CASES / name).read_text().splitlines()]


PROGRAMS = read("lcb_programs.jsonl")
QUICK = [case for case in PROGRAMS if not case["name"].startswith("slow")]
SLOW = [case for case in PROGRAMS if case["name"].startswith("slow")]


@pytest.fixture(scope="module")
def problems() -> dict[str, Problem]:
    from acereason.evaluate.benchmarks.formats import livecodebench

    return {row["question_id"]: livecodebench(row) for row in read("lcb_problems.jsonl")}


def verdicts(cases: list[Case], problems: dict[str, Problem], mode: str) -> dict[str, bool | None]:
    with Judge(2, mode) as judge:
        futures = {}
        for case in cases:
            text = f"</think>\n```python\n{case['code']}\n```\n"
            problem = problems[case["question_id"]]
            futures[f"{problem.id}: {case['name']}"] = judge.submit(problem, Response(problem.id, 0, text))
        found = {name: future.result() for name, future in futures.items()}
    return {name: None if v.reward is None else v.reward == 1 for name, v in found.items()}


def official(cases: list[Case], problems: dict[str, Problem]) -> dict[str, bool]:
    return {f"{problems[case['question_id']].id}: {case['name']}": case["official"] for case in cases}


def test_the_fixture_is_large_and_mixed() -> None:
    assert len(PROGRAMS) >= 60
    assert 0.4 < sum(case["official"] for case in PROGRAMS) / len(PROGRAMS) < 0.6


def test_lcb_mode_gives_the_official_verdict(problems: dict[str, Problem]) -> None:
    assert verdicts(QUICK, problems, "lcb") == official(QUICK, problems)


@pytest.mark.slow
def test_lcb_mode_gives_the_official_verdict_on_slow_programs(problems: dict[str, Problem]) -> None:
    assert verdicts(SLOW, problems, "lcb") == official(SLOW, problems)


def test_code_stands_between_the_last_two_fences() -> None:
    assert code_block("```python\na\n```\nor\n```\nb\n```\n") == "b"
    assert code_block("```python\na\n```\nlooks like ```python\nb") == ""  # the last fence was not closed
    assert code_block("```python\na\n") is None
    assert code_block("") is None


def test_an_answer_is_compared_as_there_and_only_once() -> None:
    assert same_output("1.50 2\n", b"\n1.5   2.0 \n\n") and not same_output("1 a", b"1.0 a")
    assert not same_output("a\nb", b"a\x0cb") and same_output("", b" \n")
    assert not same_output("nan", b"NaN") and same_output("nan", b"nan")
    assert not same_output("\ufffd", b"\xff")
    one = json.dumps({ONE: 3}).encode()
    assert same_result("3", one) and same_result("[3]", one) and same_result("[[3]]", one)
    assert not same_result("[3, 3]", one) and not same_result("[4]", one)
    assert same_result("[1.0, true]", b"[1, 1]") and not same_result('{"1": 2}', b"[1, 2]")
    assert not same_result("[1]", b"[1") and not same_result("1", b"1\n2")
