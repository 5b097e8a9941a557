"""HumanEval+ and MBPP+: programs judged by a program of assertions that runs after them.

    answer ─▶ answer + assertions + "say the word" ─▶ sandbox ─▶ the word, or not

The expected results stand in the assertions and so enter the sandbox, and a program could look for them or
for the word (a line of standard input, read last): good enough for a benchmark's score, never for a reward.
Leaving early, in whatever way, says no word. The comparison is the benchmark's own `assertion`; tasks whose
published test calls an oracle of the evalplus package cannot be judged by it and come out wrong.
"""

from __future__ import annotations

from msgspec.structs import replace

from acereason import chat
from acereason.problems import Problem, Verdict
from acereason.verify.domains import Domain, Tools

PROGRAM = """
import io, sys, types
screen, sys.stdout = sys.stdout, io.StringIO()
module = sys.modules["solution"] = types.ModuleType("solution")  # where dataclasses look names up
for part in ({answer!r}, {assertions!r}):
    exec(compile(part, "solution.py", "exec"), module.__dict__)  # may import numpy
sys.stdout = screen
print(input())
"""


def _ask(problem: Problem) -> str:
    return chat.instruction(replace(problem, domain="code"))


def _judge(problem: Problem, answer: str, tools: Tools) -> Verdict:
    return tools.examiner.judge(problem, composed(answer, problem.meta["program"]))


def composed(answer: str, assertions: str) -> str:
    """One program: the answer as a module, silent, then the assertions in it, then the word."""
    return PROGRAM.format(answer=answer, assertions=assertions)


PROGRAMS = Domain("assertions", _ask, chat.code_block, _judge)
