"""A pretrained base model on one core: sampling against `transformers.generate`, a step of RL against TRL,
learning in bfloat16 against float32 and against PyTorch.

    python benchmarks/base.py MODEL CUT [--rounds 3] [--trl .venv-bench/bin/python] [--only sample|step|learn]

MODEL is the Hugging Face folder as published, CUT the same with the vocabulary that a run kept
(runs/base-1/models/sft). Ours always runs the cut one, in bfloat16 products; peers run both, in bfloat16.
16 prompts of 40 tokens, 8 responses each: in sampling of long-tailed lengths (mean 41, at most 112, ends
forced), in the step of at most 41 tokens, about 5,200 together, with natural ends. TRL's best setting on a
processor: gradient checkpointing off, micro-batches of 16, beta 0, loss "dapo", bfloat16 autocast. Learning
alone is one pass forward and back over 8 groups of 8. Seconds a response token are compared, in turns, on one
core (see `common.py`).
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

import common
import models
from rl_step import GROUP, PROMPTS, TRL, reward, stepping

PROMPT, BUDGET, MEAN, MOST = 40, 41, 41.0, 112


def prompts(count: int, vocabulary: int) -> list[list[int]]:
    """Prompts of random ordinary tokens."""
    rows: list[list[int]] = np.random.default_rng(1).integers(500, vocabulary, (count, PROMPT)).tolist()
    return rows


def halved(folder: Path) -> Any:
    """Our model with bfloat16 products."""
    from acereason.policy import halves
    from acereason.policy.model import load_model

    model = load_model(folder)
    halves.halve(model)
    return model


def sample(folder: Path) -> Callable[[], dict[str, float]]:
    """A round of the embedded sampler."""
    from acereason.sample.engines.embedded import EmbeddedSampler
    from acereason.sample.protocol import Request

    model = halved(folder)
    sampler = EmbeddedSampler(model, slots=PROMPTS * GROUP, threads=1, eos_ids=[])
    asked, lengths = (
        prompts(PROMPTS, model.config.vocab_size),
        models.long_tailed(PROMPTS * GROUP, MEAN, MOST),
    )
    requests = [Request(asked[i // GROUP], n, 1.0, seed=i) for i, n in enumerate(lengths)]
    return lambda: {"tokens": sum(len(c.tokens) for c in sampler.sample(requests))}


def generate(folder: Path) -> Callable[[], dict[str, float]]:
    """A round of `transformers.generate` in bfloat16: one static batch, as long as its longest response."""
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16).eval()
    model.generation_config.eos_token_id = None
    asked, lengths = (
        prompts(PROMPTS, model.config.vocab_size),
        models.long_tailed(PROMPTS * GROUP, MEAN, MOST),
    )
    ids = torch.tensor([asked[i // GROUP] for i in range(len(lengths))])
    how = {"do_sample": True, "temperature": 1.0, "top_k": 0, "top_p": 1.0, "max_new_tokens": max(lengths)}

    def step() -> dict[str, float]:
        model.generate(ids, attention_mask=torch.ones_like(ids), **how)
        return {"tokens": sum(lengths)}

    return step


def step_of_ours(folder: Path) -> Callable[[], dict[str, float]]:
    """Sample, weigh, learn and publish."""
    from acereason.config import Rl
    from acereason.policy.model import load_tokenizer
    from acereason.policy.policy import Policy
    from acereason.sample.engines.embedded import EmbeddedSampler

    policy = Policy(halved(folder), load_tokenizer(folder), "plain")
    sampler = EmbeddedSampler(policy.model, slots=PROMPTS * GROUP, threads=1)
    asked = prompts(64, policy.model.config.vocab_size)
    return stepping(policy, sampler, asked, BUDGET, Rl(micro_tokens=1024))


def learn(folder: Path, half: bool = True) -> Callable[[], dict[str, float]]:
    """Log-probabilities and gradients of 8 groups of 8, in micro-batches of 1,024 tokens."""
    from acereason.policy import model as models_of
    from acereason.policy.packing import Example, packs_by_prompt

    model = halved(folder) if half else models_of.load_model(folder)
    asked, state = prompts(8, model.config.vocab_size), np.random.default_rng(2)
    lengths = models.long_tailed(64, MEAN, MOST)
    rows = [state.integers(500, model.config.vocab_size, n).tolist() for n in lengths]
    packs = packs_by_prompt([Example(asked[i // GROUP], row, i) for i, row in enumerate(rows)], 1024)

    def step() -> dict[str, float]:
        model.zero_grad()
        for pack in packs:
            models_of.logprobs(model, pack, 1.0)[0].sum().backward()
        return {"tokens": sum(lengths)}

    return step


def trl(folder: Path) -> None:
    """Serve steps of GRPOTrainer; runs in TRL's environment."""
    from transformers import AutoConfig, AutoTokenizer

    tokenizer, size = AutoTokenizer.from_pretrained(folder), AutoConfig.from_pretrained(folder).vocab_size
    texts = [tokenizer.decode(row) for row in prompts(64, size)]
    common.grpo(folder, Path.cwd() / "build" / "trl", texts, GROUP, PROMPTS, BUDGET, True, reward)


