"""Does a program pass every test? The expected outputs stay here; the sandbox sees inputs only.

    tests, those that caught programs before first ──▶ one child runs them all ──▶ answers
    answers compared here; the first failure ends it

A failure counts only if it happened in a child that ran nothing before it: a test that fails after
others in the same child is run again as the first of a fresh one, and a child that died of a signal
is run again. So what one test leaves behind cannot fail the next, and a program that ends its
process after each answer is judged test by test.

Standard output is compared line by line: outer blank lines and the blanks around a line do not
count, and two lines are equal when their words are equal as text or as exact decimal numbers.
Results of function calls are compared as JSON values, exactly; a tuple is a list.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any, Literal

import msgspec

from acereason.problems import Problem, Test, Verdict
from acereason.verify import lcb
from acereason.verify.sandbox.client import Frame, Limits, Lost, Run, Zygote, job_bytes
from acereason.verify.sandbox.selftest import self_test

DEFAULT_SECONDS = 6.0  # LiveCodeBench's limit per test
DEFAULT_MEBIBYTES = 1024
CONTROL = job_bytes("print(int(input()) * 2)", ["21"], None)
FailureKind = Literal["wrong", "timeout"]
_json = msgspec.json.Decoder()


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a test does not count as passed; `signalled` failures deserve a second look."""

    kind: FailureKind
    detail: str
    signalled: bool = False


def same_output(expected: str, answer: bytes) -> bool:
    """Whether a program's standard output is the expected one."""
    try:
        text = answer.decode()
    except UnicodeDecodeError:
        return False
    if text == expected:
        return True
    ours, theirs = expected.strip().splitlines(), text.strip().splitlines()
    return len(ours) == len(theirs) and all(
        _same_line(a.strip(), b.strip()) for a, b in zip(ours, theirs, strict=True)
    )


def _same_line(a: str, b: str) -> bool:
    if a == b:
        return True
    ours, theirs = a.split(), b.split()
    return len(ours) == len(theirs) and all(
        x == y or _same_number(x, y) for x, y in zip(ours, theirs, strict=True)
    )


def _same_number(a: str, b: str) -> bool:
    try:
        return Decimal(a) == Decimal(b)
    except (InvalidOperation, ValueError):
        return False


def same_result(expected: str, answer: bytes) -> bool:
    """Whether the JSON of a call's result is the expected JSON value. NaN equals nothing."""
    try:
        return bool(_json.decode(answer) == _json.decode(expected.encode()))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, ValueError):
        return False


def printable(text: str, limit: int = 160) -> str:
    """Text of a program made safe for logs: control characters escaped, and cut."""
    safe = "".join(c if c.isprintable() else repr(c)[1:-1] for c in text[:limit])
    return safe.encode("utf-8", "backslashreplace").decode()


