"""Models that are served elsewhere, asked as they are: nothing is published to the server.

`connect(urls, tokenizer, format)` gives a policy (prompts, ends, text; no weights) and a sampler for
`collect`. Prompts go and responses come as token ids, so the tokenizer must be the model's. A server that
restarts, is overloaded or sends half an answer is asked again by `sample.fleet`, with the same seed; one
that comes back with another model, or refuses a request, ends the evaluation with what was found.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import os
import threading
from collections.abc import Coroutine, Iterable, Iterator, Sequence
from types import SimpleNamespace
from typing import Any, TypeVar, cast

from transformers import GenerationConfig

from acereason.errors import SamplingError
from acereason.policy import model as models
from acereason.policy import saved
from acereason.policy.policy import Policy
from acereason.sample.protocol import Completion, Request
from acereason.sample.servers.fleet import Fleet, Flight
from acereason.sample.servers.http import Busy, Garbled, Refused, library
from acereason.sample.servers.vllm import Facts, Vllm

T = TypeVar("T")


class Served:
    """A sampler over servers of one and the same model; `close` it.

    model        the served model's name; None: the first one that the first server names
    concurrency  requests in flight per server
    deadline     seconds for one response
    patience     seconds for which it is waited while no server answers"""

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
        self._deadline = deadline
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True, name="served")
        self._thread.start()
        self.name, self.limit = model, 0
        try:
            self._fleet = self._run(self._open(urls, concurrency, patience))
        except BaseException:
            self.close()
            raise

    def sample(self, requests: Iterable[Request]) -> Iterator[Completion]:
        """Yield completions as they finish."""
        flight = Flight(self._fleet, list(requests), self._end_ids, self._deadline)
        running = asyncio.run_coroutine_threadsafe(flight.run(), self._loop)
        try:
            while (item := flight.out.get()) is not None:
                if isinstance(item, BaseException):
                    raise item
                yield item
        finally:
            running.cancel()
            concurrent.futures.wait([running], timeout=10)

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
        config = SimpleNamespace(max_position_embeddings=self.limit)
        prompt = saved.choose(tokenizer, loaded, format)
        policy = Policy(SimpleNamespace(config=config, generation_config=generation), loaded, prompt)
        self._end_ids = policy.end_ids
        return policy

    def close(self) -> None:
        """Abandon what is in flight."""
        if self._thread.is_alive():
            self._run(self._close())
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()

    async def _open(self, urls: Sequence[str], concurrency: int, patience: float) -> Fleet:
        key = os.environ.get("OPENAI_API_KEY", "")
        self._client = library().AsyncClient(
            timeout=None, trust_env=False,
            limits=library().Limits(max_connections=None, max_keepalive_connections=concurrency),
            headers={"Authorization": f"Bearer {key}"} if key else None,
        )  # fmt: skip
        servers = [Vllm(self._client, url) for url in urls]
        for server in servers:
            try:
                await self._look(server)
            except (Busy, Garbled, Refused) as error:
                raise SamplingError(f"{server.url} is no server that answers: {error}") from error
        self.limit = min(s.facts.limit for s in servers if s.facts)
        return Fleet(servers, concurrency, patience, self._check, self._look)

    async def _look(self, server: Vllm) -> None:
        """Find the model among those served; SamplingError when it is not."""
        found = await server.json("GET", "/v1/models")
        try:
            served = {m["id"]: int(m.get("max_model_len") or 1 << 30) for m in found["data"]}
        except (KeyError, TypeError, ValueError) as error:
            raise Garbled(f"{server.url}/v1/models: {error!r}") from error
        self.name = self.name or next(iter(served), None)
        if self.name is None or self.name not in served:
            raise SamplingError(
                f"{server.url} serves {', '.join(map(repr, served)) or 'nothing'}, not {self.name!r}; give "
                "one of those with --served-model, or start the server with this one"
            )
        known = SimpleNamespace(model=self.name, limit=served[self.name])  # all that asking needs
        server.facts = cast(Facts, known)

    async def _check(self, server: Vllm) -> None:
        await server.call("GET", "/v1/models")

    async def _close(self) -> None:
        if hasattr(self, "_fleet"):
            self._fleet.close()
        if hasattr(self, "_client"):
            await self._client.aclose()

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()
