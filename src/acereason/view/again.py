"""Judging a selection of a run's responses once more, by the real verifier and its sandbox.

    POST /api/judge {"run": …, "responses": [{"file": …, "problem": …, "sample": …}, …]}

Only what stands in a run is judged, never a text that was sent; nothing is written. An answer comes within
PATIENCE seconds with the verdicts that are there, and whoever asks again gets the others. The judge is
started with the first question and has one process at a time.
"""

from __future__ import annotations

import atexit
import threading
import time
from collections import OrderedDict
from concurrent.futures import Future
from concurrent.futures import TimeoutError as NotYet
from typing import Annotated, Any

import msgspec

from acereason.errors import AceReasonError
from acereason.problems import Problem, Response, Verdict
from acereason.verify.judge import Judge
from acereason.view.runs_folder import Followed
from acereason.view.tail import Row

MOST = 64  # responses of one question
WAITING = 256  # responses that are being judged, of all who asked
KEPT = 4096  # verdicts
PATIENCE = 2.0  # seconds
Text = Annotated[str, msgspec.Meta(max_length=1000)]


class Which(msgspec.Struct, frozen=True):
    """One response of a run."""

    file: Text
    problem: Text
    sample: int


class Question(msgspec.Struct, frozen=True):
    """The body of a question."""

    run: Text
    responses: Annotated[tuple[Which, ...], msgspec.Meta(min_length=1, max_length=MOST)]


class Busy(Exception):
    """Too many responses are being judged."""


Key = tuple[Any, ...]


class Again:
    """The judge of a server; from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._judge: Judge | None = None
        self._verdicts: OrderedDict[Key, Future[Verdict]] = OrderedDict()

    def of(self, run: Followed, question: Question) -> Row:
        """The verdicts that are there, in the order that was asked, and how many are waited for. Busy."""
        with run.lock:
            run.index.advance(PATIENCE)
            found = [_found(run, which) for which in question.responses]
        asked = [self._asked(one) for one in found]
        end = time.monotonic() + PATIENCE
        rows = [
            {**msgspec.to_builtins(which), **_told(future, end)}
            for which, future in zip(question.responses, asked, strict=True)
        ]
        return {"verdicts": rows, "waiting": sum(row["outcome"] is None for row in rows)}

    def close(self) -> None:
        """End the judge's processes; what has not begun is left."""
        with self._lock:
            judge, self._judge = self._judge, None
        if judge is not None:
            judge.close(abandon=True)

    def _asked(self, found: tuple[Key, Problem, Response] | str) -> Future[Verdict] | str:
        if isinstance(found, str):
            return found
        key, problem, response = found
        with self._lock:
            future = self._verdicts.get(key)
            if future is None or _failed(future):
                if sum(not one.done() for one in self._verdicts.values()) >= WAITING:
                    raise Busy
                try:
                    future = self._started().submit(problem, response)
                except AceReasonError as error:
                    return str(error)
                self._verdicts[key] = future
                if len(self._verdicts) > KEPT:
                    self._verdicts.popitem(last=False)
        return future

    def _started(self) -> Judge:
        """The judge, begun with the first question and ended with the program."""
        if self._judge is None:
            self._judge = Judge(1)
            atexit.register(self.close)
        return self._judge


def _failed(future: Future[Verdict]) -> bool:
    """Whether there is no verdict for a reason of the machine, so that it is worth trying again."""
    return future.done() and (future.exception() is not None or future.result().outcome == "unjudged")


def _found(run: Followed, which: Which) -> tuple[Key, Problem, Response] | str:
    """A response with its problem; why not, where it cannot be judged."""
    located = run.index.group(which.file, which.problem)
    rows = (run.index.read(located[0], at) for at in located[1]) if located else ()
    row = next((row for row in rows if row.get("sample") == which.sample), None)
    if located is None or row is None:
        return "this response is not there" if run.index.indexed == 1 else "responses are still being read"
    try:
        problem = msgspec.convert(run.desk.problem(which.problem), Problem)
        text, finish = str(row.get("text", "")), row.get("finish")
        response = Response(
            which.problem, which.sample, text, finish="length" if finish == "length" else "stop"
        )
    except msgspec.ValidationError:
        return "its problem is not among the run's data"
    return (run.folder, located[0].name, located[0].stamp, which.problem, which.sample), problem, response


def _told(asked: Future[Verdict] | str, end: float) -> Row:
    """What is known of a verdict by then; no outcome while it is waited for."""
    if isinstance(asked, str):
        return {"outcome": "unjudged", "detail": asked}
    try:
        verdict = asked.result(max(0.0, end - time.monotonic()))
    except NotYet:
        return {"outcome": None}
    except AceReasonError as error:
        return {"outcome": "unjudged", "detail": str(error)}
    told = {name: getattr(verdict, name) for name in ("outcome", "extracted", "detail", "seconds")}
    return {name: value[:2000] if isinstance(value, str) else value for name, value in told.items()}
