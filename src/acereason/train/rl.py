"""Reinforcement learning on checked answers, strictly on-policy, one stage after the other (recipe §3).

    take prompts ─▶ ask each G times ─▶ judge ─▶ one optimiser step ─▶ publish weights ─▶ ask again

GRPO with exactly one update per batch and no KL: no reference model, no ratio, no clip; what later recipes
add is named in the recipe and stands in `train.loss`. A stage first measures which temperature to ask at, and
which of its prompts are worth asking (`train.beginning`); both, and the order of prompts, are part of the
position that a checkpoint keeps. Every rank asks, judges and learns its own share of the prompts, and all
compute the same position from the merged numbers.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from acereason import ranks
from acereason.config import Stage
from acereason.errors import TrainingError
from acereason.native import heap
from acereason.problems import Problem
from acereason.sample.ask import How
from acereason.sample.rules import Asked, Moment, Rules, across, together
from acereason.train import metrics, second, stages
from acereason.train.beginning import begin
from acereason.train.checkpoint import Position, Saver
from acereason.train.dev import DevSplit
from acereason.train.mixture import Pool, pool_of
from acereason.train.optimizers import Optimizers, set_rates
from acereason.train.second import Besides, Scorer
from acereason.train.stages import StageState
from acereason.train.streaming import StepResult, ask_and_learn
from acereason.train.update import Learned
from acereason.train.workshop import Workshop, end_unwell


@dataclass(frozen=True)
class Training:
    """A stage being trained: where it is written down, and what moves along with it."""

    shop: Workshop
    stage: Stage
    pool: Pool
    rules: Rules
    optimizer: Optimizers
    position: Position
    state: StageState  # the position's
    second: Scorer | None = None  # a teacher, or a reference


def train_stage(
    shop: Workshop,
    stage: Stage,
    problems: Sequence[Problem],
    dev: DevSplit,
    optimizer: Optimizers,
    position: Position,
    save: Saver,
) -> None:
    """Train one stage from `position` on, which moves along; `save` writes checkpoints. Collective.

    Raises TrainingError when no prompt is left, or too many steps in a row had no finite gradient."""
    if position.state is None:
        position.state = begin(shop, stage, problems, position)
        if dev.due(0):
            dev.evaluate(position)
        if stage.filter.samples or stage.evaluate_every or position.state.temperature:
            save()  # what was measured is asked once
    state = position.state
    shares = shop.recipe.shares_of(stage)
    pool = pool_of(problems, state.pool, shares, stage.name, shop.recipe.seed, stage.filter)
    rules = Rules(stage, state.temperature)
    training = Training(shop, stage, pool, rules, optimizer, position, state, second.of_stage(shop, stage))
    reason = stages.finished(stage.stop, state.history, state.dev)  # a resumed stage may be over
    with shop.progress.task(stage.name, stage.steps, position.stage_step) as advance:
        while position.stage_step < stage.steps and reason is None:
            row = _step(training)
            if dev.due(position.stage_step):
                dev.evaluate(position)
            reason = stages.finished(stage.stop, state.history, state.dev)
            if pool.exhausted:
                reason = reason or "every prompt is retired (filter.retire_above)"
            advance(1, metrics.note(row))
            end_unwell(shop, stage.name, save)
            save.after_step()
    if reason is not None:
        shop.progress.say(f"{stage.name} ends after {position.stage_step} steps: {reason}")
    dev.restore(position)


def _step(training: Training) -> dict[str, Any]:
    """One step, from prompts to published weights, and its metrics row."""
    shop, stage, pool = training.shop, training.stage, training.pool
    begun = time.perf_counter()
    now = Moment(training.position.stage_step, stage.steps, pool.epoch, len(shop.policy.tokenizer))
    asked, learning_rate = training.rules.asked(now), stages.learning_rate(stage, now.step)
    where = _where(training, now, asked)
    set_rates(training.optimizer, [learning_rate])
    result = _asked_and_learned(training, where, asked)
    learned = time.perf_counter()
    heap.give_back()  # blocks of many lengths leave holes that would add up over steps
    shop.sampler.update(shop.policy.model)
    published = time.perf_counter()
    numbers = metrics.step_metrics(metrics.tell(result.batch.groups, result.weights), training.rules.apart)
    numbers = metrics.by_rule(
        numbers, asked, metrics.diversities(result.batch.groups, training.rules.anchors)
    )
    rates = metrics.pass_rates(metrics.judged_rewards(result.batch.groups))
    _move(training, now, numbers, rates)
    _watch(training, result.learned)
    _keep_responses(shop, stage, where.step, result)
    written = time.perf_counter()
    row = {
        **metrics.begins(where, pool.counts()),
        **numbers,
        **metrics.learning(result.learned, learning_rate),
        **metrics.times(result, published - learned, written - published, written - begun),
        **metrics.utilisation(shop.policy.model, result),
        **metrics.publication(shop.sampler),
    }
    shop.run.record("rl", **row)
    shop.run.record("rates", step=where.step, stage=stage.name, T=across(asked, "T"), rates=rates)
    return row


def _where(training: Training, now: Moment, asked: Mapping[str, Asked]) -> metrics.Where:
    """Where the step stands, and at which temperature, budget and group size it asks."""
    stage = training.stage
    return metrics.Where(
        step=training.position.step + 1,
        stage=stage.name,
        stage_step=now.step + 1,
        domain="+".join(stage.domains),
        budget=stage.budget,
        group=stage.group_in(now.epoch),
        epoch=now.epoch,
        **together(asked, training.shop.recipe.shares_of(stage))._asdict(),
    )


def _asked_and_learned(training: Training, where: metrics.Where, asked: Mapping[str, Asked]) -> StepResult:
    """The step itself, on the pool's next prompts. Collective."""
    shop, stage = training.shop, training.stage
    label = (shop.recipe.of_draws, stage.name, where.step)
    how = How(samples=where.group, budget=where.budget, temperature=across(asked, "T"), label=label)
    besides = Besides(across(asked, "coefficient"), training.second, stage.kind == "distill")
    return ask_and_learn(
        shop.policy,
        shop.sampler,
        shop.judge,
        _take(training),
        how,
        training.optimizer,
        stage,
        shop.recipe.rl,
        besides,
        training.pool.more,
    )


