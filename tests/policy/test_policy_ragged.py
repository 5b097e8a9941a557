"""Attention over sequences of any lengths: equal to each sequence alone, forward and backward.

On CPU the layout and the rounding of lengths are tested with plain kernels in place of CUDA's; on a GPU the
kernels themselves."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from acereason.policy import attention
from acereason.policy.causal import LayerRule
from acereason.policy.model import logprobs, new_model
from acereason.policy.packing import Example, pack

LENGTHS = [
    [300, 130, 129, 64, 7, 1],
    [257],
    [9, 3],
]


def alone(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """[heads, n, D] → [n, heads, D], in double precision."""
    groups = q.shape[0] // k.shape[0]
    k, v = (x.repeat_interleave(groups, 0) for x in (k, v))
    return F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(0, 1)


def plain_kernel(q: Tensor, k: Tensor, v: Tensor, ends: Tensor, _: Any, *longest: int) -> Tensor:
    bounds = ends.tolist()
    return torch.cat([alone(*(x[a:b].transpose(0, 1) for x in (q, k, v))) for a, b in pairwise(bounds)])


def compare(lengths: list[int], device: str, dtype: torch.dtype, tolerance: float) -> None:
    torch.manual_seed(0)
    n, D = sum(lengths), 64
    inputs = [torch.randn(1, h, n, D, device=device, dtype=dtype, requires_grad=True) for h in (6, 2, 2)]
    doubles = [x.detach().double().requires_grad_() for x in inputs]
    ends = torch.tensor([0, *torch.tensor(lengths).cumsum(0).tolist()], dtype=torch.int32)
    found = attention._ragged(*inputs, LayerRule(), ends, ends.to(device))
    wanted = torch.cat(
        [alone(*(p[0] for p in part)) for part in zip(*(x.split(lengths, 2) for x in doubles), strict=True)]
    )
    pull = torch.randn(wanted.shape, device=device, dtype=torch.float64)
    (found[0].double() * pull).sum().backward()
    (wanted * pull).sum().backward()
    assert error(found[0], wanted) < tolerance
    for ours, plain in zip(inputs, doubles, strict=True):
        assert ours.grad is not None and plain.grad is not None
        assert error(ours.grad, plain.grad) < tolerance


def error(found: Tensor, wanted: Tensor) -> float:
    return float(((found.double() - wanted).norm() / wanted.norm()).detach())


@pytest.mark.parametrize("lengths", LENGTHS)
@pytest.mark.parametrize("long", [1000, 128, 1])
def test_layout(lengths: list[int], long: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention, "LONG", long)
    monkeypatch.setattr(attention, "_long_kernel", lambda device: True)
    monkeypatch.setattr(attention, "_VARIABLE_LENGTH", plain_kernel)
    compare(lengths, "cpu", torch.float32, 1e-5)


@pytest.mark.filterwarnings("ignore")  # torch's own, raised inside its compiler
def test_compiled_layers_take_any_layout(monkeypatch: pytest.MonkeyPatch) -> None:
    """A whole model with compiled layers, pack after pack of other lengths: right, not compiled for each."""
    monkeypatch.setattr(attention, "_VARIABLE_LENGTH", plain_kernel)
    monkeypatch.setattr(attention, "takes_any_lengths", lambda *_: True)
    monkeypatch.setattr("acereason.policy.compiled_pass.logprobs", lambda *_: None)
    shape: dict[str, Any] = {
        "vocab_size": 50,
        "hidden_size": 48,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
    }
    model = new_model("qwen2", 1, num_key_value_heads=2, intermediate_size=64, **shape)
    packs = [
        pack([Example([1, 2, i], list(range(3, 3 + n)), i) for i, n in enumerate(lengths)], 0.0)
        for lengths in ([9, 4, 4], [7], [20, 3, 2, 1], [5, 5])
    ]
    wanted = [logprobs(model, p)[0] for p in packs]
    torch._dynamo.utils.counters.clear()
    for layer in model.model.layers:
        layer.forward = torch.compile(layer.forward, dynamic=True, backend="aot_eager")
    for p, plain in zip(packs, wanted, strict=True):
        assert torch.allclose(logprobs(model, p)[0], plain, atol=1e-5)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] <= 8


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.parametrize("lengths", [[5000, 2048, 2047, 300, 64, 1], [4100], [100, 3]])
def test_kernels_on_a_gpu(lengths: list[int]) -> None:
    compare(lengths, "cuda", torch.bfloat16, 1e-2)
