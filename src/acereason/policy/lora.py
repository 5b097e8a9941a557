"""Low-rank adapters (LoRA): W + (alpha / rank) B A over a frozen model, in `peft`'s names and files.

    adapt(model, settings)          factors beside the chosen linear layers; everything else is frozen
    initialise(model, seed)         A drawn, B zero: the model is the base at first
    merged(model)                   (name, W + scale B A) of every tensor, with the factors' gradient
    save(model, folder, base)       adapter_config.json and adapter_model.safetensors, as peft's

A linear layer keeps its name and its `weight`; its factors are `lora_A.weight` [rank, in] and `lora_B.weight`
[out, rank] in float32. The forward pass by PyTorch adds the factors' product to the layer's; compiled code,
engines and whole files take merged weights. Source: Hu et al. 2021, arXiv 2106.09685.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.distributed.tensor._utils import compute_local_shape_and_global_offset

from acereason import ranks
from acereason.config import Lora
from acereason.draws import draw_seed
from acereason.errors import ConfigError
from acereason.policy import four_bit, frozen, hub
from acereason.policy.halves import HalfLinear
from acereason.policy.marks import marks_of

FOLDER = "adapter"  # in a saved model's folder
CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
PREFIX = "base_model.model."  # of peft's names


class Factor(nn.Module):
    """One factor; no linear layer of torch's, so that nobody takes it for a part of the model."""

    def __init__(self, rows: int, columns: int, device: torch.device) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(rows, columns, device=device))


class Adapter(nn.Module):
    """What a linear layer is besides once it has factors."""

    lora_A: Factor
    lora_B: Factor
    scale: float

    def product(self, x: Tensor) -> Tensor:
        """scale · x Aᵀ Bᵀ, [..., in] → [..., out]."""
        A, B = self.lora_A.weight, self.lora_B.weight
        if x.dtype != A.dtype and torch.promote_types(x.dtype, A.dtype) == A.dtype:
            x = x.to(A.dtype)
        return self.scale * F.linear(F.linear(x, A.to(x.dtype)), B.to(x.dtype))

    def forward(self, x: Tensor) -> Tensor:
        """[..., in] → [..., out]."""
        out: Tensor = super().forward(x)
        return out + self.product(x).to(out.dtype)

    def whole(self, weight: Tensor) -> Tensor:
        """W + scale B A in the type of `weight`, which is W; gathered from all ranks."""
        wide = torch.promote_types(weight.dtype, torch.float32)
        A, B = (gathered(f.weight).to(wide) for f in (self.lora_A, self.lora_B))
        return torch.addmm(weight.to(wide), B, A, alpha=self.scale).to(weight.dtype)


class AdaptedLinear(Adapter, nn.Linear):
    """A linear layer with factors."""


class AdaptedHalf(Adapter, HalfLinear):
    """A linear layer in bfloat16 products, with factors in float32."""


KINDS: dict[type, type] = {nn.Linear: AdaptedLinear, HalfLinear: AdaptedHalf}


def _kinds(model: Any) -> dict[type, type]:
    """The layers that take factors, with what they become; those in four bits where the model has some."""
    packed = next((type(m) for m in model.modules() if four_bit.quantised(getattr(m, "weight", None))), None)
    if packed is None:
        return KINDS
    return {packed: type("AdaptedFourBit", (Adapter, packed), {"__doc__": "A layer in four bits."}), **KINDS}


def adapt(model: Any, settings: Lora) -> None:
    """Give the layers that `settings.targets` names (all linear ones of the decoder where it names none)
    factors that are still zero, in place, and freeze the rest. ConfigError: there is no such layer."""
    kinds = _kinds(model)
    known = {n: m for n, m in model.base_model.named_modules() if type(m) in kinds}
    last = {name.rpartition(".")[2] for name in known}
    if not known or (missing := sorted(set(settings.targets) - last)):
        wrong, there = ", ".join(missing) if known else "linear layer", ", ".join(sorted(last)) or "none"
        raise ConfigError(f"lora.targets: the model has no {wrong}; it has {there}")
    model.requires_grad_(False)
    for name, layer in known.items():
        if not settings.targets or name.rpartition(".")[2] in settings.targets:
            _add(layer, kinds[type(layer)], settings)
    marks_of(model).lora = settings


