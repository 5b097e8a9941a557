"""Looking inside a stage: the dev split, asked every few steps, and the weights that did best on it.

The dev split are some of the RL prompts, drawn by hash and never trained on in any stage. What a run reports
is measured on other questions, so nothing is chosen by what is reported.
"""

from __future__ import annotations

import math
import shutil
import statistics
from collections.abc import Collection, Sequence

from acereason import ranks
from acereason.config import Recipe, Stage
from acereason.draws import draw_seed
from acereason.errors import ConfigError
from acereason.problems import Problem
from acereason.runs import Run
from acereason.sample.ask import How, ask
from acereason.train import stages
from acereason.train.checkpoint import Position, Saver
from acereason.train.memory import SAMPLING, enough_for
from acereason.train.metrics import judged_rewards, pass_rates
from acereason.train.workshop import Workshop


def split(
    recipe: Recipe, problems: Sequence[Problem], reported: Collection[str], learned: Collection[str]
) -> list[Problem]:
    """The dev split of every domain with a stage that evaluates inside; empty where none does.

    `problems` are those of all stages, `reported` the held-out questions, `learned` those of SFT, which are
    taken last. Raises ConfigError when a split would take more than half of a domain's questions."""
    count, chosen = recipe.evaluation.dev.prompts, []
    for domain in sorted({d for s in recipe.stage if s.evaluate_every for d in s.domains}):
        questions = {p.question: p for p in problems if p.domain == domain and p.question not in reported}
        if 2 * count > len(questions):
            raise ConfigError(
                f"evaluation.dev.prompts is {count}, and the {domain} stages have {len(questions)} RL "
                "prompts to take the dev split from; lower it to at most half of them"
            )
        order = sorted(questions, key=lambda q: (q in learned, draw_seed(recipe.seed, "dev", q)))
        chosen += [questions[q] for q in order[:count]]
    return chosen


class DevSplit:
    """The dev split of one stage."""

    def __init__(self, shop: Workshop, stage: Stage, problems: Sequence[Problem], save: Saver) -> None:
        self._shop, self._stage, self._save = shop, stage, save
        self._problems = [p for p in problems if p.domain in stage.domains]

    def due(self, step: int) -> bool:
        """Whether the stage is evaluated after so many of its steps; at its beginning, too."""
        return bool(self._stage.evaluate_every) and step % self._stage.evaluate_every == 0

    def evaluate(self, position: Position) -> None:
        """Ask the present policy, record how it did, and keep its weights if none did as well. The draws are
        the same every time, so two steps are compared under common random numbers. Collective."""
        shop, stage, state = self._shop, self._stage, position.state
        assert state is not None
        settings, dev = shop.recipe.evaluation, shop.recipe.evaluation.dev
        how = How(
            samples=dev.k,
            budget=dev.budget or settings.budget,
            temperature=settings.temperature,
            top_p=settings.top_p,
            label=(shop.recipe.of_draws, "dev"),
        )
        with enough_for("sampling", SAMPLING):
            groups = ask(shop.policy, shop.sampler, shop.judge, ranks.share(self._problems), how).groups
        rates = list(pass_rates(judged_rewards(groups)).values())
        accuracy = statistics.fmean(rates) if rates else 0.0
        se = statistics.stdev(rates) / math.sqrt(len(rates)) if len(rates) > 1 else None
        where = {"step": position.step, "stage": stage.name, "stage_step": position.stage_step}
        told = {
            "domain": "+".join(stage.domains),
            "accuracy": accuracy,
            "se": se,
            "n": len(rates),
            "k": dev.k,
        }
        shop.run.record("dev", **where, **told)
        state.dev.append((position.stage_step, accuracy))
        if stage.keep == "best":
            self._save.best(accuracy)

    def restore(self, position: Position) -> None:
        """Go back to the weights that did best, where the stage keeps those. Collective."""
        stage, state = self._stage, position.state
        if stage.keep == "best" and state is not None and state.dev:
            self._save.restore_best()
            step = stages.best(state.dev)
            self._shop.progress.say(f"{stage.name} ends with the weights of step {step}, the best on dev")
            self._shop.run.record("best", step=position.step, stage=stage.name, stage_step=step)


def drop_best(run: Run) -> None:
    """Delete the best weights of a stage that is over: call it when a checkpoint after its end is written."""
    for folder in run.checkpoints.glob("best-*") if ranks.main() else ():
        shutil.rmtree(folder)
