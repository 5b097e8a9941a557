"""bfloat16 products by compiled code, on every kind of processor that this machine can pass for: against
PyTorch's, and the laws of the compiled engine and pass."""

from __future__ import annotations

import copy
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from acereason.config import Lora
from acereason.policy import attention, compiled_pass, decoder, halves, lora, panels
from acereason.policy.model import packed_logprobs
from acereason.policy.packing import Example, Pack, pack
from families import make_family, random_changes
from processors import compiled_for
from sample_models import answers, assert_numbers, bytes_of, group, make, sampler

PROCESSORS = ["portable", "x86-64-v3", "cooperlake", "sapphirerapids"]
KINDS = ["llama", "mistral", "qwen2", "qwen3", "gemma", "gemma3_text"]
many = settings(
    max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much]
)


@pytest.fixture(scope="module", params=PROCESSORS)
def processor(request: pytest.FixtureRequest) -> Any:
    """One architecture, for all that is compiled within."""
    with compiled_for(request.param):
        yield request.param


def halved(kind: str, seed: int) -> Any:
    """A model of a random shape, with windows, whose layers multiply in bfloat16."""
    rng = random.Random(seed)
    model = make_family(kind, seed % 7, tied=rng.random() < 0.5, **random_changes(kind, rng))
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 2:
                parameter.mul_(0.4)  # rounding is not blown up
    model.set_attn_implementation(attention.NAME)
    halves.halve(model)
    return model


def some(seed: int) -> Pack:
    """Ragged responses to two prompts."""
    rng = random.Random(seed)
    prompts = [[rng.randrange(61) for _ in range(rng.randint(1, 20))] for _ in range(2)]
    lengths = [1, 2, 9, 17, 30]
    return pack([Example(prompts[i % 2], rng.choices(range(61), k=n), i) for i, n in enumerate(lengths)])


def gradient(model: Any, logprob: torch.Tensor, pull: torch.Tensor) -> torch.Tensor:
    model.zero_grad()
    (logprob * pull).sum().backward()
    return torch.cat([p.grad.flatten() for p in model.parameters()])


def compiled(model: Any, one: Pack, threads: int = 1) -> torch.Tensor:
    found = compiled_pass.logprobs(model, one, 0.8, threads)
    assert found is not None
    return found[0]


@many
@given(st.sampled_from(KINDS), st.integers(0, 10**6))
def test_learning_as_pytorch_does(processor: str, kind: str, seed: int) -> None:
    model, one = halved(kind, seed), some(seed)
    exact = copy.deepcopy(model)  # has no mark: its products are PyTorch's, in float32
    for layer in exact.modules():
        if isinstance(layer, halves.HalfLinear):
            layer.__class__ = torch.nn.Linear  # type: ignore[assignment]
    pull = torch.randn(len(one.targets), generator=torch.Generator().manual_seed(seed))
    own, theirs, wanted = (
        compiled(model, one, threads=1 + seed % 2),
        packed_logprobs(model, one, 0.8)[0],
        packed_logprobs(exact, one, 0.8)[0],
    )
    off = (theirs - wanted).abs().mean()
    assert (own - theirs).abs().mean() < 0.5 * off + 1e-5  # they round alike
    a, b, c = (gradient(m, x, pull) for m, x in ((model, own), (model, theirs), (exact, wanted)))
    assert (a - c).norm() < 1.2 * (b - c).norm() + 1e-4 * c.norm()


@many
@given(st.sampled_from(KINDS), st.integers(0, 10**6))
def test_sampler_and_trainer_share_the_products(processor: str, kind: str, seed: int) -> None:
    model = halved(kind, seed)
    for completion in sampler(model, "native").sample(group(prompts=3, each=2, budget=9, temperature=0.8)):
        one = pack([Example(completion.request.prompt, completion.tokens.tolist(), 0)])
        learned = compiled(model, one).detach().numpy()
        assert np.abs(learned - completion.logprobs).mean() < 2e-3


def test_bits_depend_neither_on_company_nor_on_threads(processor: str) -> None:
    model, requests = halved("gemma3_text", 1), group(temperature=0.9)
    together = answers(sampler(model, "native", slots=12, threads=1), requests)
    for slots, threads in ((1, 1), (5, 3)):
        for key, completion in answers(
            sampler(model, "native", slots=slots, threads=threads), requests
        ).items():
            assert bytes_of(completion) == bytes_of(together[key])


