"""One update against a naive per-response gradient, whatever the micro-batches; what must move nothing."""

from __future__ import annotations

from dataclasses import replace
from types import MethodType
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from acereason.config import Rl, Stage
from acereason.errors import TrainingError
from acereason.policy import packing
from acereason.policy.model import logprobs
from acereason.policy.packing import Example
from acereason.policy.policy import Policy
from acereason.sample.ask import Answer
from acereason.sample.protocol import Completion
from acereason.sample.temperature import entropy_of
from acereason.train import metrics, optimizers, sft, update
from acereason.train.memory import LEARNING, SAMPLING, enough_for
from acereason.train.second import Besides
from learn_groups import Capture, gradient, groups, learn, weights

STAGE = Stage("s", "math", budget=20, steps=1, group=4, prompts=3)


def policy(model: Any) -> Policy:
    """All in float64: transformers' norms would pass through float32, and prompts that responses share have
    their gradients summed before that, else after."""

    def norm(self: Any, hidden: Tensor) -> Tensor:
        scale = torch.rsqrt(hidden.pow(2).mean(-1, keepdim=True) + self.variance_epsilon)
        scaled: Tensor = hidden * scale * self.weight
        return scaled

    for module in model.double().modules():
        if hasattr(module, "variance_epsilon"):
            module.forward = MethodType(norm, module)
    return Policy(model, None, "plain")


def naive_gradient(model: Any, batch: Any, settings: Rl) -> Tensor:
    """Recipe §3 with one plain forward pass per response, in float64."""
    model.zero_grad()
    table = weights(batch, STAGE, settings)
    loss: Any = 0.0
    for group, row in zip(batch, table, strict=True):
        for answer, weight in zip(group, row, strict=True):
            prompt, tokens = answer.completion.request.prompt, answer.completion.tokens.tolist()
            logits = model(input_ids=torch.tensor([[*prompt, *tokens]])).logits[0]
            log_p = (logits / answer.completion.request.temperature).log_softmax(-1)
            picked = log_p[len(prompt) - 1 : -1].gather(1, torch.tensor(tokens)[:, None])
            loss = loss - weight * picked.sum()
    loss.backward()
    found = gradient(model)
    model.zero_grad()
    return found


@pytest.mark.parametrize("normalisation", ["global", "group"])
@pytest.mark.parametrize("micro_tokens", [10_000, 100, 1])
def test_micro_batches_give_the_naive_gradient(qwen3: Any, normalisation: Any, micro_tokens: int) -> None:
    settings = Rl(normalisation=normalisation, micro_tokens=micro_tokens, clip_gradient=1e9)
    batch, owner = groups(3), policy(qwen3)
    naive = naive_gradient(qwen3, batch, settings)
    capture = Capture(qwen3)
    learned = learn(owner, batch, [capture], STAGE, settings)
    assert capture.gradient is not None and learned.learned_tokens > 0
    assert (capture.gradient - naive).abs().max() <= 2e-8  # shared prompts: the norms inside are float32


def test_float32_packs_agree_with_the_naive_gradient(qwen3: Any) -> None:
    settings = Rl(clip_gradient=1e9)
    batch = groups(4)
    naive = naive_gradient(qwen3.double(), batch, settings)
    capture = Capture(qwen3.float())
    learn(Policy(qwen3, None, "plain"), batch, [capture], STAGE, settings)
    assert capture.gradient is not None
    assert (capture.gradient - naive).norm() / naive.norm() < 1e-5


@pytest.mark.parametrize(
    "rewards",
    [[[1, 1, 1, 1], [0, 0, 0, 0], [1, 1, 1, 1]], [[None, 1, 1, 1], [0, None, None, None], [0, 0, 0, 0]]],
    ids=["equal", "unjudged"],
)
def test_nothing_to_learn_moves_nothing(qwen3: Any, rewards: Any) -> None:
    owner = policy(qwen3)
    optimizer = optimizers.for_rl(qwen3, Rl())
    optimizers.set_rates(optimizer, [0.1])
    before = [p.detach().clone() for p in qwen3.parameters()]
    learned = learn(owner, groups(5, rewards=rewards), optimizer, STAGE, Rl())
    assert learned.gradient_norm is None and learned.learned_tokens == 0 and learned.loss == 0
    assert all(torch.equal(a, b) for a, b in zip(before, qwen3.parameters(), strict=True))


