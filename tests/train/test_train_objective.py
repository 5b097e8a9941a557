"""The objective against a naive per-response reference in float64, and the edges where peers broke."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from acereason.train.objective import (
    Rollouts,
    advantages,
    kept,
    policy_loss,
    response_weights,
    weigh,
)
from acereason.train.ratios import clipped_loss


def rollouts(rewards: list[list[float]], tokens: list[list[int]], cut: list[list[bool]]) -> Rollouts:
    return Rollouts(torch.tensor(rewards, dtype=torch.float64), torch.tensor(tokens), torch.tensor(cut))


@st.composite
def batches(draw: st.DrawFn) -> Rollouts:
    P, G = draw(st.integers(1, 4)), draw(st.integers(2, 5))

    def table(values: st.SearchStrategy[object]) -> list[list[object]]:
        return [[draw(values) for _ in range(G)] for _ in range(P)]

    reward = st.sampled_from([0.0, 1.0, 0.0, 1.0, float("nan")])
    return rollouts(table(reward), table(st.integers(1, 50)), table(st.booleans()))  # type: ignore[arg-type]


def naive_weights(
    r: Rollouts, overlong: str, counts: bool, normalisation: str, unjudged: str
) -> list[list[float]]:
    """Recipe §3, response by response."""
    P, G = r.rewards.shape
    groups = []
    for p in range(P):
        scores = [float(x) for x in r.rewards[p]]
        faulty = [math.isnan(s) for s in scores]
        out = [any(faulty)] * G if unjudged == "group" else faulty
        keep = [not out[g] and not (overlong == "mask" and bool(r.truncated[p, g])) for g in range(G)]
        pool = [s for g, s in enumerate(scores) if not faulty[g] and (counts or keep[g])]
        A = [0.0] * G
        if pool and len(set(pool)) > 1:
            mean = sum(pool) / len(pool)
            std = math.sqrt(sum((s - mean) ** 2 for s in pool) / len(pool))
            A = [(s - mean) / std if k else 0.0 for s, k in zip(scores, keep, strict=True)]
        groups.append((A, keep, [int(t) for t in r.tokens[p]]))
    total = sum(t for _, keep, tokens in groups for k, t in zip(keep, tokens, strict=True) if k)
    alive = max(1, sum(any(keep) for _, keep, _ in groups))
    weights = []
    for A, keep, tokens in groups:
        own = sum(t for k, t in zip(keep, tokens, strict=True) if k)
        scale = max(total, 1) if normalisation == "global" else max(own, 1) * alive
        weights.append([a / scale for a in A])
    return weights


@settings(max_examples=300, deadline=None)
@given(
    batches(),
    st.sampled_from(["mask", "zero"]),
    st.booleans(),
    st.sampled_from(["global", "group"]),
    st.sampled_from(["response", "group"]),
)
def test_weights_equal_the_naive_reference(
    r: Rollouts, overlong: Any, counts: bool, normalisation: Any, unjudged: Any
) -> None:
    ours = response_weights(r, overlong, counts, normalisation, unjudged)
    reference = naive_weights(r, overlong, counts, normalisation, unjudged)
    naive = torch.tensor(reference, dtype=torch.float64)
    assert torch.allclose(ours, naive, rtol=0, atol=1e-12)
    assert ours.isfinite().all()


@pytest.mark.parametrize("value", [0.0, 1.0, 0.1, 1 / 3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_equal_rewards_give_exactly_zero(value: float, dtype: torch.dtype) -> None:
    rewards = torch.full((3, 7), value, dtype=dtype)  # 7 x 0.1 has a float std above 0
    assert (advantages(rewards, torch.ones(3, 7, dtype=torch.bool)) == 0).all()


def test_a_fully_masked_batch_weighs_nothing() -> None:
    r = rollouts([[1, 0], [0, 1]], [[4, 5], [6, 7]], [[True, True], [True, True]])
    for normalisation in ("global", "group"):
        weights = response_weights(r, "mask", True, normalisation)
        assert (weights == 0).all()


def test_truncated_tokens_leave_the_denominator_only_under_the_filter() -> None:
    r = rollouts([[1, 0, 0]], [[10, 10, 100]], [[False, False, True]])
    masked, zeroed = response_weights(r, "mask"), response_weights(r, "zero")
    assert masked[0, 0] / zeroed[0, 0] == pytest.approx(120 / 20)
    assert masked[0, 2] == 0 and zeroed[0, 2] < 0


def test_the_mask_changes_group_statistics_only_when_told_to() -> None:
    r = rollouts([[1, 0, 0, 0]], [[10] * 4], [[False, False, True, True]])
    counted, alone = response_weights(r, "mask", True), response_weights(r, "mask", False)
    assert counted[0, 0] == pytest.approx(math.sqrt(3) / 20)
    assert alone[0, 0] == pytest.approx(1 / 20)


def test_one_unjudged_response_leaves_the_rest_of_its_group_in_unless_told() -> None:
    r = rollouts([[1, float("nan"), 0], [1, 0, 0]], [[50] * 3, [10] * 3], [[False] * 3] * 2)
    assert kept(r, "zero").tolist() == [[True, False, True], [True] * 3]
    assert response_weights(r).tolist()[0] == pytest.approx([1 / 130, 0, -1 / 130])
    assert kept(r, "zero", "group").tolist() == [[False] * 3, [True] * 3]
    assert response_weights(r, unjudged="group").tolist()[0] == [0, 0, 0]
    assert response_weights(r, unjudged="group")[1, 0] == pytest.approx(math.sqrt(2) / 30)


def test_advantages_are_told_also_of_what_is_masked_and_not_of_what_is_unjudged() -> None:
    r = rollouts([[1, 0, float("nan")], [1, 1, 0]], [[5] * 3] * 2, [[True, False, False], [False] * 3])
    first, second = weigh(r, "mask").advantages.tolist()
    assert first[:2] == [1, -1] and math.isnan(first[2]) and weigh(r, "mask").pulls[0, 0] == 0
    assert second == pytest.approx([math.sqrt(0.5), math.sqrt(0.5), -math.sqrt(2)])


def test_clipped_loss_has_the_policy_gradient_where_old_and_new_agree() -> None:
    logprobs = torch.randn(20, dtype=torch.float64, requires_grad=True)
    weights = torch.randn(20, dtype=torch.float64)
    plain = torch.autograd.grad(policy_loss(logprobs, weights), logprobs)[0]
    clipped = torch.autograd.grad(clipped_loss(logprobs, logprobs.detach(), weights, (0.2, 0.2)), logprobs)[0]
    assert torch.allclose(plain, clipped)


def test_clipping_stops_the_pull_of_what_moved_too_far() -> None:
    old = torch.zeros(2, dtype=torch.float64)
    logprobs = torch.tensor([0.5, -0.5], dtype=torch.float64, requires_grad=True)
    weights = torch.tensor([1.0, -1.0], dtype=torch.float64)  # both moved the way they were pulled
    assert torch.autograd.grad(clipped_loss(logprobs, old, weights, (0.2, 0.2)), logprobs)[0].tolist() == [
        0,
        0,
    ]
