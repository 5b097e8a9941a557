"""A run from beginning to end: curate ─▶ SFT ─▶ RL stages, each followed by an evaluation ─▶ summary.

Where a run stands is one `Position`, and every change of phase is a checkpoint. Whatever was being done when
a run was killed is done again from the last checkpoint, with the same draws, so the end is the same to
the last bit. Evaluations are written whole, and are redone when they were not.
"""

from __future__ import annotations

import logging
import os
import shutil
import time
from collections.abc import Sequence
from typing import Any

import msgspec
import torch

from acereason import chat
from acereason.curate import tasks
from acereason.curate.tasks import Data
from acereason.evaluate import evaluate, summary
from acereason.policy import model as models
from acereason.policy.policy import Policy
from acereason.policy.tokenizer import train_tokenizer
from acereason.problems import Problem
from acereason.progress import Progress
from acereason.runs import Run, disk_errors
from acereason.sample.embedded import EmbeddedSampler
from acereason.train import checkpoint, optimizers, rl, sft
from acereason.train.checkpoint import Position
from acereason.train.rl import Workshop
from acereason.verify import Judge
from acereason.view.report import write_report

log = logging.getLogger(__name__)


def run_all(run: Run, progress: Progress, until: str | None = None) -> dict[str, Any] | None:
    """Do what is left of a run, up to and with the stage named `until`; returns the summary when complete."""
    with disk_errors(run.path):
        return _run_all(run, progress, until)


def _run_all(run: Run, progress: Progress, until: str | None) -> dict[str, Any] | None:
    begun = time.perf_counter()
    recipe = run.recipe
    threads = recipe.sampling.threads or len(os.sched_getaffinity(0))
    torch.set_num_threads(threads)
    found = checkpoint.latest(run)
    position = found[1] if found else Position()
    run.rewind(position.metrics_size, position.step)
    data = _curated(run, progress, fresh=found is None)
    policy = _policy(run, data)
    sampler = EmbeddedSampler(
        policy.model,
        slots=recipe.sampling.slots,
        threads=threads,
        eos_ids=policy.end_ids,
        native=recipe.sampling.native,
    )
    with Judge(workers=recipe.rl.judges) as judge:
        shop = Workshop(run, recipe, policy, sampler, judge, progress)
        optimizer = _optimizer(shop, position)
        if found:
            checkpoint.load_weights(found[0], policy.model)
            checkpoint.load_optimizers(found[0], optimizer)
        if not found:
            checkpoint.save(run, policy.model, optimizer, position)
        names = [summary.SFT, *(s.name for s in recipe.stage)]
        while position.stage < len(names):
            optimizer = _phase(shop, data, position, optimizer)
            if until is not None and names[position.stage - 1] == until:
                return None
    run.record("end", step=position.step, seconds={"total": time.perf_counter() - begun})
    result = summary.write(run)
    write_report(run.path)
    return result


def _curated(run: Run, progress: Progress, fresh: bool) -> Data:
    """The run's data: made and written at its beginning, read afterwards."""
    if not fresh:
        return tasks.read(run.data)
    progress.say("curating prompts and traces")
    begun = time.perf_counter()
    data, funnel = tasks.make(run.recipe.curate, run.recipe.seed)
    tasks.write(data, run.data)
    for row in funnel:
        run.record("funnel", step=0, **msgspec.to_builtins(row))
    progress.say(
        f"  {len(data.sft)} SFT prompts with {len(data.traces)} traces, {len(data.rl)} RL prompts, "
        f"{len(data.held_out)} held out ({time.perf_counter() - begun:.0f} s)"
    )
    return data


def _policy(run: Run, data: Data) -> Policy:
    """The base model: loaded, or built here with a tokenizer trained on the traces."""
    recipe = run.recipe.model
    if recipe.path is not None:
        model = models.load_model(
            recipe.path, getattr(torch, recipe.dtype), recipe.rope_theta, recipe.context
        )
        return Policy(model, models.load_tokenizer(recipe.path), recipe.format)
    assert recipe.new is not None
    problems = tasks.by_id(data.sft)
    texts = (chat.prompt(problems[t.problem_id], recipe.format) + t.text for t in data.traces)
    tokenizer = train_tokenizer(texts, recipe.new.vocab_size)
    shape = msgspec.to_builtins(recipe.new)
    architecture = shape.pop("architecture")
    shape |= {
        "vocab_size": len(tokenizer),
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
        "bos_token_id": None,
    }
    model = models.new_model(architecture, run.recipe.seed, **shape)
    return Policy(model, tokenizer, recipe.format)


def _optimizer(shop: Workshop, position: Position) -> optimizers.Optimizers:
    if position.stage == 0 and shop.recipe.sft is not None:
        return optimizers.for_sft(shop.policy.model, shop.recipe.sft)
    return optimizers.for_rl(shop.policy.model, shop.recipe.rl)


