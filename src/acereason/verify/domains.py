"""What can be asked and judged. A domain is a name, a way of asking, and a judge.

    instruction(problem)              the user's turn
    extract(final part of a response) the answer to judge, or None: "no_answer"
    at_once(problem, answer, mode)    a verdict within microseconds in the caller, or None: use
    `judge` judge(problem, answer, tools)     a verdict, on one of the judge's threads

Math and code are registered below in the way that a user's own domain is. Another one is found by
its name among the registered, then among the installed entry points of the group
`acereason.domains`, then as a dotted path `package.module:attribute`. `docs/add-a-domain.md` walks
through one.
"""

from __future__ import annotations

import difflib
import importlib
import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from importlib.metadata import entry_points
from typing import Literal

from acereason import chat
from acereason.errors import ConfigError
from acereason.problems import Problem, Verdict
from acereason.verify import lcb
from acereason.verify.answers import compat
from acereason.verify.answers.decide import decide, put_to_math_verify, readable
from acereason.verify.code import Examiner
from acereason.verify.workers import SECONDS, MathWorker, available

Mode = Literal["strict", "lcb", "math_verify", "acereason"]
FAULTS = {
    "died": "its process was ended from outside, twice",
    "starved": f"the machine was too busy to give it {SECONDS:g} s of processor time",
}
SHIPPED = {"reasoning-gym": "acereason.verify.gym:GYM"}  # loaded when they are first asked for
LONGEST_ANSWER = 2_000  # characters of a boxed answer that are looked at


@dataclass(slots=True)
class Tools:
    """What a judge's thread owns; each part starts its process when it is first used."""

    mode: Mode = "strict"
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


@dataclass(frozen=True, slots=True)
class Domain:
    """How problems of one kind are asked and judged; see the module."""

    name: str
    instruction: Callable[[Problem], str]
    extract: Callable[[str], str | None]
    judge: Callable[[Problem, str, Tools], Verdict]
    at_once: Callable[[Problem, str, Mode], Verdict | None] | None = None
    extract_lcb: Callable[[str], str | None] | None = None  # in mode "lcb", where it differs


_registered: dict[str, Domain] = {}
_lock = threading.Lock()


def register(domain: Domain) -> Domain:
    """Make a domain known under its name; a later one replaces an earlier one."""
    with _lock:
        _registered[domain.name] = domain
    return domain


def registered() -> tuple[str, ...]:
    """The names of the domains that are known by now."""
    with _lock:
        return tuple(sorted(_registered))


def domain(name: str) -> Domain:
    """The domain of this name; ConfigError when there is none."""
    known = _registered.get(name)
    return known or register(replace(_installed(name), name=name))


def _installed(name: str) -> Domain:
    for entry in entry_points(group="acereason.domains", name=name):
        return _checked(name, entry.load())
    module, separator, attribute = SHIPPED.get(name, name).partition(":")
    if separator:
        try:
            return _checked(name, getattr(importlib.import_module(module), attribute))
        except (ImportError, AttributeError) as error:
            raise ConfigError(f"domain {name!r} cannot be loaded: {error}") from error
    near = difflib.get_close_matches(name.lower(), [n.lower() for n in _registered], n=1)
    raise ConfigError(
        f"unknown domain {name!r}{f'; did you mean {near[0]!r}?' if near else ''}; known: "
        f"{', '.join(sorted(n for n in _registered if ':' not in n))}. A domain of your own is registered, "
        "installed as an entry point of `acereason.domains`, or named `module:attribute`"
    )


def _checked(name: str, loaded: object) -> Domain:
    if not isinstance(loaded, Domain):
        raise ConfigError(f"domain {name!r}: expected a Domain, found a {type(loaded).__name__}")
    return loaded


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
    return tools.examiner.judge(problem, answer, lenient=tools.mode == "lcb")


MATH = register(Domain("math", chat.instruction, chat.boxed_answer, _math, _math_at_once))
CODE = register(Domain("code", chat.instruction, chat.code_block, _code, extract_lcb=lcb.code_block))