WORKERS: dict[str, Callable[[Path], Callable[[], dict[str, float]]]] = {
    "sample": sample,
    "generate": generate,
    "step": step_of_ours,
    "learn": learn,
    "learn-float32": partial(learn, half=False),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("cut", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--trl", type=Path, default=TRL, help="the Python that has TRL")
    parser.add_argument("--only", choices=["sample", "step", "learn"])
    parser.add_argument("--worker", choices=[*WORKERS, "trl"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker == "trl":
        trl(options.model)
    elif options.worker:
        common.serve(WORKERS[options.worker](options.model))
    else:
        report(options)


def report(options: argparse.Namespace) -> None:
    """Run the contenders of each question in turns and print the tables."""

    def contender(worker: str, folder: Path, **how: Any) -> common.Contender:
        return common.Contender([__file__, str(folder), str(folder), "--worker", worker], **how)

    print(common.hardware())
    if options.only in (None, "sample"):
        table(
            {
                "ours, cut": contender("sample", options.cut),
                "generate, cut": contender("generate", options.cut),
                "generate, as published": contender("generate", options.model),
            },
            options.rounds,
        )
    if options.only in (None, "learn"):
        table(
            {
                "bfloat16, compiled": contender("learn", options.cut),
                "bfloat16, PyTorch": contender("learn", options.cut, environment={"ACEREASON_NATIVE": "0"}),
                "float32, compiled": contender("learn-float32", options.cut),
            },
            options.rounds,
        )
    if options.only in (None, "step"):
        python = {"python": str(options.trl)}
        table(
            {
                "ours, cut": contender("step", options.cut),
                "TRL, cut": contender("trl", options.cut, **python),
                "TRL, as published": contender("trl", options.model, **python),
            },
            options.rounds,
        )


def table(contenders: dict[str, common.Contender], rounds: int) -> None:
    ready, results = common.alternate(contenders, rounds)
    for rows in results.values():
        for row in rows:
            row["per_token"], row["cpu_per_token"] = (
                row["seconds"] / row["tokens"],
                row["cpu"] / row["tokens"],
            )
    print({name: said["versions"] for name, said in ready.items()})
    ours = next(iter(results.values()))
    head = ["", "seconds", "processor s", "response tokens", "ours is faster by", "by processor time"]
    shown = [
        [
            name,
            *(f"{common.median(rows, key):.2f}" for key in ("seconds", "cpu")),
            f"{common.median(rows, 'tokens'):.0f}",
            *(common.ratios(ours, rows, key) for key in ("per_token", "cpu_per_token")),
        ]
        for name, rows in results.items()
    ]
    common.show([head, *shown])


if __name__ == "__main__":
    main()
