"""What goes over the wire to a server, and what is read off it, without one."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from acereason.sample.protocol import Request
from acereason.sample.servers.vllm import payload, raw_ratio
from acereason.sample.servers.vllm_worker import refresh_tied


def test_every_parameter_is_sent() -> None:
    body = payload("m", Request([1, 2], 9, 0.7, 2**64 - 1, 0.95), [2, 3])
    wanted = {
        "temperature": 0.7, "top_p": 0.95, "top_k": 0, "min_p": 0.0, "repetition_penalty": 1.0,
        "presence_penalty": 0.0, "frequency_penalty": 0.0, "max_tokens": 9, "min_tokens": 0, "n": 1,
        "stop": [], "stop_token_ids": [2, 3], "ignore_eos": True, "skip_special_tokens": False,
        "return_token_ids": True, "prompt": [1, 2], "seed": 2**63 - 1, "logprobs": 0,
    }  # fmt: skip
    assert wanted.items() <= body.items()


@given(st.integers(0, 2**64 - 1))
def test_seeds_are_in_the_servers_range(seed: int) -> None:
    assert 0 <= payload("m", Request([1], 1, 1.0, seed), [])["seed"] < 2**63


@given(st.lists(st.floats(-6, 6), min_size=3, max_size=5), st.booleans())
def test_raw_logprobs_are_told_by_two_temperatures(logits: list[float], raw: bool) -> None:
    def scores(T: float) -> dict[str, float]:
        z = np.array(logits) / T
        return dict(zip("abcde", (z - np.log(np.exp(z).sum())).tolist(), strict=False))

    found = raw_ratio(scores(1.0), scores(1.0 if raw else 0.5))
    assert found in ((raw,) if max(logits) - min(logits) > 0.06 else (raw, None))


def test_the_extension_processes_tied_layers_again() -> None:
    """On stand-ins for vLLM's layers: those that share a weight, and no other."""
    processed: list[str] = []

    class Method:
        def process_weights_after_loading(self, layer: Any) -> None:
            processed.append(layer.name)

    def layer(name: str, weight: torch.nn.Parameter | None) -> torch.nn.Module:
        made = torch.nn.Module()
        made.name, made.quant_method = name, Method()  # type: ignore[assignment]
        made.weight = weight  # type: ignore[assignment]
        return made

    shared, own = torch.nn.Parameter(torch.ones(2)), torch.nn.Parameter(torch.ones(2))
    layers = [layer("embed", shared), layer("linear", own), layer("none", None), layer("head", shared)]
    assert refresh_tied(torch.nn.ModuleList(layers)) == 2 and processed == ["embed", "head"]
