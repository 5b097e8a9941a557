"""Plain values as records: what the door of the judge takes besides `Problem` and `Response`.

    "42", 42                          the reference answer of a math problem
    [{"input": …, "output": …}, …]    the tests of a program, in any shape of `published.tests`
    {"answer": …}, {"tests": …}, …    a row of anyone's file

A response as text may leave out the thinking: without any `<think>` and `</think>` all of it is the final
part.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from fractions import Fraction
from typing import Any

from acereason.errors import DataError
from acereason.problems import Problem, Response
from acereason.prompts import END_THINK, THINK

Plain = str | int | float | Decimal | Fraction | Mapping[str, Any] | Sequence[Any]


def as_problem(given: Problem | Plain) -> Problem:
    """The problem that a plain value stands for; DataError when it stands for none."""
    if isinstance(given, Problem):
        return given
    if isinstance(given, str) or (isinstance(given, (int, float, Decimal, Fraction)) and given is not True):
        return Problem("given", "math", "", answer=str(given))
    from acereason.published.records import problem_of, unanswered  # they read with the judge's domains

    if not given or not isinstance(given, (Mapping, Sequence)):
        raise DataError(f"expected a reference answer, tests, or a row with either, found {given!r}")
    row = (
        given
        if isinstance(given, Mapping) and not {"inputs", "outputs"} <= given.keys()
        else {"tests": given}
    )
    problem = problem_of(row, asked=False)
    if reason := unanswered(problem):
        raise DataError(f"nothing can be judged by this: {reason}")
    return problem


def as_response(given: Response | str, problem: Problem) -> Response:
    """The response that a text stands for."""
    if isinstance(given, Response):
        return given
    bare = THINK not in given and END_THINK not in given
    return Response(problem.id, 0, END_THINK + given if bare else given)