def test_a_fully_truncated_batch_is_masked_and_reported(qwen3: Any) -> None:
    batch = groups(6)
    cut = [
        [Answer(a.problem, a.sample, replace(a.completion, finish="length"), "", a.verdict) for a in g]
        for g in batch
    ]
    learned = learn(policy(qwen3), cut, optimizers.for_rl(qwen3, Rl()), STAGE, Rl())
    assert learned.learned_tokens == 0
    row = metrics.step_metrics(metrics.tell(cut, weights(cut, STAGE, Rl())))
    assert row["truncated"] == 1.0 and row["learning_groups"] == 0


def test_a_gradient_that_is_not_finite_moves_nothing(qwen3: Any) -> None:
    owner = policy(qwen3)
    optimizer = optimizers.for_rl(qwen3, Rl())
    optimizers.set_rates(optimizer, [0.1])
    with torch.no_grad():
        next(qwen3.parameters())[0, 0] = float("inf")
    before = [p.detach().clone() for p in qwen3.parameters()]
    learned = learn(owner, groups(7), optimizer, STAGE, Rl())
    assert learned.gradient_norm is None and learned.learned_tokens > 0
    for a, b in zip(before, qwen3.parameters(), strict=True):
        assert torch.equal(a, b)


def test_several_updates_a_batch_are_off_policy(qwen3: Any) -> None:
    capture = Capture(qwen3)
    learn(policy(qwen3), groups(8), [capture], STAGE, Rl(updates=3))
    assert capture.steps > 1


@pytest.mark.parametrize("updates", [1, 2, 3])
def test_the_weights_that_are_kept_are_those_learned_with(qwen3: Any, updates: int, monkeypatch: Any) -> None:
    """Also with several updates a batch, each of which has a denominator of its own."""
    batch, settings = groups(13, shape=(5, 4)), Rl(updates=updates)
    used: dict[str, list[float]] = {}
    add = update.Update.add

    def noted(self: Any, part: Any, weights: Tensor, advantages: Tensor) -> None:
        used.update({g[0].problem.id: row for g, row in zip(part, weights.tolist(), strict=True)})
        add(self, part, weights, advantages)

    monkeypatch.setattr(update.Update, "add", noted)
    weighed = update.weigh(batch, STAGE, settings)
    _, kept = update.learn(policy(qwen3), batch, weighed, [Capture(qwen3)], settings)  # type: ignore[list-item]
    assert kept.tolist() == [used[group[0].problem.id] for group in batch] and kept.abs().sum() > 0


@pytest.mark.parametrize("normalisation", ["global", "group"])
def test_groups_learned_one_by_one_in_any_order_give_the_same_gradient(
    qwen3: Any, normalisation: Any
) -> None:
    settings = Rl(normalisation=normalisation, micro_tokens=64, clip_gradient=1e9)
    batch, owner = groups(9, shape=(6, 4)), Policy(qwen3.float(), None, "plain")
    whole, parts = Capture(qwen3), Capture(qwen3)
    plain = learn(owner, batch, [whole], STAGE, settings)
    streamed = update.Update(owner, settings)
    for part in ([batch[4]], [batch[1], batch[0]], [], [batch[5], batch[2], batch[3]]):
        streamed.add(part, *update.weigh(part, STAGE, settings)[1::-1])
    scale = 1 / update.denominator(update.weigh(batch, STAGE, settings))
    learned = streamed.finish([parts], scale)  # type: ignore[list-item]
    assert whole.gradient is not None and parts.gradient is not None
    assert (whole.gradient - parts.gradient).norm() <= 1e-6 * whole.gradient.norm()
    assert learned.loss == pytest.approx(plain.loss, rel=1e-5)
    assert learned.learned_tokens == plain.learned_tokens
    assert learned.gradient_norm == pytest.approx(plain.gradient_norm, rel=1e-5)


