"""The domain "reasoning-gym": answers judged by the scorers of their own generators.

A scorer gives a number from 0 to 1; the verdict is "correct" from `meta["least_score"]` on (1 where it is not
given), and says the score. A problem's `answer` may be None: then the generator's scorer checks the answer
itself. Scorers run in a process of their own, with the limits of math-verify's.
"""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

from acereason.chat import MATH_REQUEST, boxed_answer
from acereason.problems import Problem, Verdict
from acereason.verify.domains import FAULTS, Domain, Tools
from acereason.verify.workers import SECONDS, MathWorker

FULL = 1.0 - 1e-6


class GymWorker(MathWorker):
    """A process with reasoning-gym's scorers; used by one thread at a time."""

    script = Path(__file__).with_name("gym_worker.py")

    def score(self, generator: str, entry: dict[str, Any], answer: str, seconds: float = SECONDS) -> Any:
        """The score of an answer; or a word for why there is none, as `MathWorker.ask` says it."""
        return self.put(json.dumps([generator, entry, answer]).encode() + b"\n", seconds)


def _judge(problem: Problem, answer: str, tools: Tools) -> Verdict:
    if importlib.util.find_spec("reasoning_gym") is None:
        return Verdict(
            "unjudged", None, detail="reasoning-gym is not installed: pip install 'acereason[base]'"
        )
    entry = {
        "question": problem.question,
        "answer": problem.answer,
        "metadata": problem.meta.get("metadata", {}),
    }
    worker = tools.others.setdefault("reasoning-gym", GymWorker())
    assert isinstance(worker, GymWorker)
    said = worker.score(str(problem.meta.get("dataset")), entry, answer)
    if said in FAULTS or said == "unreadable":
        return Verdict(
            "unjudged", None, detail=f"reasoning-gym: {FAULTS.get(said, 'no scorer reads this problem')}"
        )
    if isinstance(said, str):
        outcome = "timeout" if said == "timeout" else "wrong"
        return Verdict(outcome, 0, detail=f"reasoning-gym: {said}")  # type: ignore[arg-type]
    right = said >= min(float(problem.meta.get("least_score", FULL)), FULL)
    return Verdict("correct" if right else "wrong", int(right), detail=f"score {said:.3g}")


def _instruction(problem: Problem) -> str:
    return f"{problem.question}\n{MATH_REQUEST}"


GYM = Domain("reasoning-gym", _instruction, boxed_answer, _judge)
