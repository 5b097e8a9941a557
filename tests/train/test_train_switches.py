"""The switches of later recipes: each against a naive reference in float64, and published identities."""

from __future__ import annotations

import math
from typing import Any, get_args

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from acereason.config import Rl
from acereason.train import objective, ratios, rewards
from acereason.train.objective import Rollouts, advantages, denominator, response_weights, weigh
from acereason.train.rewards import SOFT

NONE = float("nan")
REWARDS = st.lists(st.sampled_from([0.0, 1.0, 0.5, -0.3]), min_size=2, max_size=6)
MINIMAL = {"name": "x", "model": {"path": "m"}}


def table(rows: list[list[float]]) -> torch.Tensor:
    return torch.tensor(rows, dtype=torch.float64)


def naive_advantage(scores: list[float], rule: str) -> list[float]:
    """One group, all counted, response by response."""
    if len(set(scores)) == 1:
        return [0.0] * len(scores)
    mean = sum(scores) / len(scores)
    if rule == "std":
        std = math.sqrt(sum((s - mean) ** 2 for s in scores) / len(scores))
        return [(s - mean) / std for s in scores]
    if rule == "max_rl":
        return [(s - mean) / mean for s in scores]
    if rule == "loo":
        rest = [[*scores[:i], *scores[i + 1 :]] for i in range(len(scores))]
        return [s - sum(others) / len(others) for s, others in zip(scores, rest, strict=True)]
    return [s - mean for s in scores]


@settings(max_examples=200, deadline=None)
@given(REWARDS, st.sampled_from(get_args(objective.Advantage)))
def test_advantages_equal_the_naive_reference(scores: list[float], rule: Any) -> None:
    if rule == "max_rl":
        scores = [abs(s) for s in scores]
    ours = advantages(table([scores]), torch.ones(1, len(scores), dtype=torch.bool), rule)
    assert ours[0].tolist() == pytest.approx(naive_advantage(scores, rule), abs=1e-10)


@given(REWARDS)
def test_leaving_one_out_is_the_mean_rule_times_G_over_G_minus_1(scores: list[float]) -> None:
    every = torch.ones(1, G := len(scores), dtype=torch.bool)
    loo, mean = (advantages(table([scores]), every, rule) for rule in ("loo", "mean"))
    assert torch.allclose(loo, mean * G / (G - 1), rtol=0, atol=1e-12)


@st.composite
def batches(draw: st.DrawFn) -> Rollouts:
    P, G = draw(st.integers(1, 5)), draw(st.integers(2, 5))
    rows = [[draw(st.sampled_from([0.0, 1.0, 0.0, 1.0, NONE])) for _ in range(G)] for _ in range(P)]
    tokens = [[draw(st.integers(1, 50)) for _ in range(G)] for _ in range(P)]
    cut = [[draw(st.booleans()) for _ in range(G)] for _ in range(P)]
    return Rollouts(table(rows), torch.tensor(tokens), torch.tensor(cut))


def naive_batch(r: Rollouts, overlong: str, normalisation: str, idle: str, budget: int) -> list[list[float]]:
    """Rule "batch": the group's mean, the whole batch's std, response by response."""
    A, keep, pool = [], [], []
    for scores, cut in zip(r.rewards.tolist(), r.truncated.tolist(), strict=True):
        known = [s for s in scores if not math.isnan(s)]
        mean = sum(known) / len(known) if known else 0.0
        pool += [s - mean for s in known]
        kept = [
            not math.isnan(s) and not (overlong == "mask" and c) for s, c in zip(scores, cut, strict=True)
        ]
        A.append([s - mean if k else 0.0 for s, k in zip(scores, kept, strict=True)])
        keep.append(kept)
    std = math.sqrt(sum(a * a for a in pool) / len(pool)) if any(pool) else 1.0
    tokens = [
        [t if k else 0 for t, k in zip(*row, strict=True)]
        for row in zip(r.tokens.tolist(), keep, strict=True)
    ]
    alive = [p for p in range(len(A)) if idle == "count" or any(abs(a) > 1e-12 for a in A[p])]
    scale = {
        "global": [sum(sum(tokens[p]) for p in alive)] * len(A),
        "group": [max(sum(row), 1) * max(1, sum(any(keep[p]) for p in alive)) for row in tokens],
        "constant": [len(alive) * len(A[0]) * budget] * len(A),
    }[normalisation]
    return [[a / std / max(scale[p], 1) for a in A[p]] for p in range(len(A))]


