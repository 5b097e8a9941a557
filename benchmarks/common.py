"""Paired timing of programs that cannot share a process: A B A B … on one core, then the ratios.

Each contender is a worker process, pinned to one core with one thread, that does one round of work
when it is told to and answers with a line of JSON. Rounds alternate, so what the machine does
besides falls on all alike; a ratio is taken within a round, and the median of the ratios is what
counts, shown with the lowest and the highest. Wall-clock time is compared; processor time is shown
beside it, because on a shared machine the two differ.

This file needs nothing but the standard library and, in workers, PyTorch: peers run in their own
environment.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
MARK = "@result "


@dataclass(frozen=True)
class Contender:
    """A worker: the interpreter and the arguments that start it. `preload`: a library for LD_PRELOAD."""

    arguments: Sequence[str]
    python: str = sys.executable
    preload: str | None = None
    environment: Mapping[str, str] | None = None


# ---- in the worker ----------------------------------------------------------------------------------


def matmul_peak(size: int = 1024, seconds: float = 1.0) -> float:
    """The best rate, in GFLOP/s, of a square float32 matrix product in PyTorch as this process has it."""
    import torch

    a, b = torch.randn(size, size), torch.randn(size, size)
    best, end = float("inf"), time.perf_counter() + seconds
    while time.perf_counter() < end:
        begun = time.thread_time()
        a @ b
        best = min(best, time.thread_time() - begun)
    return 2 * size**3 / best / 1e9


def serve(step: Callable[[], dict[str, float]]) -> None:
    """Do `step` once for every line on standard input and print what it returns with its time."""
    import torch

    torch.set_num_threads(1)
    step()  # warm: imports, caches, compilation
    answer(ready())
    for _ in sys.stdin:
        clock = Clock()
        found = step()
        answer(clock.read() | found)


def paced(callback: Any, seen: list[int]) -> Any:
    """A callback for a `transformers` Trainer (`callback`: its TrainerCallback) that does one step for every
    line on standard input; `seen` gets the tokens of a step's parts and is emptied before each."""

    class Steps(callback):  # type: ignore[misc]
        clock: Clock | None = None

        def on_step_begin(self, *_: Any, **__: Any) -> None:
            if self.clock is not None and not sys.stdin.readline():
                os._exit(0)
            seen.clear()
            self.clock = Clock()

        def on_step_end(self, arguments: Any, state: Any, *_: Any, **__: Any) -> None:
            assert self.clock is not None
            timed = self.clock.read()
            answer(ready() if state.global_step == 1 else timed | {"tokens": sum(seen)})

    return Steps()


TRL_RUN: dict[str, Any] = {  # a Trainer that goes on until its worker is ended, and writes nothing
    "gradient_checkpointing": False,
    "learning_rate": 1e-6,
    "use_cpu": True,
    "max_steps": 1 << 20,
    "logging_steps": 1 << 20,
    "save_strategy": "no",
    "report_to": "none",
    "disable_tqdm": True,
}


def grpo(
    folder: Path,
    out: Path,
    texts: Sequence[str],
    group: int,
    prompts: int,
    budget: int,
    bf16: bool,
    reward: Callable[[list[int]], int],
) -> None:
    """Serve steps of TRL's GRPOTrainer on the model in `folder`; runs in TRL's environment."""
    import torch
    from datasets import Dataset, fingerprint
    from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
    from trl import GRPOConfig, GRPOTrainer

    fingerprint.Hasher.hash = lambda *_: os.urandom(8).hex()  # dill cannot pickle what newer pyarrows hold
    torch.set_num_threads(1)
    seen: list[int] = []

    def rewards(completion_ids: list[list[int]], **_: Any) -> list[float]:
        seen.append(sum(len(ids) for ids in completion_ids))
        return [float(reward(ids)) for ids in completion_ids]

    settings = GRPOConfig(
        output_dir=str(out),
        per_device_train_batch_size=16,
        gradient_accumulation_steps=prompts * group // 16,
        num_generations=group,
        max_completion_length=budget,
        beta=0.0,
        loss_type="dapo",
        temperature=1.0,
        bf16=bf16,
        **TRL_RUN,
    )
    GRPOTrainer(
        model=AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32), reward_funcs=rewards,
        args=settings, train_dataset=Dataset.from_dict({"prompt": list(texts)}),
        processing_class=AutoTokenizer.from_pretrained(folder), callbacks=[paced(TrainerCallback, seen)],
    ).train()  # fmt: skip


