"""Asking problems and having the answers judged while the rest are still being written.

    Problem × samples ──▶ Request ──sampler──▶ Completion ──judge──▶ Answer (with its Verdict)

A sample's seed is a hash of what it is for (`How.label`, the problem, the sample number), so no two samples
of a run share their draws and any one can be done again alone.

`ask` waits for everything. `Asking` does the same in the background and hands out each group as soon as its
last response is judged, for a caller that has something to do meanwhile.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple, Protocol

import msgspec
import numpy as np

from acereason.draws import draw_seed
from acereason.errors import SamplingError
from acereason.policy.policy import Policy
from acereason.problems import Problem, Response, Verdict
from acereason.sample.protocol import Completion, Request, Sampler


class Judging(Protocol):
    """What judges: `verify.Judge`, or a function of one's own behind the same call."""

    def submit(self, problem: Problem, response: Response) -> Future[Verdict]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class How:
    """How every problem is asked: `samples` responses of at most `budget` tokens at `temperature`, which may
    be one for each domain, the draws hashed from `label` (what the samples are for: seed, stage, step …)."""

    samples: int
    budget: int
    temperature: float | Mapping[str, float]
    label: tuple[int | str, ...]
    top_p: float = 1.0

    def T(self, problem: Problem) -> float:
        """The temperature at which a problem is asked."""
        T = self.temperature
        return T[problem.domain] if isinstance(T, Mapping) else T


@dataclass(frozen=True, slots=True)
class Answer:
    """One response to `problem` with its verdict."""

    problem: Problem
    sample: int
    completion: Completion
    text: str
    verdict: Verdict

    def row(self, **more: Any) -> dict[str, Any]:
        """As a row of a responses file; token ids and their numbers are left out. A program that failed tests
        has them in `failed` (`problems.FailedTest`)."""
        failed = msgspec.to_builtins(self.verdict.failed)
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
            **({"failed": failed} if failed else {}),
            "family": self.problem.meta.get("family"),
            "level": self.problem.meta.get("level"),
            **more,
        }


Groups = list[list[Answer]]  # by problem: groups[i][j] is the j-th sample of problem i


def light(answer: Answer) -> Answer:
    """The answer without its tokens' numbers, to be kept or sent to another rank."""
    nothing = np.zeros(0, np.float32)
    completion = replace(answer.completion, logprobs=nothing, entropy=nothing, entropy_1=nothing)
    return replace(answer, completion=completion)


@dataclass(frozen=True, slots=True)
class Batch:
    """The groups of answers, and where the time went: seconds until the last response, and seconds waited for
    verdicts after that."""

    groups: Groups
    sample_seconds: float
    judge_seconds: float


def requests(policy: Policy, problems: Sequence[Problem], how: How) -> Iterator[Request]:
    """One request per problem and sample; the samples of a problem follow one another. A request's key is
    (place of the problem, number of the sample). A problem that is there again is asked with other draws.

    Raises SamplingError when prompt and budget do not fit into the model's context."""
    before: Counter[str] = Counter()
    for place, problem in enumerate(problems):
        again = ("again", before[problem.id]) if before[problem.id] else ()
        before[problem.id] += 1
        prompt = policy.prompt_ids(problem)
        if len(prompt) + how.budget > policy.context:
            raise SamplingError(
                f"the prompt of {problem.id} has {len(prompt)} tokens and the budget is {how.budget}, "
                f"together more than the model's context of {policy.context}; lower the budget, drop "
                "the problem, or raise model.context"
            )
        for sample in range(how.samples):
            seed = draw_seed(*how.label, problem.id, sample, *again)
            yield Request(prompt, how.budget, how.T(problem), seed, how.top_p, key=(place, sample))


def ask(
    policy: Policy,
    sampler: Sampler,
    judge: Judging,
    problems: Sequence[Problem],
    how: How,
    on_answer: Callable[[int], None] = lambda _: None,
) -> Batch:
    """Sample and judge; judging starts when a response ends. `on_answer` gets each response's token count."""
    begun = time.perf_counter()
    pending: dict[tuple[int, int], _Pending] = {}
    for completion in sampler.sample(requests(policy, problems, how)):
        place, sample = completion.request.key
        pending[place, sample] = _submit(policy, judge, problems[place], completion)
        on_answer(len(completion.tokens))
    sampled = time.perf_counter()
    groups = [[pending[i, j].answer() for j in range(how.samples)] for i in range(len(problems))]
    return Batch(groups, sampled - begun, time.perf_counter() - sampled)


