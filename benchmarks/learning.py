"""Learning on long-tailed lengths: ours against padded micro-batches of 16.

    python benchmarks/learning.py [--rounds 5]

Forward and backward of the policy loss over 128 responses (prompts of 32 tokens, lengths lognormal
with mean 60, at most 256), float32, one thread, response tokens a second. The peer is the plain
transformers model on right-padded micro-batches of 16 in order of arrival, gradient checkpointing
off. Ours is timed in compiled code (a shared prompt computed once) and as packs in PyTorch. All with
and without the arithmetic fix where it exists; the norms of the gradients are compared. The share of
the peak counts every prompt for every response, so what sharing saves shows in it.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from typing import Any

import common
import models

COUNT, MICRO, GROUP = 128, 16, 8


def sequences() -> tuple[list[list[int]], list[list[int]]]:
    """Prompts and responses, 8 responses to a prompt."""
    import numpy as np

    asked, state = models.prompts(COUNT // GROUP), np.random.default_rng(3)
    responses = [state.integers(0, models.PAD, n).tolist() for n in models.long_tailed(COUNT)]
    return [asked[i // GROUP] for i in range(COUNT)], responses


def weights() -> Any:
    """One weight a response, as advantages over the number of tokens."""
    import torch

    signs = torch.tensor([1.0 if i % 3 else -2.0 for i in range(COUNT)])
    return signs / sum(models.long_tailed(COUNT))


def norm(model: Any) -> float:
    """Norm of the gradient, which is cleared."""
    found: float = sum(float(p.grad.double().square().sum()) for p in model.parameters()) ** 0.5
    model.zero_grad(set_to_none=True)
    return found


def packed() -> Callable[[], dict[str, float]]:
    """A round of ours in PyTorch (compiled code is turned off by the environment)."""
    from acereason.config import Rl
    from acereason.policy import attention
    from acereason.policy.model import logprobs
    from acereason.policy.packing import Example, packs
    from acereason.train.objective import policy_loss

    model = models.build()
    model.set_attn_implementation(attention.NAME)
    examples = [Example(p, r, i) for i, (p, r) in enumerate(zip(*sequences(), strict=True))]
    weight, budget = weights(), int(Rl().micro_tokens)

    def step() -> dict[str, float]:
        for pack in packs(examples, budget):
            logprob, _ = logprobs(model, pack, 1.0)
            policy_loss(logprob, weight[pack.owners]).backward()
        return {"tokens": sum(len(e.response) for e in examples), "norm": norm(model)}

    return step


def compiled() -> Callable[[], dict[str, float]]:
    """A round of ours in compiled code, which computes shared prompts once."""
    from acereason.config import Rl
    from acereason.policy.compiled_pass import logprobs
    from acereason.policy.packing import Example, packs_by_prompt
    from acereason.train.objective import policy_loss

    model, weight, budget = models.build(), weights(), int(Rl().micro_tokens)
    examples = [Example(p, r, i) for i, (p, r) in enumerate(zip(*sequences(), strict=True))]

    def step() -> dict[str, float]:
        for pack in packs_by_prompt(examples, budget):
            found = logprobs(model, pack, 1.0)
            assert found is not None, "no compiler"
            policy_loss(found[0], weight[pack.owners]).backward()
        return {"tokens": sum(len(e.response) for e in examples), "norm": norm(model)}

    return step


def padded() -> Callable[[], dict[str, float]]:
    """A round of the peer."""
    import torch

    model, weight = models.build(), weights()
    asked, responses = sequences()

    def step() -> dict[str, float]:
        for start in range(0, COUNT, MICRO):
            part = range(start, start + MICRO)
            width = max(len(responses[i]) for i in part) + models.PROMPT
            ids = torch.full((MICRO, width), models.PAD)
            mask = torch.zeros_like(ids)
            for row, i in enumerate(part):
                tokens = asked[i] + responses[i]
                ids[row, : len(tokens)], mask[row, : len(tokens)] = torch.tensor(tokens), 1
            logits = model(ids, attention_mask=mask, use_cache=False).logits
            logp = logits[:, models.PROMPT - 1 : -1].log_softmax(-1)
            chosen = logp.gather(2, ids[:, models.PROMPT :, None])[..., 0]
            kept = mask[:, models.PROMPT :]
            (-(chosen * kept).sum(1) * weight[start : start + MICRO]).sum().backward()
        return {"tokens": sum(map(len, responses)), "norm": norm(model)}

    return step


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--worker", choices=["compiled", "packed", "padded"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        common.serve({"compiled": compiled, "packed": packed, "padded": padded}[options.worker]())
    else:
        report(options.rounds)


def report(rounds: int) -> None:
    """Run all contenders and print the table."""
    fix = common.arithmetic_fix()
    plain = {"ACEREASON_NATIVE": "0"}

    def contender(kind: str, preload: str | None) -> common.Contender:
        environment = None if kind == "compiled" else plain
        return common.Contender([__file__, "--worker", kind], sys.executable, preload, environment)

    contenders = {kind: contender(kind, fix) for kind in ("compiled", "packed", "padded")}
    if fix:
        contenders |= {f"{kind}, no fix": contender(kind, None) for kind in ("packed", "padded")}
    ready, results = common.alternate(contenders, rounds)
    peak = max(r["peak"] for r in ready.values())
    size = models.parameters(models.build())
    print(f"{common.hardware()}; {ready['packed']['versions']}; {size / 1e6:.2f}M parameters")
    print(f"one thread; peak of float32 matrix products {peak:.0f} GFLOP/s; {rounds} rounds")
    head = ["", "response tokens/s", "share of peak", "ours is faster by", "by processor time"]
    rows = [[*head, "gradient norm"]]
    computed = sum(models.long_tailed(COUNT)) + COUNT * models.PROMPT
    for name, found in results.items():
        seconds = common.median(found, "seconds")
        rows.append(
            [
                name,
                f"{found[0]['tokens'] / seconds:.0f}",
                f"{6 * size * computed / seconds / peak / 1e9:.1%}",
                common.ratios(results["compiled"], found, "seconds"),
                common.ratios(results["compiled"], found, "cpu"),
                f"{found[0]['norm']:.6f}",
            ]
        )
    common.show(rows)


if __name__ == "__main__":
    main()
