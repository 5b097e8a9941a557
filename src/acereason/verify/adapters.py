"""The judge under the names that other frameworks call: TRL's reward functions, verl's
compute_score.

Both frameworks hand over the text of a completion. When the chat template has already opened
`<think>`, the completion must close it; pass `thinking=False` for models that do not think.
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
    return str(said[-1]["content"]) if said else ""


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
    **_: Any,
) -> float:
    """verl's custom reward function (`custom_reward_function.path` and `.name`).

    ground_truth   the reference answer; or for code `{"inputs": […], "outputs": […], "fn_name": …}`
                   (with `fn_name` an input holds one JSON argument a line), as an object or as JSON
    extra_info     `thinking: false` for models that do not think; `time_limit`; `index`

    1.0 or 0.0. Raises RunError when the machine could not judge, since verl has no word for that.
    """
    extra = extra_info or {}
    problem = _verl_problem(data_source, ground_truth, extra)
    verdict = verify(problem, _response(problem, solution_str, bool(extra.get("thinking", True))))
    if verdict.reward is None:
        raise RunError(f"{data_source}: could not be judged: {verdict.detail}")
    return float(verdict.reward)


def _verl_problem(source: str, truth: Any, extra: Mapping[str, Any]) -> Problem:
    identity = f"{source}/{extra.get('index', '')}"
    if isinstance(truth, str) and truth.lstrip().startswith("{") and '"inputs"' in truth:
        truth = json.loads(truth)
    if not isinstance(truth, Mapping):
        return Problem(identity, "math", "", answer=str(truth))
    inputs, outputs = truth.get("inputs"), truth.get("outputs")
    if not inputs or not outputs or len(inputs) != len(outputs):
        raise DataError(f"{identity}: expected as many inputs as outputs, and at least one")
    name = truth.get("fn_name")
    tests = [_verl_test(a, b, name) for a, b in zip(inputs, outputs, strict=True)]
    return Problem(
        identity, "code", "", tests=tuple(tests), function=name, time_limit=extra.get("time_limit")
    )


def _verl_test(given: Any, wanted: Any, name: str | None) -> Test:
    if name is None:
        return Test("stdin", str(given), str(wanted))
    if isinstance(given, str):
        arguments = [json.loads(line) for line in given.split("\n") if line.strip()]
        return Test("functional", json.dumps(arguments), str(wanted))
    return Test("functional", json.dumps(given), json.dumps(wanted))
