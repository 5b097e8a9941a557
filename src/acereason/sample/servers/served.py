"""Models that are served elsewhere, asked as they are: nothing is published to the server.

`Served(urls)` is a sampler; its `policy(tokenizer, format)` is what it is asked by: prompts, ends, text, and
no weights. Prompts go and responses come as token ids, so the tokenizer must be the model's. A server that
restarts, is overloaded or sends half an answer is asked again by `fleet`, with the same seed; one that comes
back with another model, or refuses a request, ends the evaluation with what was answered.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from transformers import GenerationConfig, PretrainedConfig

from acereason.errors import SamplingError
from acereason.policy import model as models
from acereason.policy import saved
from acereason.policy.policy import Policy
from acereason.sample.protocol import Completion, Request
from acereason.sample.servers.http import Busy, Garbled, Refused
from acereason.sample.servers.remote import RemoteSampler
from acereason.sample.servers.vllm import Facts, Vllm


@dataclass(frozen=True)
class Weightless:
    """What a policy reads of a model whose weights are elsewhere: its context and its ends."""

    config: PretrainedConfig
    generation_config: GenerationConfig | None


class Served(RemoteSampler):
    """A sampler over servers of one and the same model; `close` it.

    model        the served model's name; None: the first one that the first server names
    concurrency  requests in flight per server
    deadline     seconds for one response
    patience     seconds for which it is waited while no server answers"""

    remote = True

    def __init__(
        self,
        urls: Sequence[str],
        model: str | None = None,
        *,
        concurrency: int = 256,
        deadline: float = 3600.0,
        patience: float = 900.0,
    ) -> None:
        self._end_ids: list[int] = []
        self.name = model
        super().__init__(urls, concurrency, deadline, patience, os.environ.get("OPENAI_API_KEY", ""))

    @property
    def limit(self) -> int:
        """Most tokens of prompt and response, on every server."""
        return min(m.server.facts.limit for m in self._fleet.members if m.server.facts is not None)

    def sample(self, requests: Iterable[Request]) -> Iterator[Completion]:
        """Yield completions as they finish."""
        yield from self._fly(list(requests), self._end_ids)

    def update(self, weights: Any) -> None:
        """Refused: the servers are asked with the weights they have."""
        raise SamplingError("a served model is evaluated as it is; its weights cannot be updated from here")

    def policy(self, tokenizer: str, format: str | None = None) -> Policy:
        """The face of the served model: its prompts (in `format`, or as the tokenizer's folder says), its
        ends, its texts, and no weights."""
        loaded = models.load_tokenizer(tokenizer)
        try:
            generation = GenerationConfig.from_pretrained(models.located(tokenizer))
        except OSError:
            generation = None
        model = Weightless(PretrainedConfig(max_position_embeddings=self.limit), generation)
        policy = Policy(model, loaded, saved.choose(tokenizer, loaded, format))
        self._end_ids = policy.end_ids
        return policy

    async def _examine_all(self) -> None:
        for member in self._fleet.members:  # one after another: the first one names the model
            await self._examine(member.server)

    async def _examine(self, server: Vllm) -> None:
        try:
            await self._admit(server)
        except (Busy, Garbled, Refused) as error:
            raise SamplingError(f"{server.url} is no server that answers: {error}") from error

    async def _admit(self, server: Vllm) -> None:
        """Find the model among those served; SamplingError when it is not."""
        listed = await server.json("GET", "/v1/models")
        try:
            served = {m["id"]: int(m.get("max_model_len") or 1 << 30) for m in listed["data"]}
        except (KeyError, TypeError, ValueError) as error:
            raise Garbled(f"{server.url}/v1/models: {error!r}") from error
        self.name = self.name or next(iter(served), None)
        if self.name is None or self.name not in served:
            raise SamplingError(
                f"{server.url} serves {', '.join(map(repr, served)) or 'nothing'}, not {self.name!r}; give "
                "one of those with --served-model, or start the server with this one"
            )
        server.facts = Facts(self.name, served[self.name])

    async def _check(self, server: Vllm) -> None:
        await server.call("GET", "/v1/models")
