"""Answers to a benchmark, from a sampler or from a file, judged and kept as they come.

    missing (problem, sample) ──▶ sampler ──▶ Store ──▶ judge ──▶ Store

One request is one sample with a seed of its own, a hash of what it is for. What is there already is not
asked again; a response that is there without a verdict is judged. At most AHEAD verdicts are waited for at
a time, so memory does not grow with the number of samples.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path

import msgspec

from acereason.chat import END_THINK
from acereason.draws import draw_seed
from acereason.errors import DataError, SamplingError
from acereason.evaluate.benchmarks.store import AnswerProtocol, Fact, Reply, Store, keys
from acereason.policy.policy import Policy
from acereason.problems import Finish, Problem, Response, Verdict
from acereason.published.packed import plain
from acereason.published.rows import raw_rows
from acereason.sample.ask import Judging
from acereason.sample.protocol import Request, Sampler

AHEAD = 512
Advance = Callable[[int], None]  # is told each new response's number of tokens
Facts = list[list[Fact | None]]  # questions × samples


class Bench:
    """Judging with a bounded number of verdicts in flight; keeps each in the store."""

    def __init__(self, judge: Judging, store: Store) -> None:
        self._judge, self._store = judge, store
        self._waiting: deque[tuple[str, Future[Verdict]]] = deque()
        self.unjudged = 0
        self.why = ""

    def put(self, problem: Problem, reply: Reply) -> None:
        response = Response(problem.id, reply.sample, reply.text, finish=reply.finish)
        self._waiting.append((reply.key, self._judge.submit(problem, response)))
        while self._waiting and (len(self._waiting) > AHEAD or self._waiting[0][1].done()):
            self._take()

    def finish(self) -> None:
        while self._waiting:
            self._take()

    def _take(self) -> None:
        key, future = self._waiting.popleft()
        verdict = future.result()
        if verdict.reward is None:
            self.unjudged, self.why = self.unjudged + 1, self.why or verdict.detail
        self._store.judge(key, verdict)


def prompts_of(policy: Policy, problems: Sequence[Problem], budget: int) -> list[list[int]]:
    """Every problem's prompt as token ids; SamplingError when one leaves no room for the budget."""
    prompts = [policy.prompt_ids(problem) for problem in problems]
    longest = max(range(len(prompts)), key=lambda i: len(prompts[i]))
    if len(prompts[longest]) + budget > policy.context:
        raise SamplingError(
            f"the prompt of {problems[longest].id} has {len(prompts[longest])} tokens and the budget is "
            f"{budget}, together more than the context of {policy.context}; lower --budget to at most "
            f"{policy.context - len(prompts[longest])}, or raise the model's or server's context"
        )
    return prompts


def collect(
    policy: Policy,
    sampler: Sampler,
    judge: Judging,
    problems: Sequence[Problem],
    samples: int,
    protocol: AnswerProtocol,
    store: Store,
    advance: Advance = lambda _: None,
) -> Facts:
    """Ask what is missing, judge what is not judged, and return what is known of every sample.

    DataError when something could not be judged; SamplingError when the sampler cannot go on. Everything
    that arrived before is kept in both cases, and asked no more."""
    prompts = prompts_of(policy, problems, protocol.budget)
    names = [keys(protocol, ids, p, samples) for ids, p in zip(prompts, problems, strict=True)]
    bench = Bench(judge, store)
    _judge_owed(bench, store, problems, names)
    wanted = _requests(prompts, problems, names, protocol, store)
    try:
        for completion in sampler.sample(wanted):
            index, sample = completion.request.key
            text = policy.text(completion.tokens)
            reply = Reply(
                names[index][sample], problems[index].id, sample, text, len(completion.tokens),
                completion.finish,
            )  # fmt: skip
            store.add(reply)
            bench.put(problems[index], reply)
            advance(reply.tokens)
    except SamplingError as error:
        bench.finish()
        left = sum(key not in store.facts for row in names for key in row)
        raise SamplingError(
            f"{error}. {len(problems) * samples - left} of {len(problems) * samples} responses are kept in "
            f"{store.folder}; the same command asks for the other {left}"
        ) from error
    bench.finish()
    return known(store, names, bench)


def known(store: Store, names: Sequence[Sequence[str]], bench: Bench) -> Facts:
    """The facts of all samples; DataError when any is missing or was not judged."""
    if bench.unjudged:
        raise DataError(
            f"{bench.unjudged} responses could not be judged, so there is no score ({bench.why}). They are "
            "kept, and judged again by the same command"
        )
    return [[store.facts.get(key) for key in row] for row in names]


def _requests(
    prompts: Sequence[list[int]],
    problems: Sequence[Problem],
    names: Sequence[Sequence[str]],
    protocol: AnswerProtocol,
    store: Store,
) -> Iterator[Request]:
    for index, (prompt, problem) in enumerate(zip(prompts, problems, strict=True)):
        for sample, key in enumerate(names[index]):
            if key not in store.facts:
                seed = draw_seed(protocol.seed, "evaluation", problem.id, sample)
                yield Request(
                    prompt, protocol.budget, protocol.temperature, seed, protocol.top_p, key=(index, sample)
                )


