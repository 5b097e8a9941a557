"""Reinforcement learning on checked answers, strictly on-policy, one stage after the other (recipe §3).

    take prompts ─▶ ask each G times ─▶ judge ─▶ one optimiser step ─▶ publish weights ─▶ ask again

GRPO with exactly one update per batch and no KL: no reference model, no ratio, no clip. A stage first
measures which of its prompts are worth asking and which temperature to ask them at; both, and the order of
prompts, are part of the position that a checkpoint keeps. Every rank asks, judges and learns its own share of
the prompts, and all compute the same position from the merged numbers.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
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
from acereason.sample.ask import Judging, ask
from acereason.sample.protocol import Sampler
from acereason.sample.temperature import Tracker
from acereason.sample.traces import trace
from acereason.train import metrics, stages
from acereason.train.checkpoint import Position
from acereason.train.memory import SAMPLING, enough_for
from acereason.train.metrics import pass_rates
from acereason.train.optimizers import Optimizers, set_rates
from acereason.train.stages import PromptPool
from acereason.train.streaming import Done, ask_and_learn
from acereason.train.update import Learned

TRACED = 2  # groups a step whose tokens' log-probabilities and entropies are kept for reading


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
    save: Callable[[], None],
) -> None:
    """Train one stage from `position` on, which moves along; `save` writes a checkpoint.

    Raises TrainingError when no prompt is left, or too many steps in a row had no finite gradient."""
    pool, tracker = begin(shop, stage, problems, position)
    set_rates(optimizer, [stage.learning_rate])
    history: list[list[float]] = position.state.setdefault("history", [])
    reason: str | None = None
    with shop.progress.task(stage.name, stage.steps, position.stage_step) as advance:
        while position.stage_step < stage.steps and reason is None:
            row = _step(shop, stage, pool, tracker, optimizer, position)
            history.append([row["reward"], row["truncated"], row["tokens"]])
            reason = stages.finished(stage.stop, *map(list, zip(*history, strict=True)))
            position.state.update(pool=pool.state(), T=tracker.T)
            advance(1, _note(row))
            if position.stage_step % shop.recipe.checkpoint_every == 0:
                save()
    if reason is not None:
        shop.progress.say(f"{stage.name} ends after {position.stage_step} steps: {reason}")


def begin(
    shop: Workshop, stage: Stage, problems: Sequence[Problem], position: Position
) -> tuple[PromptPool, Tracker]:
    """The stage's prompts and temperature: measured at its start, taken from the position afterwards."""
    seed = shop.recipe.seed
    rule = stage.temperature
    if "pool" in position.state:
        by_id = {p.id: p for p in problems}
        ids = position.state["pool"]["ids"]
        pool = PromptPool([by_id[i] for i in ids], stage.name, seed, stage.filter.drop_solved)
        pool.restore(position.state["pool"])
        gain = rule.gain if rule.rule == "track" else 0.0
        tracker = Tracker(position.state["T"], rule.target, gain, position.state["elasticity"])
        return pool, tracker
    chosen = stages.candidates(problems, stage.domain, stage.filter, seed)
    if stage.filter.samples:
        chosen = _filter(shop, stage, chosen)
    pool = PromptPool(chosen, stage.name, seed, stage.filter.drop_solved)
    tracker = _temperature(shop, stage, chosen, position.step)
    position.state.update(pool=pool.state(), T=tracker.T, elasticity=tracker.elasticity)
    return pool, tracker


def _filter(shop: Workshop, stage: Stage, chosen: Sequence[Problem]) -> list[Problem]:
    """Keep the prompts whose pass rate under the present policy and the stage's budget is in range."""
    rule = stage.filter
    part = chosen[: rule.candidates]
    name = f"{stage.name} filter"
    own = ranks.share(part)
    doing = shop.progress.task(name, len(own) * rule.samples)
    with doing as advance, enough_for("sampling", SAMPLING):
        asked = ask(
            shop.policy,
            shop.sampler,
            shop.judge,
            own,
            rule.samples,
            budget=stage.budget,
            temperature=1.0,
            label=(shop.recipe.of_draws, stage.name, "filter"),
            on_answer=lambda _: advance(1, ""),
        )
    rates = pass_rates(asked.groups)
    kept = stages.within(part, rates, rule)
    too_easy = sum(rate > rule.high for rate in rates.values())
    too_hard = sum(rate < rule.low for rate in rates.values())
    shop.run.record(
        "funnel",
        name=name,
        before=len(part),
        after=len(kept),
        reasons={
            "pass rate too high": too_easy,
            "pass rate too low": too_hard,
            "could not be judged": len(part) - len(rates),
        },
    )
    return kept


