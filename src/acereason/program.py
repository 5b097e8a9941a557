"""A run from beginning to end: curate ─▶ SFT ─▶ RL stages, each followed by an evaluation ─▶ summary.

Where a run stands is one `Position`, and every change of phase is a checkpoint. Whatever was being done when
a run was killed is done again from the last checkpoint, with the same draws, so the end is the same to
the last bit. Evaluations are written whole, and are redone when they were not.

Under `torchrun` every rank runs the same program on its share of the prompts; the first alone writes into the
run's folder, and the others `follow`.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from acereason import config, ranks, stopping
from acereason import prepare as workshop
from acereason.curate import tasks
from acereason.curate.tasks import Data
from acereason.errors import RunError
from acereason.evaluate import held_out as evaluate
from acereason.evaluate import summary
from acereason.files import sync, sync_tree
from acereason.health.memory import Memory
from acereason.native import heap
from acereason.plan import disk
from acereason.policy.policy import Policy
from acereason.problems import Problem
from acereason.progress import Progress, Quiet
from acereason.runs import Run, disk_errors, read_metrics
from acereason.sample.ask import Groups, light
from acereason.sample.forcing import forcing
from acereason.train import checkpoint, dev, micro, optimizers, rl, sft, tokens
from acereason.train.checkpoint import Position
from acereason.train.judging import mistaken
from acereason.train.memory import SAMPLING, enough_for
from acereason.train.tokens import Tokens
from acereason.train.workshop import Workshop, end_unwell
from acereason.verify import Judge
from acereason.view.report import write_report

SFT_STEPS = 10  # SFT steps that count as one for `checkpoint_every`: they are so much shorter


def run_all(
    run: Run, progress: Progress, until: str | None = None, about: Mapping[str, Any] | None = None
) -> dict[str, Any] | None:
    """Do what is left of a run, up to and with the stage named `until`; returns the summary when complete.
    What is said `about` this start goes into its metrics row.

    ConfigError: no such stage; RunError: it is finished already. Raises Preempted when the run was asked to
    stop. On several ranks the first calls this and the others `follow`."""
    config.check_stage(run.recipe, until)
    ranks.of_main((str(run.path.absolute()), config.resolved(run.recipe), until))
    return _run_all(run, progress, until, about or {})


def follow() -> None:
    """Take part in the run that the first rank works on."""
    told: tuple[str, dict[str, Any], str | None] = ranks.of_main(None)
    path, recipe, until = told
    with Run(Path(path), config.parse(recipe, recorded=True), writes=False) as run:
        _run_all(run, Quiet(), until, {})


def _run_all(
    run: Run, progress: Progress, until: str | None, about: Mapping[str, Any]
) -> dict[str, Any] | None:
    begun = time.perf_counter()
    recipe = run.recipe
    torch.set_num_threads(workshop.threads(recipe))
    with disk_errors(run.path), ExitStack() as stack:
        start = _where(run, progress, until, about)
        position = start[1] if start else Position()
        data = workshop.curated(run, progress, fresh=start is None)
        _dev_split(recipe, data)  # what is wrong with it is said before anything is trained
        policy = workshop.policy_of(recipe, data)
        data = workshop.fitted(run, data, policy, fresh=start is None)
        _say_disk(run, progress, policy, fresh=start is None)
        if start:
            checkpoint.load_weights(start[0], policy.model)
        sampler = workshop.sampler_of(recipe, policy, position.slots)
        stack.callback(sampler.close)
        judge = stack.enter_context(Judge(recipe.rl.judges, every_test=recipe.rl.reward == "tests"))
        writer = stack.enter_context(checkpoint.Writer(run, lambda: workshop.lowered(recipe, sampler)))
        guarded = workshop.guarded(recipe, policy)
        settled = micro.settled(guarded, policy, data, position, run, progress)
        shop = Workshop(run, settled, policy, sampler, judge, progress, _health(run))
        optimizer = _optimizer(shop, position)
        if start:
            checkpoint.load_optimizers(start[0], optimizer)
        else:
            writer.save(policy.model, optimizer, position)
        names = config.stage_names(recipe)
        while position.stage < len(names):
            optimizer = _phase(shop, data, position, optimizer, writer)
            if until is not None and names[position.stage - 1] == until:
                return None
    return _end(run, position, time.perf_counter() - begun)


def _where(
    run: Run, progress: Progress, until: str | None, about: Mapping[str, Any]
) -> tuple[Path, Position] | None:
    """The checkpoint to go on from, with the run's folder brought back to it and the start put down."""
    last = checkpoint.latest(run)
    position = last[1] if last else Position()
    names = config.stage_names(run.recipe)
    if until is not None and position.stage > names.index(until):
        raise RunError(
            f"the stage {until!r} of {run.path} is finished already: its model is {run.model(until)}. "
            "Leave --until out to go on, or name a later stage"
        )
    if last:
        checkpoint.drop_later(run, last[0])
    run.rewind(position.metrics_size, position.step)
    run.record("start", step=position.step, seconds={}, **about)
    if missing := run.missing_responses(position.step) if run.writes else 0:
        progress.say(f"the responses of {missing} steps are not in {run.path} any more; the run goes on")
    return last


