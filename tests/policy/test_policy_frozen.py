"""Frozen lower layers: everything above has the whole model's gradient, nothing below has any."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from acereason import config
from acereason.errors import ConfigError
from acereason.policy import attention, frozen, halves
from acereason.policy import model as models
from acereason.policy.packing import Example, pack
from acereason.train import optimizers
from families import FAMILIES, make_family
from sample_models import make as llama_like

EXAMPLES = [Example([3, 9, 4], [11 + i, 5, 2 * i + 20, 7], i) for i in range(4)]


def gradients(model: Any) -> dict[str, Any]:
    logprob, _ = models.logprobs(model, pack(EXAMPLES))
    (-logprob.mean()).backward()
    return {name: p.grad for name, p in model.named_parameters()}


def below(name: str, count: int) -> bool:
    """Whether a parameter stands below layer `count`, said by its name alone."""
    parts = name.split(".")
    number = next((int(p) for p in parts if p.isdigit()), None)
    return number < count if number is not None else any(p in name for p in ("embed", "wte", "wpe"))


@pytest.mark.parametrize(
    ("kind", "tied"), [*((kind, True) for kind in FAMILIES), ("llama", False), ("gpt2", False)]
)
def test_the_gradient_above_is_the_whole_models(kind: str, tied: bool, monkeypatch: Any) -> None:
    monkeypatch.setenv("ACEREASON_NATIVE", "0")
    whole, model = (make_family(kind, tied=tied) for _ in range(2))
    for made in (whole, model):
        made.set_attn_implementation(attention.NAME)
    frozen.freeze(model, 1)
    compare(gradients(whole), gradients(model), 1, tied)


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("how", ["compiled", "bfloat16"])
def test_compiled_and_halved_passes_end_where_learning_does(how: str, tied: bool, count: int) -> None:
    whole, model = (llama_like("qwen3", tied=tied) for _ in range(2))
    for made in (whole, model):
        made.set_attn_implementation(attention.NAME)
        if how == "bfloat16":
            halves.halve(made)
    frozen.freeze(model, count)
    compare(gradients(whole), gradients(model), count, tied)


def compare(wanted: dict[str, Any], found: dict[str, Any], count: int, tied: bool) -> None:
    learned = {name for name, gradient in found.items() if gradient is not None}
    assert learned == {name for name in wanted if not below(name, count)} and learned
    for name in learned:
        torch.testing.assert_close(found[name], wanted[name], rtol=1e-5, atol=1e-7)


def test_nothing_is_kept_of_the_layers_below(monkeypatch: Any) -> None:
    monkeypatch.setenv("ACEREASON_NATIVE", "0")
    model = make_family("gemma3_text", num_hidden_layers=3, layer_types=["full_attention"] * 3)
    model.set_attn_implementation(attention.NAME)
    frozen.freeze(model, 2)
    made: list[bool] = []
    for layer in frozen.layers(model):
        layer.register_forward_hook(lambda _, __, out: made.append(bool(torch.as_tensor(out).requires_grad)))
    gradients(model)
    assert made == [False, False, True]
    assert len(optimizers.learned(model)) == sum(1 for p in model.parameters() if p.grad is not None)


def test_what_cannot_be_frozen_is_refused() -> None:
    with pytest.raises(ConfigError, match="frozen_layers is 3, and the model has 2 layers"):
        frozen.freeze(make_family("llama"), 3)
    new = {"num_hidden_layers": 2}
    with pytest.raises(ConfigError, match="new model has 2 layers"):
        config.parse({"name": "x", "model": {"new": new, "frozen_layers": 3}})
    with pytest.raises(ConfigError, match=r"leave model.frozen_layers out"):
        config.parse({"name": "x", "model": {"new": new, "frozen_layers": 1}, "lora": {}})


def test_muon_without_matrices_is_adamw() -> None:
    model = make_family("llama", tied=False)
    frozen.freeze(model, 2)
    (only,) = optimizers.for_sft(model, config.Sft(optimizer="muon"))
    assert isinstance(only, torch.optim.AdamW)
