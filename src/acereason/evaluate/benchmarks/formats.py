"""How a row of each published benchmark becomes a problem, with the traps that the files are known for.

| file | trap |
|---|---|
| math-ai/aime24 | no answer column: the answer is the box in the solution |
| AIME | answers such as "073" are integers |
| LiveCodeBench | tests packed as base64 of zlib of a pickle: read, never loaded (`unpack`) |
| HumanEval+, MBPP+ | tests are programs that hold the expected results (`verify.assertions`) |

A row that does not fit raises DataError or KeyError: a benchmark with a row left out is another benchmark.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import msgspec

from acereason.chat import boxed_answer
from acereason.errors import DataError
from acereason.problems import Problem
from acereason.published import assertions
from acereason.published.tests import private_tests, tests

Row = Mapping[str, Any]
SCRIPT_REQUEST = (
    "Please provide a self-contained Python script that solves the following problem in a markdown code "
    "block:"
)


def question_id(text: str) -> str:
    """An id for a question of a file that has none, or none that is unique."""
    return hashlib.blake2b(text.strip().encode(), digest_size=6).hexdigest()


def _math(source: str, name: str, question: str, answer: Any, **meta: Any) -> Problem:
    if answer is None or not str(answer).strip():
        raise DataError(f"{source}/{name}: expected an answer, found none")
    return Problem(
        f"{source}/{name}", "math", question.strip(), str(answer).strip(), source=source, meta=meta
    )


def _integer(source: str, name: str, question: str, answer: Any, **meta: Any) -> Problem:
    try:
        number = int(str(answer).strip().strip("$"))
    except ValueError as error:
        raise DataError(f"{source}/{name}: expected an integer from 0 to 999, found {answer!r}") from error
    return _math(source, name, question, number, **meta)


def aime_2024(row: Row) -> Problem:
    """HuggingFaceH4/aime_2024."""
    return _integer("aime24", str(row["id"]), row["problem"], row["answer"], url=row["url"])


def aime24(row: Row) -> Problem:
    """math-ai/aime24: the answer is in the solution's box."""
    boxed = boxed_answer(row["solution"]) or str(row["solution"])
    return _integer("aime24", str(row["id"]), row["problem"], boxed, url=row["url"])


def aime25(row: Row) -> Problem:
    """math-ai/aime25."""
    return _integer("aime25", str(row["id"]), row["problem"], row["answer"])


def aime2025(row: Row) -> Problem:
    """opencompass/AIME2025, one file for each of the two contests."""
    return _integer("aime25", question_id(row["question"]), row["question"], row["answer"])


def math_arena(source: str, row: Row) -> Problem:
    """MathArena: answers are LaTeX, and in some versions numbers."""
    return _math(source, str(row["problem_idx"]), row["problem"], row["answer"], type=row["problem_type"])


def math500(row: Row) -> Problem:
    """HuggingFaceH4/MATH-500."""
    return _math(
        "math500", str(row["unique_id"]), row["problem"], row["answer"],
        subject=row["subject"], level=row["level"],
    )  # fmt: skip


def livecodebench(row: Row) -> Problem:
    """livecodebench/code_generation_lite: public tests first, then the private ones."""
    about = msgspec.json.decode(row["metadata"] or "{}")
    found = (*tests(row["public_test_cases"]), *private_tests(row["private_test_cases"]))
    function = about.get("func_name")
    if not found or bool(function) != (found[0].type == "functional"):
        raise DataError(f"{row['question_id']}: functional tests and metadata.func_name belong together")
    return Problem(
        str(row["question_id"]), "code", row["question_content"].strip(), tests=found, function=function,
        starter_code=row["starter_code"] or None, source="livecodebench", released=row["contest_date"][:10],
        meta={name: row[name] for name in ("question_title", "platform", "contest_id", "difficulty")},
    )  # fmt: skip


def humaneval_plus(row: Row) -> Problem:
    """evalplus/humanevalplus: `test` defines check(candidate)."""
    program = f"{row['test']}\ncheck({row['entry_point']})"
    return _asserted("humaneval_plus", str(row["task_id"]), row["prompt"], program)


def mbpp_plus(row: Row) -> Problem:
    """evalplus/mbppplus: the prompt is a sentence; the first of `test_list` names the function."""
    imports, shown = list(row["test_imports"] or []), list(row["test_list"])
    question = f'"""\n{row["prompt"].strip()}\n{shown[0]}\n"""\n'
    return _asserted("mbpp_plus", f"Mbpp/{row['task_id']}", question, "\n".join([*imports, row["test"]]))


def _asserted(source: str, name: str, prompt: str, program: str) -> Problem:
    asked = f"{SCRIPT_REQUEST}\n```python\n{prompt.strip()}\n```"
    return Problem(id=name, question=asked, source=source, **assertions.fields(name, program))
