"""A frozen base in four bits under adapters (QLoRA): NF4 by bitsandbytes, an extra.

    quantise(model, dtype)        every linear layer of the decoder, in place; embedding, head and norms stay
    wide(parameter)               a weight as it computes: dequantised where it is quantised

Products are made in `dtype` from weights that are made wide layer by layer. Merged and published weights are
the wide ones with the adapters added: what the model computes with. Needs a CUDA device and one rank
(`check`). Source: Dettmers et al. 2023, QLoRA, arXiv 2305.14314.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor, nn

from acereason.errors import ConfigError


def check(device: torch.device, ranks: int) -> None:
    """ConfigError where a base in four bits cannot learn."""
    if device.type != "cuda":
        raise ConfigError(
            'lora.base = "nf4" needs a CUDA device: its kernels are for GPUs. On a processor leave it "full"'
        )
    if ranks > 1:
        raise ConfigError(
            f'lora.base = "nf4" is for one rank, and there are {ranks}: packed weights are not sharded. '
            'Start one process, or set lora.base = "full"'
        )
    if find_spec("bitsandbytes") is None:
        raise ConfigError("lora.base = \"nf4\" needs bitsandbytes: pip install 'acereason[qlora]'")


def quantise(model: Any, dtype: torch.dtype) -> None:
    """Replace the decoder's linear layers; their weights are packed when the model goes to its device."""
    from bitsandbytes.nn import Linear4bit, Params4bit

    known = [m for m in model.base_model.modules() if any(type(c) is nn.Linear for c in m.children())]
    for module in known:
        for name, layer in list(module.named_children()):
            if type(layer) is nn.Linear:
                made = Linear4bit(
                    layer.in_features, layer.out_features, layer.bias is not None, dtype, quant_type="nf4"
                )
                made.weight = Params4bit(layer.weight.data, requires_grad=False, quant_type="nf4")
                made.bias = layer.bias
                setattr(module, name, made)


def quantised(parameter: Any) -> bool:
    """Whether a parameter is packed."""
    return getattr(parameter, "quant_state", None) is not None


def wide(parameter: Any) -> Tensor:
    """A weight as it computes."""
    if not quantised(parameter):
        plain: Tensor = parameter
        return plain
    from bitsandbytes.functional import dequantize_4bit

    made: Tensor = dequantize_4bit(parameter.data, parameter.quant_state)
    return made
