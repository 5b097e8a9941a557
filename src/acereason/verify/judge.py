"""The judge: problems and responses in, verdicts out as they finish.

    submit ──▶ what is the answer? ──▶ decided at once, in the caller (most math)
                                  └──▶ a thread of the judge ──▶ the domain's judge and its
                                  processes

Verdicts are kept by (problem, answer), and equal answers in flight share one judging, since the
responses of a group repeat one another. Nothing a model wrote raises; what could not be judged for
a reason of the machine is "unjudged", is not kept, and never becomes a reward.
"""

from __future__ import annotations

import asyncio
import atexit
import os
import queue
import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, as_completed
from typing import Any, cast, get_args

import msgspec

from acereason import chat
from acereason.errors import ConfigError, SandboxUnavailable
from acereason.problems import Problem, Response, Verdict
from acereason.verify.code import Examiner
from acereason.verify.domains import LONGEST_ANSWER, Domain, Mode, Tools, domain
from acereason.verify.plain import Plain, as_problem, as_response

KEPT = 100_000  # verdicts
Work = tuple[Domain, Problem, str, "Future[Verdict]"]


class Judge:
    """Judges in the background on `workers` threads, each with processes of its own. Use as a
    context manager, from any thread.

    mode         "strict"; "lcb", "math_verify" and "acereason" reproduce other judges
    namespaces   False leaves Linux namespaces out of the sandbox, as where they are forbidden
    every_test   programs that fail are run on, for the share of tests that they pass

    `counters` has one count per outcome, and "cached" (the verdict of an equal answer), "undecided"
    (not decided at once, of the domains that can), "lost" (sandbox processes replaced).
    """

    def __init__(
        self, workers: int = 2, mode: str = "strict", namespaces: bool = True, every_test: bool = False
    ) -> None:
        if mode not in get_args(Mode):
            raise ConfigError(f"unknown mode {mode!r}; known: {', '.join(get_args(Mode))}")
        self.mode = cast(Mode, mode)
        self.counters: Counter[str] = Counter()
        self._workers, self._namespaces, self._every_test = max(1, workers), namespaces, every_test
        self._lock = threading.Lock()
        self._queue: queue.SimpleQueue[Work | None] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._kept: OrderedDict[Any, Verdict] = OrderedDict()
        self._flying: dict[Any, Future[Verdict]] = {}
        self._closed = False

    def __enter__(self) -> Judge:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.close(abandon=kind is not None)

    def submit(self, problem: Problem | Plain, response: Response | str) -> Future[Verdict]:
        """The verdict on one response, when it is there; both may be plain (`verify.plain`). The future
        raises SandboxUnavailable when a program was to be run on a machine that cannot isolate it.
        ConfigError when the problem's domain is unknown."""
        if self._closed:
            raise RuntimeError("the judge is closed")
        problem = as_problem(problem)
        response = as_response(response, problem)
        if response.finish == "length":
            return self._at_once(Verdict("no_answer", 0, detail="cut at the budget"))
        final = chat.final_part(response.text)
        if final is None:
            return self._at_once(Verdict("no_answer", 0, detail="thinking was not closed"))
        return self.submit_answer(problem, final)

    def submit_answer(self, problem: Problem, final: str) -> Future[Verdict]:
        """As `submit`, for what stands after the thinking."""
        where = domain(problem.domain)
        lenient = where.extract_lcb if self.mode == "lcb" else None
        answer = (lenient or where.extract)(final)
        if answer is None or not answer.strip():
            return self._at_once(Verdict("no_answer", 0, detail="no answer in the expected form"))
        if where.at_once is not None:
            start = time.perf_counter()
            verdict = where.at_once(problem, answer, self.mode)
            if verdict is not None:
                return self._at_once(_completed(verdict, answer, time.perf_counter() - start))
            self._count("undecided")
        return self._later(where, problem, answer)

    def verify(self, problem: Problem | Plain, response: Response | str) -> Verdict:
        """The verdict on one response; waits for it."""
        return self.submit(problem, response).result()

    async def averify(self, problem: Problem | Plain, response: Response | str) -> Verdict:
        """The verdict on one response, without blocking the event loop."""
        return await asyncio.wrap_future(self.submit(problem, response))

    def stream(self, pairs: Iterable[tuple[Problem, Response]]) -> Iterator[tuple[int, Verdict]]:
        """Verdicts on many as they finish, each with the position of its pair."""
        positions: dict[Future[Verdict], list[int]] = {}
        for position, (problem, response) in enumerate(pairs):
            positions.setdefault(self.submit(problem, response), []).append(position)
        for future in as_completed(positions):
            for position in positions[future]:
                yield position, future.result()

    def close(self, abandon: bool = False) -> None:
        """Finish what was submitted, or `abandon` what has not begun ("unjudged"); then end every
        process."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
        if abandon:
            self._drop_waiting()
        for _ in self._threads:
            self._queue.put(None)
        for thread in self._threads:
            thread.join()

    def _drop_waiting(self) -> None:
        while True:
            try:
                work = self._queue.get_nowait()
            except queue.Empty:
                return
            if work is not None:
                work[3].set_result(Verdict("unjudged", None, detail="the judge was closed"))

    def _at_once(self, verdict: Verdict) -> Future[Verdict]:
        self._count(verdict.outcome)
        future: Future[Verdict] = Future()
        future.set_result(verdict)
        return future

    def _count(self, name: str) -> None:
        with self._lock:
            self.counters[name] += 1

    def _later(self, where: Domain, problem: Problem, answer: str) -> Future[Verdict]:
        key = _key(problem, answer)
        with self._lock:
            kept = self._kept.get(key)
            run = self._flying.get(key)
            fresh = kept is None and run is None
            if run is None and kept is None:
                run = self._flying[key] = Future()
                run.set_running_or_notify_cancel()
                self._start_threads()
            if not fresh:
                self.counters["cached"] += 1
        if kept is not None or run is None:
            return self._at_once(kept or Verdict("unjudged", None))
        follower = self._follow(run)
        if fresh:
            run.add_done_callback(lambda done: self._keep(key, done))
            self._queue.put((where, problem, answer, run))
        return follower

    def _follow(self, run: Future[Verdict]) -> Future[Verdict]:
        """A future of its own for every response that shares a judging, so that each is counted."""
        future: Future[Verdict] = Future()
        future.set_running_or_notify_cancel()

        def deliver(done: Future[Verdict]) -> None:
            error = done.exception()
            if error is not None:
                future.set_exception(error)
                return
            self._count(done.result().outcome)
            future.set_result(done.result())

        run.add_done_callback(deliver)
        return future

    def _keep(self, key: Any, done: Future[Verdict]) -> None:
        with self._lock:
            del self._flying[key]
            if done.exception() is None and done.result().outcome != "unjudged":
                self._kept[key] = done.result()
                if len(self._kept) > KEPT:
                    self._kept.popitem(last=False)

    def _start_threads(self) -> None:
        while len(self._threads) < self._workers:
            thread = threading.Thread(target=self._work, daemon=True, name="acereason-judge")
            self._threads.append(thread)
            thread.start()

    def _work(self) -> None:
        tools = Tools(self.mode, self._every_test, Examiner(self._namespaces))
        while (work := self._queue.get()) is not None:
            where, problem, answer, future = work
            start, lost = time.perf_counter(), tools.examiner.lost
            try:
                verdict = where.judge(problem, answer, tools)
            except SandboxUnavailable as error:
                future.set_exception(error)
                continue
            except Exception as error:  # a fault of ours must not leave a caller waiting
                verdict = Verdict("unjudged", None, detail=f"{type(error).__name__}: {error}")
            with self._lock:
                self.counters["lost"] += tools.examiner.lost - lost
            future.set_result(_completed(verdict, answer, time.perf_counter() - start))
        tools.close()


def encodable(text: str) -> str:
    """Text without lone surrogates, which no JSON file can hold."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