def _health(run: Run) -> Memory:
    """What the rules of health know of the run so far; it hears every row from now on."""
    memory = Memory(run.recipe.health)
    for row in read_metrics(run.path):
        memory.add(str(row.get("kind")), row)
    run.listen(memory.add)
    return memory


def _say_disk(run: Run, progress: Progress, policy: Policy, fresh: bool) -> None:
    """How much room the run takes at most. RunError when it is new and what is sure to come does not fit."""
    if not run.writes:
        return
    parameters = sum(p.numel() for p in policy.model.parameters())
    parts = disk.needed(run.recipe, parameters, (run.data / tasks.TRACES).stat().st_size)
    free = shutil.disk_usage(run.path).free
    needed = f"{disk.said(parts)}; free: {disk.said_size(free)}"
    progress.say(needed)
    if fresh and sum(parts.values()) - parts["responses"] > free:
        raise RunError(
            f"the run does not fit on the disk of {run.path}: {needed}. Make room, lower keep.checkpoints, "
            "or choose another --out"
        )


def _end(run: Run, position: Position, seconds: float) -> dict[str, Any] | None:
    """The summary and the report, by the first rank."""
    if not ranks.main():
        return None
    with disk_errors(run.path):
        run.record("end", step=position.step, seconds={"total": seconds})
        result = summary.write(run)
        write_report(run.path)
    return result


def _optimizer(shop: Workshop, position: Position) -> optimizers.Optimizers:
    if position.stage == 0 and shop.recipe.sft is not None:
        return optimizers.for_sft(shop.policy.model, shop.recipe.sft)
    return optimizers.for_rl(shop.policy.model, shop.recipe.rl)


def _phase(
    shop: Workshop,
    data: Data,
    position: Position,
    optimizer: optimizers.Optimizers,
    writer: checkpoint.Writer,
) -> optimizers.Optimizers:
    """One stage with its evaluation; moves the position to the next stage and returns its optimiser."""
    name = config.stage_names(shop.recipe)[position.stage]
    every = shop.recipe.checkpoint_every * (SFT_STEPS if position.stage == 0 else 1)
    save = checkpoint.Saver(writer, shop.policy.model, optimizer, position, every)
    heap.give_back()  # what the phase before left
    if not position.finished:
        shop.sampler.update(shop.policy.model)
        if position.stage == 0:
            _sft(shop, data.held_out, optimizer, position, save)
        else:
            stage = shop.recipe.stage[position.stage - 1]
            held_back = _dev_split(shop.recipe, data)
            asked = {p.question for p in held_back}
            problems = [p for p in tasks.of_stage(data.rl, stage.name) if p.question not in asked]
            inside = dev.DevSplit(shop, stage, held_back, save)
            sampler = forcing(shop.sampler, shop.policy, stage.thinking)
            training = replace(shop, judge=mistaken(shop.judge, shop.recipe), sampler=sampler)
            rl.train_stage(training, stage, problems, inside, optimizer, position, save)
        position.finished = True
        save()
    if name in summary.evaluated(shop.recipe):
        heap.give_back()
        shop.sampler.update(shop.policy.model)
        _evaluate(shop, data.held_out, name, position.step)
    if name in {*summary.evaluated(shop.recipe), *shop.recipe.asked_later}:
        _keep_model(shop, name)
    position.next_stage()
    if position.stage == 1:
        optimizer = optimizers.for_rl(shop.policy.model, shop.recipe.rl)
    checkpoint.Saver(writer, shop.policy.model, optimizer, position, every)()
    dev.drop_best(shop.run)
    return optimizer


def _dev_split(recipe: config.Recipe, data: Data) -> list[Problem]:
    """What is evaluated inside stages, and so never trained on nor reported."""
    return dev.split(recipe, data.rl, {p.question for p in data.held_out}, {p.question for p in data.sft})


