"""What `gpu.py` measures with: sizes, the clock, memory, a model and a batch on the device."""

from __future__ import annotations

import platform
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from acereason.config import Placement
from acereason.policy import flops
from acereason.policy.model import new_model
from acereason.policy.packing import Example
from acereason.train import parallel

QWEN_1_5B = {
    "vocab_size": 151936, "hidden_size": 1536, "num_hidden_layers": 28, "num_attention_heads": 12,
    "num_key_value_heads": 2, "intermediate_size": 8960, "max_position_embeddings": 32768,
    "tie_word_embeddings": True, "eos_token_id": None, "pad_token_id": None, "bos_token_id": None,
}  # fmt: skip
QWEN_7B = QWEN_1_5B | {
    "vocab_size": 152064, "hidden_size": 3584, "num_attention_heads": 28, "num_key_value_heads": 4,
    "intermediate_size": 18944, "tie_word_embeddings": False,
}  # fmt: skip
TOY = QWEN_1_5B | {
    "vocab_size": 512, "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
    "intermediate_size": 128, "max_position_embeddings": 512,
}  # fmt: skip


@dataclass(frozen=True)
class Size:
    """How large everything is: `length` the longest sequence, `micro` tokens of a micro-batch; `large` the
    shape that adapters and weights on their way are tried with."""

    shape: dict[str, Any]
    large: dict[str, Any]
    sft_length: int
    rl_length: int
    micro: int
    micro_batches: int
    slots: tuple[int, ...]
    cached: int
    new: int
    prompts: int
    budget: int
    peer_rows: int


FULL = Size(QWEN_1_5B, QWEN_7B, 8192, 16384, 32768, 6, (128, 256), 4096, 256, 64, 2048, 128)
SMALL = Size(TOY, TOY | {"num_hidden_layers": 3}, 96, 128, 256, 2, (8,), 64, 16, 4, 32, 8)
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
CUDA = DEVICE.type == "cuda"
DTYPE = torch.bfloat16 if CUDA else torch.float32


def seconds(run: Callable[[], Any], rounds: int = 3, warm: int = 1) -> float:
    """The median wall-clock time of `run`, with everything queued on the device finished."""
    times = []
    for number in range(warm + rounds):
        wait()
        begun = time.perf_counter()
        run()
        wait()
        if number >= warm:
            times.append(time.perf_counter() - begun)
    return statistics.median(times)


def wait() -> None:
    if CUDA:
        torch.cuda.synchronize()


def clear() -> None:
    if CUDA:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def peak_memory() -> float | None:
    """GiB allocated at most since `clear`."""
    return torch.cuda.max_memory_allocated() / 2**30 if CUDA else None


def device_name() -> str:
    return torch.cuda.get_device_name() if CUDA else platform.processor() or platform.machine()


def machine(size: Size) -> dict[str, Any]:
    """What the device does at best: a copy (read and written bytes) and a matrix product."""
    n, megabytes = (8192, 4096) if CUDA else (512, 64)
    a, b = (torch.randn(n, n, device=DEVICE, dtype=DTYPE) for _ in range(2))
    source = torch.randn(megabytes << 18, device=DEVICE)
    target = torch.empty_like(source)
    copied = 2 * source.numel() * 4 / seconds(lambda: target.copy_(source), 10, 3)
    name = device_name()
    return {
        "device": name,
        "torch": torch.__version__,
        "matmul_tflops": 2 * n**3 / seconds(lambda: a @ b, 10, 3) / 1e12,
        "copy_tb_s": copied / 1e12,
        "peak_tflops": (flops.peak(DEVICE) or 0) / 1e12 or None,
    }


def model_for_learning(size: Size, **placed: Any) -> Any:
    with torch.device(DEVICE):
        model = new_model("qwen2", 1, **size.shape)
    placement = Placement(compute="bfloat16" if CUDA else "float32", **placed)
    parallel.prepare(model, placement)
    if parallel.wanted(placement):
        parallel.shard(model, placement)
    return model


def lengths_of(longest: int, tokens: int) -> Iterator[int]:
    """Long-tailed lengths up to `longest` whose sum is a little under `tokens`; always the same."""
    random, total = np.random.default_rng(0), 0
    while True:
        n = int(min(longest, max(longest / 16, random.lognormal(np.log(longest / 2), 0.6))))
        total += n
        if total > 0.98 * tokens:
            return
        yield n


def examples(size: Size, longest: int, tokens: int) -> list[Example]:
    random = np.random.default_rng(1)
    prompt = max(4, longest // 64)
    rows = [random.integers(0, size.shape["vocab_size"], n, np.int32) for n in lengths_of(longest, tokens)]
    return [Example(row[:prompt], row[prompt:], index) for index, row in enumerate(rows)]
