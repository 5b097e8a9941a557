"""Both engines against a full forward pass of transformers in double precision."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from acereason.draws import uniform, uniforms
from acereason.policy.panels import fill_panels, panels
from acereason.sample.engines.draw import nucleus
from acereason.sample.protocol import Request
from sample_models import (
    ENGINES,
    KINDS,
    answers,
    assert_drawn_by_inverse,
    assert_numbers,
    bytes_of,
    group,
    logits64,
    make,
    naive_nucleus,
    sampler,
)

needs_native = pytest.mark.skipif("native" not in ENGINES, reason="no compiler")


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_logprobs_and_entropies_are_of_the_tempered_distribution(kind: str, tied: bool, engine: str) -> None:
    model = make(kind, tied=tied)
    made = sampler(model, engine)
    for temperature in (0.4, 0.85, 1.3):
        for completion in answers(made, group(temperature=temperature)).values():
            assert_numbers(model, completion)
            assert_drawn_by_inverse(model, completion)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("rope", ["linear", "llama3"])
def test_scaled_rotations(rope: str, engine: str) -> None:
    parameters = {
        "rope_type": rope,
        "rope_theta": 5e5,
        "factor": 4.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 32,
    }
    if rope == "linear":
        parameters = {k: parameters[k] for k in ("rope_type", "rope_theta", "factor")}
    model = make("llama", rope_parameters=parameters)
    for completion in answers(sampler(model, engine), group(prompts=3, each=1)).values():
        assert_numbers(model, completion)


@pytest.mark.parametrize("engine", ENGINES)
def test_long_prompt_goes_through_in_chunks(engine: str) -> None:
    model = make("qwen3", max_position_embeddings=2048)
    prompt = [(7 * t) % 61 for t in range(1300)]
    request = Request(prompt=prompt, budget=20, temperature=1.0, seed=1)
    for completion in answers(sampler(model, engine), [request]).values():
        assert_numbers(model, completion, slack=1e-4)


@needs_native
@pytest.mark.parametrize("kind", KINDS)
def test_native_draws_the_tokens_of_torch(kind: str) -> None:
    model, requests = make(kind), group(temperature=1.1) + group(temperature=0.6, top_p=0.8)
    requests = [
        Request(r.prompt, r.budget, r.temperature, r.seed, r.top_p, i) for i, r in enumerate(requests)
    ]
    native = answers(sampler(model, "native"), requests)
    torch_ = answers(sampler(model, "torch"), requests)
    for key, completion in native.items():
        assert completion.tokens.tolist() == torch_[key].tokens.tolist()
        assert completion.finish == torch_[key].finish


@needs_native
@pytest.mark.parametrize("kind", KINDS)
def test_bits_depend_neither_on_company_nor_on_threads(kind: str) -> None:
    model, requests = make(kind), group(each=12)
    together = answers(sampler(model, "native", slots=48, threads=1), requests)
    for slots, threads, order in ((1, 1, 1), (7, 2, 1), (13, 3, -1), (48, 5, -1)):
        made = sampler(model, "native", slots=slots, threads=threads)
        again = answers(made, requests[::order])
        for key, completion in together.items():
            assert bytes_of(completion) == bytes_of(again[key]), (slots, threads, key)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_sample_redone_alone_is_the_same(engine: str) -> None:
    model, requests = make("qwen3"), group()
    made = sampler(model, engine)
    together = answers(made, requests)
    for request in requests[::4]:
        (alone,) = made.sample([request])
        assert alone.tokens.tolist() == together[request.key].tokens.tolist()
        if engine == "native":
            assert bytes_of(alone) == bytes_of(together[request.key])


@pytest.mark.parametrize("engine", ENGINES)
def test_top_p_keeps_the_naive_nucleus(engine: str) -> None:
    model = make("qwen2")
    # at a low temperature many tokens are unlikely, and looked at only where the others hold too little
    cases = ((0.05, 1.0, 1e-5), (0.5, 1.0, 1e-5), (0.95, 1.0, 1e-5), (0.95, 0.1, 1e-3), (0.9999, 0.1, 1e-3))
    for top_p, temperature, slack in cases:
        requests = group(temperature=temperature, top_p=top_p)
        for completion in answers(sampler(model, engine), requests).values():
            assert_numbers(model, completion, slack)  # of the distribution before the cut
            assert_drawn_by_inverse(model, completion, slack)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("top_p", [1.0, 0.7])
def test_draws_follow_the_distribution(engine: str, top_p: float) -> None:
    model, count = make("qwen3", vocab_size=19, eos_token_id=None), 6000
    requests = [Request([1, 2, 3], 1, 0.85, 7919 * i, top_p) for i in range(count)]
    drawn = [int(c.tokens[0]) for c in sampler(model, engine, slots=64).sample(requests)]
    first = next(iter(sampler(model, engine).sample(requests[:1])))
    p = (logits64(model, first)[0] / 0.85).softmax(-1).numpy()
    p = naive_nucleus(p, top_p) if top_p < 1 else p
    p = p / p.sum()
    seen = np.bincount(drawn, minlength=19)
    assert not seen[p == 0].any()
    expected = count * p[p > 0]
    statistic, freedom = ((seen[p > 0] - expected) ** 2 / expected).sum(), (p > 0).sum() - 1
    assert statistic < freedom + 4 * math.sqrt(2 * freedom)


@given(st.lists(st.integers(0, 6), min_size=1, max_size=20), st.floats(0.01, 1.0))
@settings(max_examples=200, deadline=None)
def test_nucleus_of_many_ties(weights: list[int], share: float) -> None:
    mass = np.array(weights, float)
    if not mass.sum():
        mass[0] = 1.0
    share = round(share * 64) / 64 or 1 / 64  # exact in binary, as the sums are
    found = nucleus(torch.from_numpy(mass[None]), torch.tensor([share], dtype=torch.float64))
    assert found[0].tolist() == naive_nucleus(mass, share * mass.sum()).tolist()


@given(st.lists(st.tuples(st.integers(0, 2**64 - 1), st.integers(0, 2**31 - 1)), min_size=1))
@settings(deadline=None)
def test_array_of_uniforms_is_the_protocol_s(pairs: list[tuple[int, int]]) -> None:
    seeds, positions = np.array([p[0] for p in pairs], np.uint64), np.array([p[1] for p in pairs])
    assert uniforms(seeds, positions.astype(np.int32)).tolist() == [uniform(*p) for p in pairs]


@given(st.integers(1, 40), st.integers(1, 9), st.sampled_from([4, 8, 16, 32]))
@settings(max_examples=50, deadline=None)
def test_panels_hold_the_matrix(rows: int, columns: int, width: int) -> None:
    matrix, out = torch.randn(rows, columns), panels(rows, columns, width)
    fill_panels(matrix, out)
    flat = out.transpose(1, 2).reshape(-1, columns)
    assert torch.equal(flat[:rows], matrix)
    assert not flat[rows:].any()