def _temperature(shop: Workshop, stage: Stage, chosen: Sequence[Problem], step: int) -> Tracker:
    rule = stage.temperature
    if rule.rule == "fixed":
        return Tracker(rule.value, rule.target, 0.0, 1.0)
    key = (shop.recipe.of_draws, stage.name)
    found = temperature.calibrate_policy(shop.policy, shop.sampler, chosen, stage.budget, rule, key)
    shop.run.record("calibration", step=step, stage=stage.name, **found.row())
    shop.progress.say(
        f"{stage.name}: H_T = {found.check.H:.3f} ± {found.check.se:.3f} at T = {found.T:.3f}"
        f" (target {rule.target})"
    )
    return Tracker(found.T, rule.target, rule.gain if rule.rule == "track" else 0.0, found.elasticity)


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
    done = ask_and_learn(
        shop.policy,
        shop.sampler,
        shop.judge,
        pool.take(stage.prompts),
        optimizer,
        stage,
        shop.recipe.rl,
        temperature=T,
        label=(shop.recipe.of_draws, stage.name, step),
    )
    learned, asked, trained = done.learned, done.asked, time.perf_counter()
    shop.sampler.update(shop.policy.model)
    numbers = metrics.step_metrics(metrics.tell(asked.groups, done.weights))
    tracker.observe(numbers["H_T"])
    pool.observe({i: rate == 1.0 for i, rate in pass_rates(asked.groups).items()})
    position.step, position.stage_step = step, position.stage_step + 1
    _watch(shop, position, learned)
    if shop.recipe.keep_responses:
        rows = ranks.merged_at_main(_rows(shop.policy, done))
        shop.run.write_responses(stage.name, step, [answer for group in rows for answer in group])
    published = time.perf_counter()
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
        "loss": learned.loss,
        "gradient_norm": learned.gradient_norm,
        "lr": stage.learning_rate,
        "learned_tokens": learned.learned_tokens,
        "logprob_difference": {
            "mean": learned.mean_difference,
            "max": learned.max_difference,
            "k3": learned.k3,
        },
        "seconds": {
            "sample": asked.sample_seconds,
            "judge": asked.judge_seconds,
            "learn": done.seconds,
            "publish": published - trained,
            "total": published - begun,
        },
        "overlap": {
            "seconds": done.overlap,
            "share": done.overlap / max(done.overlap + done.seconds, 1e-9),
        },
        **metrics.utilisation(shop.policy.model, asked.groups, done.weights, done.seconds + done.overlap),
    }
    shop.run.record("rl", **row)
    return row


def _watch(shop: Workshop, position: Position, learned: Learned) -> None:
    """Count steps in a row whose gradient was not finite; they moved nothing."""
    bad = learned.gradient_norm is None and learned.learned_tokens > 0
    position.state["bad_steps"] = position.state.get("bad_steps", 0) + 1 if bad else 0
    if position.state["bad_steps"] >= shop.recipe.rl.max_bad_steps:
        raise TrainingError(
            f"the gradient was not finite in {position.state['bad_steps']} steps in a row (last: step "
            f"{position.step}). The weights are those of the last good step; lower the stage's "
            "learning_rate and resume from the checkpoint before"
        )


def _rows(policy: Policy, done: Done) -> list[list[dict[str, Any]]]:
    """This rank's responses for the run's folder, each with its weight in the loss (its advantage over the
    number of kept tokens), and in the first groups with each token's numbers."""
    rows = [
        [answer.row(weight=weight) for answer, weight in zip(group, row, strict=True)]
        for group, row in zip(done.asked.groups, done.weights.tolist(), strict=True)
    ]
    for answers, group in zip(done.asked.groups[:TRACED], rows, strict=False):
        for answer, row in zip(answers, group, strict=True):
            kept = trace(policy.tokenizer, answer.completion, answer.text)
            row |= {"trace": kept} if kept else {}
    return rows


def _note(row: dict[str, Any]) -> str:
    return (
        f"reward {row['reward']:.2f}  H_T {row['H_T']:.3f}  T {row['T']:.2f}  "
        f"tokens {row['length']['mean']:.0f}  cut {row['truncated']:.0%}"
    )
