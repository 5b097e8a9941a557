"""Whether a server can sample for a policy: what it says of itself, against what is needed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from acereason.config import Servers
from acereason.config.running import LIMITS
from acereason.errors import SamplingError
from acereason.sample.protocol import Request
from acereason.sample.servers.vllm import EXTENSION, Facts
from acereason.sample.servers.vllm_worker import shape_of


def check_fit(url: str, facts: Facts, config: Any, wanted: Servers) -> None:
    """SamplingError when the server has another model than one of this Hugging Face `config`, cannot be given
    weights, or is not of the kind that the recipe wants."""
    own = shape_of(config)
    if facts.shape is not None and facts.shape != own:
        wrong = {k: (facts.shape.get(k), v) for k, v in own.items() if facts.shape.get(k) != v}
        said = ", ".join(f"{k} {a}, ours {b}" for k, (a, b) in wrong.items())
        raise SamplingError(
            f"{url} serves another model than this policy ({facts.model}: {said}); start it with "
            "--model on the policy's own folder"
        )
    if facts.device == "cpu" and own["tie_word_embeddings"] and not facts.extension:
        raise SamplingError(
            f"{url} runs on CPU, where a reload leaves a tied output head stale; start it with "
            f"--worker-extension-cls {EXTENSION}"
        )
    _as_wanted(url, facts, wanted)
    if facts.logprobs_mode not in ("processed_logprobs", "unknown"):
        raise SamplingError(
            f"{url} reports {facts.logprobs_mode}; start it with --logprobs-mode processed_logprobs"
        )


def check_room(url: str, facts: Facts | None, requests: Sequence[Request]) -> None:
    """SamplingError when the server has no room for one of the requests."""
    for request in requests if facts is not None and facts.limit else ():
        need = len(request.prompt) + request.budget
        if facts and need > facts.limit:
            raise SamplingError(
                f"the context of {url} is too small: {facts.limit} tokens, and a prompt of "
                f"{len(request.prompt)} with a budget of {request.budget} needs {need}. Start it with "
                "a larger --max-model-len, or lower the stage's budget"
            )


def _as_wanted(url: str, facts: Facts, wanted: Servers) -> None:
    """SamplingError when a server is not of the kind that the recipe says, as far as it tells."""
    if facts.kind not in (None, wanted.kind):
        raise SamplingError(
            f"{url} is a {facts.kind} server, and sampling.servers.kind is {wanted.kind!r}; set it to "
            f"{facts.kind!r}, whose canary allows {LIMITS[facts.kind]} nats, or start another server"
        )
    if wanted.head == "float32" and facts.head not in (None, "float32"):
        raise SamplingError(
            f"{url} computes its head in {facts.head}; start it with --hf-overrides "
            '\'{"head_dtype": "float32"}\', or take sampling.servers.head out'
        )
    if wanted.invariant and not facts.invariant:
        raise SamplingError(
            f"{url} is not batch-invariant, as far as it tells; start it with VLLM_BATCH_INVARIANT=1, or "
            "take sampling.servers.invariant out"
        )
