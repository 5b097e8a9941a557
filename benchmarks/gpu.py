"""What one GPU does: learning, the head, sampling, and a whole on-policy step, as JSON.

    python benchmarks/gpu.py                    one CUDA device, a 1.5B and a 7B shape, about 6 minutes
    python benchmarks/gpu.py --toy              the same code at toy size on CPU, seconds (for CI)
    python benchmarks/gpu.py --only sft head    some parts

Rates are shares of what the device can do: model FLOPs utilisation (MFU) counts the arithmetic that a
forward and a backward pass need, 6 per parameter and token and causal attention's half square, recomputation
not counted, over the dense bfloat16 peak; bandwidth counts every weight and every cached key and value
once a step, over the rate of a large copy measured in the same run. Weights are random, so the numbers say
nothing of what a model learns. Figures with date and commit are kept in docs/gpu.md.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from transformers import AutoConfig

from acereason.config import Placement, Rl
from acereason.draws import draw_seed
from acereason.plan import memory
from acereason.policy import flops
from acereason.policy import model as models
from acereason.policy.head import tempered_logprobs
from acereason.policy.model import logprobs, new_model
from acereason.policy.packing import Example, pack
from acereason.policy.policy import Policy
from acereason.sample.engines.embedded import EmbeddedSampler
from acereason.sample.protocol import Request
from acereason.shape import Shape
from acereason.train import optimizers, parallel, sft
from acereason.train.update import Update
from gpu_steps import answer, lora_part, step_part
from gpu_tools import (
    CUDA,
    DEVICE,
    DTYPE,
    FULL,
    SMALL,
    Size,
    clear,
    examples,
    machine,
    model_for_learning,
    peak_memory,
    seconds,
    wait,
)
from gpu_weights import handed_over


def learning(size: Size, longest: int, work: Callable[..., Any], **placed: Any) -> dict[str, Any]:
    """Rate and utilisation of `work(model, batch, optimizer)` on a batch of long-tailed sequences."""
    clear()
    model = model_for_learning(size, **placed)
    optimizer = optimizers.for_rl(model, Rl())
    optimizers.set_rates(optimizer, [1e-6])
    batch = examples(size, longest, size.micro * size.micro_batches)
    begun = time.perf_counter()
    work(model, batch, optimizer)
    wait()
    first = time.perf_counter() - begun
    took = seconds(lambda: work(model, batch, optimizer), 2, 1)
    tokens = sum(len(e) for e in batch)
    needed = flops.needed(model.config, [len(e) for e in batch], sum(len(e.response) for e in batch))
    rate = needed / took
    return {
        "sequences": len(batch), "tokens": tokens, "longest": max(len(e) for e in batch),
        "placement": placed, "liger": bool(find_spec("liger_kernel")), "micro_tokens": size.micro,
        "first_s": first, "seconds": took, "tokens_per_s": tokens / took, "tflops": rate / 1e12,
        "mfu": rate / peak if (peak := flops.peak(DEVICE)) else None,
        "peak_memory_gib": peak_memory(),
    }  # fmt: skip


def sft_work(size: Size) -> Callable[..., Any]:
    def work(model: Any, batch: list[Example], optimizer: Any) -> None:
        sft.learn(model, batch, size.micro)
        optimizers.step(model, optimizer, 1.0)

    return work


def rl_work(size: Size) -> Callable[..., Any]:
    """The update as RL makes it, from answers with a log-probability per token, under T = 0.8."""

    def work(model: Any, batch: list[Example], optimizer: Any) -> None:
        answers = [answer(e.prompt, np.asarray(e.response, np.int32), 0.8) for e in batch]
        weights = torch.tensor([[(-1.0) ** i] for i in range(len(batch))], dtype=torch.float64)
        update = Update(Policy(model, None, "plain"), Rl(micro_tokens=size.micro))
        update.add([[a] for a in answers], weights, weights)
        update.finish(optimizer, 1 / sum(len(e.response) for e in batch))

    return work


def sft_part(size: Size) -> dict[str, Any]:
    return learning(size, size.sft_length, sft_work(size))


def compiled_part(size: Size) -> dict[str, Any]:
    return learning(size, size.sft_length, sft_work(size), kernels="torch", compile=CUDA)


def plain_part(size: Size) -> dict[str, Any]:
    """Without fused kernels, at half the micro-batch: activations take almost twice the memory."""
    half = replace(size, micro=size.micro // 2, micro_batches=size.micro_batches * 2)
    return learning(half, size.sft_length, sft_work(half), kernels="torch")


def rl_part(size: Size) -> dict[str, Any]:
    work = rl_work(size)
    return {
        "update": learning(size, size.rl_length, work),
        "checkpointing": learning(size, size.rl_length, work, checkpoint_activations=True),
    }


def head_part(size: Size) -> dict[str, Any]:
    """Forward and backward of head and loss, the recomputed logits not counted."""
    clear()
    tokens, hidden, vocab = size.rl_length, size.shape["hidden_size"], size.shape["vocab_size"]
    torch.manual_seed(0)
    h = torch.randn(tokens, hidden, device=DEVICE, dtype=DTYPE).mul_(0.5).requires_grad_()
    w = torch.randn(vocab, hidden, device=DEVICE, dtype=DTYPE).mul_(0.05).requires_grad_()
    targets = torch.randint(vocab, (tokens,), device=DEVICE)
    before = torch.cuda.memory_allocated() if CUDA else 0

    def ours() -> None:
        h.grad = w.grad = None
        tempered_logprobs(h, w, targets, 0.8)[0].sum().backward()

    took = seconds(ours, 5, 2)
    memory = (torch.cuda.max_memory_allocated() - before) / 2**30 if CUDA else None
    work = 6 * tokens * hidden * vocab
    found = {"tokens": tokens, "ours_tflops": work / took / 1e12, "ours_gib_above": memory}
    found |= head_error(h, w, targets)
    return found | liger(h, w, targets, work)


def head_error(h: torch.Tensor, w: torch.Tensor, targets: torch.Tensor) -> dict[str, float]:
    """Against float64 on the first rows: log-probability, entropy, and the gradient's relative error."""
    rows = slice(0, 64)
    a = h.detach()[rows].double().requires_grad_()
    logp = (a @ w.detach().double().t() / 0.8).log_softmax(-1)
    chosen = logp.gather(1, targets[rows, None])[:, 0]
    chosen.sum().backward()
    b = h.detach()[rows].clone().requires_grad_()
    ours, entropy = tempered_logprobs(b, w, targets[rows], 0.8)
    ours.sum().backward()
    assert a.grad is not None and b.grad is not None
    return {
        "logprob_error": float((ours.detach().double() - chosen.detach()).abs().max()),
        "entropy_error": float((entropy.double() + (logp.exp() * logp).sum(-1).detach()).abs().max()),
        "gradient_error": float((a.grad - b.grad.double()).norm() / a.grad.norm()),
    }