def _add(layer: Any, kind: type, settings: Lora) -> None:
    rows, columns = layer.out_features, layer.in_features
    layer.__class__ = kind
    layer.lora_A = Factor(settings.rank, columns, layer.weight.device)
    layer.lora_B = Factor(rows, settings.rank, layer.weight.device)
    layer.scale = settings.scale


def settings_of(model: Any) -> Lora | None:
    """The adapters' settings; None for a model that learns whole."""
    return marks_of(model).lora


def adapters(model: Any) -> dict[str, Adapter]:
    """The layers with factors by the name of their weight."""
    return {f"{name}.weight": m for name, m in model.named_modules() if isinstance(m, Adapter)}


def is_factor(name: str) -> bool:
    """Whether a parameter is an adapter's."""
    return name.endswith((".lora_A.weight", ".lora_B.weight"))


@torch.no_grad()
def initialise(model: Any, seed: int) -> None:
    """Draw every A as peft does, uniform in ± 1 / √in, by a hash of its name, the same on any ranks; B is 0.
    The frozen tensors are known by a sum from now on (`frozen.base_of`)."""
    for name, layer in adapters(model).items():
        rank, columns = layer.lora_A.weight.shape
        chance = torch.Generator().manual_seed(draw_seed(seed, "lora", name))
        drawn = (2 * torch.rand(rank, columns, generator=chance) - 1) / columns**0.5
        _fill(layer.lora_A.weight.detach(), drawn)
        _fill(layer.lora_B.weight.detach(), torch.zeros(layer.lora_B.weight.shape))
    frozen.remember(model)


def _fill(target: Tensor, values: Tensor) -> None:
    """Copy what this rank holds of `values`."""
    if not isinstance(target, DTensor):
        target.copy_(values)
        return
    size, start = compute_local_shape_and_global_offset(target.shape, target.device_mesh, target.placements)
    part = target.to_local()
    if part.numel():
        part.copy_(values[tuple(slice(s, s + n) for s, n in zip(start, size, strict=True))])


def gathered(tensor: Tensor) -> Tensor:
    """A tensor whole. Collective when it is sharded."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def merged(model: Any) -> Iterator[tuple[str, Tensor]]:
    """(name, tensor) of every parameter of the model without adapters, each once and one after the other;
    adapted weights are merged, with the factors' gradient. A collective when the model is sharded."""
    adapted = adapters(model)
    for name, parameter in model.named_parameters():
        if not is_factor(name):
            tensor = four_bit.wide(gathered(parameter))
            yield name, adapted[name].whole(tensor) if name in adapted else tensor


def factors(model: Any) -> Iterator[tuple[str, Tensor]]:
    """(peft's name, tensor) of every factor, whole. A collective when the model is sharded."""
    for name, parameter in model.named_parameters():
        if is_factor(name):
            yield PREFIX + name, gathered(parameter.detach())


def save(model: Any, folder: Path, base: str) -> None:
    """Write the adapter as peft does. Collective; the first rank writes."""
    tensors = {name: tensor.cpu().contiguous() for name, tensor in factors(model)}
    if ranks.main():
        folder.mkdir(parents=True, exist_ok=True)
        save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})
        describe(model, folder, base)


def describe(model: Any, folder: Path, base: str) -> None:
    """Write the adapter's configuration beside its weights."""
    settings = settings_of(model)
    assert settings is not None
    base, revision = hub.split(base)
    names = sorted({name.split(".")[-2] for name in adapters(model)})
    config = {
        "peft_type": "LORA", "task_type": "CAUSAL_LM", "base_model_name_or_path": base,
        "revision": revision, "r": settings.rank,
        "lora_alpha": settings.alpha, "lora_dropout": 0.0, "target_modules": names, "bias": "none",
        "fan_in_fan_out": False, "inference_mode": True, "use_rslora": False, "use_dora": False,
        "modules_to_save": None,
    }  # fmt: skip
    (folder / CONFIG).write_text(json.dumps(config, indent=2) + "\n")