def _judge_owed(
    bench: Bench, store: Store, problems: Sequence[Problem], names: Sequence[Sequence[str]]
) -> None:
    """Judge what an earlier process left unjudged; responses to other questions stay as they are."""
    asked = {key: problem for problem, row in zip(problems, names, strict=True) for key in row}
    for reply in store.owed():
        if reply.key in asked:
            bench.put(asked[reply.key], reply)
    bench.finish()


class Generation(msgspec.Struct):
    """A generation made elsewhere. `tokens`: ids, or their number."""

    problem_id: str
    text: str | None = None
    response: str | None = None
    sample: int | None = None
    finish: Finish = "stop"
    tokens: int | list[int] = 0


def counted(
    path: Path, problems: Sequence[Problem], k: int | None, others: Container[str] = ()
) -> dict[str, list[int]]:
    """The numbers of the samples to grade of each problem in a file of generations, k of each; None: as many
    as the problem that has most. Nothing is judged yet.

    DataError: a response to a problem that is neither asked nor among `others`, a sample that is there twice,
    problems with fewer responses."""
    by_problem: dict[str, list[int]] = {problem.id: [] for problem in problems}
    for made in _made(path):
        if made.problem_id in by_problem:
            samples = by_problem[made.problem_id]
            samples.append(len(samples) if made.sample is None else made.sample)
            if made.sample is not None and made.sample in samples[:-1]:
                raise DataError(f"{path}: sample {made.sample} of {made.problem_id!r} is there twice")
        elif made.problem_id not in others:
            raise DataError(f"{path}: a response to {made.problem_id!r}, which is not among the problems")
    wanted = k or max(map(len, by_problem.values()), default=0)
    _refuse_ragged(path, by_problem, wanted)
    return {name: sorted(samples)[:wanted] for name, samples in by_problem.items()}


def _refuse_ragged(path: Path, by_problem: Mapping[str, Sequence[int]], k: int) -> None:
    """DataError when some problems have fewer than k responses; with the option that mends it."""
    few = {name: len(samples) for name, samples in by_problem.items() if len(samples) < k}
    if not few and k:
        return
    fewest = min(few.values(), default=0)
    first = ", ".join(f"{name!r} has {count}" for name, count in list(few.items())[:3])
    missing = sum(k - count for count in few.values())
    mend = f"give -k {fewest} to take the first {fewest} of each" if fewest else "leave those problems out"
    raise DataError(
        f"{path}: expected {k} responses to each of {len(by_problem)} problems, found {missing} samples "
        f"missing ({first}{' …' if len(few) > 3 else ''}); {mend}, or complete the file"
    )


def grade(
    path: Path, judge: Judging, problems: Sequence[Problem], store: Store, thinking: bool,
    samples: Mapping[str, Sequence[int]],
) -> Facts:  # fmt: skip
    """Judge the generations of a JSON Lines file: {problem_id, text, finish, sample, tokens} a line, those
    that `counted` chose.

    Without `sample` the lines of a problem count up. `thinking` False: responses have no thinking part."""
    by_id = {problem.id: problem for problem in problems}
    protocol, bench = AnswerProtocol(str(path), "file"), Bench(judge, store)
    counts: Counter[str] = Counter()
    names: dict[str, dict[int, str]] = {name: {} for name in by_id}
    for made in _made(path):
        sample = counts[made.problem_id] if made.sample is None else made.sample
        counts[made.problem_id] += 1
        if sample not in samples.get(made.problem_id, ()):
            continue
        reply = _reply(protocol, made, sample, thinking)
        names[made.problem_id][sample] = reply.key
        if reply.key not in store.facts:
            store.add(reply)
            bench.put(by_id[made.problem_id], reply)
        elif store.facts[reply.key].outcome is None:
            bench.put(by_id[made.problem_id], reply)
    bench.finish()
    return known(store, [[row[i] for i in sorted(row)] for row in names.values()], bench)


def _made(path: Path) -> Iterator[Generation]:
    """The generations of a file; DataError names the row that is none, or says that there are none."""
    has_rows = False
    for read in raw_rows(path):
        try:
            if read.row is None:
                raise DataError(f"{read.reason}: {read.excerpt[:100]}")
            yield msgspec.convert(plain(dict(read.row)), Generation)
            has_rows = True
        except (DataError, msgspec.ValidationError) as error:
            raise DataError(f"{path}, {read.place}: expected problem_id and text, {error}") from error
    if not has_rows:
        raise DataError(f"{path}: expected generations, found none")


def _reply(protocol: AnswerProtocol, made: Generation, sample: int, thinking: bool) -> Reply:
    said = made.text if made.text is not None else made.response
    if said is None:
        raise DataError(f"a response to {made.problem_id!r} has no text")
    text = said if thinking else END_THINK + said
    tokens = made.tokens if isinstance(made.tokens, int) else len(made.tokens)
    key = protocol.key(list(text.encode("utf-8", "surrogatepass")), made.problem_id, sample)
    return Reply(key, made.problem_id, sample, text, tokens, made.finish)


def table(facts: Iterable[Iterable[Fact | None]]) -> list[list[bool | None]]:
    """Questions × samples: right, wrong, None for what is missing."""
    return [[None if fact is None else fact.right for fact in row] for row in facts]
