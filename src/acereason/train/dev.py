"""Looking inside a stage: the dev split, asked every few steps, and the weights that did best on it.

The dev split are some of the RL prompts, drawn by hash and never trained on in any stage. What a run reports
is measured on other questions, so nothing is chosen by what is reported.
"""

from __future__ import annotations

import math
import shutil
import statistics
from collections.abc import Collection, Sequence
from pathlib import Path

from acereason import ranks
from acereason.config import Recipe, Stage
from acereason.draws import draw_seed
from acereason.errors import ConfigError
from acereason.files import sync_tree
from acereason.problems import Problem
from acereason.runs import Run, disk_errors
from acereason.sample.ask import How, ask
from acereason.train import checkpoint, stages
from acereason.train.checkpoint import Position
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
    for domain in sorted({s.domain for s in recipe.stage if s.evaluate_every}):
        questions = {p.question: p for p in problems if p.domain == domain and p.question not in reported}
        if 2 * count > len(questions):
            raise ConfigError(
                f"evaluation.dev.prompts is {count}, and the {domain} stages have {len(questions)} RL "
                "prompts to take the dev split from; lower it to at most half of them"
            )
        order = sorted(questions, key=lambda q: (q in learned, draw_seed(recipe.seed, "dev", q)))
        chosen += [questions[q] for q in order[:count]]
    return chosen


class Dev:
    """The dev split of one stage."""

    def __init__(self, shop: Workshop, stage: Stage, problems: Sequence[Problem]) -> None:
        self._shop, self._stage = shop, stage
        self._problems = [p for p in problems if p.domain == stage.domain]

    def due(self, step: int) -> bool:
        """Whether the stage is evaluated after so many of its steps; at its beginning, too."""
        return bool(self._stage.evaluate_every) and step % self._stage.evaluate_every == 0

    def evaluate(self, position: Position) -> None:
        """Ask the present policy, record how it did, and keep its weights if none did better. The draws are
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
        told = {"domain": stage.domain, "accuracy": accuracy, "se": se, "n": len(rates), "k": dev.k}
        shop.run.record("dev", **where, **told)
        state.dev.append((position.stage_step, accuracy))
        if stage.keep_best and stages.best(state.dev) == position.stage_step:
            self._keep(position.stage_step)

    def _keep(self, step: int) -> None:
        folder, run = self._folder(step), self._shop.run
        with disk_errors(run.path):
            if ranks.main():
                shutil.rmtree(folder, ignore_errors=True)
                folder.mkdir(parents=True)
            ranks.barrier()
            checkpoint.save_weights(self._shop.policy.model, folder)
            if ranks.main():
                sync_tree(folder)

    def restore(self, position: Position) -> None:
        """Go back to the weights that did best, if they are not the present ones. Collective."""
        shop, stage, state = self._shop, self._stage, position.state
        if not stage.keep_best or state is None or not state.dev:
            return
        step = stages.best(state.dev)
        if step < position.stage_step:
            checkpoint.load_weights(self._folder(step), shop.policy.model)
            shop.progress.say(f"{stage.name} ends with the weights of step {step}, the best on the dev split")
        shop.run.record("best", step=position.step, stage=stage.name, stage_step=step)

    def _folder(self, step: int) -> Path:
        return self._shop.run.checkpoints / f"best-{self._stage.name}-{step:06d}"


def drop_kept(run: Run) -> None:
    """Delete the weights that stages kept, once a checkpoint after their end is on the disk."""
    if ranks.main():
        for folder in run.checkpoints.glob("best-*"):
            shutil.rmtree(folder)