def _sft(
    shop: Workshop,
    problems: Sequence[Problem],
    optimizer: optimizers.Optimizers,
    position: Position,
    save: checkpoint.Saver,
) -> None:
    """What is left of SFT; `problems` are asked after each epoch, for curves alone."""
    settings, model = shop.recipe.sft, shop.policy.model
    if settings is None:
        return
    held_out, learned = _examples(shop, settings, position)
    steps = sft.Schedule(sft.lengths(learned), settings, shop.recipe.seed).steps
    with shop.progress.task("sft", steps, position.stage_step) as advance:

        def on_step(step: sft.SftStep) -> None:
            position.stage_step = position.step = step.step
            judged = step.epoch_ends and len(held_out) > 0
            loss = sft.held_out_loss(model, held_out, settings) if judged else None
            shop.run.record("sft", **_sft_row(step), **({} if loss is None else {"held_out_loss": loss}))
            advance(1, f"epoch {step.epoch}  loss {step.loss:.3f}")
            if step.epoch_ends and step.step < step.steps:
                _evaluate_epoch(shop, problems, step)
            if loss is not None and settings.keep == "best":
                save.best(-loss)
            if step.step % shop.recipe.health.window == 0:
                end_unwell(shop, summary.SFT, save)
            save.after_step()

        sft.train(model, optimizer, learned, settings, shop.recipe.seed, position.stage_step, on_step)
    if settings.keep == "best":
        shop.progress.say(f"SFT ends with the weights of step {save.restore_best()}, the best by its loss")


def _examples(shop: Workshop, settings: config.Sft, position: Position) -> tuple[Tokens, Tokens]:
    """The traces as token ids: those whose loss is taken, and those that are learned."""
    folder, seed = shop.run.path / "tokens", shop.recipe.of_data
    threads = workshop.threads(shop.recipe)
    made = tokens.prepare(folder, shop.run.data, shop.policy, settings, seed, threads, shop.progress)
    if position.stage_step == 0:
        shop.run.record("funnel", step=0, **tokens.total(made))
        shop.progress.say(f"SFT: {tokens.said(made)}")
    return Tokens(folder, held_out=True), Tokens(folder)


def _sft_row(step: sft.SftStep) -> dict[str, Any]:
    return {
        "step": step.step,
        "steps": step.steps,
        "stage": summary.SFT,
        "epoch": step.epoch,
        "loss": step.loss,
        "lr": step.learning_rate,
        "gradient_norm": step.gradient_norm,
        "tokens": step.tokens,
        "seconds": {"total": step.seconds},
    }


def _evaluate_epoch(shop: Workshop, held_out: Sequence[Problem], step: sft.SftStep) -> None:
    """The small evaluation after an SFT epoch, on the first `evaluate_prompts` problems of each domain."""
    assert shop.recipe.sft is not None
    count = shop.recipe.sft.evaluate_prompts
    shop.sampler.update(shop.policy.model)
    for domain, problems in summary.by_domain(held_out).items():
        groups = _answers(shop, problems[:count])
        if groups:
            row = evaluate.summarise(groups)
            where = {"step": step.step, "stage": summary.SFT, "epoch": step.epoch, "benchmark": domain}
            shop.run.record("evaluation", **where, **row)


def _answers(shop: Workshop, problems: Sequence[Problem], name: str = "") -> Groups:
    """The answers to an evaluation's problems, each rank asking its share: all of them on the first rank,
    nothing on the others. A `name` shows progress."""
    own, settings = ranks.share(problems), shop.recipe.evaluation
    progress = shop.progress if name else Quiet()

    def answered(_: int) -> None:
        advance(1, "")
        _stop_alone()

    with progress.task(name, len(own) * settings.k) as advance, enough_for("sampling", SAMPLING):
        groups = evaluate.evaluate(
            shop.policy,
            shop.sampler,
            shop.judge,
            own,
            settings,
            shop.recipe.of_draws,
            on_answer=answered,
        )
    return ranks.merged_at_main([[light(a) for a in g] for g in groups])


def _stop_alone() -> None:
    """Stop within an evaluation, as a checkpoint was just before it. Ranks stop together, after it."""
    if stopping.asked() and ranks.world() == 1:
        raise stopping.Preempted


def _evaluate(shop: Workshop, held_out: Sequence[Problem], name: str, step: int) -> None:
    """The full evaluation of a finished stage, kept per question for paired differences."""
    results = {}
    for domain, problems in summary.by_domain(held_out).items():
        groups = _answers(shop, problems, f"{name}: {domain}")
        if not groups:
            continue
        row = evaluate.summarise(groups)
        shop.run.record("evaluation", step=step, stage=name, benchmark=domain, **row)
        shop.progress.say(f"  {name}: {domain} {evaluate.said(row)}")
        results[domain] = summary.Result.of(groups)
        if shop.recipe.keep_responses:
            rows = [a.row() for g in groups for a in g]
            shop.run.write_responses(f"evaluation-{domain}-{name}", step, rows)
    if ranks.main():
        summary.keep(shop.run, name, results)


def _keep_model(shop: Workshop, name: str) -> None:
    """Write the stage's Hugging Face folder, whole or not at all."""
    final = shop.run.model(name)
    temporary = final.with_name(f".{name}.tmp")
    if ranks.main():
        shutil.rmtree(temporary, ignore_errors=True)
    shop.policy.save(temporary)
    if ranks.main():
        sync_tree(temporary)
        shutil.rmtree(final, ignore_errors=True)
        temporary.rename(final)
        sync(final.parent)
