"""OpenAI's routes over the embedded engine.

    GET  /v1/models                what is served, with its context
    POST /v1/completions           prompts as text or token ids
    POST /v1/chat/completions      a chat, put by the model's own template
    GET  /health

Log-probabilities are processed: of softmax(logits / T), the distribution that sampled, before any top-p cut.
Sample i of n has the seed + i. A caller that goes away has its responses ended.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from typing import Any

import msgspec
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from acereason.errors import AceReasonError, ConfigError, SamplingError
from acereason.sample.protocol import Completion
from acereason.sample.protocol import Request as Wanted
from acereason.serving import answers, wire
from acereason.serving.answers import Said, Speller
from acereason.serving.engine import Asked, Engine, Ids, Logprobs, Told
from acereason.serving.growing import Growing
from acereason.serving.stream import Stream
from acereason.serving.wire import failed

log = logging.getLogger(__name__)
MOST = 1024  # responses of one request


class App:
    """One model under one name. `template`: the chat template, where it is not the tokenizer's own."""

    def __init__(self, engine: Engine, name: str, template: str | None) -> None:
        self.engine, self.name, self._template = engine, name, template
        self._begun = int(time.time())

    def application(self) -> Starlette:
        """As an ASGI application."""
        return Starlette(
            routes=[
                Route("/health", self._health),
                Route("/v1/models", self._models),
                Route("/v1/completions", self._completions, methods=["POST"]),
                Route("/v1/chat/completions", self._chat, methods=["POST"]),
            ],
            exception_handlers={404: _unknown, 405: _unknown, Exception: _broken},
        )

    async def _health(self, _: Request) -> Response:
        return Response(status_code=200)

    async def _models(self, _: Request) -> Response:
        limit = self.engine.context
        model = {"id": self.name, "object": "model", "created": self._begun, "owned_by": "acereason"}
        return _json({"object": "list", "data": [model | {"max_model_len": limit}]})

    async def _completions(self, request: Request) -> Response:
        return await self._answer(request, wire.Completions)

    async def _chat(self, request: Request) -> Response:
        return await self._answer(request, wire.Chat)

    async def _answer(self, request: Request, kind: type[Any]) -> Response:
        try:
            asked = wire.read(await request.body(), kind)
            if asked.model not in ("", self.name):
                said = f"the model {asked.model!r} is not served here; served: {self.name}"
                return _json(failed(said, code="model_not_found"), 404)
            job = await asyncio.to_thread(Job, self, asked)
            return await job.streamed() if asked.stream else await job.whole(request)
        except (ConfigError, SamplingError) as fault:
            return _json(failed(str(fault)), 400)
        except AceReasonError as fault:
            return _json(failed(str(fault), "server_error"), 500)

    def prompts(self, asked: Any) -> list[list[int]]:
        """The token ids of the prompts that are asked. ConfigError: the chat template refuses the turns."""
        tokenizer = self.engine.policy.tokenizer
        if isinstance(asked, wire.Completions):
            special = asked.add_special_tokens
            given = wire.prompts(asked.prompt)
            return [
                p if isinstance(p, list) else tokenizer.encode(p, add_special_tokens=special) for p in given
            ]
        turns, more = wire.texts(asked.messages), {"chat_template": self._template} if self._template else {}
        try:
            text = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True, **more)
        except Exception as fault:  # templates raise errors of Jinja, and of their own
            raise ConfigError(f"the model's chat template refuses these messages: {fault}") from fault
        return [tokenizer.encode(text, add_special_tokens=False)]


