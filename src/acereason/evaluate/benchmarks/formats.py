"""How a row of each published benchmark becomes a problem, with the traps that the files are known for.

| file | trap |
|---|---|
| math-ai/aime24 | no answer column: the answer is the box in the solution |
| AIME | answers such as "073" are integers |
| LiveCodeBench | tests packed as base64 of zlib of a pickle: read, never loaded (`published.packed`) |
| GSM8K, MATH | the answer stands behind `####`, or in the solution's box |
| GPQA | columns of options, the right one first: shown in a fixed order of their hashes |
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
from acereason.published import assertions, fields
from acereason.published.packed import plain
from acereason.published.records import level_of
from acereason.published.tests import private_tests, tests
from acereason.verify import choices

Row = Mapping[str, Any]
GPQA_OPTIONS = ("Correct Answer", "Incorrect Answer 1", "Incorrect Answer 2", "Incorrect Answer 3")


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


def aime_numbers(source: str, row: Row) -> Problem:
    """math-ai/aime25 and math-ai/aime26."""
    return _integer(source, str(row["id"]), row["problem"], row["answer"])


def aime2025(row: Row) -> Problem:
    """opencompass/AIME2025, one file for each of the two contests."""
    return _integer("aime25", question_id(row["question"]), row["question"], row["answer"])


def math_arena(source: str, row: Row) -> Problem:
    """MathArena: answers are LaTeX, and in some versions numbers."""
    return _math(source, str(row["problem_idx"]), row["problem"], row["answer"], type=row.get("problem_type"))


def math500(row: Row) -> Problem:
    """HuggingFaceH4/MATH-500."""
    return _math(
        "math500", str(row["unique_id"]), row["problem"], row["answer"],
        subject=row["subject"], level=row["level"],
    )  # fmt: skip


def gsm8k(row: Row) -> Problem:
    """openai/gsm8k: the answer stands behind `####`."""
    name, answer = question_id(row["question"]), str(row["answer"]).rpartition("####")[2].strip()
    return _math("gsm8k", name, row["question"], answer.replace(",", "") if "####" in row["answer"] else None)


def hendrycks(row: Row) -> Problem:
    """EleutherAI/hendrycks_math, a folder a subject: the answer is the solution's box."""
    name = question_id(f"{row['type']}\n{row['problem']}\n{row['solution']}")
    return _math(
        "math", name, row["problem"], fields.boxed(row["solution"]), subject=row["type"],
        level=level_of(row["level"]),
    )  # fmt: skip


def amc23(row: Row) -> Problem:
    """math-ai/amc23: numbers, in some versions as floats."""
    return _math("amc23", str(row["id"]), row["question"], fields.stated(row["answer"]))


def minerva_solutions(row: Row) -> Problem:
    """Copies of Minerva's problems with the answer in the solution's box."""
    return _math("minerva", str(row["idx"]), row["problem"], fields.boxed(row["solution"]), type=row["type"])


def minerva(row: Row) -> Problem:
    """math-ai/minervamath: the column `answer`, and in other copies the solution's box."""
    return _math("minerva", question_id(row["question"]), row["question"], fields.answer_of(row))


def olympiad(row: Row) -> Problem:
    """OlympiadBench, text only, open ended, English mathematics: several values are one list."""
    question = f"{row['context']}\n{row['question']}" if row.get("context") else row["question"]
    answers = plain(row["final_answer"])
    answer = ", ".join(map(str, answers)) if isinstance(answers, list) else answers
    return _math("olympiadbench", str(row["id"]), question, answer, subject=row["subfield"])


def verl(source: str, row: Row) -> Problem:
    """verl's layout, as POLARIS gives its benchmarks: a message and `reward_model.ground_truth`."""
    question = fields.question_of(row) or ""
    return _math(source, question_id(question), question, fields.answer_of(row))


def aime_files(source: str, row: Row) -> Problem:
    """rllm's files: year and number of the contest and the problem."""
    name = f"{row['year']}-{row['aime_number']}-{row['problem_number']}"
    return _integer(source, name, row["problem"], row["answer"])


