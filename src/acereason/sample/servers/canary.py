"""The canary: do servers really serve the weights that were published?

After every publish each server answers a few fixed prompts. The log-probability that it reports of each
token it drew must agree with the trainer's own of the same token, at the same temperature:

    difference = mean over tokens of |log π_T(server) - log π_T(trainer)|, nats, at most `canary`

A reload that reports success and changed nothing, or everything but the output head, is found by that. One
step at a small learning rate moves less than kernels differ, so there is a second test: log-probabilities
that did not change in a single bit, although the trainer's did, are of the weights before.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from acereason.policy import model as models
from acereason.policy.activations import work_device
from acereason.policy.packing import Example
from acereason.policy.policy import Policy
from acereason.problems import Problem
from acereason.sample.protocol import Completion, Request

TEMPERATURE = 1.25  # above 1, so that unlikely tokens are drawn, which differ most
TOKENS = 16
MOVED = 1e-4  # nats: the trainer's own change that a server's must show
QUESTIONS = (
    ("math", "What is 17 plus 25?"),
    ("math", "Find the largest of 3, 9 and 4, and add 6 to it."),
    ("math", "A number times 7 is 91. Which number?"),
    ("math", "Let x + y = 10 and x - y = 4. Compute x * y."),
    ("code", "Read two integers and print their sum."),
    ("code", "Print the characters of a word in reverse order."),
    ("code", "Count how many numbers of a list are even."),
    ("code", "Sort the words of a line by their length."),
)


@dataclass(frozen=True, slots=True)
class Mismatch:
    """A server's against the trainer's: mean and largest |difference| in nats over `tokens` tokens."""

    mean: float
    largest: float
    tokens: int


def requests(policy: Policy) -> list[Request]:
    """The fixed prompts, with fixed seeds; the same on every server and at every publish."""
    asked = []
    for number, (domain, question) in enumerate(QUESTIONS):
        prompt = policy.prompt_ids(Problem(f"canary-{number}", domain, question))
        prompt = prompt[-(policy.context - TOKENS) :]
        asked.append(Request(prompt, TOKENS, TEMPERATURE, 2 * number + 2, key=number))
    return asked


def own_logprobs(policy: Policy, answers: Sequence[Completion]) -> list[np.ndarray]:
    """The trainer's log π_T of the tokens of each answer. A collective where the model is sharded."""
    examples = [Example(a.request.prompt, a.tokens.tolist(), i) for i, a in enumerate(answers)]
    by_answer = [np.zeros(0, np.float32)] * len(answers)
    device = work_device(policy.model)
    with torch.no_grad():
        for pack in models.micro_batches(policy.model, examples, 1 << 12):
            logprob, _ = models.logprobs(policy.model, pack.to(device), TEMPERATURE)
            owners, values = pack.owners.numpy(), logprob.float().cpu().numpy()
            for i in set(owners.tolist()):
                by_answer[i] = values[owners == i]
    return by_answer


def difference(answers: Sequence[Completion], own: Sequence[np.ndarray]) -> Mismatch:
    """How far the servers' log-probabilities are from the trainer's of the same tokens."""
    d = np.abs(np.concatenate([a.logprobs - o for a, o in zip(answers, own, strict=True)]))
    return Mismatch(float(d.mean(dtype=np.float64)), float(d.max()), len(d))


def common(answers: Sequence[Completion], known: Sequence[Completion], own: Sequence[np.ndarray]) -> float:
    """The mean difference where only the trainer's log-probabilities of `known` answers are at hand: over
    the tokens up to the first that differs, whose context is the same. Infinite when there are none."""
    parts = []
    for answer, other, values in zip(answers, known, own, strict=True):
        n = min(len(answer.tokens), len(other.tokens))
        same = answer.tokens[:n] == other.tokens[:n]
        n = n if same.all() else int(same.argmin())
        parts.append(np.abs(answer.logprobs[:n] - values[:n]))
    d = np.concatenate(parts)
    return float(d.mean(dtype=np.float64)) if len(d) else float("inf")


def frozen(
    answers: Sequence[Completion],
    own: Sequence[np.ndarray],
    before: Sequence[Completion],
    own_before: Sequence[np.ndarray],
) -> bool:
    """Whether a server gave exactly what it gave at the last publish, although the trainer moved."""
    pairs = list(zip(answers, before, strict=True))
    if any(len(a.tokens) != len(b.tokens) or (a.tokens != b.tokens).any() for a, b in pairs):
        return False
    if any((a.logprobs != b.logprobs).any() for a, b in pairs):
        return False
    moved = np.abs(np.concatenate(list(own)) - np.concatenate(list(own_before)))
    return bool(moved.mean() > MOVED)
