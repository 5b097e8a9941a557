"""How a row of each published set becomes a problem, with the traps that the sets are known for.

| set | trap |
|---|---|
| OpenMathReasoning | pass rates are strings, "n/a" among them; only cot responses are traces |
| NuminaMath-1.5 | answers "proof" and "notfound"; validity is the string "Yes" |
| OpenCodeReasoning | split_1 holds "-" for the question: rejoined by (dataset, split, index) |
| TACO, APPS | tests and solutions are JSON in strings, some empty; limits are phrases |
| DeepCoder | tests in two shapes; lcbv5/test lies in the evaluation window and is refused |
| Eurus-2 | instructions appended to every question, one with a `\\boxed{}` that is no answer |
| SYNTHETIC-2 | one pair of columns per model; its mean rewards are ready pass rates |
| codeforces | incomplete official tests; generated checkers for problems of several answers |

A problem's id is a hash of its domain and tokens, so one question has one id in every set.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from functools import partial
from typing import Any

import msgspec

from acereason.chat import THINK
from acereason.curate.sources import Skip, Source, SourceItem
from acereason.curate.text import tokens
from acereason.errors import DataError
from acereason.problems import Problem, Response
from acereason.published import assertions, fields
from acereason.published.records import problem_of
from acereason.published.rows import Row
from acereason.published.tests import Checks, read_tests

_SENTINELS = {"", "proof", "notfound", "n/a", "none"}


def problem_id(domain: str, question: str) -> str:
    """One id for one question, whatever the set and the dress."""
    text = "\x1f".join([domain, *tokens(question)])
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=10).hexdigest()


def text(row: Row, name: str) -> str:
    """A field that must be text."""
    value = row[name]
    if not isinstance(value, str):
        raise Skip(f"{name} is not text")
    return value


def make(
    source: str,
    domain: str,
    question: str,
    answer: object = None,
    checks: Checks | None = None,
    **others: Any,
) -> Problem:
    """A problem with a stripped question and an answer in text; sentinels are no answer. `checks` that are a
    program of assertions make the domain theirs."""
    question = question.strip()
    wanted = None if answer is None else str(answer).strip()
    if wanted is not None and wanted.lower() in _SENTINELS:
        wanted = None
    name = problem_id(domain, question)
    judged: dict[str, Any] = checks.fields(name) if checks else {}
    meta = judged.pop("meta", {}) | others.pop("meta", {})
    known = judged | {key: value for key, value in others.items() if value is not None}
    known["domain"] = judged["domain"] if checks and checks.program else domain
    known["meta"] = {key: value for key, value in meta.items() if value not in (None, "")}
    return Problem(id=name, question=question, answer=wanted, source=source, **known)


def trace(problem: Problem, output: str, **meta: Any) -> Response:
    """A published response as ours: the prompt has opened `<think>` already. `sample` tells equal
    problems' responses apart by their content."""
    body = output.lstrip().removeprefix(THINK).removeprefix("\n")
    digest = hashlib.blake2b(body.encode("utf-8", "surrogatepass"), digest_size=4).digest()
    return Response(problem.id, int.from_bytes(digest, "little"), body, meta=meta)


def limit(value: Any) -> float | None:
    """The number of a limit such as 2, "2 seconds", "256.0 megabytes"; None when there is none."""
    match = re.match(r"\s*(\d+(?:\.\d+)?)", str(value or ""))
    return float(match[1]) if match else None


def seconds(value: Any) -> float | None:
    number = limit(value)
    unit = str(value).lower()
    return number / 1000 if number and ("milli" in unit or unit.endswith("ms")) else number


def mebibytes(value: Any) -> int | None:
    number, unit = limit(value), str(value).lower()
    if number is None:
        return None
    scale = 1 / 1024 if "kilo" in unit or "kb" in unit else 1024 if "giga" in unit else 1
    return int(number * scale) or None


def ace_math(row: Row, _: Any) -> SourceItem:
    return SourceItem(make("acereason-math", "math", text(row, "problem"), row["answer"]), [])