class Examiner:
    """Judges programs one at a time; owns up to two zygotes (with and without numpy)."""

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

    def judge(self, problem: Problem, code: str, lenient: bool = False) -> Verdict:
        """Judge one program. `lenient` runs it as LiveCodeBench would (`sandbox/lcb.py`): one process,
        tests in order, the first failure counts, its own limits. Never raises for the program; a
        zygote lost twice gives "unjudged"."""
        fault = unusable(problem)
        if fault:
            return Verdict("unjudged", None, detail=fault)
        for _ in range(2):
            try:
                return self._judge(problem, code, lenient)
            except Lost as error:
                self.lost += 1
                self.close()
                reason = str(error)
        return Verdict("unjudged", None, detail=reason)

    def _judge(self, problem: Problem, code: str, lenient: bool) -> Verdict:
        total = len(problem.tests)
        seen = self._caught.setdefault((problem.id, hash(problem.tests)), [0] * total)
        order = sorted(range(total), key=lambda i: (0 if lenient else -seen[i], i))
        for kind in ("functional", "stdin"):
            pending = [i for i in order if problem.tests[i].type == kind]
            found = self._first_failure(problem, code, pending, lenient)
            if found is not None:
                index, failure = found
                seen[index] += 1
                detail = f"test {index + 1} of {total}: {failure.detail}"
                return Verdict(failure.kind, 0, detail=detail)
        return Verdict("correct", 1, detail=f"{total} tests passed")

    def _first_failure(
        self, problem: Problem, code: str, pending: list[int], lenient: bool
    ) -> tuple[int, Failure] | None:
        second_look = False
        while pending:
            tests = [problem.tests[i] for i in pending]
            passed, failure = self._run(problem, code, tests, lenient)
            pending = pending[passed:]
            if failure is not None and lenient:
                return pending[0], failure
            if failure is None or passed:
                second_look = False
            elif failure.signalled and not second_look:
                second_look = True
            else:
                return pending[0], failure
        return None

    def _run(
        self, problem: Problem, code: str, tests: Sequence[Test], lenient: bool
    ) -> tuple[int, Failure | None]:
        """Run tests in one fresh child: how many passed before the first failure, and that
        failure."""
        zygote = self.zygote(("numpy",) if "numpy" in code else ())
        functional = tests[0].type == "functional"
        cpu = lcb.SECONDS if lenient else problem.time_limit or DEFAULT_SECONDS
        memory = lcb.MEBIBYTES if lenient else problem.memory_limit or DEFAULT_MEBIBYTES
        limits = Limits(cpu, 3 * cpu + 1, memory)
        job = job_bytes(code, [t.input for t in tests], problem.function if functional else None, lenient)
        marking = Marking(tests, cpu, lenient)
        run = zygote.run(job, len(tests), limits, marking.failed_already)
        if run.killed or run.status:
            control(zygote)
        return marking.result(run)


class Marking:
    """Compares the answers of one child with the expected ones, as they come."""

    def __init__(self, tests: Sequence[Test], cpu: float, lenient: bool = False) -> None:
        self._tests, self._cpu, self._lenient = tests, cpu, lenient
        self._passed = 0
        self._end = 0
        self._failure: Failure | None = None

    def failed_already(self, frames: Sequence[Frame], output: int) -> bool:
        """Mark what is there so far; whether a test has failed."""
        while self._failure is None and self._passed < min(len(frames), len(self._tests)):
            frame = frames[self._passed]
            if frame.test != self._passed or not self._end <= frame.start <= frame.end:
                self._failure = Failure("wrong", "the program spoiled its own answers")
            elif frame.error is not None:
                late = self._lenient and frame.error.startswith("Overtime")
                self._failure = Failure("timeout" if late else "wrong", printable(frame.error))
            elif frame.nanoseconds > self._cpu * 1e9:
                self._failure = Failure("timeout", f"more than {self._cpu:g} s of processor time")
            else:
                self._compare(os.pread(output, frame.end - frame.start, frame.start))
            self._end = frame.end
        return self._failure is not None

    def _compare(self, answer: bytes) -> None:
        test = self._tests[self._passed]
        rules = (lcb.same_output, lcb.same_result) if self._lenient else (same_output, same_result)
        same = rules[test.type == "functional"]
        if same(test.output, answer):
            self._passed += 1
        else:
            self._failure = Failure("wrong", "wrong answer")

    def result(self, run: Run) -> tuple[int, Failure | None]:
        """The marks after the child has ended."""
        output = os.memfd_create("marked", os.MFD_CLOEXEC)
        try:
            os.write(output, run.output)
            self.failed_already(run.frames, output)
        finally:
            os.close(output)
        if self._failure is None and self._passed < len(self._tests):
            self._end_of_child(run)
        return self._passed, self._failure

    def _end_of_child(self, run: Run) -> None:
        """The child ended inside a test: out of time, crashed, or left on purpose with its
        answer."""
        if run.killed == "cpu" or run.status == -24:
            self._failure = Failure("timeout", f"more than {self._cpu:g} s of processor time")
        elif run.killed == "wall":
            self._failure = Failure("timeout", "asleep, or starved, past the wall-clock limit")
        elif run.killed or run.status < 0:
            self._failure = Failure("wrong", f"died of signal {-run.status}", signalled=True)
        elif run.status > 0:
            self._failure = Failure("wrong", f"exit status {run.status}")
        elif self._lenient or self._tests[self._passed].type == "functional":
            self._failure = Failure("wrong", "the process ended before the function returned")
        else:
            self._compare(run.output[self._end :])


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
