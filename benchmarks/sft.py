"""Supervised fine-tuning on long-tailed traces: ours against TRL's SFTTrainer, with packing and without.

    python benchmarks/sft.py [--rounds 5] [--trl .venv-bench/bin/python]

A step is forward, backward, clipping and AdamW over about 12,000 tokens of a 2.6M model: 128 prompts of 32
tokens with responses of lognormal length (mean 60, at most 256), float32, one thread. TRL runs with
gradient checkpointing off, packed into rows of 512 tokens ("bfd") or padded in micro-batches of 16, as
installed and with the arithmetic fix that ours loads. Both learn every token. Trained tokens a second are
compared, since TRL's steps differ a little in size.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import common
import models

COUNT, ROW, MICRO = 128, 512, 16
TRL = Path(__file__).resolve().parent.parent / ".venv-bench/bin/python"


def traces() -> list[tuple[list[int], list[int]]]:
    """Prompts with their responses, always the same."""
    import numpy as np

    asked, state = models.prompts(COUNT), np.random.default_rng(3)
    lengths = models.long_tailed(COUNT)
    return [(asked[i], state.integers(0, models.PAD, n).tolist()) for i, n in enumerate(lengths)]


def ours(folder: Path) -> Callable[[], dict[str, float]]:
    """A step of `train.sft`."""
    from acereason.config import Sft
    from acereason.policy.model import load_model
    from acereason.policy.packing import Example
    from acereason.train import optimizers, sft

    model, settings = load_model(folder), Sft()
    optimizer = optimizers.for_sft(model, settings)
    # the first token is the prompt and all others are learned, as TRL does with plain text
    batch = [
        Example(prompt[:1], [*prompt[1:], *response], i) for i, (prompt, response) in enumerate(traces())
    ]

    def step() -> dict[str, float]:
        sft.learn(model, batch, int(settings.micro_tokens))
        optimizers.step(model, optimizer, settings.clip_gradient)
        return {"tokens": sum(len(e.response) for e in batch)}

    return step


def trl(folder: Path, packing: bool) -> None:
    """Serve steps of SFTTrainer; runs in TRL's environment."""
    import torch
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
    from trl import SFTConfig, SFTTrainer

    torch.set_num_threads(1)
    seen: list[int] = []

    class Counting(SFTTrainer):  # type: ignore[misc]
        def training_step(self, model: Any, inputs: Any, *more: Any) -> Any:
            seen.append(int((inputs["labels"] != -100).sum()))
            return super().training_step(model, inputs, *more)

    rows = [[*prompt, *response] for prompt, response in traces()] * 8
    each = MICRO if not packing else 4
    settings = SFTConfig(
        output_dir=str(folder / "trl"),
        per_device_train_batch_size=each,
        gradient_accumulation_steps=COUNT // MICRO if not packing else 6,
        packing=packing,
        max_length=ROW,
        bf16=False,
        **common.TRL_RUN,
    )
    Counting(
        model=AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32),
        args=settings,
        train_dataset=Dataset.from_dict({"input_ids": rows}),
        processing_class=AutoTokenizer.from_pretrained(folder),
        callbacks=[common.paced(TrainerCallback, seen)],
    ).train()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--trl", type=Path, default=TRL, help="the Python that has TRL")
    parser.add_argument("--worker", choices=["ours", "packed", "padded"], help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker == "ours":
        common.serve(ours(options.folder))
    elif options.worker:
        trl(options.folder, options.worker == "packed")
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

    def contender(kind: str, preload: str | None) -> common.Contender:
        with_ours = sys.executable if kind == "ours" else python
        return common.Contender(
            [__file__, "--worker", kind, "--folder", str(folder)], with_ours, preload=preload
        )

    contenders = {
        "ours": contender("ours", fix),
        "TRL, packing": contender("packed", None),
        "TRL, padded": contender("padded", None),
    }
    if fix:
        contenders |= {f"TRL, {kind}, with fix": contender(kind, fix) for kind in ("packed", "padded")}
    ready, results = common.alternate(contenders, rounds)
    for found in results.values():
        for row in found:
            row["per_token"], row["cpu_per_token"] = (row[k] / row["tokens"] for k in ("seconds", "cpu"))
    print(f"{common.hardware()}; {size / 1e6:.2f}M parameters; {rounds} rounds; one thread")
    print(f"ours: {ready['ours']['versions']}; TRL: {ready['TRL, packing']['versions']}")
    rows = [["", "tokens a step", "tokens/s", "ours is faster by", "by processor time"]]
    for name, found in results.items():
        rows.append(
            [
                name,
                f"{found[0]['tokens']:.0f}",
                f"{1 / common.median(found, 'per_token'):.0f}",
                common.ratios(results["ours"], found, "per_token"),
                common.ratios(results["ours"], found, "cpu_per_token"),
            ]
        )
    common.show(rows)


if __name__ == "__main__":
    main()
