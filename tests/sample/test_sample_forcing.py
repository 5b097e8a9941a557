"""Thinking that is cut: the forced end stands where it should, and nothing of it is learned or measured."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from acereason.config import Rl, Stage, Thinking
from acereason.draws import draw_seed
from acereason.errors import ConfigError
from acereason.policy.policy import Policy
from acereason.problems import Problem, Verdict
from acereason.sample.ask import Answer
from acereason.sample.engines.embedded import EmbeddedSampler
from acereason.sample.forcing import forcing, joined
from acereason.sample.protocol import Completion, Request
from acereason.train import update
from fake_vllm import tiny_policy
from learn_groups import Capture, groups

END = "\n</think>\n\n"
POLICY = tiny_policy()


def asked(thinking: Thinking | None, budget: int = 30, count: int = 12) -> list[Completion]:
    inner = EmbeddedSampler(POLICY.model, slots=4, threads=1, eos_ids=POLICY.end_ids)
    sampler = forcing(inner, POLICY, thinking)
    wanted = [Request([5, 6, 7 + i % 3], budget, 1.1, draw_seed(1, i), key=i) for i in range(count)]
    found = sorted(sampler.sample(wanted), key=lambda c: int(c.request.key))
    assert [c.request for c in found] == wanted
    return found


def test_what_reaches_the_limit_is_ended_and_goes_on() -> None:
    end = POLICY.tokenizer.encode(END, add_special_tokens=False)
    free, cut = asked(None), asked(Thinking(10))
    forced = [c for c in cut if c.forced != (0, 0)]
    assert len(forced) >= 6
    for before, after in zip(free, cut, strict=True):
        if after.forced == (0, 0):
            assert (before.tokens == after.tokens).all() and len(after.tokens) <= 10
            continue
        start, stop = after.forced
        assert start == 10 and after.tokens[start:stop].tolist() == end and len(after.tokens) <= 30
        assert (before.tokens[:10] == after.tokens[:10]).all() and after.drawn == len(after.tokens) - len(end)
        for numbers in (after.logprobs, after.entropy, after.entropy_1):
            assert (numbers[start:stop] == 0).all() and len(numbers) == len(after.tokens)
        assert "</think>" in POLICY.text(after.tokens)


def test_the_answer_is_that_of_the_model_after_the_forced_end() -> None:
    """Its log-probabilities are the trainer's of the same tokens in the same context."""
    from acereason.policy import model as models
    from acereason.policy.packing import Example, pack

    for one in asked(Thinking(10), count=4):
        laid = pack([Example(one.request.prompt, one.tokens.tolist(), 0)])
        with torch.no_grad():
            logprob, _ = models.logprobs(POLICY.model, laid, 1.1)
        drawn = np.ones(len(one.tokens), bool)
        drawn[slice(*one.forced)] = False
        assert np.abs(logprob.numpy() - one.logprobs)[drawn].max() < 1e-4


def test_closed_thinking_goes_on_with_nothing_put_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(POLICY), "text", lambda self, tokens: "so</think> 4")
    assert all(c.forced == (0, 0) for c in asked(Thinking(10)))
    assert max(len(c.tokens) for c in asked(Thinking(10))) > 10


def test_a_sample_depends_on_its_request_alone() -> None:
    few, many = asked(Thinking(10), count=3), asked(Thinking(10), count=12)
    assert all((a.tokens == b.tokens).all() for a, b in zip(few, many, strict=False))


def test_no_room_for_an_answer_is_refused() -> None:
    with pytest.raises(ConfigError, match="an answer"):
        asked(Thinking(28), budget=30)
    with pytest.raises(ValueError, match="must hold"):
        Thinking(5, "stop")
    with pytest.raises(ValueError, match="for an answer"):
        Stage("s", "math", budget=20, steps=1, thinking=Thinking(20))


def test_what_was_put_in_carries_no_gradient(qwen3: Any) -> None:
    """The gradient is that of the drawn tokens, each with the whole context before it."""
    batch = groups(5, rewards=[[1, 0, 1, 0]])
    cut = batch[0][1].completion
    head = Completion(
        Request(cut.request.prompt, 20, 0.85, 0, key=cut.request), cut.tokens, cut.logprobs, cut.entropy,
        cut.entropy, "length",
    )  # fmt: skip
    answer = np.array([7, 8], np.int32)
    zeros = np.zeros(2, np.float32)
    whole = joined(head, [3, 4, 5], Completion(cut.request, answer, zeros, zeros, zeros, "stop"))
    assert whole.drawn == len(cut.tokens) + 2
    batch[0][1] = Answer(Problem("0", "math", "?"), 1, whole, "", Verdict("wrong", 0))
    stage = Stage("s", "math", budget=40, steps=1, group=4, prompts=1, overlong="zero")
    settings = Rl(clip_gradient=1e9, sequence_mask="geometric", mask_bounds=(1e-9, 1e9))
    capture = Capture(qwen3.double())
    weights = update.weigh(batch, stage, settings)
    learned, final = update.learn(
        Policy(qwen3, None, "plain"), batch, weights, [capture], settings  # type: ignore[list-item]
    )  # fmt: skip
    assert learned.learned_tokens == sum(a.completion.drawn for a in batch[0])
    qwen3.zero_grad()
    total: Any = 0.0
    for answered, weight in zip(batch[0], final[0].tolist(), strict=True):
        prompt, tokens = answered.completion.request.prompt, answered.completion.tokens.tolist()
        table = (qwen3(input_ids=torch.tensor([[*prompt, *tokens]])).logits[0] / 0.85).log_softmax(-1)
        picked = table[len(prompt) - 1 : -1].gather(1, torch.tensor(tokens)[:, None])[:, 0]
        keep = torch.ones(len(tokens))
        keep[slice(*answered.completion.forced)] = 0
        total = total - weight * (picked * keep).sum()
    total.backward()
    naive = torch.cat([p.grad.flatten() for p in qwen3.parameters()])
    assert capture.gradient is not None
    assert (capture.gradient - naive).abs().max() <= 1e-6 * naive.abs().max()
