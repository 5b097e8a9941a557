"""A whole step of reinforcement learning: ours against TRL's GRPOTrainer at its best float32
setting.

    python benchmarks/rl_step.py [--rounds 5] [--trl .venv-bench/bin/python]

16 prompts of 32 tokens, 8 responses each of at most 128 tokens with natural ends, sampling, reward,
loss, backward pass, AdamW and the new weights in the sampler; same model, prompts and reward
(parity of the tokens' sum); one thread, float32. TRL's best setting here: gradient checkpointing
off, micro-batches of 16, beta 0, loss "dapo"; it is timed as installed and with the same arithmetic
fix that ours loads.

TRL lives in its own environment: python -m venv .venv-bench && .venv-bench/bin/pip install trl
torch. The number of response tokens differs a little from step to step, so seconds a response token
are compared.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import common
import models

PROMPTS, GROUP, BUDGET = 16, 8, 128
TRL = Path(__file__).resolve().parent.parent / ".venv-bench/bin/python"


def reward(tokens: list[int]) -> int:
    return sum(tokens) % 2


def ours(folder: Path) -> Callable[[], dict[str, float]]:
    """A step of sample, weigh, learn and publish."""
    from acereason.config import Rl
    from acereason.policy.model import load_model, load_tokenizer
    from acereason.policy.policy import Policy
    from acereason.sample.engines.embedded import EmbeddedSampler

    policy = Policy(load_model(folder), load_tokenizer(folder), "chatml-1.1")
    sampler = EmbeddedSampler(policy.model, slots=PROMPTS * GROUP, threads=1, eos_ids=models.END)
    return stepping(policy, sampler, models.prompts(64), BUDGET, Rl())


def stepping(
    policy: Any, sampler: Any, asked: list[list[int]], budget: int, settings: Any
) -> Callable[[], dict[str, float]]:
    """Steps of RL on prompts `asked`, which are taken in turns."""
    from acereason.config import Stage
    from acereason.draws import draw_seed
    from acereason.problems import Problem, Verdict
    from acereason.sample.ask import Answer
    from acereason.sample.protocol import Request
    from acereason.train.optimizers import for_rl, set_rates
    from acereason.train.update import learn, weigh

    stage = Stage("bench", "math", budget, 1, group=GROUP, prompts=PROMPTS, overlong="zero")
    problems = [Problem(str(i), "math", "") for i in range(PROMPTS)]
    optimizer, turn = for_rl(policy.model, settings), iter(range(1 << 30))
    set_rates(optimizer, [1e-6])

    def sample(number: int) -> list[list[Answer]]:
        groups: list[list[Answer]] = [[] for _ in problems]
        requests = (
            Request(asked[(PROMPTS * number + i) % 64], budget, 1.0, draw_seed(number, i, j), key=(i, j))
            for i in range(PROMPTS)
            for j in range(GROUP)
        )
        for completion in sampler.sample(requests):
            i, j = completion.request.key
            right = reward(completion.tokens.tolist())
            verdict = Verdict("correct" if right else "wrong", right)
            groups[i].append(Answer(problems[i], j, completion, "", verdict))
        return groups

    def step() -> dict[str, float]:
        begun = time.perf_counter()
        groups = sample(next(turn))
        sampled = time.perf_counter()
        learn(policy, groups, weigh(groups, stage, settings), optimizer, settings)
        sampler.update(policy.model)
        tokens = sum(len(a.completion.tokens) for g in groups for a in g)
        return {"tokens": tokens, "sample": sampled - begun, "learn": time.perf_counter() - sampled}

    return step


def trl(folder: Path) -> None:
    """Serve steps of GRPOTrainer; runs in TRL's environment."""
    texts = [" ".join(f"t{i}" for i in prompt) for prompt in models.prompts(64)]
    common.grpo(folder, folder / "trl", texts, GROUP, PROMPTS, BUDGET, False, reward)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--trl", type=Path, default=TRL, help="the Python that has TRL")
    parser.add_argument("--worker", choices=["ours", "trl"], help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker == "trl":
        trl(options.folder)
    elif options.worker:
        common.serve(ours(options.folder))
    elif not options.trl.exists():
        raise SystemExit(f"{options.trl} does not exist; install TRL in its own environment first")
    else:
        with tempfile.TemporaryDirectory() as folder:
            model = models.build()
            model.save_pretrained(folder)
            models.tokenizer(Path(folder))
            report(Path(folder), models.parameters(model), options.rounds, str(options.trl))


def report(folder: Path, size: int, rounds: int, python: str) -> None:
    """Run all contenders and print the table."""
    fix = common.arithmetic_fix()
    mine, theirs = ([__file__, "--worker", w, "--folder", str(folder)] for w in ("ours", "trl"))
    contenders = {
        "ours": common.Contender(mine, preload=fix),
        "TRL as installed": common.Contender(theirs, python=python),
    }
    if fix:
        contenders["ours without fix"] = common.Contender(mine)
        contenders["TRL with fix"] = common.Contender(theirs, python=python, preload=fix)
    ready, results = common.alternate(contenders, rounds)
    peak = max(r["peak"] for r in ready.values())
    for found in results.values():
        for row in found:
            row["per_token"] = row["seconds"] / row["tokens"]
            row["cpu_per_token"] = row["cpu"] / row["tokens"]
    print(f"{common.hardware()}; {size / 1e6:.2f}M parameters; peak {peak:.0f} GFLOP/s")
    print(f"ours: {ready['ours']['versions']}; TRL: {ready['TRL as installed']['versions']}")
    head = ["", "step s", "sample s", "learn s", "response tokens", "ours is faster by"]
    rows = [[*head, "by processor time"]]
    for name, found in results.items():
        parts = (
            [f"{common.median(found, key):.2f}" for key in ("sample", "learn")]
            if "sample" in found[0]
            else ["", ""]
        )
        rows.append(
            [
                name,
                f"{common.median(found, 'seconds'):.2f}",
                *parts,
                f"{common.median(found, 'tokens'):.0f}",
                common.ratios(results["ours"], found, "per_token"),
                common.ratios(results["ours"], found, "cpu_per_token"),
            ]
        )
    common.show(rows)


if __name__ == "__main__":
    main()