@settings(max_examples=300, deadline=None)
@given(
    batches(),
    st.sampled_from(["mask", "zero"]),
    st.sampled_from(get_args(objective.Normalisation)),
    st.sampled_from(get_args(objective.Idle)),
)
def test_a_batchs_weights_equal_the_naive_reference(r: Rollouts, overlong: Any, norm: Any, idle: Any) -> None:
    ours = response_weights(r, overlong, True, norm, advantage="batch", idle=idle, budget=50)
    naive = table(naive_batch(r, overlong, norm, idle, 50))
    assert torch.allclose(ours, naive, rtol=0, atol=1e-10)


@settings(max_examples=100, deadline=None)
@given(
    batches(),
    st.sampled_from(get_args(objective.Advantage)),
    st.sampled_from(get_args(objective.Normalisation)),
    st.sampled_from(get_args(objective.Idle)),
    st.integers(0, 5),
)
def test_parts_of_a_batch_weigh_what_the_whole_does(
    r: Rollouts, rule: Any, norm: Any, idle: Any, at: int
) -> None:
    """As ranks, and rounds of a streamed batch, hold them."""
    rules: Any = {"advantage": rule, "normalisation": norm, "idle": idle, "budget": 9}
    cuts = [cut for cut in (slice(at), slice(at, None)) if len(r.rewards[cut])]
    parts = [weigh(Rollouts(r.rewards[c], r.tokens[c], r.truncated[c]), **rules) for c in cuts]
    whole = objective.Weights.joined(parts)
    ours = whole.pulls / denominator(whole.sizes.sum(), whole.squares.sum(0))
    assert torch.allclose(ours, response_weights(r, **rules), rtol=0, atol=1e-12)


# ---- losses of several updates


def tokens_of(seed: int, M: int = 24) -> tuple[torch.Tensor, ...]:
    """log π with gradient, the sampler's, weights and owners of M tokens in 5 responses, not in order."""
    draw = torch.Generator().manual_seed(seed)
    new, old, weights = (torch.randn(M, dtype=torch.float64, generator=draw) * s for s in (0.3, 0.3, 1.0))
    owners = torch.randint(0, 5, (M,), generator=draw) * 7
    return new.requires_grad_(), old, weights, owners


def naive_loss(form: str, new: Any, old: Any, weights: Any, clip: tuple[float, float], owners: Any) -> Any:
    loss: Any = 0.0
    for t in range(len(new)):
        same = [u for u in range(len(new)) if owners[u] == owners[t]]
        log_ratio = sum(new[u] - old[u] for u in same) / len(same) if form == "gspo" else new[t] - old[t]
        ratio = torch.exp(torch.as_tensor(log_ratio))
        clipped = min(max(ratio.item(), 1 - clip[0]), 1 + clip[1])
        if form == "cispo":
            loss = loss - clipped * weights[t] * new[t]
        else:
            inside = 1 - clip[0] <= ratio.item() <= 1 + clip[1]
            plain, bound = ratio * weights[t], (ratio if inside else clipped) * weights[t]
            loss = loss - (plain if plain.item() <= bound.item() else bound)
    return loss


@pytest.mark.parametrize("form", get_args(ratios.Ratio))
@pytest.mark.parametrize("seed", range(4))
def test_off_policy_losses_equal_the_naive_reference(form: Any, seed: int) -> None:
    new, old, weights, owners = tokens_of(seed)
    ours = ratios.off_policy_loss(form, new, old, weights, (0.2, 0.28), owners)
    naive = naive_loss(form, new, old, weights, (0.2, 0.28), owners.tolist())
    if form != "cispo":  # whose value is that of a score function
        assert ours.item() == pytest.approx(naive.item(), abs=1e-10)
    one, other = (torch.autograd.grad(loss, new)[0] for loss in (ours, naive))
    assert torch.allclose(one, other, rtol=0, atol=1e-10)


