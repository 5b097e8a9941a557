"""Does a program pass every test? The expected outputs stay here; the sandbox sees inputs only.

    tests, those that caught programs before first ──▶ one child runs them all ──▶ answers
    answers compared here; the first failure ends it

A test that fails after others in the same child may have failed for what they left behind. Then, once for
a program, all begins again with every test in a child of its own, and all must pass: state carried over is
mended, and a guesser gets no second try at one test alone. A child that died of a signal is run again, once
for a program as well. What a test passed stays passed when its child ends with it, as some programs do.

How answers are compared is in `compare.py`, how long a program may run in `watch.py`, both of one child in
`marking.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from acereason.problems import MOST_MEBIBYTES, MOST_SECONDS, FailedTest, Problem, Test, Verdict
from acereason.verify import lcb
from acereason.verify.compare import same_output, same_result
from acereason.verify.marking import Failure, Marking, printable
from acereason.verify.sandbox.client import Limits, Lost, Zygote, job_bytes
from acereason.verify.sandbox.frames import FRAME
from acereason.verify.sandbox.selftest import self_test
from acereason.verify.watch import Watch

__all__ = ["Examiner", "Failure", "Marking", "control", "printable", "same_output", "same_result", "unusable"]

DEFAULT_SECONDS = 6.0  # LiveCodeBench's limit per test
LEAST_SECONDS = 0.01  # what less could be meant by?
DEFAULT_MEBIBYTES = 1024
LEAST_MEBIBYTES = 64  # for what the interpreter needs to run anything at all
SHOWN = 4  # failed tests of a program that a verdict holds
REMEMBERED = 10_000  # problems whose telling tests are kept in mind
LIBRARIES = ("numpy", "sortedcontainers", "more_itertools")  # as contest sites have them, where installed
CONTROL = job_bytes("print(int(input()) * 2)", ["21"], None)


def libraries(code: str) -> tuple[str, ...]:
    """The contest libraries that a program names; the sandbox loads those that are installed here."""
    return tuple(name for name in LIBRARIES if name in code)


def _hint(detail: str) -> str:
    """What to install when a program failed for want of such a library."""
    lacks = next((n for n in LIBRARIES if f"No module named '{n}'" in detail), None)
    return f" (not installed on this machine: pip install {lacks.replace('_', '-')})" if lacks else ""


class Starved(Exception):
    """The machine was too busy to tell how long a program takes."""


class Examiner:
    """Judges programs one at a time; owns a zygote for each set of LIBRARIES that programs asked for."""

    def __init__(self, namespaces: bool = True) -> None:
        self._namespaces = namespaces
        self._zygotes: dict[tuple[str, ...], Zygote] = {}
        self._caught: dict[tuple[str, int], list[int]] = {}
        self.lost = 0

    def zygote(self, packages: tuple[str, ...] = ()) -> Zygote:
        """The zygote with these packages, started when first needed. Raises SandboxUnavailable."""
        if packages not in self._zygotes:
            zygote = Zygote(packages, self._namespaces)
            self_test(zygote)
            self._zygotes[packages] = zygote
        return self._zygotes[packages]

    def close(self) -> None:
        """End the zygotes."""
        for zygote in self._zygotes.values():
            zygote.close()
        self._zygotes.clear()

    def judge(self, problem: Problem, code: str, lenient: bool = False, every_test: bool = False) -> Verdict:
        """Judge one program. `every_test` tells in `share` how many tests a wrong one passes, which costs a
        child for each that it fails. `lenient` runs it as LiveCodeBench would (`sandbox/lcb.py`): one
        process, tests in order, the first failure counts, its own limits. Never raises for the program; a
        zygote lost twice, or a machine too busy, gives "unjudged"."""
        fault = unusable(problem)
        if fault:
            return Verdict("unjudged", None, detail=fault)
        for _ in range(2):
            try:
                verdict = self._judge(problem, code, lenient)
                return self._shared(verdict, problem, code, lenient) if every_test else verdict
            except Lost as error:
                self.lost += 1
                self.close()
                reason = str(error)
            except Starved as error:
                return Verdict("unjudged", None, detail=str(error))
        return Verdict("unjudged", None, detail=reason)

    def _judge(self, problem: Problem, code: str, lenient: bool) -> Verdict:
        total = len(problem.tests)
        seen = self._telling(problem)
        order = sorted(range(total), key=lambda i: (0 if lenient else -seen[i], i))
        trial = _Trial(self, problem, code, lenient)
        for kind in ("functional", "stdin"):
            failed = trial.first_failure([i for i in order if problem.tests[i].type == kind])
            if failed is not None:
                index, failure = failed
                seen[index] += 1
                detail = f"test {index + 1} of {total}: {failure.detail}{_hint(failure.detail)}"
                failing = (FailedTest(index + 1, failure.got),)
                return Verdict(failure.kind, 0, detail=detail, failed=failing)
        return Verdict("correct", 1, detail=f"{total} tests passed")

    def _shared(self, verdict: Verdict, problem: Problem, code: str, lenient: bool) -> Verdict:
        """The verdict with the share of the tests passed, and more of those that failed."""
        if verdict.reward:
            return msgspec.structs.replace(verdict, share=1.0)
        trial = _Trial(self, problem, code, lenient)
        kinds = (
            [i for i, t in enumerate(problem.tests) if t.type == kind] for kind in ("functional", "stdin")
        )
        passed = sum(trial.passed(own) for own in kinds)
        more = [one for one in trial.failed if one.number != verdict.failed[0].number]
        failed = (*verdict.failed, *more)[:SHOWN]
        return msgspec.structs.replace(verdict, share=passed / len(problem.tests), failed=failed)

    def _telling(self, problem: Problem) -> list[int]:
        """How many programs each test of a problem has caught."""
        if len(self._caught) > REMEMBERED:
            self._caught.clear()
        return self._caught.setdefault((problem.id, hash(problem.tests)), [0] * len(problem.tests))


class _Trial:
    """One program, from its first child to its last."""

    def __init__(self, examiner: Examiner, problem: Problem, code: str, lenient: bool) -> None:
        self._zygote = examiner.zygote(libraries(code))
        self._problem, self._code, self._lenient = problem, code, lenient
        cpu = lcb.SECONDS if lenient else problem.time_limit or DEFAULT_SECONDS
        memory = lcb.MEBIBYTES if lenient else problem.memory_limit or DEFAULT_MEBIBYTES
        wall = lcb.WALL_SECONDS if lenient else 3 * cpu + 1
        self._limits = Limits(cpu, wall, max(LEAST_MEBIBYTES, memory))
        self._left = 2 * self._limits.total(len(problem.tests))  # wall seconds, of all children together
        self._alone = self._died = False
        self.failed: list[FailedTest] = []  # those found by `passed`, at most SHOWN

    def first_failure(self, order: Sequence[int]) -> tuple[int, Failure] | None:
        """The first of these tests that the program fails, and how."""
        pending = list(order)
        while pending:
            batch = pending[:1] if self._alone else pending
            passed, failure = self._run([self._problem.tests[i] for i in batch])
            pending = pending[passed:]
            if failure is None:
                continue
            if self._lenient:
                return pending[0], failure
            if failure.signalled and not self._died:
                self._died = True
            elif passed and not self._alone:
                self._alone = True
                pending = [pending[0], *(i for i in order if i != pending[0])]
            else:
                return pending[0], failure
        return None

    def passed(self, order: Sequence[int]) -> int:
        """How many of these tests the program passes, in a child with others or at the head of one."""
        pending, count = list(order), 0
        while pending:
            passed, failure = self._run([self._problem.tests[i] for i in pending])
            count += passed
            if not passed and failure is not None and len(self.failed) < SHOWN:
                self.failed.append(FailedTest(pending[0] + 1, failure.got))
            pending = pending[passed:] if passed or failure is None else pending[1:]
        return count

    def _run(self, tests: Sequence[Test]) -> tuple[int, Failure | None]:
        """Run tests in one fresh child: how many passed before the first failure, and that
        failure."""
        limits, function = self._limits, self._problem.function if tests[0].type == "functional" else None
        job = job_bytes(self._code, [test.input for test in tests], function, self._lenient)
        total = min(self._left, limits.total(len(tests)))
        if total <= 0:
            return 0, Failure("timeout", "past the wall-clock limit of all tests")
        longest = max(len(tests) * FRAME.size, *(4 * len(test.input) for test in tests))  # of its own files
        marking, watch = Marking(tests, limits, self._lenient), Watch(limits, total)
        with self._zygote.started(job, len(tests), limits, total, longest) as child:
            while not child.ended(watch.pause()):
                reason = "judge" if marking.mark(child.answers) else ""
                if not reason and watch.due():
                    over = marking.passed == len(tests)  # and it does not leave
                    reason = "judge" if over else watch.overrun(marking.passed, child.time())
                if reason:
                    child.kill(reason)
                    break
            run = child.wait()
            marking.finish(child.answers, run)
        self._left -= run.wall - run.waited
        if run.killed or run.status:
            control(self._zygote)
        if run.killed == "starved" and marking.failure is None and marking.passed < len(tests):
            raise Starved(f"the program waited {run.waited:.0f} of {run.wall:.0f} s for a processor")
        return marking.passed, marking.failure


def control(zygote: Zygote) -> None:
    """After an abnormal end: does the zygote still judge a known program right? Raises Lost."""
    run = zygote.run(CONTROL, 1, Limits())
    if run.status or run.output != b"42\n":
        zygote.kill()
        raise Lost(f"the sandbox failed its control program (status {run.status})")


def unusable(problem: Problem) -> str:
    """Why a problem cannot judge anything; empty when it can."""
    if not problem.tests:
        return f"problem {problem.id} has no tests: nothing can be judged"
    for name, least, most in (
        ("time_limit", LEAST_SECONDS, MOST_SECONDS),
        ("memory_limit", 1, MOST_MEBIBYTES),
    ):
        limit = getattr(problem, name)
        if limit and not least <= limit <= most:
            return f"problem {problem.id}: expected a {name} from {least} to {most}, found {limit}"
    functional = [test for test in problem.tests if test.type == "functional"]
    if functional and not problem.function:
        return f"problem {problem.id} has functional tests but names no function to call"
    for number, test in enumerate(functional, 1):
        for text, wanted in ((test.input, list), (test.output, Any)):
            try:
                msgspec.json.decode(text.encode("utf-8", "replace"), type=wanted)
            except (msgspec.DecodeError, RecursionError):
                return f"problem {problem.id}, functional test {number}: {text[:60]!r} is not JSON"
    return ""
