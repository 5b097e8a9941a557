"""One update against a naive per-response gradient, whatever the micro-batches; what must move nothing."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from acereason.config import Rl, Sft, Stage
from acereason.policy.packing import Example
from acereason.policy.policy import Policy
from acereason.problems import Problem, Verdict
from acereason.sample.ask import Answer
from acereason.sample.protocol import Completion, Request
from acereason.train import optimizers, sft, update
from acereason.train.sft import schedule

STAGE = Stage("s", "math", budget=20, steps=1, group=4, prompts=3)


def groups(seed: int, temperature: float = 0.85, rewards: list[list[int | None]] | None = None) -> Any:
    rng = np.random.default_rng(seed)
    rewards = rewards or rng.integers(0, 2, (3, 4)).tolist()
    made = []
    for i, row in enumerate(rewards):
        prompt = rng.integers(0, 61, rng.integers(2, 9)).tolist()
        group = []
        for j, reward in enumerate(row):
            tokens = rng.integers(0, 61, rng.integers(1, 20)).astype(np.int32)
            n = len(tokens)
            request = Request(prompt, 20, temperature, 0, key=(i, j))
            zeros = np.zeros(n, np.float32)
            completion = Completion(request, tokens, zeros, zeros, zeros, "stop" if j else "length")
            outcome = "unjudged" if reward is None else "correct" if reward else "wrong"
            group.append(Answer(Problem(str(i), "math", "?"), j, completion, "", Verdict(outcome, reward)))
        made.append(group)
    return made


def policy(model: Any) -> Policy:
    return Policy(model.double(), None, "plain")


def naive_gradient(model: Any, batch: Any, settings: Rl) -> Tensor:
    """Recipe §3 with one plain forward pass per response, in float64."""
    model.zero_grad()
    weights = update.weigh(batch, STAGE, settings)
    loss: Any = 0.0
    for group, row in zip(batch, weights, strict=True):
        for answer, weight in zip(group, row, strict=True):
            prompt, tokens = answer.completion.request.prompt, answer.completion.tokens.tolist()
            logits = model(input_ids=torch.tensor([[*prompt, *tokens]])).logits[0]
            log_p = (logits / answer.completion.request.temperature).log_softmax(-1)
            picked = log_p[len(prompt) - 1 : -1].gather(1, torch.tensor(tokens)[:, None])
            loss = loss - weight * picked.sum()
    loss.backward()
    gradient = torch.cat([p.grad.flatten() for p in model.parameters()])
    model.zero_grad()
    return gradient


class Capture:
    """An optimiser that keeps the gradient it was given."""

    def __init__(self, model: Any):
        self.model, self.param_groups, self.gradient = model, [], None

    def step(self) -> None:
        self.gradient = torch.cat([p.grad.flatten() for p in self.model.parameters()])


@pytest.mark.parametrize("normalisation", ["global", "group"])
@pytest.mark.parametrize("micro_tokens", [10_000, 100, 1])
def test_micro_batches_give_the_naive_gradient(qwen3: Any, normalisation: Any, micro_tokens: int) -> None:
    settings = Rl(normalisation=normalisation, micro_tokens=micro_tokens, clip_gradient=1e9)
    batch, owner = groups(3), policy(qwen3)
    naive = naive_gradient(qwen3, batch, settings)
    capture = Capture(qwen3)
    learned = update.learn(owner, batch, [capture], STAGE, settings)  # type: ignore[list-item]
    assert capture.gradient is not None and learned.learned_tokens > 0
    assert (capture.gradient - naive).abs().max() <= 1e-10


def test_float32_packs_agree_with_the_naive_gradient(qwen3: Any) -> None:
    settings = Rl(clip_gradient=1e9)
    batch = groups(4)
    naive = naive_gradient(qwen3.double(), batch, settings)
    capture = Capture(qwen3.float())
    update.learn(Policy(qwen3, None, "plain"), batch, [capture], STAGE, settings)  # type: ignore[list-item]
    assert capture.gradient is not None
    assert (capture.gradient - naive).norm() / naive.norm() < 1e-5


@pytest.mark.parametrize(
    "rewards",
    [[[1, 1, 1, 1], [0, 0, 0, 0], [1, 1, 1, 1]], [[None, 1, 0, 1], [1, None, 0, 0], [0, 0, 0, 0]]],
    ids=["equal", "unjudged"],
)
def test_nothing_to_learn_moves_nothing(qwen3: Any, rewards: Any) -> None:
    owner = policy(qwen3)
    optimizer = optimizers.for_rl(qwen3, Rl())
    optimizers.set_rates(optimizer, [0.1])
    before = [p.detach().clone() for p in qwen3.parameters()]
    learned = update.learn(owner, groups(5, rewards=rewards), optimizer, STAGE, Rl())
    assert learned.gradient_norm is None and learned.learned_tokens == 0 and learned.loss == 0
    assert all(torch.equal(a, b) for a, b in zip(before, qwen3.parameters(), strict=True))


def test_a_fully_truncated_batch_is_masked_and_reported(qwen3: Any) -> None:
    batch = groups(6)
    cut = [
        [Answer(a.problem, a.sample, Completion(*_parts(a), "length"), "", a.verdict) for a in g]
        for g in batch
    ]
    learned = update.learn(policy(qwen3), cut, optimizers.for_rl(qwen3, Rl()), STAGE, Rl())
    assert learned.learned_tokens == 0
    row = update.step_metrics(cut, STAGE, update.weigh(cut, STAGE, Rl()))
    assert row["truncated"] == 1.0 and row["learning_groups"] == 0


def _parts(answer: Answer) -> tuple[Any, ...]:
    c = answer.completion
    return c.request, c.tokens, c.logprobs, c.entropy, c.entropy_1


def test_a_gradient_that_is_not_finite_moves_nothing(qwen3: Any) -> None:
    owner = policy(qwen3)
    optimizer = optimizers.for_rl(qwen3, Rl())
    optimizers.set_rates(optimizer, [0.1])
    with torch.no_grad():
        next(qwen3.parameters())[0, 0] = float("inf")
    before = [p.detach().clone() for p in qwen3.parameters()]
    learned = update.learn(owner, groups(7), optimizer, STAGE, Rl())
    assert learned.gradient_norm is None and learned.learned_tokens > 0
    for a, b in zip(before, qwen3.parameters(), strict=True):
        assert torch.equal(a, b)


def test_several_updates_a_batch_are_off_policy(qwen3: Any) -> None:
    batch = groups(8)
    steps: list[int] = []

    class Count(Capture):
        def step(self) -> None:
            steps.append(1)

    update.learn(policy(qwen3), batch, [Count(qwen3)], STAGE, Rl(updates=3))  # type: ignore[list-item]
    assert len(steps) > 1


def test_sft_loss_is_the_mean_over_response_tokens(qwen3: Any) -> None:
    rng = np.random.default_rng(0)
    batch = [
        Example(rng.integers(0, 61, 5).tolist(), rng.integers(0, 61, n).tolist(), i)
        for i, n in enumerate((3, 9, 1, 14))
    ]
    gradients = []
    for micro in (1, 20, 1000):
        qwen3.zero_grad()
        loss = sft.learn(qwen3, batch, micro)
        gradients.append(torch.cat([p.grad.flatten() for p in qwen3.parameters()]))
    naive = 0.0
    for e in batch:
        logits = qwen3(input_ids=torch.tensor([[*e.prompt, *e.response]])).logits[0]
        log_p = logits[len(e.prompt) - 1 : -1].log_softmax(-1)
        naive -= log_p.gather(1, torch.tensor(e.response)[:, None]).sum().item()
    assert loss == pytest.approx(naive / sum(len(e.response) for e in batch), rel=1e-5)
    assert torch.allclose(gradients[0], gradients[2], atol=1e-6)
    assert torch.allclose(gradients[1], gradients[2], atol=1e-6)


def test_sft_learns_every_example_once_an_epoch_in_a_new_order() -> None:
    examples = [Example([1] * (i % 7 + 1), [2] * (i % 5 + 1), i) for i in range(50)]
    epochs = schedule(examples, Sft(epochs=3, batch_tokens=40), seed=1)
    orders = [[e.index for batch in epoch for e in batch] for epoch in epochs]
    assert all(sorted(order) == list(range(50)) for order in orders)
    assert orders[0] != orders[1] != orders[2]
    assert all(sum(map(len, batch)) <= 40 for epoch in epochs for batch in epoch)
