"""What the tests of ranks measure, in one job: `torchrun --nproc-per-node 2 two_ranks.py FOLDER`.

Writes numbers.json. PyTorch on one process, without shards, is what two ranks are compared with."""

from __future__ import annotations

import errno
import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from torch.distributed.tensor import DTensor

os.environ["ACEREASON_NATIVE"] = "0"

import numpy as np
import torch
from msgspec.structs import replace
from torch import Tensor
from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageWriter
from transformers import logging as transformers_logging

import fake_engines
import made_up
from acereason import config, ranks, runs
from acereason.config import Placement, Rl, Servers, Stage
from acereason.errors import CheckpointError, RunError, SamplingError
from acereason.policy import frozen, shards
from acereason.policy import model as models
from acereason.policy.packing import Example
from acereason.policy.policy import Policy
from acereason.policy.state import full_tensors
from acereason.sample.ask import How
from acereason.sample.servers import ipc
from acereason.sample.servers.server import ServerSampler
from acereason.train import checkpoint, metrics, optimizers, parallel, sft, update
from acereason.train.checkpoint import Position
from acereason.train.stages import PoolState, StageState
from acereason.train.streaming import ask_and_learn
from fake_vllm import FakeVllm, tiny_policy
from learn_groups import Capture, groups, learn, weights
from made_up import PROBLEMS, Coin, Elsewhere, Words
from tiny_run import RECIPE

torch.set_num_threads(1)
transformers_logging.disable_progress_bar()
CPU = torch.device("cpu")
SHAPE: dict[str, Any] = {
    "vocab_size": 61,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "intermediate_size": 48,
    "max_position_embeddings": 256,
    "eos_token_id": 1,
}
STATE = StageState(
    pool=PoolState(ids=["a", "b"], order=["b", "a"]), temperature={"T": 0.9}, history=[(0.5, 0.1, 7)]
)
STAGE = Stage("s", "math", budget=20, steps=1, group=4, prompts=5)


def model(tied: bool = True) -> Any:
    return models.new_model("qwen3", 0, tie_word_embeddings=tied, **SHAPE)


def sharded(tied: bool = True, **placement: Any) -> Any:
    made = model(tied)
    parallel.prepare(made, Placement(device="cpu", **placement))
    parallel.shard(made, Placement(device="cpu", **placement))
    return made


def whole_gradient(made: Any) -> Tensor:
    return torch.cat([torch.as_tensor(_full(p.grad)).flatten() for p in made.parameters()])


def _full(tensor: Tensor) -> Tensor:
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


class WholeCapture(Capture):
    def step(self) -> None:
        self.gradient = whole_gradient(self.model)


def apart(a: Tensor, b: Tensor) -> float:
    return float((a.double() - b.double()).norm() / b.double().norm())


def rl_gradients() -> dict[str, float]:
    """Relative differences of the gradient, and of what is said about the step."""
    batch = groups(3, shape=(5, 4))
    found: dict[str, float] = {}
    cases: dict[str, dict[str, Any]] = {
        "tied": {},
        "untied": {"tied": False},
        "activations": {"checkpoint_activations": True},
        "bfloat16": {"compute": "bfloat16"},
        "bfloat16 sums": {"reduce": "bfloat16"},
    }
    for name, how in cases.items():
        settings = Rl(micro_tokens=40, clip_gradient=1e9)
        one, two = model(how.get("tied", True)), sharded(**how)
        plain, ours = Capture(one), WholeCapture(two)
        own = batch[ranks.rank() :: 2] if name != "untied" else (batch if ranks.main() else [])
        said = learn(Policy(two, None, "plain"), own, [ours], STAGE, settings)
        with alone():
            expected = learn(Policy(one, None, "plain"), batch, [plain], STAGE, settings)
        assert plain.gradient is not None and ours.gradient is not None
        found[name] = apart(ours.gradient, plain.gradient)
        found[f"{name} loss"] = abs(said.loss - expected.loss) / abs(expected.loss)
        found[f"{name} norm"] = abs((said.gradient_norm or 0) / (expected.gradient_norm or 1) - 1)
        assert said.learned_tokens == expected.learned_tokens
    return found


