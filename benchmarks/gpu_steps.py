"""Whole on-policy steps for `gpu.py`: all weights of the small shape, and adapters beside the large one."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from acereason.config import Lora, Placement, Rl
from acereason.draws import draw_seed
from acereason.policy import flops, lora
from acereason.policy.model import new_model
from acereason.policy.policy import Policy
from acereason.problems import Problem, Verdict
from acereason.sample.ask import Answer
from acereason.sample.engines.embedded import EmbeddedSampler
from acereason.sample.protocol import Completion, Request
from acereason.shape import Shape
from acereason.train import optimizers, parallel
from acereason.train.update import Update
from gpu_tools import CUDA, DEVICE, DTYPE, Size, clear, model_for_learning, peak_memory, wait


def answer(prompt: Any, tokens: Any, T: float, completion: Any = None) -> Answer:
    zeros = np.zeros(len(tokens), np.float32)
    completion = completion or Completion(
        Request(prompt, len(tokens), T, 0), tokens, zeros - 5, zeros, zeros, "stop"
    )
    problem = Problem(id="x", domain="math", question="", answer="1")
    return Answer(problem, 0, completion, "", Verdict(outcome="correct", reward=1))


def step_part(size: Size) -> dict[str, Any]:
    """One whole on-policy step of all weights: sample groups of 8, learn, publish."""
    clear()
    model = model_for_learning(size)
    return steps(size, model, 8 * size.prompts, 3 * size.micro // 4)


def lora_part(size: Size) -> dict[str, Any]:
    """The same with adapters of rank 16 at the large shape, in 80 GB, the base in the sampler's type."""
    clear()
    if CUDA:
        torch.cuda.set_per_process_memory_fraction(min(1.0, 80e9 / torch.cuda.mem_get_info()[1]))
    with torch.device(DEVICE):
        model = new_model("qwen2", 1, DTYPE, **size.large)
    placement = Placement(compute="bfloat16" if CUDA else "float32", checkpoint_activations=True)
    parallel.prepare(model, placement)
    lora.adapt(model, Lora(rank=16, alpha=32.0))
    if parallel.wanted(placement):
        parallel.shard(model, placement)
    lora.initialise(model, 1)
    return steps(replace(size, prompts=size.prompts // 4), model, 2 * size.prompts, size.micro // 2)


def steps(size: Size, model: Any, slots: int, micro: int) -> dict[str, Any]:
    """Two whole steps. Every 682nd token ends a response, so that lengths are long-tailed; half of the
    responses count as right. `of_peak`: 2N operations a sampled token and 6N a learned one."""
    optimizer = optimizers.for_rl(model, Rl())
    optimizers.set_rates(optimizer, [1e-6])
    vocab, random = model.config.vocab_size, np.random.default_rng(3)
    ends = random.choice(vocab, max(1, 3 * vocab // size.budget), replace=False).tolist()
    sampler = EmbeddedSampler(model, slots=slots, eos_ids=ends)
    prompts = [random.integers(0, vocab, size.budget // 16).tolist() for _ in range(size.prompts)]
    rows = [one_step(replace(size, micro=micro), model, optimizer, sampler, prompts, n) for n in range(2)]
    work, later = 8.0 * Shape.read(model.config).parameters * rows[-1]["tokens"], rows[-1]
    later["of_peak"] = work / later["total_s"] / (flops.peak(DEVICE) or float("inf"))
    return {
        "micro_tokens": micro, "slots": slots, "engine": sampler.engine, "first": rows[0], "later": later,
        "peak_memory_gib": peak_memory(),
    }  # fmt: skip


def one_step(
    size: Size, model: Any, optimizer: Any, sampler: Any, prompts: list[list[int]], number: int
) -> dict[str, float]:
    wait()
    begun = time.perf_counter()
    wanted = [
        Request(p, size.budget, 1.0, draw_seed(number, i, j), key=(i, j))
        for i, p in enumerate(prompts)
        for j in range(8)
    ]
    groups: list[list[Answer]] = [[] for _ in prompts]
    for completion in sampler.sample(wanted):
        groups[completion.request.key[0]].append(answer(None, completion.tokens, 1.0, completion))
    wait()
    sampled = time.perf_counter()
    weights = torch.tensor([[(-1.0) ** j for j in range(8)] for _ in groups], dtype=torch.float64)
    update = Update(Policy(model, None, "plain"), Rl(micro_tokens=size.micro))
    update.add(groups, weights, weights)
    tokens = sum(len(a.completion.tokens) for g in groups for a in g)
    learned = update.finish(optimizer, 1 / tokens)
    wait()
    trained = time.perf_counter()
    sampler.update(model)
    wait()
    done = time.perf_counter()
    return {
        "responses": len(wanted), "tokens": tokens, "sample_s": sampled - begun, "learn_s": trained - sampled,
        "publish_s": done - trained, "total_s": done - begun, "k3": learned.k3,
        "largest_difference": learned.max_difference,
    }  # fmt: skip