def gpqa(row: Row) -> Problem:
    """Idavidrein/gpqa, gpqa_diamond.csv: the options in an order hashed from the question, so always one."""
    options = [str(row[name]).strip() for name in GPQA_OPTIONS]
    order = sorted(range(4), key=lambda i: question_id(f"{row['Question']}\n{options[i]}\n{i}"))
    name = str(row.get("Record ID") or question_id(row["Question"]))
    return choice("gpqa", name, row["Question"], [options[i] for i in order], order.index(0))


def mmlu_pro(row: Row) -> Problem:
    """TIGER-Lab/MMLU-Pro: up to ten options, some filled up with "N/A"."""
    options = [str(option).strip() for option in plain(row["options"])]
    while options and options[-1].upper() == "N/A":
        options.pop()
    name, number = str(row["question_id"]), int(row["answer_index"])
    problem = choice("mmlu_pro", name, row["question"], options, number, subject=row["category"])
    if problem.answer != str(row["answer"]).strip():
        raise DataError(f"{problem.id}: expected answer and answer_index to agree, found {row['answer']!r}")
    return problem


def choice(source: str, name: str, question: str, options: list[str], right: int, **meta: Any) -> Problem:
    """A question with options; `right` counts from 0."""
    if not 0 <= right < len(options) or not all(options):
        raise DataError(f"{source}/{name}: expected options and the number of the right one")
    return Problem(
        f"{source}/{name}", choices.DOMAIN, question.strip(), choices.LETTERS[right], source=source,
        meta={"options": options, **meta},
    )  # fmt: skip


def livecodebench(row: Row) -> Problem:
    """livecodebench/code_generation_lite: public tests first, then the private ones."""
    about = msgspec.json.decode(row["metadata"] or "{}")
    cases = (*tests(row["public_test_cases"]), *private_tests(row["private_test_cases"]))
    function = about.get("func_name")
    if not cases or bool(function) != (cases[0].type == "functional"):
        raise DataError(f"{row['question_id']}: functional tests and metadata.func_name belong together")
    return Problem(
        str(row["question_id"]), "code", row["question_content"].strip(), tests=cases, function=function,
        starter_code=row["starter_code"] or None, source="livecodebench",
        released=str(row["contest_date"])[:10],
        meta={name: row[name] for name in ("question_title", "platform", "contest_id", "difficulty")},
    )  # fmt: skip


def humaneval_plus(row: Row) -> Problem:
    """evalplus/humanevalplus: `test` defines check(candidate)."""
    program = f"{row['test']}\ncheck({row['entry_point']})"
    return _asserted("humaneval_plus", str(row["task_id"]), row["prompt"], program)


def humaneval(row: Row) -> Problem:
    """openai/openai_humaneval, also as HumanEval.jsonl.gz."""
    program = f"{row['test']}\ncheck({row['entry_point']})"
    return _asserted("humaneval", str(row["task_id"]), row["prompt"], program)


def mbpp(row: Row) -> Problem:
    """MBPP, sanitized or as EvalPlus cleaned it: the first of `test_list` names the function."""
    imports, tests = list(row["test_imports"] or []), list(row["test_list"])
    question = f'"""\n{row["prompt"].strip()}\n{tests[0]}\n"""\n'
    return _asserted("mbpp", f"Mbpp/{row['task_id']}", question, "\n".join([*imports, *tests]))


def mbpp_plus(row: Row) -> Problem:
    """evalplus/mbppplus: the prompt is a sentence; the first of `test_list` names the function."""
    imports, shown = list(row["test_imports"] or []), list(row["test_list"])
    question = f'"""\n{row["prompt"].strip()}\n{shown[0]}\n"""\n'
    return _asserted("mbpp_plus", f"Mbpp/{row['task_id']}", question, "\n".join([*imports, row["test"]]))


def _asserted(source: str, name: str, prompt: str, program: str) -> Problem:
    asked = fields.as_script(prompt)
    return Problem(id=name, question=asked, source=source, **assertions.fields(name, program))
