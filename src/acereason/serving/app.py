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
import secrets
import time
from collections.abc import AsyncIterator
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
from acereason.serving.engine import Asked, Engine, Ids

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
            exception_handlers={404: _unknown, 405: _unknown},
        )

    async def _health(self, _: Request) -> Response:
        return Response(status_code=200)

    async def _models(self, _: Request) -> Response:
        limit = self.engine.sampler.limits.context
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
                return _json(error(f"the model {asked.model!r} is not served here; served: {self.name}"), 404)
            job = await asyncio.to_thread(Job, self, asked)
            return await job.streamed() if asked.stream else await job.whole(request)
        except (ConfigError, SamplingError) as fault:
            return _json(error(str(fault)), 400)
        except AceReasonError as fault:
            return _json(error(str(fault)), 500)

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
        self.head = {"id": f"{kind}-{secrets.token_hex(12)}", "created": int(time.time()), "model": app.name}

    def _wanted(self) -> list[Wanted]:
        a, context = self.asked, self.engine.sampler.limits.context
        seed = secrets.randbits(62) if a.seed is None else a.seed
        return [
            Wanted(prompt, a.budget or max(context - len(prompt), 1), a.T, seed + i, a.top_p or 1.0)
            for prompt in self.prompts
            for i in range(a.n)
        ]

    def _enough(self, tokens: Ids) -> bool:
        """Whether a response holds a stop of the caller's by now."""
        if self.asked.stop_token_ids and set(tokens.tolist()) & set(self.asked.stop_token_ids):
            return True
        stops = self.asked.stops
        return bool(stops) and answers.first_stop(self.speller.text(tokens), stops) is not None

    def _said(self, done: Completion) -> Said:
        return answers.said(
            self.speller, done.tokens, done.logprobs, done.finish, self.asked.stops, self.asked.stop_token_ids
        )

    async def whole(self, request: Request) -> Response:
        """All responses in one body."""
        flying = self._ask([self._enough for _ in self._wanted()])
        done: asyncio.Future[Any] = asyncio.gather(*(asyncio.wrap_future(one.future) for one in flying))
        gone: asyncio.Future[Any] = asyncio.ensure_future(_gone(request))
        try:
            await asyncio.wait({done, gone}, return_when=asyncio.FIRST_COMPLETED)
            if not done.done():
                return Response(status_code=499)
            choices = [await asyncio.to_thread(self._choice, i, one) for i, one in enumerate(done.result())]
        finally:
            gone.cancel()
            for one in flying:
                one.cancel()
        kind = "chat.completion" if self.chat else "text_completion"
        usage = self._usage(sum(len(one.tokens) for one in done.result()))
        return _json({**self.head, "object": kind, "choices": choices, "usage": usage})

    def _ask(self, told: list[Any]) -> list[Asked]:
        """All requests, checked before the first is made."""
        wanted = self._wanted()
        for one in wanted:
            self.engine.check(one)
        return [self.engine.ask(one, tell) for one, tell in zip(wanted, told, strict=True)]

    def _usage(self, tokens: int) -> dict[str, int]:
        asked = sum(map(len, self.prompts))
        return {"prompt_tokens": asked, "completion_tokens": tokens, "total_tokens": asked + tokens}

    def _choice(self, index: int, done: Completion) -> dict[str, Any]:
        one, top = self._said(done), self.asked.top
        tops = (
            self.engine.likeliest(done.request.prompt, one.tokens, done.request.temperature, top)
            if top
            else None
        )
        place = answers.of_chat if self.chat else answers.of_completion
        choice: dict[str, Any] = {"index": index, "finish_reason": one.finish, "stop_reason": None}
        choice["logprobs"] = None if top is None else place(self.speller, one, tops)
        if self.asked.return_token_ids:
            choice["token_ids"] = one.tokens.tolist()
        message = {"role": "assistant", "content": one.text}
        return choice | ({"message": message} if self.chat else {"text": one.text})

    async def streamed(self) -> Response:
        """The responses as they are written, as server-sent events."""
        if self.asked.top is not None:
            raise ConfigError("logprobs are not streamed; leave one of the two out")
        news: asyncio.Queue[tuple[int, Ids | None]] = asyncio.Queue()
        loop = asyncio.get_running_loop()

        def teller(index: int) -> Any:
            def told(tokens: Ids) -> bool:
                loop.call_soon_threadsafe(news.put_nowait, (index, tokens))
                return self._enough(tokens)

            return told

        flying = self._ask([teller(i) for i in range(len(self.prompts) * self.asked.n)])
        for index, one in enumerate(flying):
            one.future.add_done_callback(
                lambda _, i=index: loop.call_soon_threadsafe(news.put_nowait, (i, None))  # type: ignore[misc]
            )
        return StreamingResponse(self._events(flying, news), media_type="text/event-stream")

    async def _events(
        self, flying: list[Asked], news: asyncio.Queue[tuple[int, Ids | None]]
    ) -> AsyncIterator[bytes]:
        sent, left, tokens = [0] * len(flying), len(flying), 0
        try:
            while left:
                index, so_far = await news.get()
                if so_far is not None:
                    text = self._sure(so_far)
                    if len(text) > sent[index]:
                        yield self._event(index, text[sent[index] :], None)
                        sent[index] = len(text)
                    continue
                left -= 1
                done = flying[index].future.result()
                one, tokens = self._said(done), tokens + len(done.tokens)
                yield self._event(index, one.text[sent[index] :], one.finish)
            if self.asked.stream_options and self.asked.stream_options.include_usage:
                yield _event({**self.head, "object": self._kind, "choices": [], "usage": self._usage(tokens)})
            yield b"data: [DONE]\n\n"
        except AceReasonError as fault:
            yield _event(error(str(fault)))
        finally:
            for asked in flying:
                asked.cancel()

    def _sure(self, tokens: Ids) -> str:
        """The text that more tokens will not change: no half of a character, nor of a stop."""
        text = self.speller.text(tokens)
        place = answers.first_stop(text, self.asked.stops)
        if place is not None:
            return text[:place]
        held = max(map(len, self.asked.stops), default=1) - 1
        return text[: len(text) - held].rstrip("\ufffd")

    @property
    def _kind(self) -> str:
        return "chat.completion.chunk" if self.chat else "text_completion"

    def _event(self, index: int, text: str, finish: str | None) -> bytes:
        choice: dict[str, Any] = {"index": index, "finish_reason": finish, "logprobs": None}
        choice |= {"delta": {"role": "assistant", "content": text}} if self.chat else {"text": text}
        return _event({**self.head, "object": self._kind, "choices": [choice]})


async def _gone(request: Request) -> None:
    """Waits until the caller goes away; the whole body has been read."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def _unknown(_: Request, __: Exception) -> Response:
    known = "GET /v1/models, POST /v1/completions, POST /v1/chat/completions"
    return _json(error(f"known: {known}"), 404)


def error(said: str) -> dict[str, Any]:
    """An error in OpenAI's form."""
    return {"error": {"message": said, "type": "invalid_request_error", "param": None, "code": None}}


def _json(content: object, status: int = 200) -> Response:
    return Response(msgspec.json.encode(content), status, media_type="application/json")


def _event(content: object) -> bytes:
    return b"data: " + msgspec.json.encode(content) + b"\n\n"
