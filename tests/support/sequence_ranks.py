"""What ranks that share sequences measure: `torchrun --nproc-per-node N sequence_ranks.py FOLDER SIZE`.

Writes numbers.json: PyTorch in one process, whole sequences, is what the ranks are compared with."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ["ACEREASON_NATIVE"] = "0"

import torch
from torch import Tensor

from acereason import ranks
from acereason.config import Kl, Lora, Placement, Rl, Sft, Stage
from acereason.errors import ConfigError
from acereason.policy import attention, lora
from acereason.policy import model as models
from acereason.policy.packing import Example, pack
from acereason.policy.policy import Policy
from acereason.train import parallel, sft, update
from acereason.train.second import NOTHING, Besides, Loaded
from families import make_family
from learn_groups import Capture, groups
from two_ranks import WholeCapture, alone, apart, model, whole_gradient

torch.set_num_threads(1)
STAGE = Stage("s", "math", budget=20, steps=1, group=4, prompts=5)
SETTINGS = Rl(micro_tokens=24, clip_gradient=1e9)
TAUGHT = Stage(
    "s", "math", budget=20, steps=1, group=4, prompts=5, kind="distill", teacher="sft", overlong="zero"
)
MASKED = Rl(micro_tokens=24, clip_gradient=1e9, sequence_mask="geometric", mask_bounds=(0.015, 99.0))


def shared(made: Any, size: int, **placement: Any) -> Any:
    """The model over all ranks, `size` of which share each sequence."""
    how = Placement(device="cpu", sequence=size, **placement)
    parallel.prepare(made, how)
    parallel.shard(made, how)
    return made


def rl_step(
    one: Any,
    two: Any,
    settings: Rl = SETTINGS,
    besides: tuple[Besides, Besides] = (NOTHING, NOTHING),
    stage: Stage = STAGE,
) -> dict[str, float]:
    """A step on judged groups: relative differences of gradient, loss and norm; and the tokens that count."""
    batch = groups(3, shape=(5, 4))
    plain, ours = Capture(one), WholeCapture(two)
    own = batch[ranks.rank() :: ranks.world()]
    weighed = update.weigh(own, stage, settings)
    said, _ = update.learn(Policy(two, None, "plain"), own, weighed, [ours], settings, besides[1])  # type: ignore[list-item]
    with alone():
        whole = update.weigh(batch, stage, settings)
        expected, _ = update.learn(Policy(one, None, "plain"), batch, whole, [plain], settings, besides[0])  # type: ignore[list-item]
    assert plain.gradient is not None and ours.gradient is not None
    assert said.learned_tokens == expected.learned_tokens
    second = {} if expected.kl is None else {"kl": abs((said.kl or 0) / expected.kl - 1)}
    return second | {
        "gradient": apart(ours.gradient, plain.gradient),
        "loss": abs(said.loss / expected.loss - 1),
        "norm": abs((said.gradient_norm or 0) / (expected.gradient_norm or 1) - 1),
        "k3": abs(said.k3 / expected.k3 - 1),
    }


def beside(size: int) -> dict[str, dict[str, float]]:
    """A teacher, and a reference, whose sequences are shared as the policy's are."""

    def other() -> Any:
        made = model()
        with torch.no_grad():
            for number, p in enumerate(made.parameters()):
                p.add_(0.1 * torch.randn(p.shape, generator=torch.Generator().manual_seed(number)))
        return made.requires_grad_(False)

    found = {}
    for name, kl, stage in (("teacher", 0.0, TAUGHT), ("reference", 0.3, STAGE)):
        settings = Rl(micro_tokens=24, clip_gradient=1e9, kl=Kl(kl))
        both = [
            Besides(0.0, Loaded(made, 24), name == "teacher") for made in (other(), shared(other(), size))
        ]
        found[name] = rl_step(model(), shared(model(), size), settings, (both[0], both[1]), stage)
    return found


