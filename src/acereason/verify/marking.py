"""The answers of one child, marked as they come. Each is read and compared once, so that what a program
writes over it later changes nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from acereason.problems import Got, Test
from acereason.verify import lcb
from acereason.verify.compare import Piece, same_output, same_result
from acereason.verify.excerpt import excerpt
from acereason.verify.sandbox.client import Answers, Exit, Frame, Limits

FailureKind = Literal["wrong", "timeout"]
RULES = {
    (False, "stdin"): same_output, (False, "functional"): same_result,
    (True, "stdin"): lcb.same_output, (True, "functional"): lcb.same_result,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a test does not count as passed; `signalled` failures deserve a second look. `got`: what the
    program answered, None where it was stopped (how far it came by then depends on the machine)."""

    kind: FailureKind
    detail: str
    signalled: bool = False
    got: Got | None = None


class Marking:
    """How far a child got: `passed` tests, and the first `failure`."""

    def __init__(self, tests: Sequence[Test], limits: Limits, lenient: bool = False) -> None:
        self.passed = 0
        self.failure: Failure | None = None
        self._tests, self._cpu, self._lenient = tests, limits.cpu, lenient
        self._end = 0

    def mark(self, answers: Answers) -> bool:
        """Mark what is there so far; whether a test has failed."""
        if self.failure is None:
            frames = answers.frames(self.passed, len(self._tests))
            size = answers.size if frames else 0  # now, when what they speak of is there
            if frames and self._end < size:
                answers.read_ahead(self._end, size)
            for frame in frames:
                self.failure = self._fault(frame, answers, size)
                if self.failure is not None:
                    break
                self.passed, self._end = self.passed + 1, frame.end
        return self.failure is not None

    def _fault(self, frame: Frame, answers: Answers, size: int) -> Failure | None:
        if not self._end <= frame.start <= frame.end <= size:
            return Failure("wrong", "the program spoiled its own answers")
        if frame.error:
            if self._lenient and frame.error.startswith("Overtime"):
                return Failure("timeout", printable(frame.error))
            return self._wrong(printable(frame.error), answers.piece(frame.start, frame.end))
        if frame.nanoseconds > self._cpu * 1e9:
            return self._too_long()
        return self._compared(answers, frame.start, frame.end)

    def _too_long(self) -> Failure:
        return Failure("timeout", f"more than {self._cpu:g} s of processor time")

    def _compared(self, answers: Answers, start: int, end: int) -> Failure | None:
        test = self._tests[self.passed]
        answer = answers.piece(start, end)
        same = RULES[self._lenient, test.type](test.output, answer)
        return None if same else self._wrong("wrong answer", answer)

    def _wrong(self, detail: str, answer: bytes | Piece, signalled: bool = False) -> Failure:
        return Failure("wrong", detail, signalled, excerpt(self._tests[self.passed], answer))

    def finish(self, answers: Answers, run: Exit) -> None:
        """The last marks, after the child has ended. One that was starved has shown nothing."""
        if not self.mark(answers) and self.passed < len(self._tests) and run.killed != "starved":
            self.failure = self._end_of_child(answers, run)
            self.passed += self.failure is None

    def _end_of_child(self, answers: Answers, run: Exit) -> Failure | None:
        """The child ended inside a test: out of time, crashed, or left on purpose with its answer."""
        if run.killed == "cpu" or run.status == -24:
            return self._too_long()
        if run.killed == "wall":
            return Failure("timeout", "asleep past the wall-clock limit")
        if run.killed == "threads":
            return Failure("wrong", "too many threads")
        begin = min(self._end, answers.size)
        said = answers.piece(begin, answers.size)
        if run.status < 0:
            return self._wrong(f"died of signal {-run.status}", said, signalled=True)
        if run.status > 0:
            return self._wrong(f"exit status {run.status}", said)
        if self._lenient or self._tests[self.passed].type == "functional":
            return self._wrong("the process ended before the function returned", said)
        return self._compared(answers, begin, answers.size)


def printable(text: str, limit: int = 160) -> str:
    """Text of a program made safe for logs: control characters escaped, and cut."""
    safe = "".join(c if c.isprintable() else repr(c)[1:-1] for c in text[:limit])
    return safe.encode("utf-8", "backslashreplace").decode()