def shifted(batch: Any, model: Any, shift: float) -> Any:
    """The batch as a sampler would have given it whose log-probabilities are `shift` below the trainer's."""
    owner = Policy(model, None, "plain")
    result = []
    for group in batch:
        answers = []
        for a in group:
            c = a.completion
            pack = packing.pack([Example(c.request.prompt, c.tokens.tolist())])
            with torch.no_grad():
                logprob, _ = logprobs(owner.model, pack, c.request.temperature)
            numbers = (logprob - shift).float().numpy()
            completion = Completion(c.request, c.tokens, numbers, -numbers, c.entropy_1 * np.nan, c.finish)
            answers.append(Answer(a.problem, a.sample, completion, a.text, a.verdict))
        result.append(answers)
    return result


@pytest.mark.parametrize(
    "switch",
    [
        {"updates": 2, "ratio": "clip", "clip": (0.1, 0.2)},
        {"updates": 2, "ratio": "cispo", "clip": (0.1, 0.2)},
        {"updates": 2, "ratio": "gspo", "clip": (0.05, 0.05)},
        {"sequence_mask": "geometric", "mask_bounds": (0.95, 1.05)},
        {"sequence_mask": "icepop", "mask_bounds": (0.9, 1.1)},
        {"importance_cap": 1.1},
        {"normalisation": "constant", "advantage": "max_rl", "length_penalty": 0.0},
        {"advantage": "batch", "idle_groups": "drop"},
    ],
)
def test_every_form_of_the_loss_is_the_same_for_any_micro_batches(qwen3: Any, switch: dict[str, Any]) -> None:
    """With a sampler whose log-probabilities are off by some per cent, so that clips and masks cut."""
    owner = policy(qwen3)
    batch = shifted(groups(11, shape=(4, 4)), qwen3, 0.0)
    noise = np.random.default_rng(0)
    for answer in (a for g in batch for a in g):
        answer.completion.logprobs[:] += noise.normal(0, 0.1, len(answer.completion.tokens))
    found = []
    for micro_tokens in (10_000, 60, 1):
        capture = Capture(qwen3)
        besides = Besides({"math": 0.02})
        settings = Rl(micro_tokens=micro_tokens, clip_gradient=1e9, **switch)
        weighed = update.weigh(batch, STAGE, settings)
        learned, _ = update.learn(owner, batch, weighed, [capture], settings, besides)  # type: ignore[list-item]
        assert capture.gradient is not None
        found.append((capture.gradient, learned.loss))
        qwen3.zero_grad()
    for gradient_, loss in found[1:]:
        assert (gradient_ - found[0][0]).abs().max() <= 2e-8 and loss == pytest.approx(found[0][1], abs=1e-8)


def test_importance_weights_mend_a_sampler_that_differs_and_are_truncated(qwen3: Any) -> None:
    batch, owner = groups(10), Policy(qwen3.float(), None, "plain")
    gradients: list[Tensor] = []
    for shift, cap in ((0.0, None), (0.0, 2.0), (0.1, 2.0), (3.0, 2.0)):
        capture = Capture(qwen3)
        settings = Rl(importance_cap=cap, clip_gradient=1e9)
        learn(owner, shifted(batch, qwen3, shift), [capture], STAGE, settings)
        assert capture.gradient is not None
        gradients.append(capture.gradient)
    plain, equal, near, far = gradients
    assert torch.allclose(equal, plain, rtol=1e-4, atol=1e-6)
    assert torch.allclose(near, plain * float(np.exp(0.1)), rtol=1e-4, atol=1e-6)
    assert torch.allclose(far, plain * 2.0, rtol=1e-4, atol=1e-6)


def test_too_large_a_difference_stops_before_anything_moves(qwen3: Any) -> None:
    owner = Policy(qwen3.float(), None, "plain")
    optimizer = optimizers.for_rl(qwen3, Rl())
    optimizers.set_rates(optimizer, [0.1])
    before = [p.detach().clone() for p in qwen3.parameters()]
    batch = shifted(groups(11), qwen3, 0.5)
    with pytest.raises(TrainingError, match=r"k3\) of 0\.1\d+ nats a token; rl\.max_k3 allows 0\.05"):
        learn(owner, batch, optimizer, STAGE, Rl(max_k3=0.05))
    assert all(torch.equal(a, b) for a, b in zip(before, qwen3.parameters(), strict=True))
    assert learn(owner, batch, optimizer, STAGE, Rl(max_k3=0.5)).k3 == pytest.approx(0.1487, rel=0.01)


