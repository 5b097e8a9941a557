"""A base in four bits: what it computes is merged and published; where it cannot learn it is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from acereason.config import Lora
from acereason.errors import ConfigError
from acereason.plan import memory
from acereason.plan.memory import Machine, Means
from acereason.plan.shapes import SHAPES
from acereason.policy import attention, four_bit, frozen, lora
from acereason.policy import model as models
from acereason.policy.packing import Example, pack
from acereason.policy.state import full_tensors
from acereason.train import optimizers
from sample_models import make

EXAMPLES = [Example([3, 9, 4], [11 + i, 5, 2 * i + 20, 7], i) for i in range(4)]


def test_a_processor_and_several_ranks_are_refused() -> None:
    with pytest.raises(ConfigError, match="needs a CUDA device"):
        four_bit.check(torch.device("cpu"), 1)
    with pytest.raises(ConfigError, match="for one rank, and there are 2"):
        four_bit.check(torch.device("cuda"), 2)


def test_four_bits_are_planned() -> None:
    shape, machine = SHAPES["qwen2.5-math-7b"], Machine(1, 24e9)
    packed = Means(True, rank=16, base=memory.FOUR_BITS)
    assert memory.states(shape, machine, packed) < 0.35 * memory.states(shape, machine, Means(True, rank=16))
    assert memory.fitting(shape, machine, packed) > 0 == memory.fitting(shape, machine, Means(True, rank=16))


def learned(device: str, tmp_path: Path) -> None:
    """A step of adapters over a base in four bits, merged and saved."""
    model: Any = make(
        "qwen3", hidden_size=128, intermediate_size=192, num_attention_heads=8
    )  # multiples of 64 inside
    model.set_attn_implementation(attention.NAME)
    four_bit.quantise(model, torch.float32)
    model.to(device)
    lora.adapt(model, Lora(4, 8.0, base="nf4"))
    lora.initialise(model, 5)
    for layer in lora.adapters(model).values():
        nn.init.normal_(layer.lora_B.weight, 0.0, 0.1)
    assert len(lora.adapters(model)) == 14 and frozen.base_of(model) is not None
    whole = models.new_model("qwen3", 0, **{k: getattr(model.config, k) for k in KEYS})
    whole.load_state_dict(dict(full_tensors(model)), strict=False)
    logprob, _ = models.logprobs(model, pack(EXAMPLES))
    own, _ = models.logprobs(whole, pack(EXAMPLES))
    torch.testing.assert_close(logprob, own, rtol=1e-3, atol=1e-3)
    (-logprob.mean()).backward()
    optimizer = [torch.optim.AdamW(optimizers.learned(model), lr=0.01)]
    before = frozen.base_of(model)
    assert optimizers.step(model, optimizer, 1.0) and torch.equal(before, frozen._sum(model))  # type: ignore[arg-type]
    models.save(model, None, tmp_path)
    saved = models.load_model(tmp_path)
    for name, tensor in full_tensors(model):
        assert torch.equal(saved.get_parameter(name), tensor.cpu()), name


KEYS = (
    "hidden_size", "num_hidden_layers", "intermediate_size", "vocab_size", "num_attention_heads",
    "eos_token_id", "num_key_value_heads", "head_dim", "tie_word_embeddings", "max_position_embeddings",
)  # fmt: skip


def test_the_layers_do_what_they_say(tmp_path: Path) -> None:
    """By bitsandbytes' slow way on a processor, where it is installed."""
    pytest.importorskip("bitsandbytes")
    learned("cpu", tmp_path)


@pytest.mark.gpu
def test_on_a_gpu_they_learn(tmp_path: Path) -> None:
    pytest.importorskip("bitsandbytes")
    learned("cuda", tmp_path)
