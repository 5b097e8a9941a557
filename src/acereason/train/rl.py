"""Reinforcement learning on checked answers, strictly on-policy, one stage after the other (recipe §3).

    take prompts ─▶ ask each G times ─▶ judge ─▶ one optimiser step ─▶ publish weights ─▶ ask again

GRPO with exactly one update per batch and no KL: no reference model, no ratio, no clip. A stage first
measures which of its prompts are worth asking and which temperature to ask them at; both, and the order of
prompts, are part of the position that a checkpoint keeps. Every rank asks, judges and learns its own share of
the prompts, and all compute the same position from the merged numbers.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from acereason import ranks
from acereason.config import Recipe, Stage
from acereason.errors import TrainingError
from acereason.policy.policy import Policy
from acereason.problems import Problem
from acereason.progress import Progress
from acereason.runs import Run
from acereason.sample import temperature
from acereason.sample.ask import How, Judging, ask
from acereason.sample.protocol import Sampler
from acereason.sample.temperature import Tracker
from acereason.train import metrics, stages
from acereason.train.checkpoint import Position, Saver
from acereason.train.memory import SAMPLING, enough_for
from acereason.train.metrics import pass_rates
from acereason.train.optimizers import Optimizers, set_rates
from acereason.train.stages import PoolState, PromptPool, StageState
from acereason.train.streaming import StepResult, ask_and_learn
from acereason.train.update import Learned


@dataclass(frozen=True)
class Workshop:
    """What every step of a run uses."""

    run: Run
    recipe: Recipe
    policy: Policy
    sampler: Sampler
    judge: Judging
    progress: Progress


def train_stage(
    shop: Workshop,
    stage: Stage,
    problems: Sequence[Problem],
    optimizer: Optimizers,
    position: Position,
    save: Saver,
) -> None:
    """Train one stage from `position` on, which moves along; `save` writes checkpoints.

    Raises TrainingError when no prompt is left, or too many steps in a row had no finite gradient."""
    if position.state is None:
        position.state = begin(shop, stage, problems, position.step)
        if stage.filter.samples or stage.temperature.rule != "fixed":
            save()  # what was measured is asked once
    state, seed = position.state, shop.recipe.seed
    pool = PromptPool(problems, state.pool, stage.name, seed, stage.filter.drop_solved)
    tracker = Tracker.of(stage.temperature, state.temperature)
    reason = stages.finished(stage.stop, state.history)  # a resumed stage may be over
    with shop.progress.task(stage.name, stage.steps, position.stage_step) as advance:
        while position.stage_step < stage.steps and reason is None:
            set_rates(optimizer, [stages.learning_rate(stage, position.stage_step)])
            row = _step(shop, stage, pool, tracker, optimizer, position)
            state.history.append((row["reward"], row["truncated"], row["tokens"]))
            state.temperature = tracker.state()
            reason = stages.finished(stage.stop, state.history)
            advance(1, metrics.note(row))
            save.after_step()
    if reason is not None:
        shop.progress.say(f"{stage.name} ends after {position.stage_step} steps: {reason}")


def begin(shop: Workshop, stage: Stage, problems: Sequence[Problem], step: int) -> StageState:
    """Measure which prompts the stage asks, and its temperature, with the policy that it begins with."""
    chosen = stages.candidates(problems, stage.domain, stage.filter, shop.recipe.seed)
    if stage.filter.samples:
        chosen = _filter(shop, stage, chosen)
    if not chosen:
        raise TrainingError(
            f"stage {stage.name!r} has no prompts left after its filter; widen filter.low/high or levels"
        )
    tracker = _temperature(shop, stage, chosen, step)
    return StageState(pool=PoolState(ids=[p.id for p in chosen]), temperature=tracker.state())


def _filter(shop: Workshop, stage: Stage, chosen: Sequence[Problem]) -> list[Problem]:
    """Keep the prompts whose pass rate under the present policy and the stage's budget is in range."""
    rule = stage.filter
    part = chosen[: rule.candidates]
    name = f"{stage.name} filter"
    own = ranks.share(part)
    label = (shop.recipe.of_draws, stage.name, "filter")
    how = How(samples=rule.samples, budget=stage.budget, temperature=1.0, label=label)
    doing = shop.progress.task(name, len(own) * rule.samples)
    with doing as advance, enough_for("sampling", SAMPLING):
        batch = ask(shop.policy, shop.sampler, shop.judge, own, how, lambda _: advance(1, ""))
    rates = pass_rates(batch.groups)
    kept = stages.within(part, rates, rule)
    reasons = {
        "pass rate too high": sum(rate > rule.high for rate in rates.values()),
        "pass rate too low": sum(rate < rule.low for rate in rates.values()),
        "could not be judged": len(part) - len(rates),
    }
    shop.run.record("funnel", name=name, before=len(part), after=len(kept), reasons=reasons)
    return kept


