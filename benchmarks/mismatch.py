"""Where sampler and trainer come to differ, cause by cause, and what is left of it after each remedy.

    python benchmarks/mismatch.py MODEL [--lr 1e-6]

MODEL is a Hugging Face folder. 4 texts of 96 tokens are drawn from it at T = 1; the reference is the
float32 forward pass of all of them together. For each cause the table shows, over all drawn tokens,

    mean, largest   |log μ - log π| in nats a token: μ with the cause, π without
    k3              of the same, in nats a token
    none, tis, icepop
                    how far the expected policy gradient is from the on-policy one, relative to its norm, when
                    tokens come from μ and weights are 1, min(π/μ, 2), or π/μ within [0.5, 2] and 0 outside

The gradient is with respect to logits, exact over the vocabulary, with an advantage of its own for every
token (standard normal), so nothing of it is sampling noise. At the end: how many of the bfloat16 weights one
step of AdamW changes, and the bytes of a delta beside all.
"""

from __future__ import annotations

import argparse
import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from acereason.config import Lora
from acereason.policy import halves, lora
from acereason.policy.model import load_model
from acereason.sample.servers.delta import change

TEXTS, TOKENS, CAP, BOUNDS = 4, 96, 2.0, (0.5, 2.0)
Variant = Callable[[], Tensor]


@torch.no_grad()
def drawn(model: Any) -> Tensor:
    """[TEXTS, TOKENS] tokens of the model's own."""
    torch.manual_seed(0)
    start = torch.randint(1000, min(20_000, model.config.vocab_size), (TEXTS, 1))
    made: Tensor = model.generate(
        start, do_sample=True, top_k=0, min_new_tokens=TOKENS - 1, max_new_tokens=TOKENS - 1
    )
    return made


@torch.no_grad()
def logits(model: Any, ids: Tensor, together: int = TEXTS) -> Tensor:
    """[texts × (TOKENS - 1), V]: of every token but the first, so many texts in a batch."""
    parts = [model(part, use_cache=False).logits[:, :-1] for part in ids.split(together)]
    return torch.cat(parts).flatten(0, 1)


def halved(model: Any) -> Any:
    """A copy with bfloat16 products over float32 weights, norms and head in float32."""
    made = copy.deepcopy(model)
    halves.halve(made)
    return made


def adapted(model: Any) -> Any:
    """A copy with adapters that moved, as after some RL."""
    made = copy.deepcopy(model)
    lora.adapt(made, Lora(rank=16, alpha=32.0))
    lora.initialise(made, 0)
    torch.manual_seed(1)
    for name, p in made.named_parameters():
        if lora.is_factor(name) and not p.any():
            p.data.normal_(0, 1e-3)
    return made


@torch.no_grad()
def merged(model: Any, plain: Any, dtype: torch.dtype) -> Any:
    """A plain model with the adapters' products added in, in the type that servers get."""
    made = copy.deepcopy(plain).to(dtype)
    weights = dict(made.named_parameters())
    for name, tensor in lora.merged(model):
        weights[name].copy_(tensor.to(dtype))
    return made


def row(name: str, reference: Tensor, z: Tensor, chosen: Tensor) -> str:
    """A line of the table."""
    pi, mu = reference.float().log_softmax(-1), z.float().log_softmax(-1)
    d, there = ((pi - mu).gather(1, chosen[:, None])[:, 0], mu.gather(1, chosen[:, None])[:, 0] > -25)
    d = d[there].double()  # what μ can draw
    biases = [f"{bias(pi, mu, rule):.1e}" for rule in ("none", "tis", "icepop")]
    k3 = (torch.exp(d) - 1 - d).mean()
    numbers = [f"{float(d.abs().mean()):.1e}", f"{float(d.abs().max()):.1e}", f"{float(k3):.1e}"]
    return f"| {name} | {' | '.join([*numbers, *biases])} |"