def open_math(row: Row, _: Any) -> SourceItem:
    rate = str(row["pass_rate_72b_tir"])
    difficulty = None if rate == "n/a" else 1 - float(rate)
    meta = {"problem_type": row["problem_type"], "problem_source": row["problem_source"]}
    problem = make(
        "openmathreasoning", "math", text(row, "problem"), row["expected_answer"],
        difficulty=difficulty, meta=meta,
    )  # fmt: skip
    if row["inference_mode"] != "cot" or not row["generated_solution"]:
        return SourceItem(problem, [])
    return SourceItem(
        problem, [trace(problem, text(row, "generated_solution"), model=row["generation_model"])]
    )


def numina(row: Row, _: Any) -> SourceItem:
    if row["problem_is_valid"] != "Yes":
        raise Skip("problem not marked valid")
    meta = {"question_type": row["question_type"], "problem_source": row["source"]}
    return SourceItem(make("numinamath-1.5", "math", text(row, "problem"), row["answer"], meta=meta), [])


def deepscaler(row: Row, _: Any) -> SourceItem:
    return SourceItem(make("deepscaler", "math", text(row, "problem"), row["answer"]), [])


def _packed(value: Any) -> Any:
    """JSON in a string, where an empty string means nothing."""
    if not isinstance(value, str):
        return value
    if not value.strip():
        return None
    try:
        return msgspec.json.decode(value)
    except (msgspec.DecodeError, RecursionError) as error:
        raise DataError(f"expected JSON in a string, {error}") from error


def _programs(row: Row, source: str, released: Any = None) -> SourceItem:
    """TACO and APPS: question, tests and solutions packed in strings."""
    meta = {"solutions": _packed(row["solutions"]), "url": row.get("url")}
    meta["level"] = row.get("difficulty")
    problem = make(
        source, "code", text(row, "question"),
        checks=read_tests(row["input_output"]), starter_code=row.get("starter_code") or None,
        time_limit=seconds(row.get("time_limit")), memory_limit=mebibytes(row.get("memory_limit")),
        released=str(released)[:10] if released else None, meta=meta,
    )  # fmt: skip
    return SourceItem(problem, [])


def taco(row: Row, _: Any) -> SourceItem:
    return _programs(row, "taco", row.get("date"))


def apps(row: Row, _: Any) -> SourceItem:
    return _programs(row, "apps")


def open_code(row: Row, option: Any) -> SourceItem:
    """option: {(dataset, split, index): question} for the rows that hold "-"."""
    question = text(row, "input")
    if question.strip() == "-":
        key = (row["dataset"], row["split"], str(row.get("index")))
        said = (option or {}).get(key)
        if said is None:
            raise Skip(f"question must be rejoined from {key[0]}, which was not given")
        question = said
    meta = {"problem_source": row["source"], "level": row["difficulty"]}
    if row["solution"]:
        meta["teacher_solution"] = row["solution"]
    problem = make("opencodereasoning", "code", question, meta=meta)
    return SourceItem(problem, [trace(problem, text(row, "output"))])


def deepcoder(row: Row, option: Any) -> SourceItem:
    """option: the config and split, such as "taco/train"."""
    if option == "lcbv5/test":
        raise Skip("lcbv5/test overlaps the evaluation window")
    about = _packed(row.get("metadata")) or {}
    problem = make(
        "deepcoder", "code", text(row, "problem"), checks=read_tests(row["tests"], about.get("func_name")),
        starter_code=row.get("starter_code") or None, meta={"config": option},
    )  # fmt: skip
    return SourceItem(problem, [])


_EURUS_TAILS = re.compile(
    r"\s*(?:Present the answer in LaTex format: \\boxed\{Your answer\}"
    r"|Write Python code to solve the problem\. Present the code in\s*"
    r"```python\s*Your code\s*```\s*at the end\.?)\s*$"
)


def eurus(row: Row, _: Any) -> SourceItem:
    turns = [turn["content"] for turn in row["prompt"] if turn["role"] == "user"]
    question = _EURUS_TAILS.sub("", turns[-1])
    truth = row["reward_model"]["ground_truth"]
    meta = {"problem_source": row["data_source"]}
    if row["ability"] == "code":
        return SourceItem(make("eurus-2", "code", question, checks=read_tests(truth), meta=meta), [])
    return SourceItem(make("eurus-2", row["ability"], question, truth, meta=meta), [])


