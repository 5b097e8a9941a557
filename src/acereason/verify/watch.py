"""When a child has run too long, from the kernel's clocks and the number of answers found right.

A test begins when the answers to all before it were found right: a program can say what it likes about
which test it is at, and buys time with right answers only.
"""

from __future__ import annotations

from typing import Literal

from acereason.verify.sandbox.client import Limits, Time

FIRST_LOOK, LAST_LOOK = 0.02, 0.25  # seconds between looks: they double from one to the other
FIRST_QUESTION = 0.5  # seconds after which the first look asks for the time
Overrun = Literal["", "cpu", "wall"]


class Watch:
    """Over one child. Times are seconds.

    total   wall time that the child may be awake in all, whatever it answers"""

    def __init__(self, limits: Limits, total: float) -> None:
        self._limits, self._total = limits, total
        self._test, self._began = 0, Time()
        self._pause = FIRST_LOOK
        self._until_question = min(FIRST_QUESTION, limits.cpu / 8)

    def due(self) -> bool:
        """Whether the time is worth asking for: most programs are over before it can matter."""
        return self._until_question <= 0

    def overrun(self, test: int, now: Time) -> Overrun:
        """Which limit the child has passed, being at this test."""
        if test != self._test:
            self._test, self._began = test, now
        self._left = self._limits.cpu - (now.cpu - self._began.cpu)
        if self._left <= 0:
            return "cpu"
        in_test = now.awake - self._began.awake
        return "wall" if in_test >= self._limits.wall or now.awake >= self._total else ""

    def pause(self) -> float:
        """Seconds until the next look: ever longer, up to an eighth of a test's limit, which is the most that
        a program can gain by lying about when a test began."""
        pause, longest = self._pause, min(LAST_LOOK, max(FIRST_LOOK, self._limits.cpu / 8))
        self._pause = min(2 * pause, longest)
        pause = max(0.002, min(pause, self._left))
        self._until_question -= pause
        return pause

    _left = float("inf")
