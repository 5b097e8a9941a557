"""A judge that errs on purpose: what wrong rewards do to learning.

A share of the rewards is turned over after judging, each by a hash of (draw seed, problem, sample, text), so
a run with a bad judge resumes exactly, too. Only training sees it; evaluations are judged rightly. What could
not be judged stays so.
"""

from __future__ import annotations

from concurrent.futures import Future
from dataclasses import dataclass

import msgspec

from acereason.config import Recipe
from acereason.draws import draw_seed
from acereason.problems import Problem, Response, Verdict
from acereason.sample.ask import Judging


def mistaken(judge: Judging, recipe: Recipe) -> Judging:
    """The judge that a run's training sees: `judge` itself where the recipe asks for no mistakes."""
    wrong = (recipe.rl.false_positives, recipe.rl.false_negatives)
    return Mistaken(judge, *wrong, recipe.of_draws) if any(wrong) else judge


@dataclass(frozen=True)
class Mistaken:
    """Rewards `false_positives` of the wrong responses and refuses `false_negatives` of the right ones."""

    judge: Judging
    false_positives: float
    false_negatives: float
    seed: int

    def submit(self, problem: Problem, response: Response) -> Future[Verdict]:
        """As the judge's own, with the reward turned over now and then."""
        told: Future[Verdict] = Future()
        asked = self.judge.submit(problem, response)
        asked.add_done_callback(lambda done: self._tell(done, told, problem, response))
        return told

    def _tell(
        self, done: Future[Verdict], told: Future[Verdict], problem: Problem, response: Response
    ) -> None:
        if error := done.exception():
            told.set_exception(error)
        else:
            told.set_result(self.turned(done.result(), problem, response))

    def turned(self, verdict: Verdict, problem: Problem, response: Response) -> Verdict:
        """The verdict, or its opposite with a note in `detail`."""
        if verdict.reward is None:
            return verdict
        share = self.false_negatives if verdict.reward else self.false_positives
        draw = draw_seed(self.seed, "mistake", problem.id, response.sample, response.text) / 2**64
        if draw >= share:
            return verdict
        outcome = "wrong" if verdict.reward else "correct"
        detail = f"turned over on purpose (was {verdict.outcome}) {verdict.detail}".strip()
        told = {"outcome": outcome, "reward": 1 - verdict.reward, "detail": detail, "share": None}
        return msgspec.structs.replace(verdict, **told)