def _phase(
    shop: Workshop, data: Data, position: Position, optimizer: optimizers.Optimizers
) -> optimizers.Optimizers:
    """One stage with its evaluation; moves the position to the next stage and returns its optimiser."""
    names = [summary.SFT, *(s.name for s in shop.recipe.stage)]
    name = names[position.stage]

    def save() -> None:
        checkpoint.save(shop.run, shop.policy.model, optimizer, position)

    if not position.finished:
        shop.sampler.update(shop.policy.model)
        if position.stage == 0:
            _sft(shop, data, optimizer, position, save)
        else:
            stage = shop.recipe.stage[position.stage - 1]
            rl.train_stage(shop, stage, tasks.of_stage(data.rl, stage.name), optimizer, position, save)
        position.finished = True
        save()
    shop.sampler.update(shop.policy.model)
    _evaluate(shop, data.held_out, name, position.step)
    _keep_model(shop, name)
    position.stage, position.stage_step, position.finished, position.state = (
        position.stage + 1,
        0,
        False,
        {},
    )
    if position.stage == 1:
        optimizer = optimizers.for_rl(shop.policy.model, shop.recipe.rl)
    save()
    return optimizer


def _sft(shop: Workshop, data: Data, optimizer: optimizers.Optimizers, position: Position, save: Any) -> None:
    settings = shop.recipe.sft
    if settings is None:
        return
    problems = tasks.by_id(data.sft)
    examples = [shop.policy.example(problems[t.problem_id], t, index) for index, t in enumerate(data.traces)]
    steps = sum(len(e) for e in sft.schedule(examples, settings, shop.recipe.seed))
    with shop.progress.task("sft", steps, position.stage_step) as advance:

        def on_step(step: sft.Step) -> None:
            position.stage_step = position.step = step.step
            shop.run.record("sft", **_sft_row(step))
            advance(1, f"epoch {step.epoch}  loss {step.loss:.3f}")
            if step.epoch_ends and step.step < step.steps:
                _evaluate_epoch(shop, data.held_out, step)
            if step.step % (10 * shop.recipe.checkpoint_every) == 0:
                save()

        sft.train(
            shop.policy.model,
            optimizer,
            examples,
            settings,
            shop.recipe.seed,
            position.stage_step,
            on_step,
        )


def _sft_row(step: sft.Step) -> dict[str, Any]:
    return {
        "step": step.step,
        "stage": summary.SFT,
        "epoch": step.epoch,
        "loss": step.loss,
        "lr": step.learning_rate,
        "gradient_norm": step.gradient_norm,
        "tokens": step.tokens,
        "seconds": {"total": step.seconds},
    }


def _evaluate_epoch(shop: Workshop, held_out: Sequence[Problem], step: sft.Step) -> None:
    """The small evaluation after an SFT epoch, on the first `evaluate_prompts` problems of each domain."""
    assert shop.recipe.sft is not None
    count = shop.recipe.sft.evaluate_prompts
    shop.sampler.update(shop.policy.model)
    for domain, problems in summary.by_domain(held_out).items():
        if count:
            groups = evaluate.evaluate(
                shop.policy,
                shop.sampler,
                shop.judge,
                problems[:count],
                shop.recipe.evaluation,
                shop.recipe.seed,
            )
            row = evaluate.summarise(groups)
            shop.run.record(
                "evaluation",
                step=step.step,
                stage=summary.SFT,
                epoch=step.epoch,
                benchmark=domain,
                **row,
            )


def _evaluate(shop: Workshop, held_out: Sequence[Problem], name: str, step: int) -> None:
    """The full evaluation of a finished stage, kept per question for paired differences."""
    results = {}
    for domain, problems in summary.by_domain(held_out).items():
        total = len(problems) * shop.recipe.evaluation.k
        with shop.progress.task(f"{name}: {domain}", total) as advance:
            groups = evaluate.evaluate(
                shop.policy,
                shop.sampler,
                shop.judge,
                problems,
                shop.recipe.evaluation,
                shop.recipe.seed,
                on_answer=lambda _: advance(1, ""),
            )
        row = evaluate.summarise(groups)
        shop.run.record("evaluation", step=step, stage=name, benchmark=domain, **row)
        shop.progress.say(f"  {name}: {domain} avg@{row['k']} = {row['accuracy']:.1%} ± {row['se']:.1%}")
        results[domain] = summary.Result.of(groups)
        if shop.recipe.keep_responses:
            rows = [a.row() for g in groups for a in g]
            shop.run.write_responses(f"evaluation-{domain}-{name}", step, rows)
    summary.keep(shop.run, name, results)


def _keep_model(shop: Workshop, name: str) -> None:
    """Write the stage's Hugging Face folder, whole or not at all."""
    final = shop.run.model(name)
    temporary = final.with_name(f".{name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    shop.policy.save(temporary)
    shutil.rmtree(final, ignore_errors=True)
    temporary.rename(final)
