"""The judge under the names that other frameworks call: TRL's reward functions, verl's
compute_score.

Both frameworks hand over the text of a completion. When the chat template has already opened
`<think>`, the completion must close it; pass `thinking=False` for models that do not think. Where
TRL parses messages itself, the thinking arrives apart from the content and counts as closed.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from acereason.chat import END_THINK
from acereason.errors import DataError, RunError
from acereason.problems import Problem, Response, Test, Verdict
from acereason.verify.judge import Judge, verify

Reward = Callable[..., list[float | None]]
_COLUMNS = ("answer", "tests", "function", "time_limit", "memory_limit", "domain", "id")
_THINKING = ("reasoning_content", "reasoning", "thinking")  # what parsed messages call it


def trl_reward(judge: Judge | None = None, thinking: bool = True) -> Reward:
    """A function for TRL's `reward_funcs`. It reads the data set's columns `answer` (math) or
    `tests` (code; records or their JSON), and `function`, `time_limit`, `memory_limit`, `domain`
    where there are any. 1.0 or 0.0; None, which TRL leaves out of the reward, for what could not be
    judged."""

    def acereason_reward(
        prompts: Sequence[Any], completions: Sequence[Any], **columns: Any
    ) -> list[float | None]:
        rows = [
            {name: columns[name][i] for name in _COLUMNS if name in columns} for i in range(len(completions))
        ]
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
    tests = _tests(row.get("tests") or ())
    answer = row.get("answer")
    return Problem(
        id=str(row.get("id", question)),
        domain=str(row.get("domain") or ("code" if tests else "math")),
        question=question,
        answer=None if answer is None else str(answer),
        tests=tests,
        function=row.get("function"),
        time_limit=row.get("time_limit"),
        memory_limit=row.get("memory_limit"),
    )


def _tests(tests: Any) -> tuple[Test, ...]:
    if isinstance(tests, str):
        tests = json.loads(tests)
    return tuple(
        test if isinstance(test, Test) else Test(test["type"], test["input"], test["output"])
        for test in tests
    )


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

    ground_truth   the reference answer; or for code `{"inputs": […], "outputs": […], "fn_name": …}`
                   (with `fn_name` an input holds one JSON argument a line), as an object or as JSON
    extra_info     `time_limit`, `index`; `thinking` of one row

    Settings of the run, under `custom_reward_function.reward_kwargs`: `thinking: false` for models
    that do not think; `unjudged`, the score of what could not be judged.

    1.0 or 0.0. Without `unjudged`, RunError when the machine or the row is at fault, since verl has
    no word for that.
    """
    extra = extra_info or {}
    problem = _verl_problem(data_source, ground_truth, extra)
    verdict = verify(problem, _response(problem, solution_str, bool(extra.get("thinking", thinking))))
    if verdict.reward is not None:
        return float(verdict.reward)
    if unjudged is None:
        raise RunError(f"{data_source}: could not be judged: {verdict.detail}")
    return float(unjudged)


def _verl_problem(source: str, truth: Any, extra: Mapping[str, Any]) -> Problem:
    identity = f"{source}/{extra.get('index', '')}"
    if isinstance(truth, str) and truth.lstrip().startswith("{") and '"inputs"' in truth:
        truth = json.loads(truth)
    if not isinstance(truth, Mapping):
        return Problem(identity, "math", "", answer=str(truth))
    inputs, outputs = (_items(truth.get(name)) for name in ("inputs", "outputs"))
    if not inputs or len(inputs) != len(outputs):
        raise DataError(f"{identity}: expected as many inputs as outputs, and at least one")
    name = truth.get("fn_name")
    tests = [_verl_test(a, b, name) for a, b in zip(inputs, outputs, strict=True)]
    return Problem(
        identity, "code", "", tests=tuple(tests), function=name, time_limit=extra.get("time_limit")
    )


def _items(column: Any) -> list[Any]:
    """A list from what Parquet gives, which may be an array."""
    return [] if column is None else list(column)


def _verl_test(given: Any, wanted: Any, name: str | None) -> Test:
    if name is None:
        return Test("stdin", str(given), str(wanted))
    if isinstance(given, str):
        arguments = [json.loads(line) for line in given.split("\n") if line.strip()]
        return Test("functional", json.dumps(arguments), str(wanted))
    return Test("functional", json.dumps(given), json.dumps(wanted))
