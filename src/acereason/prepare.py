"""What a run needs before its first step: its data, its policy placed on the ranks, and its sampler."""

from __future__ import annotations

import dataclasses
import logging
import os
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec
import torch

from acereason import ranks
from acereason.config import Recipe
from acereason.curate import fit, tasks
from acereason.curate.tasks import Data
from acereason.errors import ConfigError
from acereason.manifest import check_data, stamp
from acereason.policy import four_bit, frozen, lora, saved, shards, vocabulary
from acereason.policy import model as models
from acereason.policy.activations import work_device
from acereason.policy.marks import marks_of
from acereason.policy.policy import Policy
from acereason.policy.tokenizer import train_tokenizer
from acereason.problems import Problem
from acereason.progress import Progress
from acereason.runs import Run
from acereason.sample.engines.embedded import EmbeddedSampler
from acereason.sample.protocol import Sampler
from acereason.train import parallel

log = logging.getLogger(__name__)
K3_FLOAT32 = 1e-3  # nats a token: |difference| of 0.04, where rounding makes 1e-6
K3_HALF = 0.05  # |difference| of 0.3, where bfloat16 makes 0.02


def threads(recipe: Recipe) -> int:
    """How many threads this rank computes with."""
    return recipe.sampling.threads or max(1, len(os.sched_getaffinity(0)) // ranks.local_world())


def curated(run: Run, progress: Progress, fresh: bool) -> Data:
    """The run's data: made and written by the first rank at the run's beginning, read afterwards."""
    if ranks.main():
        if fresh:
            _curate(run, progress)
        else:
            check_data(run.data)
    ranks.barrier()
    return tasks.read(run.data)


def _curate(run: Run, progress: Progress) -> None:
    progress.say("curating prompts and traces")
    begun = time.perf_counter()
    data, funnel = tasks.make(run.recipe.curate, run.recipe.of_data, run.data)
    tasks.write(data, run.data)
    stamp(run.data)
    for row in funnel:
        run.record("funnel", step=0, **msgspec.to_builtins(row))
    progress.say(
        f"  {len(data.sft)} SFT prompts with {len(data.traces)} traces, {len(data.rl)} RL prompts, "
        f"{len(data.held_out)} held out ({time.perf_counter() - begun:.0f} s)"
    )


def fitted(run: Run, data: Data, policy: Policy, fresh: bool) -> Data:
    """The data without prompts that leave no room for their stage's budget, counted at the run's beginning.
    DataError: a held-out problem is one of those."""
    recipe = run.recipe

    def length(problem: Problem) -> int:
        return len(policy.prompt_ids(problem))

    fit.check_held_out(data.held_out, recipe.evaluation.budget, policy.context, length)
    rl, lines = fit.fitting(data.rl, recipe, policy.context, length)
    if fresh:
        for line in lines:
            run.record("funnel", step=0, **msgspec.to_builtins(line))
    return dataclasses.replace(data, rl=rl)


def policy_of(recipe: Recipe, data: Data) -> Policy:
    """The policy at the run's beginning: loaded, or built here with a tokenizer trained on the traces."""
    if recipe.model.source is not None:
        tokenizer = models.load_tokenizer(recipe.model.source)
        prompt = saved.choose(recipe.model.source, tokenizer, recipe.model.format, recipe.model.prompt)
        policy = Policy(_loaded(recipe), tokenizer, prompt, base=_named(recipe))
        policy = _cut(policy, data, recipe) if recipe.model.vocabulary == "data" else policy
        return _begun(policy, recipe)
    if recipe.lora is not None and recipe.lora.base == "nf4":
        raise ConfigError(
            'lora.base = "nf4" needs a model.path: a new model has nothing to keep in four bits'
        )
    policy = _new(recipe, data)
    _prepare(policy.model, recipe)
    if parallel.wanted(recipe.placement):
        parallel.shard(policy.model, recipe.placement)
    parallel.settle(policy.model, recipe.placement)
    return _begun(policy, recipe)


def _begun(policy: Policy, recipe: Recipe) -> Policy:
    """The policy with its adapters drawn, where it has some, and what does not learn known by a sum."""
    if recipe.lora is not None:
        lora.initialise(policy.model, recipe.seed)
    else:
        frozen.remember(policy.model)
    return policy


def _cut(policy: Policy, data: Data, recipe: Recipe) -> Policy:
    """The policy with a vocabulary of what its data need. The same at every start of a run, for its data
    are."""
    if parallel.wanted(recipe.placement):
        raise ConfigError(
            'model.vocabulary = "data" needs a model that is whole on every rank; set placement.parallel = '
            '"replicate", or leave the vocabulary "full"'
        )
    problems = tasks.by_id(data.sft)
    used: set[int] = set()
    for problem in (*data.sft, *data.rl, *data.held_out):
        used.update(policy.prompt_ids(problem))
    for trace in data.traces:
        used.update(policy.example(problems[trace.problem_id], trace, 0).response)
    cut = vocabulary.cut(policy.model, policy.tokenizer, used)
    return Policy(policy.model, cut.tokenizer, policy.prompt, (policy.base, cut.kept), policy.base)


def _named(recipe: Recipe) -> str:
    """The base model: its folder, or its hub id."""
    base = Path(str(recipe.model.path)).expanduser()
    return str(base.absolute()) if base.exists() else str(recipe.model.source)


def _prepare(model: models.Model, recipe: Recipe) -> None:
    """What is done to a model before it is sharded."""
    parallel.prepare(model, recipe.placement)
    if recipe.lora is not None:
        lora.adapt(model, recipe.lora)
    frozen.freeze(model, recipe.model.frozen_layers)


def _loaded(recipe: Recipe) -> models.Model:
    """The base model from its folder; onto the ranks without ever being whole in one of them."""
    wanted, place = recipe.model, recipe.placement
    assert wanted.source is not None
    how = (wanted.source, getattr(torch, wanted.dtype), wanted.rope_theta, wanted.context)
    where = parallel.device(place)
    if recipe.lora is not None and recipe.lora.base == "nf4":
        return _four_bit(recipe, where)
    if not parallel.wanted(place):
        model = models.load_model(*how).to(where)
        _prepare(model, recipe)
    else:
        model, folder = models.empty_model(*how)
        _prepare(model, recipe)
        parallel.shard(model, place)
        shards.fill(model, folder, where, parallel.rests_on(place))
    return model


def _four_bit(recipe: Recipe, where: torch.device) -> models.Model:
    """The base model with its layers in four bits and adapters beside them, whole on one GPU."""
    four_bit.check(where, ranks.world())
    wanted, dtype = recipe.model, getattr(torch, recipe.placement.compute)
    assert wanted.path is not None and recipe.lora is not None
    model = models.load_model(wanted.path, dtype, wanted.rope_theta, wanted.context)
    four_bit.quantise(model, dtype)
    model.to(where)
    _prepare(model, recipe)
    return model


def _new(recipe: Recipe, data: Data) -> Policy:
    """A small model with random weights, and a tokenizer for it."""
    assert recipe.model.new is not None
    problems = tasks.by_id(data.sft)
    prompt = saved.choose(None, None, recipe.model.format, recipe.model.prompt)
    texts = (prompt.text(problems[t.problem_id]) + t.text for t in data.traces)
    tokenizer = train_tokenizer(texts, recipe.model.new.vocab_size, prompt)
    shape = msgspec.to_builtins(recipe.model.new)
    architecture = shape.pop("architecture")
    shape |= {
        "vocab_size": len(tokenizer),
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
        "bos_token_id": tokenizer.bos_token_id,
    }
    model = models.new_model(architecture, recipe.seed, getattr(torch, recipe.model.dtype), **shape)
    return Policy(model, tokenizer, prompt)


def guarded(recipe: Recipe, policy: Policy) -> Recipe:
    """The recipe with an `rl.max_k3`, where it names none, that no rounding reaches: a sampler and a trainer
    that are not the same model stop the run. Updates off the policy differ by design and are left alone."""
    if recipe.rl.max_k3 is not None or recipe.rl.updates > 1:
        return recipe
    cpu = work_device(policy.model).type == "cpu" and recipe.sampling.servers is None
    half = marks_of(policy.model).halved or models.compute_dtype(policy.model) != torch.float32
    rl = msgspec.structs.replace(recipe.rl, max_k3=K3_FLOAT32 if cpu and not half else K3_HALF)
    return msgspec.structs.replace(recipe, rl=rl)


def sampler_of(recipe: Recipe, policy: Policy, kept: Sequence[int] = ()) -> Sampler:
    """Servers where the recipe names some, else this rank's own embedded sampler, with no more slots than a
    checkpoint has `kept` for it."""
    if recipe.sampling.servers is not None:
        from acereason.sample.servers.server import ServerSampler  # needs an HTTP client, an extra

        return ServerSampler(policy, recipe.sampling.servers, dtype=models.compute_dtype(policy.model))
    return EmbeddedSampler(
        policy.model,
        slots=_slots(recipe.sampling.slots, kept),
        threads=threads(recipe),
        eos_ids=policy.end_ids,
        native=recipe.sampling.native,
    )


def _slots(asked: int, kept: Sequence[int]) -> int:
    """Slots of this rank's sampler; on another number of ranks than before, the fewest that one had."""
    own = kept[ranks.rank()] if len(kept) == ranks.world() else min(filter(None, kept), default=0)
    if 0 < own < asked:
        log.warning("sampling %d responses at a time instead of %d, as before the interruption", own, asked)
    return min(own or asked, asked)


def lowered(recipe: Recipe, sampler: Sampler) -> int:
    """The slots that memory left this rank's sampler; 0: as many as the recipe asks for, or servers."""
    slots = sampler.slots if isinstance(sampler, EmbeddedSampler) else 0
    return slots if slots < recipe.sampling.slots else 0
