"""What a row of anyone's file says, whatever its columns are called.

Names are compared without case, blanks and hyphens; a dot goes into a struct (`reward_model.ground_truth` of
verl). An answer may be a number, the only one of a list, a solution's `\\boxed{…}`, or what stands behind
GSM8K's `####`. What is not said is None; what cannot be meant is a DataError that shows it.
"""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import msgspec

from acereason.chat import boxed_answer
from acereason.errors import DataError
from acereason.published import assertions
from acereason.published.cells import opened, read_cell
from acereason.published.packed import plain, shown
from acereason.published.tests import Checks, function_name, read_tests

Row = Mapping[str, Any]
QUESTIONS = (
    "question", "problem", "prompt", "query", "problem_statement", "question_content", "problem_description",
    "instruction", "input", "text", "description", "messages", "conversations",
)  # fmt: skip
ANSWERS = (
    "answer", "ground_truth", "expected_answer", "gold", "gold_answer", "gt", "gt_answer", "final_answer",
    "reference_answer", "ref_answer", "correct_answer", "reference", "target", "label",
    "reward_model.ground_truth", "verification_info.ground_truth",
)  # fmt: skip
SOLUTIONS = (
    "solution",
    "reference_solution",
    "official_solution",
    "gt_solution",
)  # the answer is in their box
TESTS = (
    "tests", "test_cases", "input_output", "unit_tests", "official_tests", "test_list",
    "reward_model.ground_truth", "verification_info", "ground_truth", "test", "answer",
)  # fmt: skip
SURE = 5  # so many of TESTS hold tests whatever they look like; the others may hold an answer
PAIRS = (("public_test_cases", "private_test_cases"), ("public_tests", "private_tests"))
FUNCTIONS = ("function", "fn_name", "func_name", "entry_point", "metadata", "function_name")
IDS = (
    "id",
    "problem_id",
    "unique_id",
    "task_id",
    "question_id",
    "problem_idx",
    "uid",
    "idx",
    "extra_info.index",
)
INNER = (
    "value",
    "text",
    "answer",
    "final_answer",
    "target",
    "ground_truth",
    "content",
    "question",
    "problem",
)
SHORT = 10_000  # characters of an answer in a struct
NAMES = tuple(
    dict.fromkeys(
        (*ANSWERS, *SOLUTIONS, *TESTS, *sum(PAIRS, ()), *FUNCTIONS, "test_imports", "domain", "id",
         "time_limit", "memory_limit", "reward_model")
    )
)  # fmt: skip
SCRIPT_REQUEST = (
    "Please provide a self-contained Python script that solves the following problem in a markdown code "
    "block:"
)
_PACKED = re.compile(r"[A-Za-z0-9+/]+=*")  # base64, of zlib's first byte on
_NOTHING = {"", "n/a", "none", "null", "nan", "notfound", "not found"}
_BOXES = re.compile(r"\\f(?:rame)?box\b")
_BARE_BOX = re.compile(r"\\boxed\s+([^\s{}$.,;]+)|\\boxed(\d)")
_FOURS = re.compile(r"^\s*####\s*(.+?)\s*$", re.MULTILINE)
_LAST = re.compile(r"\n\s*(?:A|Answer|Final answer)\s*:\s*(.+?)\s*$", re.IGNORECASE)
_TAIL = re.compile(
    r"(?:^|(?<=[.?!$}\n]))\s*(?:let's think|please|present|put|remember|return|make sure|think step"
    r"|enclose|wrap|output|provide|your final|the final|give your|you should)\b[^.?!\n]*"
    r"\\boxed\{\s*(?:your (?:final )?answer)?\s*\}[^.?!\n]*[.!]?\s*$",
    re.IGNORECASE,
)
_CODE_TAIL = re.compile(
    r"\s*Write Python code to solve the problem\. Present the code in\s*```python\s*Your code\s*```\s*at the "
    r"end\.?\s*$"
)


def key(name: str) -> str:
    """A column's name without case, blanks and hyphens."""
    return re.sub(r"[\s-]+", "_", name.strip().lower())


def normal(row: Row) -> dict[str, Any]:
    """The row under such names, with lists in place of arrays, and of texts that hold them."""
    named = {key(str(name)): plain(value) for name, value in row.items()}
    return {name: opened(name, value) for name, value in named.items()}


def get(row: Row, name: str) -> Any:
    """A value by its name; a dot goes into a struct, also one packed as JSON."""
    outer, _, inner = name.partition(".")
    value = row.get(outer)
    if isinstance(value, str) and (inner or outer == "metadata") and value.lstrip().startswith("{"):
        try:
            value = msgspec.json.decode(value)
        except (msgspec.DecodeError, RecursionError):
            return None
    if inner:
        return value.get(inner) if isinstance(value, Mapping) else None
    return value


def there(value: Any) -> bool:
    """Whether a cell holds anything."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return False
    return not (
        isinstance(value, (str, list, dict)) and len(value.strip() if isinstance(value, str) else value) == 0
    )


def question_of(row: Row) -> str | None:
    """The question, without a trainer's request for a form of answer."""
    for name in QUESTIONS:
        value = get(row, name)
        if isinstance(value, list):
            value = _last_user(value)
        elif isinstance(value, Mapping):
            value = next((value[part] for part in INNER if isinstance(value.get(part), str)), None)
        if isinstance(value, str) and value.strip():
            return bare(value)
    return None


def _last_user(turns: list[Any]) -> str | None:
    """What the user said last, of messages in either of the two usual shapes."""
    for turn in reversed(turns):
        if isinstance(turn, Mapping) and (turn.get("role") or turn.get("from")) in ("user", "human"):
            said = turn.get("content") or turn.get("value")
            if isinstance(said, list):  # of parts
                said = "".join(str(p["text"]) for p in said if isinstance(p, Mapping) and "text" in p)
            return said if isinstance(said, str) else None
    return None