def _key(problem: Problem, answer: str) -> Any:
    """What a verdict depends on."""
    judged_by = (problem.answer, problem.tests, problem.function)
    limits = (problem.time_limit, problem.memory_limit)
    meta = msgspec.json.encode(problem.meta) if problem.meta else b""
    return (problem.domain, problem.id, problem.question, judged_by, limits, meta, answer)


def _completed(verdict: Verdict, answer: str, seconds: float) -> Verdict:
    shown = encodable(verdict.extracted or answer[:LONGEST_ANSWER])
    return msgspec.structs.replace(verdict, extracted=shown, seconds=seconds)


_default: tuple[int, Judge] | None = None
_default_lock = threading.Lock()


def verify(problem: Problem | Plain, response: Response | str) -> Verdict:
    """Judge one response with a judge that this process keeps; from any thread.

    Both may be plain: a reference answer or tests, and a text.

    >>> verify("42", "It is \\\\boxed{42}.").reward
    1
    >>> verify(r"\\frac{1}{2}", r"so</think>\\boxed{0.6}").outcome
    'wrong'
    >>> code = "```python\\nprint(2 * int(input()))\\n```"
    >>> verify([{"input": "4", "output": "8"}], code).outcome
    'correct'
    """
    global _default
    with _default_lock:
        if _default is None or _default[0] != os.getpid():
            judge = Judge(workers=1)
            atexit.register(judge.close)
            _default = (os.getpid(), judge)
        judge = _default[1]
    return judge.verify(problem, response)