def test_entropy_of_servers_is_an_estimate_and_h_1_unknown(qwen3: Any) -> None:
    batch = shifted(groups(12), qwen3.float(), 0.0)
    row = metrics.step_metrics(metrics.tell(batch, weights(batch, STAGE, Rl())))
    assert row["H_1"] is None and row["H_T"] > 0


def test_the_error_of_h_t_is_that_of_prompts_whose_responses_resemble_each_other() -> None:
    """Against the spread over fresh sets of prompts; of responses as if independent it is far too low."""
    rng = np.random.default_rng(0)
    told, alone = [], []
    for _ in range(60):
        batch = groups(int(rng.integers(1 << 30)), shape=(24, 8))
        for group in batch:
            level = rng.uniform(0.05, 0.6)  # the prompt's own
            for answer in group:
                answer.completion.entropy[:] = rng.normal(level, 0.02, len(answer.completion.tokens))
        row = metrics.step_metrics(metrics.tell(batch, torch.zeros(24, 8)))
        told.append((row["H_T"], row["H_T_se"]))
        alone.append(entropy_of(a.completion for g in batch for a in g)[1])
    spread = float(np.std([H for H, _ in told], ddof=1))
    assert np.mean([se for _, se in told]) == pytest.approx(spread, rel=0.25)
    assert np.mean(alone) < 0.6 * spread


def test_decay_spares_norms_and_biases_and_nothing_else_changes(qwen3: Any) -> None:
    names = {id(p): n for n, p in qwen3.named_parameters()}
    (adamw,) = optimizers.for_rl(qwen3, Rl(weight_decay=0.1))
    decayed, spared = ({names[id(p)] for p in group["params"]} for group in adamw.param_groups)
    assert [group["weight_decay"] for group in adamw.param_groups] == [0.1, 0.0]
    assert spared == {n for n in names.values() if "norm" in n or n.endswith("bias")}
    assert decayed | spared == set(names.values())
    before = {n: p.detach().clone() for n, p in qwen3.named_parameters()}
    for parameter in qwen3.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizers.set_rates([adamw], [0.5])
    optimizers.step(qwen3, [adamw], 1.0)
    for name, parameter in qwen3.named_parameters():
        factor = 1.0 if name in spared else 1 - 0.5 * 0.1
        assert torch.allclose(parameter, before[name] * factor)
    assert len(optimizers.for_rl(qwen3, Rl())[0].param_groups) == 1


@pytest.mark.parametrize("knob", ["rl.micro_tokens", "placement.checkpoint_activations"])
def test_out_of_memory_names_the_knobs(knob: str) -> None:
    with pytest.raises(TrainingError, match=knob), enough_for("learning", LEARNING):
        torch.empty(1 << 60, dtype=torch.uint8)
    with pytest.raises(RuntimeError, match="another"), enough_for("learning", LEARNING):
        raise RuntimeError("another error")
    with pytest.raises(TrainingError, match=r"sampling\.slots"), enough_for("sampling", SAMPLING):
        raise torch.OutOfMemoryError("CUDA out of memory")


def test_sft_loss_is_the_mean_over_response_tokens(qwen3: Any) -> None:
    rng = np.random.default_rng(0)
    batch = [
        Example(rng.integers(0, 61, 5).tolist(), rng.integers(0, 61, n).tolist(), i)
        for i, n in enumerate((3, 9, 1, 14))
    ]
    gradients: list[Tensor] = []
    for micro in (1, 20, 1000):
        qwen3.zero_grad()
        loss = sft.learn(qwen3, batch, micro)
        gradients.append(gradient(qwen3))
    naive = 0.0
    for e in batch:
        logits = qwen3(input_ids=torch.tensor([[*e.prompt, *e.response]])).logits[0]
        log_p = logits[len(e.prompt) - 1 : -1].log_softmax(-1)
        naive -= log_p.gather(1, torch.tensor(e.response)[:, None]).sum().item()
    assert loss == pytest.approx(naive / sum(len(e.response) for e in batch), rel=1e-5)
    assert torch.allclose(gradients[0], gradients[2], atol=1e-6)
    assert torch.allclose(gradients[1], gradients[2], atol=1e-6)
