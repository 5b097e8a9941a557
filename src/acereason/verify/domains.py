"""What can be asked and judged. A domain is a name, a way of asking, and a judge.

    instruction(problem)              the user's turn
    extract(final part of a response) the answer to judge, or None: "no_answer"
    at_once(problem, answer, mode)    a verdict within microseconds in the caller, or None: use
    `judge` judge(problem, answer, tools)     a verdict, on one of the judge's threads

Math and code are registered below in the way that a user's own domain is; `registry` says how another one is
found. `docs/add-a-domain.md` walks through one.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from acereason import chat
from acereason.problems import Problem, Verdict
from acereason.registry import Domain, Mode, domain, register, registered
from acereason.verify import lcb
from acereason.verify.answers import compat
from acereason.verify.answers.decide import decide, put_to_math_verify, readable
from acereason.verify.code import Examiner
from acereason.verify.workers import SECONDS, MathWorker, available

__all__ = ["CODE", "MATH", "Domain", "Mode", "Tools", "domain", "register", "registered"]

FAULTS = {
    "died": "its process was ended from outside, twice",
    "starved": f"the machine was too busy to give it {SECONDS:g} s of processor time",
}
LONGEST_ANSWER = 2_000  # characters of a boxed answer that are looked at


@dataclass(slots=True)
class Tools:
    """What a judge's thread owns; each part starts its process when it is first used."""

    mode: Mode = "strict"
    every_test: bool = False
    examiner: Examiner = field(default_factory=Examiner)
    math: MathWorker = field(default_factory=MathWorker)
    others: dict[str, MathWorker] = field(
        default_factory=dict
    )  # of domains that bring a process of their own

    def close(self) -> None:
        """End the processes."""
        self.examiner.close()
        self.math.close()
        for worker in self.others.values():
            worker.close()


def _math_at_once(problem: Problem, answer: str, mode: Mode) -> Verdict | None:
    if problem.answer is None or not problem.answer.strip():
        return Verdict("unjudged", None, detail=f"problem {problem.id} has no reference answer")
    if len(answer) > LONGEST_ANSWER:
        return Verdict("wrong", 0, detail=f"longer than {LONGEST_ANSWER} characters")
    if mode == "math_verify":
        return None
    rule = compat.decide if mode == "acereason" else decide
    equal = rule(problem.answer, answer)
    if equal is None:
        return None
    return Verdict("correct", 1) if equal else Verdict("wrong", 0)


def _math(problem: Problem, answer: str, tools: Tools) -> Verdict:
    """What the exact path left open, by math-verify in a process of its own."""
    reference = problem.answer or ""
    if not available():
        if readable(reference):
            return Verdict("wrong", 0, detail="not shown to be equal (math-verify is not installed)")
        return _unreadable(problem)
    if tools.mode == "math_verify":
        said = tools.math.ask(reference, answer)
    else:
        said = tools.math.ask(*put_to_math_verify(reference, answer), whole=True)
    if said in FAULTS:
        return Verdict("unjudged", None, detail=f"math-verify: {FAULTS[said]}")
    if said == "timeout":
        return Verdict("timeout", 0, detail=f"math-verify: no decision within {SECONDS:g} s")
    if said == "crashed":
        return Verdict("wrong", 0, detail="math-verify broke down on this answer, twice")
    if said == "unreadable" and not readable(reference):
        return _unreadable(problem)
    return Verdict("correct", 1) if said == "equal" else Verdict("wrong", 0)


def _unreadable(problem: Problem) -> Verdict:
    return Verdict("unjudged", None, detail=f"the reference of problem {problem.id} is not readable")


def _code(problem: Problem, answer: str, tools: Tools) -> Verdict:
    return tools.examiner.judge(problem, answer, lenient=tools.mode == "lcb", every_test=tools.every_test)


MATH = register(Domain("math", chat.instruction, chat.boxed_answer, _math, _math_at_once))
CODE = register(Domain("code", chat.instruction, chat.code_block, _code, extract_lcb=lcb.code_block))