@contextmanager
def alone() -> Iterator[None]:
    """What is computed inside does not talk to the other rank."""
    world, rank = ranks.world, ranks.rank
    ranks.world, ranks.rank = lambda: 1, lambda: 0
    yield
    ranks.world, ranks.rank = world, rank


def streamed_gradient() -> float:
    """Parts of unequal number and size on the two ranks, normalised at the end."""
    batch, settings = groups(4, shape=(6, 4)), Rl(micro_tokens=30, clip_gradient=1e9)
    one, two = model(), sharded()
    plain, ours = Capture(one), WholeCapture(two)
    own = batch[ranks.rank() :: 2]
    streamed = update.Update(Policy(two, None, "plain"), settings)
    parts = ([own[:1], own[1:], []], [[], [], own])[ranks.rank()]
    for part in parts:
        streamed.add(part, *update.weigh(part, STAGE, settings)[1::-1])
    total = update.denominator(update.weigh(own, STAGE, settings))
    streamed.finish([ours], 1 / total)  # type: ignore[list-item]
    with alone():
        learn(Policy(one, None, "plain"), batch, [plain], STAGE, settings)
    assert plain.gradient is not None and ours.gradient is not None
    return apart(ours.gradient, plain.gradient)


def meanwhile() -> dict[str, float]:
    """A whole step, learned while it is sampled elsewhere; the second rank's sampler is the slower one."""
    one, two = model(), sharded()
    plain, ours = Capture(one), WholeCapture(two)
    settings = Rl(micro_tokens=32, clip_gradient=1e9)
    stage = made_up.STAGE
    how = How(samples=stage.group_in(0), budget=stage.budget, temperature=0.8, label=(1, "s", 1))
    slow = Elsewhere(lambda _: time.sleep(0.02 * ranks.rank()))
    policy = Policy(two, Words(), "plain")
    done = ask_and_learn(policy, slow, Coin(), PROBLEMS[:5], how, [ours], stage, settings)  # type: ignore[list-item]
    with alone():
        policy, rest = Policy(one, Words(), "plain"), replace(settings, overlap=False)
        expected = ask_and_learn(policy, Elsewhere(), Coin(), PROBLEMS[:5], how, [plain], stage, rest)  # type: ignore[list-item]
    assert plain.gradient is not None and ours.gradient is not None
    loss = abs(done.learned.loss / expected.learned.loss - 1)
    return {"gradient": apart(ours.gradient, plain.gradient), "loss": loss}


def replicated() -> dict[str, Any]:
    """Ranks that each hold the model, of which the first has all the groups, and one that are frozen below:
    the gradient's difference, and the responses that each rank learned. The same with frozen shards."""
    batch, settings = groups(3, shape=(6, 4)), Rl(micro_tokens=40, clip_gradient=1e9)
    found: dict[str, Any] = {}
    for name, how in {"whole": "replicate", "shards": "shard"}.items():
        one, two = model(False), model(False)
        for made in (one, two):
            frozen.freeze(made, 1)
        place = Placement(device="cpu", parallel=how)  # type: ignore[arg-type]
        parallel.prepare(two, place)
        if how == "shard":
            parallel.shard(two, place)
        plain, ours, passes = LearnedCapture(one), LearnedCapture(two), []  # type: ignore[var-annotated]
        with counted(passes):
            said = learn(Policy(two, None, "plain"), batch if ranks.main() else [], [ours], STAGE, settings)
        with alone():
            expected = learn(Policy(one, None, "plain"), batch, [plain], STAGE, settings)
        assert plain.gradient is not None and ours.gradient is not None
        assert said.learned_tokens == expected.learned_tokens
        found[name] = apart(ours.gradient, plain.gradient)
        found[f"{name} learned"] = ranks.gathered(sum(passes))
    return found


@contextmanager
def counted(passes: list[int]) -> Iterator[None]:
    """Puts down the predicted tokens of every pass of learning on this rank."""
    plain = update.logprobs  # type: ignore[attr-defined]

    def counting(made: Any, pack: Any, *rest: Any) -> Any:
        passes.append(0 if parallel.is_filler(pack) else len(pack.targets))
        return plain(made, pack, *rest)

    update.logprobs = counting  # type: ignore[assignment, attr-defined]
    yield
    update.logprobs = plain  # type: ignore[attr-defined]


