"""The judge: problems and responses in, verdicts out as they finish.

    submit ──▶ what is the answer? ──▶ math, decided exactly: at once, in the caller
                                  ├──▶ math, undecided: a warmed, killable worker process
                                  └──▶ code: a sandbox, one child per program

Verdicts on programs are kept by (problem, program), and equal programs in flight share one run,
since the responses of a group repeat one another. Nothing a model wrote raises; what could not be
judged for a reason of the machine is "unjudged", is not kept, and never becomes a reward.
"""

from __future__ import annotations

import asyncio
import atexit
import os
import queue
import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, as_completed
from typing import Any, Literal, get_args

import msgspec

from acereason import chat
from acereason.errors import ConfigError
from acereason.problems import Problem, Response, Verdict
from acereason.verify.answers.decide import decide
from acereason.verify.code import Examiner
from acereason.verify.sandbox.selftest import self_test

Mode = Literal["strict", "lcb"]
KEPT = 100_000  # verdicts on programs
LONGEST_ANSWER = 2_000  # characters of a boxed answer that are looked at
Task = Callable[[Examiner], Verdict]


class Judge:
    """Judges in the background with `workers` sandboxes. Use as a context manager, from any thread.

    counters: one per outcome, "cached" (verdict taken from an equal program), "undecided" (math
    that the exact path left open), "lost" (sandbox processes replaced).
    """

    def __init__(self, workers: int = 2, mode: Mode = "strict", namespaces: bool = True) -> None:
        if mode not in get_args(Mode):
            raise ConfigError(f"unknown mode {mode!r}; known: {', '.join(get_args(Mode))}")
        self.mode = mode
        self.counters: Counter[str] = Counter()
        self._workers, self._namespaces = max(1, workers), namespaces
        self._lock = threading.Lock()
        self._queue: queue.SimpleQueue[tuple[Task, Future[Verdict]] | None] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._kept: OrderedDict[Any, Verdict] = OrderedDict()
        self._flying: dict[Any, Future[Verdict]] = {}
        self._closed = False

    def __enter__(self) -> Judge:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def submit(self, problem: Problem, response: Response) -> Future[Verdict]:
        """The verdict on one response, when it is there. Raises SandboxUnavailable when a program
        is to be run on a machine that cannot isolate it."""
        if self._closed:
            raise RuntimeError("the judge is closed")
        if response.finish == "length":
            return self._at_once(Verdict("no_answer", 0, detail="cut at the budget"))
        final = chat.final_part(response.text)
        if final is None:
            return self._at_once(Verdict("no_answer", 0, detail="thinking was not closed"))
        if problem.domain == "code":
            return self._code(problem, chat.code_block(final))
        return self._math(problem, chat.boxed_answer(final))

    def verify(self, problem: Problem, response: Response) -> Verdict:
        """The verdict on one response; waits for it."""
        return self.submit(problem, response).result()

    async def averify(self, problem: Problem, response: Response) -> Verdict:
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

    def close(self) -> None:
        """Finish what was submitted, then end every process."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
        for _ in self._threads:
            self._queue.put(None)
        for thread in self._threads:
            thread.join()

    def _at_once(self, verdict: Verdict) -> Future[Verdict]:
        self._count(verdict.outcome)
        future: Future[Verdict] = Future()
        future.set_result(verdict)
        return future

    def _count(self, name: str) -> None:
        with self._lock:
            self.counters[name] += 1

    def _math(self, problem: Problem, answer: str | None) -> Future[Verdict]:
        if not answer:
            return self._at_once(Verdict("no_answer", 0, detail="no boxed answer"))
        if problem.answer is None:
            return self._at_once(
                Verdict("unjudged", None, detail=f"problem {problem.id} has no reference answer")
            )
        start = time.perf_counter()
        equal = None
        if len(answer) <= LONGEST_ANSWER:
            equal = decide(problem.answer, answer)
        seconds = time.perf_counter() - start
        if equal is None:
            self._count("undecided")
        extracted = answer[:LONGEST_ANSWER]
        if equal:
            return self._at_once(Verdict("correct", 1, extracted, "", seconds))
        detail = "undecided" if equal is None else ""
        return self._at_once(Verdict("wrong", 0, extracted, detail, seconds))

    def _code(self, problem: Problem, code: str | None) -> Future[Verdict]:
        if code is None or not code.strip():
            return self._at_once(Verdict("no_answer", 0, detail="no code block"))
        self._ensure_threads()
        limits = (problem.function, problem.time_limit, problem.memory_limit)
        key = (problem.id, problem.tests, limits, code)
        with self._lock:
            kept = self._kept.get(key)
            flying = self._flying.get(key)
            if kept is None and flying is None:
                future: Future[Verdict] = Future()
                future.set_running_or_notify_cancel()
                self._flying[key] = future
        if kept is not None:
            self._count("cached")
            return self._at_once(kept)
        if flying is not None:
            self._count("cached")
            return self._follow(flying)
        lenient = self.mode == "lcb"
        future.add_done_callback(lambda done: self._keep(key, done))
        self._queue.put((lambda examiner: examiner.judge(problem, code, lenient), future))
        return self._follow(future, code)

    def _follow(self, run: Future[Verdict], code: str | None = None) -> Future[Verdict]:
        """A future of its own for every response that shares a run, so that each may be counted."""
        future: Future[Verdict] = Future()
        future.set_running_or_notify_cancel()

        def deliver(done: Future[Verdict]) -> None:
            verdict = done.result()
            self._count(verdict.outcome)
            future.set_result(verdict)

        run.add_done_callback(deliver)
        return future

    def _keep(self, key: Any, done: Future[Verdict]) -> None:
        verdict = done.result()
        with self._lock:
            del self._flying[key]
            if verdict.outcome != "unjudged":
                self._kept[key] = verdict
                if len(self._kept) > KEPT:
                    self._kept.popitem(last=False)

    def _ensure_threads(self) -> None:
        with self._lock:
            if self._threads:
                return
            first = Examiner(self._namespaces)
            self_test(first.zygote())
            examiners = [first, *(Examiner(self._namespaces) for _ in range(self._workers - 1))]
            for examiner in examiners:
                thread = threading.Thread(target=self._work, args=(examiner,), daemon=True)
                thread.start()
                self._threads.append(thread)

    def _work(self, examiner: Examiner) -> None:
        while (entry := self._queue.get()) is not None:
            task, future = entry
            start, lost = time.perf_counter(), examiner.lost
            try:
                verdict = task(examiner)
            except BaseException as error:  # a fault of ours must not leave a caller waiting
                verdict = Verdict("unjudged", None, detail=f"{type(error).__name__}: {error}")
            verdict = msgspec.structs.replace(verdict, seconds=time.perf_counter() - start)
            for _ in range(examiner.lost - lost):
                self._count("lost")
            future.set_result(verdict)
        examiner.close()


_default: tuple[int, Judge] | None = None
_default_lock = threading.Lock()


def verify(problem: Problem, response: Response) -> Verdict:
    """Judge one response with a judge that this process keeps; from any thread."""
    global _default
    with _default_lock:
        if _default is None or _default[0] != os.getpid():
            judge = Judge(workers=1)
            atexit.register(judge.close)
            _default = (os.getpid(), judge)
        judge = _default[1]
    return judge.verify(problem, response)