class Job:
    """One request of a caller: prompts × n responses."""

    def __init__(self, app: App, asked: Any) -> None:
        self.app, self.asked, self.engine = app, asked, app.engine
        self.chat = isinstance(asked, wire.Chat)
        ends = app.engine.policy.end_ids
        if asked.ignore_eos and not set(ends) <= set(asked.stop_token_ids):
            raise ConfigError(
                f"ignore_eos is not supported, unless stop_token_ids has the model's ends, {ends}"
            )
        self.speller = Speller(
            app.engine.policy.tokenizer, [*ends, *asked.stop_token_ids], not asked.skip_special_tokens
        )
        self.prompts = app.prompts(asked)
        if len(self.prompts) * asked.n > MOST:
            raise ConfigError(f"at most {MOST} responses a request")
        kind = "chatcmpl" if self.chat else "cmpl"
        self.wanted = self._wanted()
        self.head = {"id": f"{kind}-{secrets.token_hex(12)}", "created": int(time.time()), "model": app.name}

    def _wanted(self) -> list[Wanted]:
        a, context = self.asked, self.engine.context
        seed = secrets.randbits(62) if a.seed is None else a.seed
        return [
            Wanted(prompt, a.budget or max(context - len(prompt), 1), a.T, seed + i, a.top_p or 1.0)
            for prompt in self.prompts
            for i in range(a.n)
        ]

    def ask(self, told: list[Told | None], closely: bool = False) -> list[Asked]:
        """Have all responses made. SamplingError, before the first is begun: one of them cannot be."""
        for one in self.wanted:
            self.engine.check(one)
        return [self.engine.ask(one, tell, closely) for one, tell in zip(self.wanted, told, strict=True)]

    def _teller(self) -> Told | None:
        """Looks for the caller's own stops; None: there are none."""
        if not self.asked.stops and not self.asked.stop_token_ids:
            return None
        growing = Growing(self.speller, self.asked.stops)

        def told(tokens: Ids, _: Logprobs) -> bool:
            growing.add(tokens.tolist())
            return growing.enough

        return told

    def said(self, done: Completion) -> Said:
        """A response as the caller gets it."""
        return answers.said(
            self.speller, done.tokens, done.logprobs, done.finish, self.asked.stops, self.asked.stop_token_ids
        )

    async def whole(self, request: Request) -> Response:
        """All responses in one body."""
        flying = self.ask([self._teller() for _ in self.wanted])
        done: asyncio.Future[Any] = asyncio.gather(*(asyncio.wrap_future(one.future) for one in flying))
        gone: asyncio.Future[Any] = asyncio.ensure_future(_gone(request))
        try:
            await asyncio.wait({done, gone}, return_when=asyncio.FIRST_COMPLETED)
            if not done.done():
                return Response(status_code=499)
            said = [self.said(one) for one in done.result()]
            choices = [await asyncio.to_thread(self._choice, i, one) for i, one in enumerate(said)]
        finally:
            gone.cancel()
            for one in flying:
                one.cancel()
        kind = "chat.completion" if self.chat else "text_completion"
        usage = self._usage(sum(len(one.tokens) for one in said))
        return _json({**self.head, "object": kind, "choices": choices, "usage": usage})

    def _usage(self, tokens: int) -> dict[str, int]:
        asked = sum(map(len, self.prompts))
        return {"prompt_tokens": asked, "completion_tokens": tokens, "total_tokens": asked + tokens}

    def _choice(self, index: int, one: Said) -> dict[str, Any]:
        wanted, top = self.wanted[index], self.asked.top
        tops = self.engine.likeliest(wanted.prompt, one.tokens, wanted.temperature, top) if top else None
        choice: dict[str, Any] = {"index": index, "finish_reason": one.finish, "stop_reason": None}
        choice["logprobs"] = None if top is None else self.logprobs(one, tops)
        if self.asked.return_token_ids:
            choice["token_ids"] = one.tokens.tolist()
        return choice | self.said_as("message", one.text, True)

    def logprobs(self, one: Said, tops: list[dict[int, float]] | None, begin: int = 0) -> dict[str, Any]:
        """The log-probabilities of some tokens in the route's own form; `begin`: characters told before."""
        if self.chat:
            return answers.of_chat(self.speller, one, tops)
        return answers.of_completion(self.speller, one, tops, begin)

    def said_as(self, field: str, text: str, first: bool) -> dict[str, Any]:
        """A text in the route's own form, in a chat as a `message` or a `delta`."""
        if not self.chat:
            return {"text": text}
        return {field: {"content": text} | ({"role": "assistant"} if first else {})}

    async def streamed(self) -> Response:
        """The responses as they are written, as server-sent events."""
        return StreamingResponse(Stream(self).events(), media_type="text/event-stream")

    @property
    def tells_usage(self) -> bool:
        return bool(self.asked.stream_options and self.asked.stream_options.include_usage)

    def chunk(self, choice: dict[str, Any]) -> dict[str, Any]:
        """An event of a stream."""
        kind = "chat.completion.chunk" if self.chat else "text_completion"
        return {**self.head, "object": kind, "choices": [choice]}

    def usage_chunk(self, tokens: int) -> dict[str, Any]:
        """The event that tells how many tokens there were."""
        return {**self.chunk({}), "choices": [], "usage": self._usage(tokens)}


async def _gone(request: Request) -> None:
    """Waits until the caller goes away; the whole body has been read."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def _unknown(_: Request, __: Exception) -> Response:
    known = "GET /v1/models, POST /v1/completions, POST /v1/chat/completions"
    return _json(failed(f"known: {known}"), 404)


async def _broken(_: Request, fault: Exception) -> Response:
    """What no one thought of; the next request is answered all the same."""
    log.error("a request failed: %r", fault)
    return _json(failed(f"the server failed: {type(fault).__name__}", "server_error"), 500)


def _json(content: object, status: int = 200) -> Response:
    return Response(msgspec.json.encode(content), status, media_type="application/json")