def liger(h: torch.Tensor, w: torch.Tensor, targets: torch.Tensor, work: float) -> dict[str, Any]:
    """Liger's fused linear cross entropy at T = 1, where it is installed."""
    try:
        from liger_kernel.transformers import LigerFusedLinearCrossEntropyLoss
    except ImportError:
        return {"liger_tflops": None}
    loss = LigerFusedLinearCrossEntropyLoss(reduction="sum")

    def run() -> None:
        h.grad = w.grad = None
        loss(w, h, targets).backward()

    return {"liger_tflops": work / seconds(run, 5, 2) / 1e12}


def sampler_part(size: Size) -> dict[str, Any]:
    """Tokens per second at a fixed number of rows, all with the same long prompt cached."""
    with torch.device(DEVICE):
        model = new_model("qwen2", 1, DTYPE, **size.shape).eval()
    found = {f"rows_{rows}": sampling(model, size, rows) for rows in size.slots}
    found["transformers"] = generate(model, size)
    return found


def sampling(model: Any, size: Size, rows: int) -> dict[str, Any]:
    clear()
    sampler = EmbeddedSampler(model, slots=rows, eos_ids=[])
    prompt = np.random.default_rng(2).integers(0, size.shape["vocab_size"], size.cached).tolist()

    def run(new: int, top_p: float = 1.0) -> float:
        wanted = [Request(prompt, new, 0.8, draw_seed(rows, i), top_p) for i in range(rows)]
        wait()
        begun = time.perf_counter()
        for _ in sampler.sample(wanted):
            pass
        wait()
        return time.perf_counter() - begun

    first = run(size.new)  # room, compilation, graphs
    short, long = run(size.new // 4), run(size.new)
    step = (long - short) / (size.new - size.new // 4)
    bytes_per_weight = 2 if CUDA else 4
    weights = sum(p.numel() for p in model.parameters()) * bytes_per_weight
    kv = 2 * size.shape["num_hidden_layers"] * size.shape["num_key_value_heads"] * 128 * bytes_per_weight
    moved = weights + rows * (size.cached + size.new * 0.625) * kv
    cut = (run(size.new, 0.95) - run(size.new // 4, 0.95)) / (size.new - size.new // 4)
    return {
        "engine": sampler.engine, "rows": rows, "cached": size.cached, "first_s": first,
        "step_ms": step * 1e3,
        "tokens_per_s": rows / step, "tb_s": moved / step / 1e12, "top_p_step_ms": cut * 1e3,
        "peak_memory_gib": peak_memory(),
    }  # fmt: skip


def generate(model: Any, size: Size) -> dict[str, Any]:
    """`transformers` generation of the same responses, with its own attention."""
    clear()
    model.set_attn_implementation("sdpa")
    prompt = torch.from_numpy(np.random.default_rng(2).integers(0, size.shape["vocab_size"], size.cached))
    ids = prompt[None].expand(size.peer_rows, -1).to(DEVICE)
    mask = torch.ones_like(ids)

    def run(new: int) -> Any:
        settings = {"do_sample": True, "temperature": 0.8, "top_k": 0, "top_p": 1.0, "pad_token_id": 0}
        with torch.no_grad():
            return model.generate(
                ids, attention_mask=mask, max_new_tokens=new, min_new_tokens=new, **settings
            )

    few, many = max(2, size.new // 16), size.new // 4
    step = (seconds(lambda: run(many), 1, 0) - seconds(lambda: run(few), 1, 1)) / (many - few)
    return {"rows": size.peer_rows, "step_ms": step * 1e3, "tokens_per_s": size.peer_rows / step}


def card_part(size: Size) -> dict[str, Any]:
    """The update on a card of 24 GB, with checkpointing and moments at rest; what `plan` says of memory
    beside what was allocated (which has no context of CUDA's)."""
    tokens = size.rl_length // 2
    if CUDA:
        torch.cuda.set_per_process_memory_fraction(24e9 / torch.cuda.mem_get_info()[1])
    small = replace(size, micro=tokens, micro_batches=4)
    found = learning(small, tokens, rl_work(small), checkpoint_activations=True, offload=("moments",))
    shape = Shape.read(AutoConfig.for_model("qwen2", **size.shape))
    means = memory.Means(checkpointing=True, offload=("moments",))
    said = memory.learning(shape, memory.Machine(1, 24e9, separate=1), tokens, means)
    return found | {"planned_gib": (sum(said.values()) - said["other"]) / 2**30}


def equal_part(size: Size) -> dict[str, Any]:
    """Log-probabilities with Liger's kernels and with torch's, in bfloat16, against float32."""
    batch = examples(size, size.sft_length // 2, size.sft_length)
    results = {}
    kinds: dict[str, Literal["auto", "torch"] | None] = {"float32": None, "torch": "torch", "default": "auto"}
    for name, placed in kinds.items():
        torch.manual_seed(0)
        with torch.device(DEVICE):
            model = new_model("qwen2", 1, **(size.shape | {"num_hidden_layers": 4}))
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.copy_(torch.randn_like(parameter) * (0.02 if parameter.ndim == 2 else 0.1))
        if placed:
            placement = Placement(compute="bfloat16" if CUDA else "float32", kernels=placed)
            parallel.prepare(model, placement)
            if parallel.wanted(placement):
                parallel.shard(model, placement)
        waste = 0.1 if name == "float32" else models.waste(model)
        with torch.no_grad():
            results[name] = logprobs(model, pack(batch, waste))[0]
    exact = results.pop("float32")
    return {name: {"mean": float((r - exact).abs().mean()), "max": float((r - exact).abs().max())}
            for name, r in results.items()}  # fmt: skip


PARTS: dict[str, Callable[[Size], dict[str, Any]]] = {
    "machine": machine, "equal": equal_part, "head": head_part, "sampler": sampler_part, "step": step_part,
    "sft": sft_part, "sft_compiled": compiled_part, "sft_plain": plain_part, "rl": rl_part,
    "lora": lora_part, "card": card_part, "weights": handed_over,
}  # fmt: skip


def commit() -> str | None:
    done = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True)
    return done.stdout.strip() or None


def alone(part: str, size: Size, toy: bool) -> dict[str, Any]:
    """A part in a process of its own: fused kernels, once put in, stay for every model of a process."""
    command = [sys.executable, __file__, "--part", part, "--micro", str(size.micro)]
    done = subprocess.run([*command, "--toy"] if toy else command, stdout=subprocess.PIPE, text=True)
    lines = done.stdout.strip().splitlines()
    found: dict[str, Any] = json.loads(lines[-1]) if done.returncode == 0 else {"failed": done.returncode}
    return found


def main() -> None:
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=form)
    parser.add_argument("--toy", action="store_true", help="toy size")
    parser.add_argument("--only", nargs="+", choices=list(PARTS), default=list(PARTS), help="these parts")
    parser.add_argument("--micro", type=int, help="tokens of a micro-batch")
    parser.add_argument("--out", help="write the JSON here too")
    parser.add_argument("--part", choices=list(PARTS), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if not CUDA and not options.toy:
        sys.exit("no CUDA device was found; --toy runs the same code at toy size on CPU")
    size = SMALL if options.toy else FULL
    size = replace(size, micro=options.micro or size.micro)
    if options.part:
        print(json.dumps(PARTS[options.part](size)))
        return
    found: dict[str, Any] = {"commit": commit(), "date": time.strftime("%Y-%m-%d")}
    for name in options.only:
        begun = time.perf_counter()
        found[name] = alone(name, size, options.toy)
        found[name]["part_s"] = round(time.perf_counter() - begun, 1)
        print(name, json.dumps(found[name]), file=sys.stderr, flush=True)
        if options.out:
            Path(options.out).write_text(json.dumps(found, indent=1))
    print(json.dumps(found))


if __name__ == "__main__":
    main()
