"""Each part of a difference between a server and the trainer is told from the others by what explains it."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from acereason.config import Servers
from acereason.policy.policy import Policy
from acereason.sample.engines.embedded import EmbeddedSampler
from acereason.sample.protocol import Completion
from acereason.sample.servers import canary, mismatch
from acereason.sample.servers.vllm_worker import how_served
from fake_vllm import shake, tiny_policy
from sample_models import naive_nucleus

Z = np.ndarray


@pytest.fixture(scope="module")
def policy() -> Policy:
    return tiny_policy(seed=4)


def answered(policy: Policy, top_p: float = 1.0) -> list[Completion]:
    """The canary's questions, answered as a server would."""
    sampler = EmbeddedSampler(policy.model, slots=8, threads=1, eos_ids=policy.end_ids)
    sampler.update(policy.model)
    asked = [replace(r, top_p=top_p) for r in canary.requests(policy)]
    found = {c.request.key: c for c in sampler.sample([replace(r, key=i) for i, r in enumerate(asked)])}
    return [found[i] for i in range(len(asked))]


def reported(policy: Policy, answers: list[Completion], how: Callable[[Z, float], Z]) -> list[Completion]:
    """The answers with log-probabilities of logits [V] and T as `how` computes them, token by token."""
    result = []
    for answer in answers:
        prompt = list(answer.request.prompt)
        with torch.no_grad():
            logits = policy.model(torch.tensor([[*prompt, *answer.tokens.tolist()]])).logits[0]
        rows = logits[len(prompt) - 1 : -1].double().numpy()
        values = [how(z, answer.request.temperature)[t] for z, t in zip(rows, answer.tokens, strict=True)]
        result.append(replace(answer, logprobs=np.array(values, np.float32)))
    return result


def log_softmax(z: Z) -> Z:
    shifted = z - z.max()
    return np.asarray(shifted - np.log(np.exp(shifted).sum()))


def rounded(z: Z, T: float) -> Z:
    return log_softmax(torch.from_numpy(z).bfloat16().double().numpy() / T)


def nucleus(z: Z, T: float) -> Z:
    kept = naive_nucleus(np.exp(log_softmax(z / T)), 0.9)
    with np.errstate(divide="ignore"):
        return np.asarray(np.log(kept / kept.sum()))


def highest(z: Z, T: float) -> Z:
    return log_softmax(np.where(z >= np.sort(z)[-20], z / T, -1e9))


CAUSES: dict[str, tuple[Callable[[Z, float], Z], str]] = {
    mismatch.AS_IT_IS: (lambda z, T: log_softmax(z / T), "None of the known"),
    "raw": (lambda z, T: log_softmax(z), "--logprobs-mode processed_logprobs"),
    "head": (rounded, "head_dtype"),
    "top-p of 0.9": (nucleus, "top-p of 0.9"),
    "top-k of 20": (highest, "top-k of 20"),
}


@pytest.mark.parametrize("name", CAUSES)
def test_what_a_server_does_is_named(policy: Policy, name: str) -> None:
    how, sentence = CAUSES[name]
    answers = reported(policy, answered(policy, 0.01 if name.startswith("top") else 1.0), how)
    found = mismatch.causes(policy, answers)
    assert found[0].name == name and found[0].left < 2e-5, found[:3]
    assert sentence in mismatch.said(found)
    others = [c.left for c in found if c.name != name]
    assert name == mismatch.AS_IT_IS or min(others) > 5 * found[0].left


def test_stale_weights_are_named(policy: Policy) -> None:
    answers = answered(policy)
    before = (answers, canary.own_logprobs(policy, answers))
    moved = tiny_policy(seed=4)
    shake(moved, 0.05)
    found = mismatch.causes(moved, answers, before)
    assert found[0].name == "before" and found[0].left < 1e-4
    assert "weights of the publication before" in mismatch.said(found)


def test_noise_of_kernels_is_nobodys(policy: Policy) -> None:
    answers = copy.deepcopy(answered(policy))
    chance = np.random.default_rng(0)
    noisy = [replace(a, logprobs=a.logprobs + chance.normal(0, 0.02, len(a.logprobs))) for a in answers]  # type: ignore[arg-type]
    found = mismatch.causes(policy, noisy)
    assert "None of the known causes" in mismatch.said(found)
    whole = next(c.left for c in found if c.name == mismatch.AS_IT_IS)
    assert 0.01 < whole < 0.03


def test_each_kind_of_server_has_a_canary_of_its_own() -> None:
    kinds: list[Any] = ["plain", "fp8", "speculative"]
    limits = [Servers(("http://a",), kind=kind).limit for kind in kinds]
    assert limits == [0.02, 0.1, 0.02] and Servers(("http://a",), canary=0.3, kind="fp8").limit == 0.3


def test_a_server_says_how_it_computes(monkeypatch: pytest.MonkeyPatch) -> None:
    class Model:
        quantization, head_dtype = "fp8", torch.float32

    class Settings:
        model_config, speculative_config = Model, None

    monkeypatch.setenv("VLLM_BATCH_INVARIANT", "1")
    assert how_served(Settings) == {"kind": "fp8", "head": "float32", "invariant": True, "transfer": None}
    Model.quantization, Settings.speculative_config = None, object()  # type: ignore[assignment]
    assert how_served(Settings)["kind"] == "speculative"