def sft_step(size: int) -> dict[str, float]:
    """A step of SFT on sequences of odd lengths, and the loss without learning."""
    examples = [Example([3, 4, 5 + i], [(7 * i + j) % 60 for j in range(5 + 3 * i)], i) for i in range(7)]
    one, two = model(), shared(model(), size)
    losses = [sft.held_out_loss(two, examples, Sft(micro_tokens=20)), sft.learn(two, examples, 20)]
    gradient = whole_gradient(two)
    with alone():
        expected = [sft.held_out_loss(one, examples, Sft(micro_tokens=20)), sft.learn(one, examples, 20)]
        plain = torch.cat([p.grad.flatten() for p in one.parameters()])
    differences = [abs(a / b - 1) for a, b in zip(losses, expected, strict=True)]
    return {"gradient": apart(gradient, plain), "held out": differences[0], "loss": differences[1]}


def adapted() -> Any:
    """A model that learns adapters alone."""
    made = model()
    lora.adapt(made, Lora(4, 8.0))
    return made


def lora_step(size: int) -> dict[str, float]:
    """A step of adapters, which share sequences as whole weights do."""
    one, two = adapted(), shared(adapted(), size)
    for made in (one, two):
        lora.initialise(made, 5)
    batch = [Example([1, 2, 3], [5 + i, 6, 7, 8], i) for i in range(5)]
    sft.learn(two, batch, 10)
    found = [p.grad.full_tensor() for p in two.parameters() if p.requires_grad]
    with alone():
        sft.learn(one, batch, 10)
    expected = [p.grad for p in one.parameters() if p.requires_grad]
    pairs = [torch.cat([t.flatten() for t in side]) for side in (found, expected)]
    return {"gradient": apart(*pairs)}


def kinds(size: int) -> dict[str, dict[str, float]]:
    """Architectures with other heads, windows and caps of attention."""
    found = {}
    for kind in ("gemma2", "granite", "qwen2", "gpt2"):
        heads: dict[str, Any] = {} if kind == "gpt2" else {"num_key_value_heads": 1}
        one, two = (make_family(kind, **heads) for _ in range(2))
        for each in (one, two):
            each.set_attn_implementation(attention.NAME)
        found[kind] = rl_step(one, shared(two, size))
    return found


def saved_bytes(made: Any, run: Callable[[], Tensor]) -> int:
    """Bytes that the backward pass of `run` keeps, parameters (also gathered ones) left out."""
    shapes = {tuple(p.shape) for p in made.parameters()} | {tuple(p.shape)[::-1] for p in made.parameters()}
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if tuple(tensor.shape) not in shapes and not isinstance(tensor, torch.nn.Parameter):
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = run()
    del loss
    return sum(kept.values())


def activations(size: int) -> dict[str, float]:
    """The share of one rank's bytes that each rank keeps, for long sequences in a pack."""
    packed = pack([Example([1, 2, 3], [(5 * i + j) % 60 for j in range(100 + 20 * i)], i) for i in range(3)])
    one, two = model(), shared(model(), size)
    mine = saved_bytes(two, lambda: models.logprobs(two, packed)[0])
    whole = saved_bytes(one, lambda: models.packed_logprobs(one, packed, 1.0)[0])
    return {"share": mine / whole}


def refused(size: int) -> list[str]:
    """What is said of ranks and heads that do not divide."""
    said = []
    for wanted, made in (
        (ranks.world() + 1, model()),
        (size, make_family("qwen3", num_attention_heads=7, num_key_value_heads=7)),
    ):
        try:
            shared(made, wanted)
        except ConfigError as error:
            said.append(str(error))
    return said


def main(folder: Path, size: int) -> None:
    with ranks.joined(minutes=2):
        numbers: dict[str, Any] = {
            "rl": rl_step(model(), shared(model(), size)),
            "untied": rl_step(model(False), shared(model(False), size)),
            "bonus": rl_step(model(), shared(model(), size), besides=(Besides(0.3), Besides(0.3))),
            **beside(size),
            "mask": rl_step(model(), shared(model(), size), MASKED),
            "checkpointing": rl_step(model(), shared(model(), size, checkpoint_activations=True)),
            "bfloat16": rl_step(model(), shared(model(), size, compute="bfloat16")),
            "sft": sft_step(size),
            "lora": lora_step(size),
            "activations": activations(size),
            "kinds": kinds(size),
            "refused": refused(size),
        }
        everywhere = ranks.gathered(numbers)
        if ranks.main():
            (folder / "numbers.json").write_text(json.dumps(everywhere))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
