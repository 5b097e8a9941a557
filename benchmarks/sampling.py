"""Sampling on long-tailed lengths: the embedded sampler against `transformers.generate` in static
batches.

    python benchmarks/sampling.py [--requests 512] [--rounds 3]

Same model, prompts (groups of 8) and lengths; useful tokens a second, one thread each. Ends are
forced: a response stops at its length because that is its budget, no end token being declared. A
static batch of 128 goes on until its longest response is done, in order of arrival.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import common
import models

SLOTS, GROUP = 128, 8


def ours(count: int, native: bool) -> Callable[[], dict[str, float]]:
    """A round of the embedded sampler."""
    from acereason.sample.engines.embedded import EmbeddedSampler
    from acereason.sample.protocol import Request

    sampler = EmbeddedSampler(models.build(), slots=SLOTS, threads=1, eos_ids=[], native=native)
    asked, lengths = models.prompts(-(-count // GROUP)), models.long_tailed(count)
    requests = [Request(asked[i // GROUP], n, 1.0, seed=i) for i, n in enumerate(lengths)]

    def step() -> dict[str, float]:
        return {"tokens": sum(len(c.tokens) for c in sampler.sample(requests))}

    return step


def generate(count: int) -> Callable[[], dict[str, float]]:
    """A round of `transformers.generate`."""
    import torch

    model = models.build()
    model.generation_config.eos_token_id = None
    asked, lengths = models.prompts(-(-count // GROUP)), models.long_tailed(count)

    def step() -> dict[str, float]:
        for start in range(0, count, SLOTS):
            batch = lengths[start : start + SLOTS]
            rows = [asked[(start + i) // GROUP] for i in range(len(batch))]
            ids = torch.tensor(rows)
            model.generate(
                ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=max(batch),
                do_sample=True,
                temperature=1.0,
                top_k=0,
                top_p=1.0,
            )
        return {"tokens": sum(lengths)}

    return step


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--requests", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--worker", choices=["native", "torch", "generate"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker == "generate":
        common.serve(generate(options.requests))
    elif options.worker:
        common.serve(ours(options.requests, options.worker == "native"))
    else:
        report(options.requests, options.rounds)


def report(count: int, rounds: int) -> None:
    """Run all contenders and print the table."""

    def contender(kind: str, preload: str | None = None) -> common.Contender:
        arguments = [__file__, "--worker", kind, "--requests", str(count)]
        return common.Contender(arguments, preload=preload)

    fix = common.arithmetic_fix()
    contenders = {"ours": contender("native"), "generate": contender("generate")}
    if fix:
        contenders |= {
            "ours, PyTorch engine, fix": contender("torch", fix),
            "generate, fix": contender("generate", fix),
        }
    ready, results = common.alternate(contenders, rounds)
    lengths = models.long_tailed(count)
    size = models.parameters(models.build())
    peak = max(r["peak"] for r in ready.values())
    print(f"{common.hardware()}; {ready['ours']['versions']}; {size / 1e6:.2f}M parameters")
    print(
        f"{count} responses, lengths {min(lengths)} to {max(lengths)}, mean {sum(lengths) / count:.1f};"
        f" one thread; peak of float32 matrix products {peak:.0f} GFLOP/s; median of {rounds} rounds"
    )
    rows = [["", "useful tokens/s", "share of peak", "ours is faster by", "by processor time"]]
    for name, found in results.items():
        rate = found[0]["tokens"] / common.median(found, "seconds")
        rows.append(
            [
                name,
                f"{rate:.0f}",
                f"{2 * size * rate / peak / 1e9:.1%}",
                common.ratios(results["ours"], found, "seconds"),
                common.ratios(results["ours"], found, "cpu"),
            ]
        )
    common.show(rows)
    print(f"fix: {fix or 'not available'} (see acereason.native.mkl; the native engine does not use it)")


if __name__ == "__main__":
    main()
