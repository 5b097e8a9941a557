"""The judge under the names that other frameworks call: TRL's reward functions, verl's
compute_score.

Both frameworks hand over the text of a completion. When the chat template has already opened
`<think>`, the completion must close it; pass `thinking=False` for models that do not think. Where
TRL parses messages itself, the thinking arrives apart from the content and counts as closed.

Tests are read in every shape that `published.tests` knows, as curation reads them; a row whose shape
is not known is a DataError that shows it, never a reward.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from acereason.chat import END_THINK
from acereason.errors import DataError, RunError
from acereason.problems import Problem, Response, Verdict
from acereason.published import fields
from acereason.published.packed import plain, shown
from acereason.published.tests import read_tests
from acereason.verify.judge import Judge, verify

Reward = Callable[..., list[float | None]]
_THINKING = ("reasoning_content", "reasoning", "thinking")  # what parsed messages call it


def trl_reward(judge: Judge | None = None, thinking: bool = True) -> Reward:
    """A function for TRL's `reward_funcs`. It reads the data set's columns `answer` (math; also under the
    other names that sets use, `ground_truth` …) or `tests` (code, in any published shape), and `function`,
    `time_limit`, `memory_limit`, `domain` where there are any. 1.0 or 0.0; None, which TRL leaves out of the
    reward, for what could not be judged, a row without an answer included. DataError: no such column, or
    tests of an unknown shape."""

    def acereason_reward(
        prompts: Sequence[Any], completions: Sequence[Any], **columns: Any
    ) -> list[float | None]:
        known = [name for name in fields.NAMES if name in columns]
        if not {*fields.ANSWERS, *fields.SOLUTIONS, *fields.TESTS} & set(known):
            raise DataError(
                f"expected the column answer (math) or tests (code), found {', '.join(sorted(columns))}"
            )
        rows = [{name: columns[name][i] for name in known} for i in range(len(completions))]
        texts = [_text(completion) for completion in completions]
        problems = [_problem(row, _text(prompt)) for row, prompt in zip(rows, prompts, strict=True)]
        pairs = [(p, _response(p, t, thinking)) for p, t in zip(problems, texts, strict=True)]
        if judge is None:
            return [_reward(verify(*pair)) for pair in pairs]
        futures = [judge.submit(*pair) for pair in pairs]
        return [_reward(future.result()) for future in futures]

    return acereason_reward


def _reward(verdict: Verdict) -> float | None:
    return None if verdict.reward is None else float(verdict.reward)


def _text(said: Any) -> str:
    """The text of a completion or prompt: a string, or the last of a list of messages."""
    if isinstance(said, str):
        return said
    if not said:
        return ""
    text = _content(said[-1].get("content"))
    parsed = END_THINK not in text and any(said[-1].get(name) for name in _THINKING)
    return END_THINK + text if parsed else text


def _content(content: Any) -> str:
    """The text of a message: a string, nothing, or typed parts."""
    if isinstance(content, list):
        return "".join(str(part.get("text") or "") for part in content)
    return str(content or "")


def _response(problem: Problem, text: str, thinking: bool) -> Response:
    if not thinking and END_THINK not in text:
        text = END_THINK + text
    return Response(problem.id, 0, text)


def _problem(row: Mapping[str, Any], question: str) -> Problem:
    name = str(row.get("id") or question)
    limits = {key: row[key] for key in ("time_limit", "memory_limit") if row.get(key) is not None}
    checks = fields.tests_of(row, question)
    truth = None if checks else fields.answer_of(row)
    domain = row.get("domain") or None
    coded = truth is None and any(column in row for column in fields.TESTS[: fields.SURE])
    judged = checks.fields(name) if checks else {"domain": "code" if coded else "math", "answer": truth}
    if domain is not None and not checks.program:
        judged["domain"] = str(domain)
    return Problem(**{"id": name, "question": question, **judged, **limits})


def compute_score(
    data_source: str,
    solution_str: str,
    ground_truth: Any,
    extra_info: Mapping[str, Any] | None = None,
    thinking: bool = True,
    unjudged: float | None = None,
    **_: Any,
) -> float:
    """verl's custom reward function (`reward.custom_reward_function.path`, `.name`).

    ground_truth   the reference answer, also as the only one of a list; or for code the tests, in any shape
                   that `published.tests` knows, such as `{"inputs": […], "outputs": […], "fn_name": …}`, as
                   objects, as JSON or as Parquet's arrays
    extra_info     `time_limit`, `index`; `thinking` of one row

    Settings of the run, under `custom_reward_function.reward_kwargs`: `thinking: false` for models
    that do not think; `unjudged`, the score of what could not be judged.

    1.0 or 0.0. Without `unjudged`, DataError for a row whose ground truth is of no known shape, and RunError
    when the machine is at fault, since verl has no word for that.
    """
    extra = extra_info or {}
    try:
        problem = _verl_problem(data_source, ground_truth, extra)
    except DataError:
        if unjudged is None:
            raise
        return float(unjudged)
    verdict = verify(problem, _response(problem, solution_str, bool(extra.get("thinking", thinking))))
    if verdict.reward is not None:
        return float(verdict.reward)
    if unjudged is None:
        raise RunError(f"{data_source}: could not be judged: {verdict.detail}")
    return float(unjudged)


def _verl_problem(source: str, truth: Any, extra: Mapping[str, Any]) -> Problem:
    name = f"{source}/{extra.get('index', '')}"
    truth = plain(truth)
    try:
        if not fields.are_tests(truth):
            return Problem(name, "math", "", answer=fields.stated(truth))
        checks = read_tests(truth, question=str(extra.get("question") or ""))
        if not checks:
            raise DataError(f"expected at least one test, found {shown(truth)}")
    except DataError as error:
        raise DataError(f"{name}: {error}") from error
    limit = {"time_limit": extra["time_limit"]} if extra.get("time_limit") is not None else {}
    return Problem(**{"id": name, "question": "", **checks.fields(name), **limit})
