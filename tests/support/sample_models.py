"""Small random models and naive references for the tests of the sampler."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import torch
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from acereason.draws import uniform
from acereason.sample.engines.embedded import EmbeddedSampler
from acereason.sample.engines.native import open_library
from acereason.sample.protocol import Completion, Request

KINDS: dict[str, tuple[Any, Any]] = {
    "qwen3": (Qwen3Config, Qwen3ForCausalLM),
    "qwen2": (Qwen2Config, Qwen2ForCausalLM),
    "llama": (LlamaConfig, LlamaForCausalLM),
}
SHAPES: dict[str, dict[str, Any]] = {
    "qwen3": {"head_dim": 16, "num_attention_heads": 6, "num_key_value_heads": 2},
    "qwen2": {
        "head_dim": 24,
        "num_attention_heads": 5,
        "num_key_value_heads": 1,
        "hidden_size": 120,
    },
    "llama": {"head_dim": 12, "num_attention_heads": 4, "num_key_value_heads": 4},
}


def make(kind: str, *, tied: bool = True, seed: int = 0, **changes: Any) -> Any:
    """A random model whose biases and norms are not the trivial ones."""
    config, model = KINDS[kind]
    numbers = {
        "hidden_size": 48,
        "num_hidden_layers": 2,
        "intermediate_size": 70,
        "vocab_size": 61,
        "max_position_embeddings": 512,
        "tie_word_embeddings": tied,
        "initializer_range": 0.1,
        "eos_token_id": 7,
        "bos_token_id": None,
        "pad_token_id": None,
    }
    torch.manual_seed(seed)
    made = model(config(**{**numbers, **SHAPES[kind], **changes})).eval()
    for name, parameter in made.named_parameters():
        if "bias" in name or "norm" in name:
            torch.nn.init.normal_(parameter, 1.0 if "norm" in name else 0.0, 0.3)
    return made


def logits64(model: Any, completion: Completion) -> torch.Tensor:
    """[tokens, V] of a full forward pass in double precision, for each token of the response."""
    exact = copy.deepcopy(model).double()
    ids = torch.tensor([[*completion.request.prompt, *completion.tokens.tolist()]])
    with torch.no_grad():
        logits = exact(ids, use_cache=False).logits
    found: torch.Tensor = logits[0, len(completion.request.prompt) - 1 : -1]
    return found


def naive_nucleus(p: np.ndarray, share: float) -> np.ndarray:
    """Probabilities with all but the fewest likeliest tokens that hold `share` put to 0."""
    kept, mass = np.zeros_like(p), 0.0
    for token in sorted(range(len(p)), key=lambda i: (-p[i], i)):
        kept[token] = p[token]
        mass += p[token]
        if mass >= share:
            break
    return kept


def assert_drawn_by_inverse(model: Any, completion: Completion, slack: float = 1e-5) -> None:
    """Every token is where its uniform number falls in the cumulative distribution."""
    request = completion.request
    for t, logits in enumerate(logits64(model, completion).numpy()):
        z = logits / request.temperature
        p = np.exp(z - z.max()) / np.exp(z - z.max()).sum()
        kept = naive_nucleus(p, request.top_p) if request.top_p < 1 else p
        edges = np.concatenate([[0.0], np.cumsum(kept / kept.sum())])
        token, u = completion.tokens[t], uniform(request.seed, t)
        assert edges[token] - slack <= u < edges[token + 1] + slack
        assert kept[token] > 0


ENGINES = ["torch", *(["native"] if open_library()[0] else [])]


def sampler(model: Any, engine: str, **settings: Any) -> EmbeddedSampler:
    made = EmbeddedSampler(model, native=engine == "native", **{"slots": 5, "threads": 2} | settings)
    assert made.engine == engine
    return made


def group(prompts: int = 4, each: int = 3, budget: int = 24, **settings: Any) -> list[Request]:
    """Prompts of different lengths, each asked several times."""
    return [
        Request(
            prompt=[(5 * p + 3 * t) % 61 for t in range(1 + 13 * p)],
            budget=budget,
            seed=1000 * p + i,
            key=(p, i),
            **{"temperature": 1.0} | settings,
        )
        for p in range(prompts)
        for i in range(each)
    ]


def answers(made: EmbeddedSampler, requests: list[Request]) -> dict[Any, Completion]:
    found = {c.request.key: c for c in made.sample(requests)}
    assert len(found) == len(requests)
    return found


def bytes_of(c: Completion) -> tuple[bytes, ...]:
    return tuple(x.tobytes() for x in (c.tokens, c.logprobs, c.entropy, c.entropy_1))


def assert_numbers(model: Any, completion: Completion, slack: float = 2e-5) -> None:
    logits = logits64(model, completion)
    tempered = (logits / completion.request.temperature).log_softmax(-1)
    plain = logits.log_softmax(-1)
    chosen = tempered.gather(1, torch.from_numpy(completion.tokens).long()[:, None])[:, 0]
    np.testing.assert_allclose(completion.logprobs, chosen, rtol=0, atol=slack)
    for found, logp in ((completion.entropy, tempered), (completion.entropy_1, plain)):
        np.testing.assert_allclose(found, -(logp.exp() * logp).sum(-1), rtol=0, atol=slack)