def bare(question: str) -> str:
    """A question without the request for a box or a code block that sets append to every one."""
    question = _CODE_TAIL.sub("", question)
    return _TAIL.sub("", question, count=1).strip() or question.strip()


def as_script(prompt: str) -> str:
    """The head of a function, as HumanEval has them, as a question."""
    return f"{SCRIPT_REQUEST}\n```python\n{prompt.strip()}\n```"


def is_code(question: str) -> bool:
    """Whether a question is nothing but Python with a function to complete."""
    if "def " not in question:
        return False
    try:
        ast.parse(question)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return True


def answer_of(row: Row) -> str | None:
    """The reference answer, under whatever name it stands; None when there is none."""
    for name in ANSWERS:
        value = get(row, name)
        if there(value) and not are_tests(value) and (answer := stated(value, none=True)) is not None:
            return answer
    for name in SOLUTIONS:
        value = get(row, name)
        if isinstance(value, str) and (box := boxed(value)):
            return box
    return None


def stated(value: Any, none: bool = False) -> str | None:
    """A reference answer as text: a number, text, the only one of a list, a box, what follows `####`.

    DataError: several, a struct, or nothing at all; `none` gives None for nothing."""
    value = plain(value)
    if isinstance(value, str) and value.lstrip().startswith(("['", '["')):  # a list of one, as text
        value = listed if isinstance(listed := read_cell(value), list) and len(listed) == 1 else value
    if isinstance(value, list) and value and all(v == value[0] for v in value):
        return stated(value[0], none)
    if (inner := _inner(value)) is not None:
        return stated(inner, none)
    if isinstance(value, Decimal):
        value = format(value.normalize(), "f")
    if isinstance(value, float) and math.isfinite(value) and value.is_integer() and abs(value) < 2**53:
        value = int(value)
    text = str(value).strip() if isinstance(value, (str, int, float)) else ""
    if text.lower() in _NOTHING and not isinstance(value, (list, dict)):
        if none:
            return None
        raise DataError(f"expected a reference answer, found {value!r}")
    if not text:
        raise DataError(f"expected one reference answer, found {shown(value)}")
    return _told(text)


def _inner(value: Any) -> Any:
    """The answer in a struct that holds nothing else, {"value": "204"}, also as text; None: it is none."""
    if isinstance(value, str) and value.lstrip().startswith("{") and len(value) < SHORT:
        value = read_cell(value)
    if not isinstance(value, Mapping) or len(value) != 1:
        return None
    ((name, inner),) = value.items()
    return inner if key(str(name)) in INNER and isinstance(inner, (str, int, float, list)) else None


def _told(text: str) -> str:
    return boxed(text) or marked(text) or text


def marked(text: str) -> str | None:
    """What stands behind the last `####`, or behind `A:` in the last of several lines."""
    if fours := _FOURS.findall(text):
        return str(fours[-1])
    last = _LAST.search(text)
    return last[1] if last else None


def boxed(text: str) -> str | None:
    """What stands in the last box of a text, also without braces."""
    if "box" not in text:
        return None
    if answer := boxed_answer(_BOXES.sub(r"\\boxed", text)):
        return answer
    bare_box = _BARE_BOX.search(text)
    return (bare_box[1] or bare_box[2]) if bare_box else None


def are_tests(value: Any) -> bool:
    """Whether a value that may be an answer or tests is meant as tests."""
    if _inner(value) is not None:
        return False
    if isinstance(value, str):
        begin = value.lstrip()[:16]
        if begin.startswith("eJ") and len(value) > 40 and _PACKED.fullmatch(value.strip()):
            return True
        if assertions.is_program(value):
            return True
        if begin.replace(" ", "").startswith(('{"', '["', "[{", "[]", "{}", '"[', '"{')):
            try:
                value = msgspec.json.decode(value)
            except (msgspec.DecodeError, RecursionError):
                return True  # meant as JSON, and cut off
            return are_tests(value) or value in ([], {})
        return False
    if isinstance(value, list) and value:
        return all(isinstance(x, Mapping) or (isinstance(x, str) and assertions.is_program(x)) for x in value)
    return isinstance(value, Mapping)


def tests_of(row: Row, question: str = "") -> Checks:
    """The tests of a row, under whatever name they stand; empty when there are none."""
    name = next((f for f in (_name(get(row, n)) for n in FUNCTIONS) if f), None)
    for position, column in enumerate(TESTS):
        value = get(row, column)
        if not there(value) or (position >= SURE and not are_tests(value)):
            continue
        if column == "test_list":
            value = _with_imports(row, value)
        if checks := read_tests(value, name, question):
            return checks
    for pair in PAIRS:
        values = [value for column in pair if there(value := get(row, column))]
        if values:
            return _joined([read_tests(value, name, question) for value in values])
    return Checks()


def _name(value: Any) -> str | None:
    if isinstance(value, Mapping):
        return function_name(dict(value))
    return value.strip() or None if isinstance(value, str) else None


def _with_imports(row: Row, listed: Any) -> Any:
    """MBPP: the assertions with their imports before them."""
    imports = row.get("test_imports") or []
    setup = row.get("test_setup_code")
    before = [*([setup] if isinstance(setup, str) and setup else []), *imports]
    if before and isinstance(listed, list) and all(isinstance(x, str) for x in listed):
        return "\n".join([*before, *listed])
    return listed


def _joined(parts: list[Checks]) -> Checks:
    return Checks(
        tuple(t for p in parts for t in p.tests), next((p.function for p in parts if p.function), None)
    )