def bias(pi: Tensor, mu: Tensor, rule: str) -> float:
    """Relative distance of the expected gradient from the on-policy one."""
    advantage = torch.randn(pi.shape[1], generator=torch.Generator().manual_seed(2))
    wrong = right = 0.0
    for p, m in zip(pi.exp().split(256), mu.exp().split(256), strict=True):
        ratio = p / m.clamp(min=1e-30)
        inside = (ratio >= BOUNDS[0]) & (ratio <= BOUNDS[1])
        weight = {"none": torch.ones_like(ratio), "tis": ratio.clamp(max=CAP), "icepop": ratio * inside}[rule]
        on, off = (gradient(w * advantage, p) for w in (p, m * weight))
        wrong, right = wrong + float((off - on).square().sum()), right + float(on.square().sum())
    return float((wrong / right) ** 0.5)


def gradient(pull: Tensor, p: Tensor) -> Tensor:
    """Σ_v pull(v) ∇ log π(v) with respect to the logits: pull - Σ pull · π."""
    return pull - pull.sum(-1, keepdim=True) * p


def step(model: Any, ids: Tensor, rate: float) -> tuple[float, float, float]:
    """One step of AdamW on these texts: shares of bfloat16 weights that changed in the first and after a few
    steps, and the bytes of the last delta beside all."""
    made = copy.deepcopy(model)
    optimizer = torch.optim.AdamW(made.parameters(), lr=rate, betas=(0.9, 0.95), weight_decay=0.0)
    shares = []
    for part in ids.split(1):
        before = {n: p.detach().bfloat16() for n, p in made.named_parameters()}
        made(part, labels=part).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        after = {n: p.detach().bfloat16() for n, p in made.named_parameters()}
        shares.append(sum(int((after[n] != t).sum()) for n, t in before.items()))
    patches = [change(t, after[n]) or {} for n, t in before.items()]
    least = sum(part.nbytes for patch in patches for part in patch.values())
    count = sum(t.numel() for t in after.values())
    return shares[0] / count, shares[-1] / count, least / (2 * count)


def main(folder: Path, rate: float) -> None:
    """Print the table."""
    model = load_model(folder).eval()
    ids = drawn(model)
    chosen, whole = ids[:, 1:].flatten(), logits(model, ids)
    bf16 = copy.deepcopy(model).bfloat16()
    with_adapters = adapted(model)
    half, lower = halved(model), logits(bf16, ids)
    own, own_half = logits(with_adapters, ids), logits(halved(with_adapters), ids)
    rows: dict[str, tuple[Tensor, Variant]] = {
        "float32, one text at a time": (whole, lambda: logits(model, ids, 1)),
        "float32 weights rounded to bfloat16": (whole, lambda: logits(copy.deepcopy(bf16).float(), ids)),
        "float32 logits rounded to bfloat16 (the head)": (whole, lambda: whole.bfloat16()),
        "bfloat16 products, float32 norms and head": (whole, lambda: logits(half, ids)),
        "all in bfloat16": (whole, lambda: lower),
        "all in bfloat16, one text at a time against all": (lower, lambda: logits(bf16, ids, 1)),
        "bfloat16 products, one text at a time against all": (
            logits(half, ids),
            lambda: logits(half, ids, 1),
        ),
        "adapters merged, float32": (own, lambda: logits(merged(with_adapters, model, torch.float32), ids)),
        "adapters merged into bfloat16, all bfloat16": (
            own_half,
            lambda: logits(merged(with_adapters, model, torch.bfloat16), ids),
        ),
        "top-p 0.95": (whole, lambda: cut(whole, 0.95)),
    }
    print("| cause | mean | largest | k3 | none | tis | icepop |\n|---|---|---|---|---|---|---|")
    for name, (reference, variant) in rows.items():
        print(row(name, reference, variant(), chosen), flush=True)
    first, later, size = step(model, ids, rate)
    print(f"AdamW at {rate:g}: {first:.1%}, then {later:.1%} of bfloat16 weights a step; delta {size:.1%}")


def cut(z: Tensor, share: float) -> Tensor:
    """Logits of the fewest likeliest tokens that hold `share`; the others next to nothing."""
    p = z.float().softmax(-1)
    ordered, order = p.sort(-1, descending=True)
    kept = ordered.cumsum(-1) - ordered < share
    return z.masked_fill(~torch.zeros_like(kept).scatter(1, order, kept), -30.0)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--lr", type=float, default=1e-6)
    told = parser.parse_args()
    main(told.model, told.lr)
