"""Asking problems and having the answers judged while the rest are still being written.

    problems × samples ──▶ Request ──▶ Completion ──▶ judge ──▶ Answer

A sample's seed is a hash of what it is for (the caller's `label` parts, the problem, the sample number), so
no two samples of a run share their draws and any one can be done again alone.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Protocol

from acereason.errors import SamplingError
from acereason.policy.policy import Policy
from acereason.problems import Problem, Response, Verdict
from acereason.sample.protocol import Completion, Request, Sampler, draw_seed


class Judging(Protocol):
    """What judges: `verify.Judge`, or a function of one's own behind the same call."""

    def submit(self, problem: Problem, response: Response) -> Future[Verdict]: ...


@dataclass(frozen=True, slots=True)
class Answer:
    """One response to `problem` with its verdict."""

    problem: Problem
    sample: int
    completion: Completion
    text: str
    verdict: Verdict

    def row(self, **more: Any) -> dict[str, Any]:
        """As a row of a responses file; token ids and their numbers are left out."""
        return {
            "problem_id": self.problem.id,
            "sample": self.sample,
            "text": self.text,
            "tokens": len(self.completion.tokens),
            "finish": self.completion.finish,
            "temperature": self.completion.request.temperature,
            "outcome": self.verdict.outcome,
            "reward": self.verdict.reward,
            "extracted": self.verdict.extracted,
            "detail": self.verdict.detail,
            "family": self.problem.meta.get("family"),
            "level": self.problem.meta.get("level"),
            **more,
        }


@dataclass(frozen=True, slots=True)
class Asked:
    """Answers grouped by problem, `groups[i][j]` the j-th sample of problem i, and where the time went:
    `sample` seconds until the last response, `judge` seconds waited for verdicts after that."""

    groups: list[list[Answer]]
    sample_seconds: float
    judge_seconds: float


def requests(
    policy: Policy,
    problems: Sequence[Problem],
    samples: int,
    *,
    budget: int,
    temperature: float,
    label: Sequence[int | str],
    top_p: float = 1.0,
) -> Iterator[Request]:
    """One request per problem and sample; the samples of a problem follow one another.

    Raises SamplingError when prompt and budget do not fit into the model's context."""
    for index, problem in enumerate(problems):
        prompt = policy.prompt_ids(problem)
        if len(prompt) + budget > policy.context:
            raise SamplingError(
                f"the prompt of {problem.id} has {len(prompt)} tokens and the budget is {budget}, "
                f"together more than the model's context of {policy.context}; lower the budget, drop "
                "the problem, or raise model.context"
            )
        for sample in range(samples):
            seed = draw_seed(*label, problem.id, sample)
            yield Request(prompt, budget, temperature, seed, top_p, key=(index, sample))


def ask(
    policy: Policy,
    sampler: Sampler,
    judge: Judging,
    problems: Sequence[Problem],
    samples: int,
    *,
    budget: int,
    temperature: float,
    label: Sequence[int | str],
    top_p: float = 1.0,
    on_answer: Callable[[int], None] = lambda _: None,
) -> Asked:
    """Sample and judge; judging starts when a response ends. `on_answer` gets each response's token count."""
    begun = time.perf_counter()
    wanted = requests(
        policy, problems, samples, budget=budget, temperature=temperature, label=label, top_p=top_p
    )
    pending: dict[tuple[int, int], tuple[Completion, Response, Future[Verdict]]] = {}
    for completion in sampler.sample(wanted):
        index, sample = completion.request.key
        response = Response(
            problems[index].id,
            sample,
            policy.text(completion.tokens.tolist()),
            finish=completion.finish,
            temperature=temperature,
        )
        pending[index, sample] = completion, response, judge.submit(problems[index], response)
        on_answer(len(completion.tokens))
    sampled = time.perf_counter()
    groups = [
        [_answer(problem, j, *pending[i, j]) for j in range(samples)] for i, problem in enumerate(problems)
    ]
    return Asked(groups, sampled - begun, time.perf_counter() - sampled)


def _answer(
    problem: Problem,
    sample: int,
    completion: Completion,
    response: Response,
    verdict: Future[Verdict],
) -> Answer:
    return Answer(problem, sample, completion, response.text, verdict.result())