class LearnedCapture(Capture):
    """The gradient of what learns; nothing else has one."""

    def step(self) -> None:
        assert all((p.grad is None) != p.requires_grad for p in self.model.parameters())
        self.gradient = torch.cat(
            [torch.as_tensor(_full(p.grad)).flatten() for p in optimizers.learned(self.model)]  # type: ignore[arg-type]
        )


def examples() -> list[Example]:
    rng = np.random.default_rng(0)
    lengths = (3, 9, 1, 14, 30, 2, 2)
    return [
        Example(rng.integers(0, 61, 5).tolist(), rng.integers(0, 61, n).tolist(), i)
        for i, n in enumerate(lengths)
    ]


def sft_gradient() -> dict[str, float]:
    one, two = model(), sharded()
    loss = sft.learn(two, examples(), 40)
    with alone():
        expected = sft.learn(one, examples(), 40)
    return {"gradient": apart(whole_gradient(two), whole_gradient(one)), "loss": abs(loss / expected - 1)}


def muon_step() -> float:
    """The weights after one step of Muon (which computes in bfloat16) and AdamW."""
    one, two = model(), sharded()
    settings = config.Sft(optimizer="muon", learning_rate=1e-3)
    for made in (one, two):
        with alone() if made is one else nullcontext():
            sft.learn(made, examples(), 40)
            optimizers.step(made, optimizers.for_sft(made, settings), 1.0)
    return max(apart(a, b.detach()) for (_, a), b in zip(full_tensors(two), one.parameters(), strict=True))


def loading(folder: Path) -> dict[str, Any]:
    """A Hugging Face folder onto the ranks and back."""
    found: dict[str, Any] = {}
    for tied in (True, False):
        source = folder / f"source-{tied}"
        if ranks.main():
            models.new_model("qwen3", 7, tie_word_embeddings=tied, **SHAPE).bfloat16().save_pretrained(source)
        ranks.barrier()
        made, where = models.empty_model(source, torch.float32, 1e6, 512)
        parallel.shard(made, Placement(device="cpu"))
        assert all(p.is_meta for p in made.parameters())
        shards.fill(made, where, CPU)
        expected = models.load_model(source, torch.float32, 1e6, 512)
        pairs = list(zip(full_tensors(made), expected.named_parameters(), strict=True))
        found[f"equal {tied}"] = all(n == m and torch.equal(a, b.detach()) for (n, a), (m, b) in pairs)
        held = sum(p.to_local().numel() for p in made.parameters())
        found[f"held {tied}"] = held / sum(p.numel() for p in expected.parameters())
        found[f"tied {tied}"] = made.get_input_embeddings().weight is made.get_output_embeddings().weight
        own, theirs = (m.get_submodule("model.rotary_emb").inv_freq for m in (made, expected))
        found[f"rotation {tied}"] = torch.equal(own, theirs)
        shards.FILE_BYTES = 20_000  # several files
        models.save(made, None, folder / f"written-{tied}")
        shards.FILE_BYTES = 5 << 30
    ranks.barrier()
    try:
        made, _ = models.empty_model(folder / "source-False", torch.float32, None, None)
        shards.fill(made, folder / "source-True", CPU)
    except CheckpointError as error:
        found["refused"] = str(error)
    return found


