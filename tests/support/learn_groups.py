"""Random judged groups and what reads an update's gradient, for the tests of learning."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from acereason.problems import Outcome, Problem, Verdict
from acereason.sample.ask import Answer
from acereason.sample.protocol import Completion, Request
from acereason.train import update


def groups(
    seed: int, temperature: float = 0.85, rewards: list[list[int | None]] | None = None, shape: Any = (3, 4)
) -> list[list[Answer]]:
    """Groups of random prompts, responses and rewards; the first response of each was cut."""
    rng = np.random.default_rng(seed)
    rewards = rewards or rng.integers(0, 2, shape).tolist()
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
            outcome: Outcome = "unjudged" if reward is None else "correct" if reward else "wrong"
            group.append(Answer(Problem(str(i), "math", "?"), j, completion, "", Verdict(outcome, reward)))
        made.append(group)
    return made


def gradient(model: Any) -> Tensor:
    """The accumulated gradient of a model that is not sharded, as one vector."""
    return torch.cat([p.grad.flatten() for p in model.parameters()])


class Capture:
    """An optimiser that keeps the gradient it was given."""

    def __init__(self, model: Any):
        self.model, self.steps = model, 0
        self.param_groups: list[Any] = []
        self.gradient: Tensor | None = None

    def step(self) -> None:
        self.gradient, self.steps = gradient(self.model), self.steps + 1


def learn(policy: Any, batch: Any, optimizer: Any, stage: Any, settings: Any) -> update.Learned:
    """Weigh a whole batch and learn from it."""
    return update.learn(policy, batch, update.weigh(batch, stage, settings), optimizer, settings)[0]


def weights(batch: Any, stage: Any, settings: Any) -> Tensor:
    """[P, G] each response's weight in the loss of a batch."""
    weighed = update.weigh(batch, stage, settings)
    return weighed.pulls / update.denominator(weighed)