def ready() -> dict[str, Any]:
    """What a worker says before the first round."""
    versions = {"python": platform.python_version()}
    for name in ("torch", "transformers", "trl"):
        if name in sys.modules:
            versions[name] = str(sys.modules[name].__version__)
    return {"peak": matmul_peak(), "versions": versions}


class Clock:
    """Wall-clock and processor seconds since it was made."""

    def __init__(self) -> None:
        self._wall, self._cpu = time.perf_counter(), time.process_time()

    def read(self) -> dict[str, float]:
        return {
            "seconds": time.perf_counter() - self._wall,
            "cpu": time.process_time() - self._cpu,
        }


def answer(found: Mapping[str, Any]) -> None:
    """Hand a result to the parent."""
    print(MARK + json.dumps(found), flush=True)


# ---- in the parent ----------------------------------------------------------------------------------


class Worker:
    """A contender's process, pinned to `core`."""

    def __init__(self, contender: Contender, core: int) -> None:
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
        environment |= {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
        environment |= contender.environment or {}
        if contender.preload:
            environment["LD_PRELOAD"] = contender.preload
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115
        self._process = subprocess.Popen(
            [contender.python, *contender.arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            env=environment,
            preexec_fn=lambda: os.sched_setaffinity(0, {core}),
        )
        self.ready = self._read()

    def round(self) -> dict[str, Any]:
        """One round of work."""
        assert self._process.stdin
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return self._read()

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout
        for line in self._process.stdout:
            if line.startswith(MARK):
                found: dict[str, Any] = json.loads(line[len(MARK) :])
                return found
        self._errors.seek(0)
        raise SystemExit(f"a contender ended early:\n{self._errors.read()[-3000:]}")

    def close(self) -> None:
        self._process.kill()
        self._process.wait()


def alternate(
    contenders: Mapping[str, Contender], rounds: int
) -> tuple[dict[str, dict[str, Any]], dict[str, list[dict[str, Any]]]]:
    """What each said when ready, and its results round by round."""
    core = max(os.sched_getaffinity(0))
    workers: dict[str, Worker] = {}
    try:
        for name, contender in contenders.items():
            workers[name] = Worker(contender, core)
        results: dict[str, list[dict[str, Any]]] = {name: [] for name in workers}
        for _ in range(rounds):
            for name, worker in workers.items():
                results[name].append(worker.round())
    finally:
        for worker in workers.values():
            worker.close()
    return {name: worker.ready for name, worker in workers.items()}, results


def ratios(ours: Sequence[Mapping[str, float]], theirs: Sequence[Mapping[str, float]], key: str) -> str:
    """Their `key` over ours within each round: median (lowest to highest)."""
    found = [b[key] / a[key] for a, b in zip(ours, theirs, strict=True)]
    return f"{statistics.median(found):.2f} ({min(found):.2f} to {max(found):.2f})"


def median(results: Sequence[Mapping[str, float]], key: str) -> float:
    return statistics.median(r[key] for r in results)


def show(rows: Sequence[Sequence[str]]) -> None:
    """Print rows as a table in Markdown, the first being the head."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for number, row in enumerate(rows):
        print("| " + " | ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)) + " |")
        if number == 0:
            print("|" + "|".join("-" * (w + 2) for w in widths) + "|")


def hardware() -> str:
    """The processor and how many cores may be used."""
    model = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next(x.split(":")[1].strip() for x in lines if x.startswith("model name"))
        flags = next(x for x in lines if x.startswith("flags")).split()
        widest = next((f for f in ("avx512f", "avx2", "sse2") if f in flags), "")
        model = f"{model}, {widest}"
    except (OSError, StopIteration):
        pass
    return f"{model}, {len(os.sched_getaffinity(0))} cores, {platform.system()} {platform.release()}"


def arithmetic_fix() -> str | None:
    """Path of the library that `acereason.native.mkl` loads, for giving it to peers too."""
    from acereason.native import build as compiled
    from acereason.native import mkl as fastmath

    built = compiled.build("fastmath", fastmath.SOURCE, "c", ("-O2",))
    return str(built.path) if built.path else None
