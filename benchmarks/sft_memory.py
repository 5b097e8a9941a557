"""Memory and disk of SFT traces: tokenised once, then one epoch of batches read from the disk.

    python benchmarks/sft_memory.py [--tokens 100_000_000] [--length 8000] [--folder build/sft-memory]

Traces are made of common words, so that a word is a token. What is printed: bytes of a token on the disk, the
highest resident memory while tokenising and while reading (whole, and above what Python with torch takes
before), seconds, and the same after a restart, when nothing is tokenised again.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

WORDS = ("then", "so", "we", "get", "the", "sum", "of", "both", "sides", "and", "thus", "hence")
SEEDS = 64  # texts that traces are put together from


def traces(count: int, length: int) -> Iterator[dict[str, Any]]:
    """Traces of about so many tokens."""
    rng = random.Random(0)
    parts = [" ".join(rng.choice(WORDS) for _ in range(500)) for _ in range(SEEDS)]
    for number in range(count):
        text = " ".join(rng.choice(parts) for _ in range(length // 500))
        yield {"problem_id": f"p{number // 4}", "sample": number % 4, "text": f"{text}</think>\n\\boxed{{4}}"}


def make(folder: Path, tokens: int, length: int) -> None:
    """The run's data."""
    folder.mkdir(parents=True)
    count = tokens // length
    with (folder / "traces.jsonl").open("w") as file:
        file.writelines(json.dumps(row) + "\n" for row in traces(count, length))
    with (folder / "sft.jsonl").open("w") as file:
        for number in range(count // 4 + 1):
            problem = {
                "id": f"p{number}",
                "domain": "math",
                "question": f"What is {number} + 2?",
                "answer": "4",
            }
            file.write(json.dumps(problem) + "\n")


def peak() -> int:
    """The most memory that was resident since `reset`, in bytes."""
    text = Path("/proc/self/status").read_text()
    return int(text.split("VmHWM:")[1].split()[0]) * 1024


def reset() -> None:
    """Forget the peak so far."""
    Path("/proc/self/clear_refs").write_text("5")


def child(folder: Path) -> None:
    """Tokenise and read, and print what it took."""
    from acereason.config import Sft
    from acereason.policy import model as models
    from acereason.policy.policy import Policy
    from acereason.policy.tokenizer import train_tokenizer
    from acereason.progress import Quiet
    from acereason.train import tokens
    from acereason.train.sft import Schedule

    tokenizer = train_tokenizer([" ".join(WORDS) + " 0123456789 </think>\n\\boxed{4}"] * 9, 600)
    shape: dict[str, Any] = {
        "hidden_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
    }
    sizes: dict[str, Any] = {
        "vocab_size": 600,
        "head_dim": 16,
        "intermediate_size": 48,
        "max_position_embeddings": 65536,
    }
    model = models.new_model("qwen3", 0, eos_token_id=tokenizer.eos_token_id, **shape, **sizes)
    policy, settings = Policy(model, tokenizer, "plain"), Sft(epochs=1, batch_tokens=256 * 32768)
    reset()
    base, begun = peak(), time.perf_counter()
    made = tokens.prepare(folder / "tokens", folder / "data", policy, settings, 1, 2, Quiet())
    told = {"tokenise": [time.perf_counter() - begun, peak(), peak() - base]}
    reset()
    begun, read = time.perf_counter(), 0
    examples = tokens.Tokens(folder / "tokens")
    for _, _, chosen in Schedule(examples.lengths, settings, 1).batches():
        read += sum(len(example) for example in (examples[i] for i in chosen.tolist()))
    told["an epoch"] = [time.perf_counter() - begun, peak(), peak() - base]
    assert read == sum(part.tokens for part in made)
    size = sum(f.stat().st_size for f in (folder / "tokens").iterdir())
    print(json.dumps({"tokens": read, "bytes": size / read, "parts": told}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--tokens", type=int, default=100_000_000)
    parser.add_argument("--length", type=int, default=8000)
    parser.add_argument("--folder", type=Path, default=Path("build/sft-memory"))
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        child(given.folder)
        return
    shutil.rmtree(given.folder, ignore_errors=True)
    make(given.folder / "data", given.tokens, given.length)
    for start in ("first start", "second start"):
        command = [sys.executable, __file__, "--child", "--folder", str(given.folder)]
        told = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        print(f"{start}: {told['tokens']:,} tokens, {told['bytes']:.2f} bytes a token on the disk")
        for name, (seconds, whole, more) in told["parts"].items():
            print(
                f"  {name:<9} {seconds:7.1f} s, {whole / 2**20:5.0f} MiB resident, {more / 2**20:5.0f} above"
            )


if __name__ == "__main__":
    main()
