"""Muon over batches of matrices: torch's own, matrix by matrix, is the reference."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from acereason.train import muon
from acereason.train.muon import Muon

SHAPES = st.lists(
    st.tuples(st.sampled_from([1, 3, 8, 33]), st.sampled_from([1, 8, 20])), min_size=1, max_size=9
)


def _two(shapes: list[tuple[int, int]], seed: int, **how: object) -> tuple[list[torch.nn.Parameter], ...]:
    """The same parameters after three steps of both, some of them without a gradient in some of the steps."""
    random = torch.Generator().manual_seed(seed)
    start = [torch.randn(s, generator=random) for s in shapes]
    steps = [[torch.randn(s, generator=random) for s in shapes] for _ in range(3)]
    ends = []
    for kind in (torch.optim.Muon, Muon):
        parameters = [torch.nn.Parameter(p.clone()) for p in start]
        optimizer = kind(parameters, lr=1.0, **how)  # type: ignore[arg-type]
        for number, gradients in enumerate(steps):
            for at, (p, g) in enumerate(zip(parameters, gradients, strict=True)):
                p.grad = None if (at + number) % 4 == 3 else g
            optimizer.step()
        ends.append(parameters)
    return tuple(ends)


@settings(max_examples=40, deadline=None)
@given(
    SHAPES,
    st.integers(0, 2**31),
    st.booleans(),
    st.sampled_from([0.0, 0.1]),
    st.sampled_from([1, 5]),
    st.sampled_from([None, "match_rms_adamw"]),
)
def test_it_steps_as_torch_does(
    shapes: list[tuple[int, int]], seed: int, nesterov: bool, decay: float, steps: int, rate: str | None
) -> None:
    theirs, ours = _two(
        shapes, seed, nesterov=nesterov, weight_decay=decay, ns_steps=steps, adjust_lr_fn=rate
    )
    for a, b in zip(theirs, ours, strict=True):
        assert torch.allclose(a, b, atol=0.05)  # a step moves a number by up to 1; sums may differ in order


def test_a_batch_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(muon, "AT_ONCE", 100)  # two matrices of 8 × 6
    sizes: list[int] = []
    whole = muon.orthogonal

    def counted(x: torch.Tensor, *rest: Any) -> torch.Tensor:
        sizes.append(len(x))
        return whole(x, *rest)

    monkeypatch.setattr(muon, "orthogonal", counted)
    parameters = [torch.nn.Parameter(torch.randn(8, 6)) for _ in range(5)]
    for p in parameters:
        p.grad = torch.randn(8, 6)
    Muon(parameters, lr=0.02).step()
    assert sizes == [2, 2, 1]


def test_singular_values_come_near_one() -> None:
    ready = muon.orthogonal(torch.randn(3, 40, 16), (3.4445, -4.7750, 2.0315), 5, 1e-7)
    values = torch.linalg.svdvals(ready.float())
    assert values.min() > 0.5 and values.max() < 1.3


def test_a_run_goes_on_with_the_state_of_torchs_own() -> None:
    start, gradients = torch.randn(8, 6), torch.randn(2, 8, 6)
    ends = []
    for kind in (torch.optim.Muon, Muon):
        p = torch.nn.Parameter(start.clone())
        p.grad = gradients[0]
        first = torch.optim.Muon([p], lr=1.0)
        first.step()
        second = kind([p], lr=1.0)
        second.load_state_dict(first.state_dict())
        p.grad = gradients[1]
        second.step()
        ends.append(p.detach())
    assert torch.allclose(ends[0], ends[1], atol=0.05)
