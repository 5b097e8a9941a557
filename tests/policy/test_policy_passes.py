"""Compiled elementwise passes against their formulas, for any rows, threads and types."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from transformers.activations import ACT2FN

from acereason.policy import passes

pytestmark = pytest.mark.skipif(passes.library() is None, reason="no compiler")


@pytest.fixture(params=[1, 3], autouse=True)
def threads(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passes, "_threads", lambda _: request.param)


@pytest.mark.parametrize("shape", [(1, 1), (2, 7), (5, 16), (3, 4, 50), (7, 640)])
@pytest.mark.parametrize("one", [0.0, 1.0])
def test_norms_and_their_gradients(shape: tuple[int, ...], one: float) -> None:
    torch.manual_seed(0)
    x, g = (torch.randn(shape).requires_grad_() for _ in range(2))
    weight = torch.randn(shape[-1]).requires_grad_()
    wanted = x.double() / (x.double().square().mean(-1, keepdim=True) + 1e-6).sqrt() * (weight.double() + one)
    wanted.backward(g.double())
    with torch.no_grad():
        y, scale = passes.norm(x, weight, 1e-6, one)
        dx, dw = passes.norm_back(g, x, scale, weight, one)
    assert scale.shape == (*shape[:-1], 1)
    for found, expected in ((y, wanted.detach().float()), (dx, x.grad), (dw, weight.grad)):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


KNOWN = [("silu", True), ("gelu_pytorch_tanh", True), ("gelu_new", True), ("relu", False)]


@pytest.mark.parametrize(("name", "known"), KNOWN)
def test_gates_and_their_slopes(name: str, known: bool) -> None:
    holder = nn.Module()
    holder.act_fn = ACT2FN[name]
    passes.gates(holder)
    assert isinstance(holder.act_fn, passes.Gate) == known
    x = torch.cat([torch.linspace(-9, 9, 1001), torch.tensor([0.0, -300.0, 300.0])]).bfloat16()
    found, wanted = x.clone().requires_grad_(), x.float().requires_grad_()
    y, z = holder.act_fn(found), ACT2FN[name](wanted)  # type: ignore[operator]
    y.sum().backward()
    z.sum().backward()
    torch.testing.assert_close(y.float(), z, rtol=1e-2, atol=1e-3)
    assert found.grad is not None and wanted.grad is not None
    torch.testing.assert_close(found.grad.float(), wanted.grad, rtol=1e-2, atol=1e-2)
    assert torch.equal(holder.act_fn(x.float()), ACT2FN[name](x.float()))  # type: ignore[operator]


def test_what_diverged_stays_seen() -> None:
    act = passes.Gate(nn.SiLU(), *passes.GATES["silu"])
    assert act(torch.full((5,), torch.nan).bfloat16()).isnan().all()
    y, _ = passes.norm(torch.tensor([[1.0, torch.nan, 2.0]]), torch.ones(3), 1e-6, 0.0)
    assert y.isnan().all()


@pytest.mark.parametrize("size", [1, 15, 16, 333])
def test_halves_are_added_as_they_are(size: int) -> None:
    torch.manual_seed(0)
    total, d = torch.randn(size), torch.randn(size).bfloat16()
    wanted = total + d.float()
    passes.add(total, d)
    assert torch.equal(total, wanted)
    turned = torch.zeros(3, 4)
    passes.add(turned, torch.arange(12.0).view(4, 3).t().bfloat16())
    assert torch.equal(turned, torch.arange(12.0).view(4, 3).t())
