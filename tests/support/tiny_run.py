"""A run so small that tests can afford many: `python tiny_run.py FOLDER [new|resume [CHANGES]]`."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

RECIPE: dict[str, Any] = {
    "name": "tiny",
    "seed": 7,
    "checkpoint_every": 2,
    "model": {
        "format": "plain",
        "new": {
            "vocab_size": 340,
            "hidden_size": 32,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "num_key_value_heads": 1,
            "head_dim": 16,
            "intermediate_size": 48,
            "max_position_embeddings": 256,
        },
    },
    "curate": {
        "split": "dev",
        "overlap_share": 0.8,
        "tasks": {
            "math": {
                "families": ["largest"],
                "max_level": 1,
                "sft_prompts": 200,
                "rl_prompts": 60,
                "held_out": 6,
            },
            "code": {
                "families": ["lists"],
                "max_level": 1,
                "sft_prompts": 60,
                "rl_prompts": 30,
                "held_out": 4,
            },
        },
    },
    "sft": {
        "epochs": 4,
        "batch_tokens": 1280,
        "optimizer": "muon",
        "learning_rate": 5e-3,
        "evaluate_prompts": 2,
    },
    "stage": [
        {
            "name": "math",
            "domain": "math",
            "budget": 40,
            "steps": 5,
            "group": 4,
            "prompts": 4,
            "learning_rate": 1e-3,
            "temperature": {
                "rule": "track",
                "target": 2.0,
                "candidates": [0.3, 0.6],
                "prompts": 8,
            },
            "filter": {"samples": 2, "candidates": 12, "drop_solved": True},
            "evaluate_every": 2,
            "keep": "best",
        },
        {
            "name": "code",
            "domain": "code",
            "budget": 40,
            "steps": 3,
            "group": 2,
            "prompts": 4,
            "learning_rate": 1e-3,
            "overlong": "zero",
        },
    ],
    "evaluation": {"k": 2, "budget": 40, "dev": {"prompts": 14, "k": 2}},
    "sampling": {"slots": 16, "threads": 1},
    "rl": {"judges": 1},
}


@contextmanager
def coin() -> Iterator[None]:
    """Math judged by a hash of what stands after the thinking: a model as small as this one gets no answer
    right, and without rewards nothing would be learned."""
    from acereason.chat import instruction
    from acereason.draws import draw_seed
    from acereason.problems import Problem, Verdict
    from acereason.verify import domains

    def judge(problem: Problem, answer: str, _: object) -> Verdict:
        right = draw_seed(problem.id, answer) % 2
        return Verdict("correct" if right else "wrong", right)

    domains.register(domains.Domain("math", instruction, lambda final: "=" + final, judge))
    try:
        yield
    finally:
        domains.register(domains.MATH)


def main(folder: Path, resume: bool, changes: dict[str, Any] | None = None) -> None:
    """Make the run, or go on with it; `changes` replace sections of the recipe."""
    from acereason import config, program, ranks, runs
    from acereason.progress import Quiet

    with ranks.joined(minutes=2), coin():
        if not ranks.main():
            program.follow()
            return
        recipe = config.parse({**RECIPE, **(changes or {})})
        run = runs.resume(folder) if resume else runs.create(folder, recipe)
        with run:
            program.run_all(run, Quiet())


if __name__ == "__main__":
    changes = json.loads(sys.argv[3]) if len(sys.argv) > 3 else None
    main(Path(sys.argv[1]), sys.argv[2:3] == ["resume"], changes)