def checkpoints(folder: Path) -> dict[str, Any]:
    """A checkpoint in the background, changed weights meanwhile, read back."""
    recipe = config.parse(RECIPE)
    if ranks.main():
        runs.create(folder / "run", recipe).close()
    ranks.barrier()
    made = sharded()
    optimizer = optimizers.for_rl(made, Rl())
    optimizers.set_rates(optimizer, [1e-2])
    sft.learn(made, examples(), 40)
    optimizers.step(made, optimizer, 1.0)
    before = [t.clone() for _, t in full_tensors(made)]
    state = [_full(optimizer[0].state[p]["exp_avg"]).clone() for p in made.parameters()]
    with runs.Run(folder / "run", recipe, ranks.main()) as run, checkpoint.Writer(run) as writer:
        writer.save(made, optimizer, Position(step=3, state=STATE))
        with torch.no_grad():
            for parameter in made.parameters():
                parameter.mul_(0)
        writer.wait()
        ranks.barrier()
        found = checkpoint.latest(run)
    assert found is not None
    fresh = sharded()
    again = optimizers.for_rl(fresh, Rl())
    checkpoint.load_weights(found[0], fresh)
    checkpoint.load_optimizers(found[0], again)
    states = [_full(again[0].state[p]["exp_avg"]) for p in fresh.parameters()]
    return {
        "weights": all(torch.equal(a, b) for a, (_, b) in zip(before, full_tensors(fresh), strict=True)),
        "optimizer": all(torch.equal(a, b) for a, b in zip(state, states, strict=True)),
        "step": float(next(iter(again[0].state.values()))["step"]),
        "position": [found[1].step, found[1].state == STATE],
        "sum": float(sum(t.double().abs().sum() for t in before)),
    }


def full_disk(folder: Path) -> list[str]:
    """A disk that is full on the second rank: the error, and what is left in the folder."""

    def write_data(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    if not ranks.main():
        HuggingFaceStorageWriter.write_data = write_data  # type: ignore[method-assign, assignment]
    recipe, errors = config.parse(RECIPE), []
    with runs.Run(folder / "run", recipe, ranks.main()) as run:
        before = sorted(p.name for p in run.checkpoints.glob("step-*"))
        writer = checkpoint.Writer(run)
        writer.save(sharded(), [], Position(step=4))
        try:
            writer.wait()
        except RunError as error:
            errors.append(str(error))
        ranks.barrier()
        assert sorted(p.name for p in run.checkpoints.glob("step-*")) == before
    return errors


def merged_metrics() -> bool:
    """A step's numbers from two shares are those of the whole."""
    batch = groups(5, shape=(5, 4))
    own = batch[ranks.rank() :: 2]
    told = metrics.tell(own, weights(own, STAGE, Rl()))
    mine, rates = metrics.step_metrics(told), metrics.judged_rewards(own)
    with alone():
        told = metrics.tell(batch, weights(batch, STAGE, Rl()))
        return metrics.step_metrics(told) == mine and metrics.judged_rewards(batch) == rates


def through_memory(folder: Path) -> dict[str, Any]:
    """Weights from both ranks' GPUs into a server with a worker on each (`fake_engines`); what it is refused
    with when it has one on a third."""
    fake_engines.SharedFile.name = f"GPU-{ranks.rank()}"
    ipc.Buffer, ipc.LEAST = fake_engines.SharedFile, 4096  # type: ignore[misc, assignment]
    policy, engine = tiny_policy(seed=3), fake_engines.Ipc("GPU-0", "GPU-1")
    fake = FakeVllm(tiny_policy()) if ranks.main() else None
    if fake:
        fake.engine = engine
    url: str = ranks.of_main(fake.url if fake else None)
    how = Servers((url,), folder=str(folder / "out"), transfer="ipc", canary=1e-4)
    sampler = ServerSampler(policy, how, patience=20.0)
    sampler.update(policy.model)
    found: dict[str, Any] = {"difference": sampler.differences[url].mean, "files": (folder / "out").exists()}
    engine.gpus.append("GPU-2")
    try:
        sampler.update(policy.model)
    except SamplingError as error:
        found["refused"] = str(error)
    sampler.close()
    return found


def main(folder: Path) -> None:
    with ranks.joined(minutes=2):
        numbers = {
            "rl": rl_gradients(),
            "streamed": streamed_gradient(),
            "meanwhile": meanwhile(),
            "sft": sft_gradient(),
            "replicated": replicated(),
            "muon": muon_step(),
            "loading": loading(folder),
            "checkpoint": checkpoints(folder),
            "metrics": merged_metrics(),
            "full disk": full_disk(folder),
            "memory": through_memory(folder) if find_spec("httpx2") else {},
        }
        everywhere = ranks.gathered(numbers)
        if ranks.main():
            (folder / "numbers.json").write_text(json.dumps(everywhere))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
