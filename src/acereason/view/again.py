"""Judging a selection of a run's responses once more, by the real verifier and its sandbox.

    POST /api/judge {"run": …, "responses": [{"file": …, "problem": …, "sample": …}, …]}

Only what stands in a run is judged, never a text that was sent; nothing is written. An answer comes within
PATIENCE seconds with the verdicts that are there, and whoever asks again gets the others. The judge is
started with the first question and has one process at a time. A run may be a stranger's: a domain that its
data name as `module:attribute` is not imported for it.
"""

from __future__ import annotations

import atexit
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as NotYet
from typing import Annotated, Any, NamedTuple

import msgspec

from acereason.errors import AceReasonError
from acereason.problems import Problem, Response, Verdict
from acereason.registry import registered
from acereason.verify.judge import Judge, encodable
from acereason.view.runs_folder import Followed
from acereason.view.tail import Row

MOST = 64  # responses of one question
WAITING = 256  # responses that are being judged, of all who asked
KEPT = 4096  # verdicts
DECODED = 128  # problems
FAULTS = (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError)  # of odd data
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


class Not(NamedTuple):
    """Why a response is not judged; `outcome` is None where that may be different in a moment."""

    why: str
    outcome: str | None = "unjudged"


Key = tuple[Any, ...]
Found = tuple[Key, Problem, Response]
READING = Not("still being read", None)
FOREIGN = (
    "its problem names the domain {!r}: a module that a run's data name is not imported to judge it; "
    "install the domain as an entry point of `acereason.domains`, or judge with `acereason verify`"
)


class Again:
    """The judge of a server; from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._judge: Judge | None = None
        self._verdicts: OrderedDict[Key, Future[Verdict]] = OrderedDict()
        self._problems: OrderedDict[Key, Problem] = OrderedDict()

    def of(self, run: Followed, question: Question) -> Row:
        """The verdicts that are there, in the order that was asked, and how many are waited for. Busy."""
        end = time.monotonic() + PATIENCE
        with run.lock:
            run.index.advance(PATIENCE / 2)
            whole = run.desk.problems.advance(PATIENCE / 2)
            found = [self._found(run, which, whole) for which in question.responses]
        asked = [self._asked(one) for one in found]
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

    def _found(self, run: Followed, which: Which, whole: bool) -> Found | Not:
        """A response with its problem; why not, where it cannot be judged. `whole`: all data were read."""
        located = run.index.group(which.file, which.problem)
        rows = (run.index.read(located[0], at) for at in located[1]) if located else ()
        row = next((row for row in rows if row.get("sample") == which.sample), None)
        if located is None or row is None:
            return Not("this response is not there") if run.index.indexed == 1 else READING
        place = (run.folder, *(run.desk.problems.place(which.problem) or ()), which.problem)
        try:
            problem = self._problem(place, run.desk.problems.get)
        except msgspec.ValidationError:
            return Not("its problem is not among the run's data") if whole else READING
        if ":" in problem.domain and problem.domain not in registered():
            return Not(FOREIGN.format(problem.domain[:200]))
        text, cut = str(row.get("text", "")), row.get("finish") == "length"
        response = Response(which.problem, which.sample, text, finish="length" if cut else "stop")
        return (*place, located[0].name, located[0].stamp, which.sample), problem, response

    def _problem(self, place: Key, read: Callable[[str], Row | None]) -> Problem:
        """The problem at a place, the same object for all its responses: what is kept of verdicts holds its
        tests. ValidationError where there is none."""
        with self._lock:
            known = self._problems.get(place)
        if known is None:
            known = msgspec.convert(read(place[-1]), Problem)
        with self._lock:
            self._problems[place] = known
            self._problems.move_to_end(place)
            if len(self._problems) > DECODED:
                self._problems.popitem(last=False)
        return known

    def _asked(self, found: Found | Not) -> Future[Verdict] | Not:
        if isinstance(found, Not):
            return found
        key, problem, response = found
        with self._lock:
            future = self._verdicts.get(key)
            if future is None or _failed(future):
                if sum(not one.done() for one in self._verdicts.values()) >= WAITING:
                    raise Busy
                try:
                    future = self._started().submit(problem, response)
                except (AceReasonError, *FAULTS) as error:
                    return Not(told(error))
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


def _told(asked: Future[Verdict] | Not, end: float) -> Row:
    """What is known of a verdict by then; no outcome while it is waited for."""
    if isinstance(asked, Not):
        return {"outcome": asked.outcome, "detail": asked.why}
    try:
        verdict = asked.result(max(0.0, end - time.monotonic()))
    except NotYet:
        return {"outcome": None}
    except AceReasonError as error:
        return {"outcome": "unjudged", "detail": told(error)}
    shown = {name: getattr(verdict, name) for name in ("outcome", "extracted", "detail", "seconds")}
    return {n: encodable(value[:2000]) if isinstance(value, str) else value for n, value in shown.items()}


def told(error: Exception) -> str:
    """An error in words, with its kind where it was not written to be read."""
    kind = "" if isinstance(error, AceReasonError) else f"{type(error).__name__}: "
    return encodable(f"{kind}{error}"[:2000])