def _temperature(shop: Workshop, stage: Stage, chosen: Sequence[Problem], step: int) -> Tracker:
    rule = stage.temperature
    if rule.rule == "fixed":
        return Tracker(rule.value, rule.target, 0.0, 1.0)
    key = (shop.recipe.of_draws, stage.name)
    met = temperature.calibrate_policy(shop.policy, shop.sampler, chosen, stage.budget, rule, key)
    shop.run.record("calibration", step=step, stage=stage.name, **met.row())
    shop.progress.say(
        f"{stage.name}: H_T = {met.check.H:.3f} ± {met.check.se:.3f} at T = {met.T:.3f}"
        f" (target {rule.target})"
    )
    return Tracker(met.T, rule.target, rule.gain if rule.rule == "track" else 0.0, met.elasticity)


def _step(
    shop: Workshop,
    stage: Stage,
    pool: PromptPool,
    tracker: Tracker,
    optimizer: Optimizers,
    position: Position,
) -> dict[str, Any]:
    """One step, from prompts to published weights, and its metrics row."""
    begun = time.perf_counter()
    T, step = tracker.T, position.step + 1
    label = (shop.recipe.of_draws, stage.name, step)
    how = How(samples=stage.group, budget=stage.budget, temperature=T, label=label)
    result = ask_and_learn(
        shop.policy,
        shop.sampler,
        shop.judge,
        pool.take(stage.prompts),
        how,
        optimizer,
        stage,
        shop.recipe.rl,
    )
    learned = time.perf_counter()
    shop.sampler.update(shop.policy.model)
    published = time.perf_counter()
    groups = result.batch.groups
    numbers = metrics.step_metrics(metrics.tell(groups, result.weights))
    tracker.observe(numbers["H_T"])
    pool.observe({i: rate == 1.0 for i, rate in pass_rates(groups).items()})
    position.step, position.stage_step = step, position.stage_step + 1
    _watch(shop, position, result.learned)
    _keep_responses(shop, stage, step, result)
    written = time.perf_counter()
    rule = stage.temperature
    row = {
        "step": step,
        "stage": stage.name,
        "stage_step": position.stage_step,
        "domain": stage.domain,
        "budget": stage.budget,
        "group": stage.group,
        "epoch": pool.epoch,
        "T": T,
        "H_target": None if rule.rule == "fixed" else rule.target,
        **numbers,
        **metrics.learning(result.learned, stages.learning_rate(stage, position.stage_step - 1)),
        **metrics.times(result, published - learned, written - published, written - begun),
        **metrics.utilisation(shop.policy.model, result),
    }
    shop.run.record("rl", **row)
    return row


def _watch(shop: Workshop, position: Position, learned: Learned) -> None:
    """Count steps in a row whose gradient was not finite; they moved nothing."""
    assert position.state is not None
    bad = learned.gradient_norm is None and learned.learned_tokens > 0
    position.state.bad_steps = position.state.bad_steps + 1 if bad else 0
    if position.state.bad_steps >= shop.recipe.rl.max_bad_steps:
        raise TrainingError(
            f"the gradient was not finite in {position.state.bad_steps} steps in a row (last: step "
            f"{position.step}). The weights are those of the last good step; lower the stage's "
            "learning_rate and resume from the checkpoint before"
        )


def _keep_responses(shop: Workshop, stage: Stage, step: int, result: StepResult) -> None:
    if shop.recipe.keep_responses:
        groups = ranks.merged_at_main(metrics.response_rows(shop.policy, result))
        shop.run.write_responses(stage.name, step, [row for group in groups for row in group])