@many
@given(st.integers(1, 90), st.integers(1, 90), st.booleans())
def test_panels_hold_the_matrix(processor: str, rows: int, columns: int, in_turns: bool) -> None:
    library = compiled_pass.open_library()
    assert library is not None
    matrix, tiles = torch.randn(rows, columns), -(-rows // 16)
    made = panels.half_panels({"out": (32 * tiles if in_turns else rows, columns), "turned": (columns, rows)})
    out, turned = made["out"], made["turned"]
    panels.pack_half(library, matrix, out, turned, first=int(in_turns), step=1 + in_turns)
    wanted = torch.zeros(out.shape[0] * 32, out.shape[1] * 32)
    for tile in range(tiles):
        place = 2 * tile + 1 if in_turns else tile
        part = matrix[16 * tile : 16 * tile + 16]
        wanted[16 * place : 16 * place + len(part), :columns] = part
    assert torch.equal(unpacked(out), wanted.to(torch.bfloat16))
    across = torch.zeros(turned.shape[0] * 32, turned.shape[1] * 32)
    across[:columns, :rows] = matrix.t()
    assert torch.equal(unpacked(turned), across.to(torch.bfloat16))


def unpacked(out: torch.Tensor) -> torch.Tensor:
    """The matrix of half panels, what lies behind it included."""
    halved = (
        out.contiguous().view(torch.bfloat16).view(*out.shape, 2)
    )  # panel, block, tile, pair, row, of two
    return halved.permute(0, 2, 4, 1, 3, 5).reshape(out.shape[0] * 32, out.shape[1] * 32)


@pytest.mark.parametrize("even", [False, True])
@pytest.mark.parametrize("half", [False, True])
def test_gradients_add_up_over_packs(half: bool, even: bool) -> None:
    """In place where parameters still hold what the last pass gave (even shapes), everywhere the same."""
    shape: dict[str, Any] = {"hidden_size": 64, "intermediate_size": 96, "num_attention_heads": 4}
    model = make("qwen3", **shape if even else {})
    model.set_attn_implementation(attention.NAME)
    if half:
        halves.halve(model)
    one, other = some(1), some(2)
    pulls = [torch.randn(len(p.targets)) for p in (one, other)]
    alone = [gradient(model, compiled(model, p), w) for p, w in zip((one, other), pulls, strict=True)]
    wanted = alone[0] + alone[1]

    def added(threads: int, between: Any) -> torch.Tensor:
        (compiled(model, one) * pulls[0]).sum().backward()
        between()
        (compiled(model, other, threads) * pulls[1]).sum().backward()
        return torch.cat([p.grad.flatten() for p in model.parameters()])

    def replaced() -> None:
        last = list(model.parameters())[-1]
        last.grad = last.grad.clone()

    for threads, between in ((1, lambda: None), (1, replaced), (2, lambda: None)):
        for none in (True, False):  # new gradients, or those before with zeros in them
            model.zero_grad(set_to_none=none)
            # two threads may each take a prompt's row with some of its responses, and round its gradient
            slack = 0.01 if half and threads == 2 else 1e-5
            assert (added(threads, between) - wanted).norm() < slack * wanted.norm()
    model.zero_grad()
    added(1, lambda: None)
    places = {p.grad.untyped_storage().data_ptr() for p in model.parameters()}
    assert (len(places) == 1) == even


def test_factors_of_adapters_that_were_read_are_seen() -> None:
    """Merged weights are made anew for every pass, at places that others had: only the factors tell."""
    model = make("qwen3", hidden_size=256, intermediate_size=512)
    model.set_attn_implementation(attention.NAME)
    halves.halve(model)
    lora.adapt(model, Lora(4, 8.0))
    one = some(3)
    for seed in range(6):
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if lora.is_factor(name):
                    parameter.copy_(
                        torch.randn(parameter.shape, generator=torch.Generator().manual_seed(seed)) / 16
                    )
        wanted = packed_logprobs(model, one, 0.8)[0]
        assert (compiled(model, one) - wanted).abs().mean() < 0.1


def test_a_pack_that_was_interrupted_is_made_again(monkeypatch: pytest.MonkeyPatch) -> None:
    model, one = halved("llama", 1), some(1)
    same = copy.deepcopy(model)
    halves.halve(same)  # a copy has none of the marks
    wanted = compiled(same, one)

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(decoder, "joined", interrupted)
        with pytest.raises(KeyboardInterrupt):
            compiled(model, one)
    assert torch.equal(compiled(model, one), wanted)


def test_a_gradient_that_is_not_asked_for_does_not_grow() -> None:
    model = make("qwen3", hidden_size=64, intermediate_size=96, num_attention_heads=4)
    model.set_attn_implementation(attention.NAME)
    compiled(model, some(1)).sum().backward()
    still = model.model.layers[0].mlp.up_proj.weight
    before, own = still.grad.clone(), model.model.norm.weight.grad.clone()
    still.requires_grad_(False)
    compiled(model, some(2)).sum().backward()
    assert torch.equal(still.grad, before) and not torch.equal(model.model.norm.weight.grad, own)


@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="Linux tells what memory is")
def test_memory_is_the_process_s_own() -> None:
    """Shared memory has no large pages, and counts against another limit."""

    def shared() -> int:
        lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("Pss_Shmem"))

    before = shared()
    held = panels.zeros((1 << 22,))
    held.fill(1)
    assert shared() < before + 1024


def test_a_block_serves_by_turns() -> None:
    """One spare, never while somebody still reads it, and with zeros."""
    size = panels.LARGE // 4
    first = panels.zeros((2, size))
    first.fill(7)
    place, view = first.ctypes.data, torch.from_numpy(first)[1]
    del first
    assert panels.zeros((2, size)).ctypes.data != place  # the view reads it still
    assert bool((view == 7).all())
    del view
    again = panels.zeros((2 * size - 100,))
    assert again.ctypes.data == place and not again.any()
    assert panels.zeros((2, size)).ctypes.data != place


def test_gates_far_from_zero() -> None:
    """exp of what is beyond its range is not asked for: SiLU of -300 is 0, and no other number."""
    model = make("llama")
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "gate_proj" in name:
                parameter.mul_(1000)
            if "up_proj" in name:
                parameter.mul_(0.001)
    for completion in sampler(model, "native").sample(group(temperature=0.9)):
        assert_numbers(model, completion, slack=1e-4)


def test_a_window_that_its_architecture_does_not_heed() -> None:
    """Other keys of a configuration are kept by transformers, and mean nothing to a Llama."""
    model = make_family("llama", sliding_window=4)
    assert decoder.read_shape(model.config).plain
    for completion in sampler(model, "native").sample(group(prompts=2, each=1)):
        assert_numbers(model, completion, slack=1e-4)


def test_what_only_a_llama_does() -> None:
    """The CUDA engine asks: windows, norms after branches and scaled embeddings are not its own."""
    plain = {kind: decoder.read_shape(make_family(kind).config).plain for kind in KINDS}
    assert plain == {**dict.fromkeys(KINDS, False), "llama": True}
    assert decoder.read_shape(make("qwen3").config).plain