class Asking:
    """`ask` in the background: a thread takes completions from the sampler and submits them to the judge, and
    `take` hands out the groups that are judged. For samplers that sample elsewhere.

    What goes wrong in the background is raised by `take`."""

    def __init__(
        self, policy: Policy, sampler: Sampler, judge: Judging, problems: Sequence[Problem], how: How
    ) -> None:
        self._policy, self._sampler, self._judge, self._how = policy, sampler, judge, how
        self._problems: list[Problem] = []
        self._change = threading.Condition()
        self._groups: Groups = []
        self._ready: list[int] = []  # places of whole groups that were not handed out
        self._left = self._flying = 0  # groups that are not whole; threads that still sample
        self._error: BaseException | None = None
        self._begun = time.perf_counter()
        self.sampled: float | None = None  # when the last response had been sampled
        self._waited = 0.0
        self._threads: list[threading.Thread] = []
        self.add(problems)

    def add(self, problems: Sequence[Problem]) -> None:
        """Ask further problems, while the others are still being answered. Nobody waits for anybody."""
        if not problems and self._threads:
            return
        with self._change:
            first = len(self._problems)
            self._problems += problems
            self._groups += [[] for _ in problems]
            self._left, self._flying = self._left + len(problems), self._flying + 1
            self.sampled = None
        wanted = (replace(r, key=(first + r.key[0], r.key[1])) for r in self._requests(problems))
        thread = threading.Thread(
            target=self._run, args=(wanted, len(problems)), daemon=True, name="acereason-ask"
        )
        self._threads.append(thread)
        thread.start()

    def _requests(self, problems: Sequence[Problem]) -> Iterator[Request]:
        return requests(self._policy, problems, self._how)

    def take(self, tokens: int) -> Groups:
        """Judged groups not handed out yet. Waits until they hold so many `tokens`, or nothing is left to
        wait for; an empty list means the end. The order is that of the problems."""
        begun = time.perf_counter()
        with self._change:
            self._change.wait_for(lambda: self._error or not self._left or self._size() >= tokens)
            if self._error is not None:
                raise self._error
            taken, self._ready = sorted(self._ready), []
        self._waited += self.judging_since(begun)
        return [self._groups[place] for place in taken]

    @property
    def over(self) -> bool:
        """Whether every group has been handed out."""
        with self._change:
            return not self._left and not self._ready

    def judging_since(self, moment: float) -> float:
        """Seconds since `moment` in which nothing was being sampled any more."""
        now = time.perf_counter()
        return 0.0 if self.sampled is None else now - max(moment, self.sampled)

    def batch(self) -> Batch:
        """Everything, once all is over."""
        for thread in self._threads:
            thread.join()
        if self._error is not None:
            raise self._error
        assert self.sampled is not None
        return Batch(self._groups, self.sampled - self._begun, self._waited)

    def _size(self) -> int:
        return sum(len(a.completion.tokens) for place in self._ready for a in self._groups[place])

    def _run(self, wanted: Iterator[Request], problems: int) -> None:
        missing = problems * self._how.samples
        try:
            for completion in self._sampler.sample(wanted):
                missing -= 1
                problem = self._problems[completion.request.key[0]]
                pending = _submit(self._policy, self._judge, problem, completion)
                pending.verdict.add_done_callback(partial(self._judged, pending))
            if missing:
                raise SamplingError(f"the sampler ended with {missing} responses missing")
        except BaseException as error:
            self._fail(error)
        with self._change:
            self._flying -= 1
            if not self._flying:
                self.sampled = time.perf_counter()

    def _judged(self, pending: _Pending, verdict: Future[Verdict]) -> None:
        error = verdict.exception()
        if error is not None:
            return self._fail(error)
        place, _ = pending.completion.request.key
        with self._change:
            group = self._groups[place]
            group.append(pending.answer())
            if len(group) == self._how.samples:
                group.sort(key=lambda answer: answer.sample)
                self._ready.append(place)
                self._left -= 1
                self._change.notify()
        return None

    def _fail(self, error: BaseException) -> None:
        with self._change:
            self._error = self._error or error
            self._change.notify()


class _Pending(NamedTuple):
    """A response that is being judged."""

    problem: Problem
    completion: Completion
    response: Response
    verdict: Future[Verdict]

    def answer(self) -> Answer:
        """Waits for the verdict."""
        response = self.response
        return Answer(self.problem, response.sample, self.completion, response.text, self.verdict.result())


def _submit(policy: Policy, judge: Judging, problem: Problem, completion: Completion) -> _Pending:
    text = policy.text(completion.tokens)
    response = Response(problem.id, completion.request.key[1], text, finish=completion.finish)
    return _Pending(problem, completion, response, judge.submit(problem, response))