@pytest.mark.parametrize("form", get_args(ratios.Ratio))
def test_at_ratio_1_every_form_is_reinforce(form: Any) -> None:
    """GSPO's spreads each response's pull evenly over its tokens, whose weight is one number."""
    new, _, weights, owners = tokens_of(5)
    weights = ratios.over_response(weights, owners)
    off = ratios.off_policy_loss(form, new, new.detach(), weights, (0.2, 0.2), owners)
    on = objective.policy_loss(new, weights)
    one, other = (torch.autograd.grad(loss, new)[0] for loss in (off, on))
    assert torch.allclose(one, other, rtol=0, atol=1e-12)


@pytest.mark.parametrize("rule", ["none", "geometric", "icepop"])
def test_masks_equal_the_naive_reference(rule: Any) -> None:
    new, old, _, owners = tokens_of(6)
    ours = ratios.masked(rule, new, old, owners, (0.9, 1.2)).tolist()
    for t in range(len(old)):
        same = [(new[u] - old[u]).item() for u in range(len(old)) if owners[u] == owners[t]]
        mean, ratio = math.exp(sum(same) / len(same)), math.exp((new[t] - old[t]).item())
        inside = {
            "none": 1.0,
            "geometric": float(0.9 <= mean <= 1.2),
            "icepop": ratio * (0.9 <= ratio <= 1.2),
        }
        assert ours[t] == pytest.approx(inside[rule], abs=1e-10)
    assert len(set(ours)) > 1 or rule == "none"


def test_kl_estimators_have_the_gradients_that_are_published() -> None:
    """k1 in the reward is k2 as a loss; in expectation both, and not k3, have the reverse KL's gradient."""
    logits = torch.randn(6, dtype=torch.float64, generator=torch.Generator().manual_seed(1)).requires_grad_()
    log_p, reference = logits.log_softmax(0), torch.full((6,), -math.log(6), dtype=torch.float64)
    p = log_p.detach().exp()

    def slope(loss: torch.Tensor) -> torch.Tensor:
        return torch.autograd.grad(loss, logits, retain_graph=True)[0]

    true = slope((log_p.exp() * (log_p - reference)).sum())
    found = {form: slope((p * ratios.kl_loss(form, log_p, reference)).sum()) for form in get_args(ratios.Kl)}
    assert torch.allclose(found["k1"], true, atol=1e-10) and torch.allclose(found["k2"], true, atol=1e-10)
    assert not torch.allclose(found["k3"], true, atol=1e-3)
    for form in ("k2", "k3"):
        assert (ratios.kl_loss(form, log_p, log_p) == 0).all()
    k3 = (p * ratios.kl_loss("k3", log_p, reference)).sum()
    assert k3.item() == pytest.approx((p * (log_p - reference)).sum().item(), abs=1e-10)


# ---- rewards


def test_soft_overlong_punishment_is_the_published_ramp() -> None:
    tokens = torch.tensor([[1, 80, 85, 90, 100]])
    assert rewards.soft_overlong(tokens, 100, 20)[0].tolist() == pytest.approx(
        [0, 0, -SOFT / 4, -SOFT / 2, -SOFT]
    )


@given(st.lists(st.tuples(st.sampled_from([0.0, 1.0, NONE]), st.integers(1, 99)), min_size=2, max_size=8))
def test_length_rewards_equal_the_naive_reference(rows: list[tuple[float, int]]) -> None:
    ours = rewards.length_reward(table([[r for r, _ in rows]]), torch.tensor([[n for _, n in rows]]))[0]
    known = [n for r, n in rows if not math.isnan(r)]
    for (reward, n), value in zip(rows, ours.tolist(), strict=True):
        if math.isnan(reward) or max(known) == min(known):
            assert value == 0
        else:
            share = 0.5 - (n - min(known)) / (max(known) - min(known))
            assert value == pytest.approx(share if reward else min(0.0, share), abs=1e-10)


def test_defaults_are_the_recipes() -> None:
    rl = Rl()
    assert (rl.advantage, rl.normalisation, rl.idle_groups) == ("std", "global", "count")
    assert (rl.ratio, rl.sequence_mask, rl.length_penalty, rl.updates) == ("clip", "none", 0.0, 1)