def synthetic(row: Row, option: Any) -> SourceItem:
    """option: whose responses and mean rewards to take; default the only or the first model."""
    models = sorted(k.removesuffix("_avg_reward") for k in row if k.endswith("_avg_reward"))
    model = option or next((m for m in models if row[f"{m}_avg_reward"] is not None), None)
    truth = _packed(row["verification_info"]) or {}
    rate = row.get(f"{model}_avg_reward")
    checks = read_tests(truth.get("test_cases") or truth.get("tests") or "")
    domain = "code" if checks else "math" if "ground_truth" in truth else "other"
    problem = make(
        "synthetic-2", domain, text(row, "prompt"), truth.get("ground_truth"),
        checks=checks, difficulty=None if rate is None else 1 - float(rate), meta={"model": model},
    )  # fmt: skip
    given = _packed(row.get(f"{model}_responses")) or []
    outputs = [given] if isinstance(given, str) else given
    return SourceItem(problem, [trace(problem, str(output), model=model) for output in outputs])


def codeforces(row: Row, _: Any) -> SourceItem:
    if not row["official_tests_complete"]:
        raise Skip("official tests incomplete")
    shown = [f"Input:\n{x['input']}\nOutput:\n{x['output']}" for x in row["examples"] or []]
    parts = [row["title"], row["description"], row["input_format"], row["output_format"], *shown]
    question = "\n\n".join(str(part) for part in parts if part)
    meta = {"rating": row["rating"], "contest": row["contest_id"], "problem": row["id"]}
    meta["checker"] = row.get("generated_checker")
    memory = row["memory_limit"]
    problem = make(
        "codeforces", "code", question, checks=read_tests(row["official_tests"]),
        time_limit=seconds(row["time_limit"]), memory_limit=int(memory) if memory else None,
        meta=meta,
    )  # fmt: skip
    return SourceItem(problem, [])


def ace_sft(row: Row, _: Any) -> SourceItem:
    domain = text(row, "category")
    problem = make("acereason-1.1-sft", domain, text(row, "input"), meta={"from": row["source"]})
    return SourceItem(problem, [trace(problem, text(row, "output"))])


def thoughts(row: Row, option: Any) -> SourceItem:
    """option: the config, "math", "code" or "science", which is the domain."""
    turns = {turn["role"]: turn["content"] for turn in row["messages"]}
    asked, answered = turns["user"], turns["assistant"]
    meta = {"from": row["source"]}
    problem = make("mixture-of-thoughts", option or "math", asked, meta=meta)
    return SourceItem(problem, [trace(problem, answered, tokens=row["num_tokens"])])