def _move(training: Training, now: Moment, numbers: dict[str, Any], rates: dict[str, float]) -> None:
    """Rule, pool, position and state, on to after the step; `rates` are its prompts' pass rates."""
    position, state = training.position, training.state
    training.rules.observe(now, metrics.entropies(numbers))
    training.pool.observe(rates)
    position.step, position.stage_step = position.step + 1, now.step + 1
    state.temperature = training.rules.state
    state.history.append((numbers["reward"], numbers["truncated"], numbers["tokens"]))


def _take(training: Training) -> list[Problem]:
    """The step's prompts; that they are fewer than the stage asks for is said when it begins to be so."""
    stage, pool = training.stage, training.pool
    prompts = pool.take(stage.prompts)
    if len(prompts) < stage.prompts and not pool.state.small:
        pool.state.small = True
        training.shop.progress.say(
            f"{stage.name}: batches hold {len(prompts)} prompts instead of {stage.prompts}, for the pool "
            "has no more, and a batch never asks one twice"
        )
    return prompts


def _watch(training: Training, learned: Learned) -> None:
    """Count steps in a row whose gradient was not finite; they moved nothing."""
    state = training.state
    bad = learned.gradient_norm is None and learned.learned_tokens > 0
    state.bad_steps = state.bad_steps + 1 if bad else 0
    if state.bad_steps >= training.shop.recipe.rl.max_bad_steps:
        raise TrainingError(
            f"the gradient was not finite in {state.bad_steps} steps in a row (last: step "
            f"{training.position.step}). The weights are those of the last good step; lower the stage's "
            "learning_rate and resume from the checkpoint before"
        )


def _keep_responses(shop: Workshop, stage: Stage, step: int, result: StepResult) -> None:
    if shop.recipe.keep_responses:
        groups = ranks.merged_at_main(metrics.response_rows(shop.policy, result))
        shop.run.write_responses(stage.name, step, [row for group in groups for row in group])
