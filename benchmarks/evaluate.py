"""Our own time in an evaluation, beside the sampling: 30 questions × 64 samples of 8K tokens, one core.

    python benchmarks/evaluate.py [--samples 64] [--tokens 8192]

Two ways in: completions from a sampler that has them ready (decoding, keeping, judging, scoring), and a file
of generations (reading, keeping, judging, scoring). Answers are of the kinds that AIME and HMMT have, half
of them right, wrong ones all different. Memory is the growth of the resident size from an eighth of the
samples to all of them.
"""

from __future__ import annotations

import argparse
import os
import random
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import SimpleNamespace

import msgspec
import numpy as np
import numpy.typing as npt

from acereason.evaluate.benchmarks.catalogue import Loaded
from acereason.evaluate.benchmarks.job import FromFile, FromModel, run
from acereason.evaluate.benchmarks.store import AnswerProtocol
from acereason.policy.policy import Policy
from acereason.policy.tokenizer import train_tokenizer
from acereason.problems import Problem
from acereason.progress import Quiet
from acereason.sample.protocol import Completion, Request

TEXT = "Let us see what follows when n is 12 and the sum of all terms must be even, so wait, check again ."
ANSWERS = [
    "204", "\\frac{13}{27}", "2\\sqrt{3}+1", "(3, 5)", "\\frac{\\pi}{6}", "1 - \\frac{2}{\\pi}", "45^\\circ",
    "2^{98}",
]  # fmt: skip


class Ready:
    """A sampler that has everything written already."""

    remote = False

    def __init__(self, write: Callable[[int, int], npt.NDArray[np.int32]]) -> None:
        self.write = write

    def sample(self, requests: Iterable[Request]) -> Iterator[Completion]:
        none = np.zeros(0, np.float32)
        for request in requests:
            yield Completion(request, self.write(*request.key), none, none, none, "stop")

    def update(self, weights: object) -> None:
        return None

    def close(self) -> None:
        return None


def questions(count: int) -> Loaded:
    problems = [
        Problem(f"q{i}", "math", f"Question {i}?", answer=ANSWERS[i % len(ANSWERS)]) for i in range(count)
    ]
    return Loaded("bench", "bench", 64, problems, f"{count} questions")


def resident() -> float:
    """MiB now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 2**20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=int, default=64)
    parser.add_argument("--tokens", type=int, default=8192)
    options = parser.parse_args()
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    tokenizer = train_tokenizer([TEXT] * 50, 400)
    thinking = tokenizer.encode(" ".join(random.Random(1).choices(TEXT.split(), k=4 * options.tokens)))
    thinking = thinking[: options.tokens - 40]
    generation = SimpleNamespace(eos_token_id=tokenizer.eos_token_id)
    model = SimpleNamespace(
        config=SimpleNamespace(max_position_embeddings=1 << 20), generation_config=generation
    )
    policy, loaded = Policy(model, tokenizer, "chatml-1.1"), questions(30)

    def answer(index: int, sample: int) -> str:
        right = ANSWERS[index % len(ANSWERS)]
        shown = right if sample % 2 else f"{sample} + {right}"
        return f"</think>\n\nThe answer is \\boxed{{{shown}}}."

    begin = np.array(thinking, np.int32)
    ends = {(i, j): tokenizer.encode(answer(i, j)) for i in range(30) for j in range(options.samples)}

    def write(index: int, sample: int) -> npt.NDArray[np.int32]:
        return np.concatenate([begin, np.array([*ends[index, sample], policy.end_ids[0]], np.int32)])

    print(f"{'':24}{'samples':>8}{'seconds':>9}{'processor':>10}{'resident, MiB':>15}")
    for way in ("sampler", "file"):
        for samples in (options.samples // 8, options.samples):
            with tempfile.TemporaryDirectory() as folder:
                if way == "file":
                    source: FromModel | FromFile = FromFile(
                        generations(Path(folder), policy, loaded, samples, write), True
                    )
                else:
                    protocol = AnswerProtocol("bench", "ready", budget=options.tokens + 64)
                    source = FromModel(policy, Ready(write), protocol)
                begun, cpu = time.perf_counter(), time.process_time()
                run([loaded], source, Path(folder) / "out", k=samples, judges=1, progress=Quiet())
                wall, used = time.perf_counter() - begun, time.process_time() - cpu
                print(f"{way:<24}{30 * samples:>8}{wall:>9.2f}{used:>10.2f}{resident():>15.0f}")
    sys.stdout.flush()


def generations(
    folder: Path,
    policy: Policy,
    loaded: Loaded,
    samples: int,
    write: Callable[[int, int], npt.NDArray[np.int32]],
) -> Path:
    path = folder / "made.jsonl"
    with path.open("wb") as file:
        for index, problem in enumerate(loaded.problems):
            for sample in range(samples):
                tokens = write(index, sample)
                row = {"problem_id": problem.id, "text": policy.text(tokens), "tokens": len(tokens)}
                file.write(msgspec.json.encode(row) + b"\n")
    return path


if __name__ == "__main__":
    main()