class ColumnMap(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A generic source: which column holds what. Only the question must be there."""

    question: str
    domain: str = "math"
    answer: str | None = None
    tests: str | None = None
    response: str | None = None
    function: str | None = None
    starter_code: str | None = None
    solutions: str | None = None
    difficulty: str | None = None
    released: str | None = None
    url: str | None = None


def _question(row: Row, name: str) -> str:
    """The question in a column of text or of messages."""
    question = fields.question_of({"question": row[name]})
    if question is None:
        raise Skip(f"{name} is not text" if row[name] is None or row[name] == "" else "empty question")
    return question


def generic(columns: ColumnMap, row: Row, _: Any) -> SourceItem:
    """A row of anyone's file."""

    def get(name: str | None) -> Any:
        return None if name is None else row.get(name)

    rate, question = get(columns.difficulty), _question(row, columns.question)
    problem = make(
        "generic", columns.domain, question, fields.answer_of({"answer": get(columns.answer)}),
        checks=read_tests(get(columns.tests) or "", get(columns.function) or None, question),
        starter_code=get(columns.starter_code) or None,
        released=str(get(columns.released) or "")[:10] or None,
        difficulty=None if rate is None else float(rate),
        meta={"solutions": _packed(get(columns.solutions)), "url": get(columns.url)},
    )  # fmt: skip
    output = get(columns.response)
    return SourceItem(problem, [trace(problem, output)] if output else [])


def generic_source(name: str, columns: ColumnMap) -> Source:
    """A source of anyone's files by column names."""
    used = {v for f in columns.__struct_fields__ if f != "domain" and (v := getattr(columns, f))}
    return Source(name, name, frozenset(used), partial(generic, columns), exact=False, loose=True)


def recognised(name: str, row: Row, _: Any) -> SourceItem:
    """A row of anyone's file whose columns nobody named (`published.records`)."""
    problem = problem_of(row)
    named = fields.normal(row)
    checks = fields.tests_of(named, problem.question)
    domain = "code" if problem.domain == assertions.DOMAIN else problem.domain
    solutions = named.get("solutions") or (named.get("canonical_solution") if checks else None)
    made = make(
        name, domain, problem.question, problem.answer, checks, starter_code=problem.starter_code,
        time_limit=problem.time_limit,
        meta={k: v for k, v in problem.meta.items() if k[0] != "_" and k != "program"}
        | {"solutions": [solutions] if isinstance(solutions, str) else solutions},
    )  # fmt: skip
    return SourceItem(made, [])


def recognised_source(name: str) -> Source:
    """A source of anyone's files, its columns recognised."""
    return Source(name, name, frozenset(), partial(recognised, name), exact=False)


def _source(
    name: str, id: str, columns: str, adapt: Any, rows: int | None = None, exact: bool = True,
    optional: str = "",
) -> Source:  # fmt: skip
    names, others = frozenset(columns.split()), frozenset(optional.split())
    return Source(name, id, names, adapt, rows, exact, optional=others)


PUBLISHED: Mapping[str, Source] = {
    source.name: source
    for source in [
        _source("acereason-math", "nvidia/AceReason-Math", "problem answer", ace_math, 49_585),
        _source(
            "openmathreasoning", "nvidia/OpenMathReasoning",
            "expected_answer problem_type problem_source generation_model pass_rate_72b_tir "
            "problem generated_solution inference_mode used_in_kaggle", open_math, 3_201_061,
        ),
        _source(
            "numinamath-1.5", "AI-MO/NuminaMath-1.5",
            "problem solution answer problem_type question_type problem_is_valid solution_is_valid "
            "source synthetic", numina, 896_215,
        ),
        _source(
            "deepscaler", "agentica-org/DeepScaleR-Preview-Dataset", "problem answer solution",
            deepscaler,
        ),
        _source(
            "taco", "BAAI/TACO",
            "question solutions starter_code input_output difficulty source url",
            taco, 25_443, exact=False,
        ),
        _source(
            "apps", "codeparrot/apps",
            "problem_id question solutions input_output difficulty url starter_code", apps, 5_000,
            optional="id",
        ),
        _source(
            "opencodereasoning", "nvidia/OpenCodeReasoning",
            "id input output source license dataset split difficulty solution", open_code, 735_255,
            optional="index",
        ),
        _source(
            "deepcoder", "agentica-org/DeepCoder-Preview-Dataset", "problem tests", deepcoder,
            exact=False,
        ),
        _source(
            "eurus-2", "PRIME-RL/Eurus-2-RL-Data",
            "data_source prompt ability reward_model extra_info", eurus,
        ),
        _source(
            "codeforces", "open-r1/codeforces",
            "id contest_id time_limit memory_limit title description input_format output_format "
            "examples rating official_tests official_tests_complete", codeforces, exact=False,
        ),
        _source(
            "acereason-1.1-sft", "nvidia/AceReason-1.1-SFT", "category source input output",
            ace_sft, 3_970_332,
        ),
        _source(
            "mixture-of-thoughts", "open-r1/Mixture-of-Thoughts", "messages num_tokens source",
            thoughts,
        ),
        _source(
            "synthetic-2", "PrimeIntellect/SYNTHETIC-2", "problem_id prompt verification_info",
            synthetic, 353_945, exact=False,
        ),
    ]
}  # fmt: skip
