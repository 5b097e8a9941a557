"""Judging answers: one door, `verify(problem, response) -> Verdict`, and `Judge` for many at once.

Math answers are compared exactly; programs run in a sandbox that never holds an expected output.
See `docs/verifier.md` for what is promised and against whom.
"""

from acereason.verify.judge import Judge, verify

__all__ = ["Judge", "verify"]
