"""Responses as they are written, as server-sent events: a token's text as soon as it is settled, with its
log-probability where that was asked for.

The likeliest other tokens come from a pass of the model over what is new, behind all before it, so they come
in pieces that grow with the response.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from acereason.errors import AceReasonError
from acereason.serving.answers import Said
from acereason.serving.engine import Ids, Logprobs
from acereason.serving.growing import Growing
from acereason.serving.wire import failed

if TYPE_CHECKING:
    from acereason.serving.app import Job

LEAST, SHARE = 16, 8  # a piece with the likeliest: as many tokens, and a part of those before it
News = asyncio.Queue[tuple[int, tuple[Ids, Logprobs] | None]]


class Part:
    """One response of a stream: what has come, and how much of it was told."""

    def __init__(self, job: Job, index: int) -> None:
        self.job, self.index = job, index
        self.growing = Growing(job.speller, job.asked.stops)
        self.tokens, self.logprobs = np.zeros(0, np.int32), np.zeros(0, np.float32)
        self.told, self.chars, self.offset = 0, 0, 0
        self.first = True

    def take(self, tokens: Ids, logprobs: Logprobs) -> None:
        """What came since."""
        self.tokens = np.concatenate([self.tokens, tokens])
        self.logprobs = np.concatenate([self.logprobs, logprobs])
        self.growing.add(tokens.tolist())

    async def news(self) -> dict[str, Any] | None:
        """The next choice; None when nothing is settled that was not told."""
        tokens, chars = self.growing.settled()
        least = max(LEAST, self.told // SHARE) if self.job.asked.top else 1
        if tokens - self.told < least:
            return None
        text = self.growing.text[self.chars : chars]
        return await self._choice(Said(text, self.tokens[:tokens], self.logprobs[:tokens], ""))

    async def rest(self, done: Said) -> dict[str, Any]:
        """The last choice, with what was not told yet of a response that is over."""
        return await self._choice(replace(done, text=done.text[self.chars :]))

    async def _choice(self, one: Said) -> dict[str, Any]:
        new = replace(one, tokens=one.tokens[self.told :], logprobs=one.logprobs[self.told :])
        choice: dict[str, Any] = {"index": self.index, "finish_reason": one.finish or None, "logprobs": None}
        if self.job.asked.top is not None:
            several = self.job.asked.top and len(new.tokens)
            tops = await asyncio.to_thread(self._tops, one) if several else None
            choice["logprobs"] = self.job.logprobs(new, tops, self.offset)
            self.offset += sum(len(self.job.speller.token(t)) for t in new.tokens.tolist())
        if self.job.asked.return_token_ids:
            choice["token_ids"] = new.tokens.tolist()
        choice |= self.job.said_as("delta", new.text, self.first)
        self.told, self.chars, self.first = len(one.tokens), self.chars + len(new.text), False
        return choice

    def _tops(self, one: Said) -> list[dict[int, float]]:
        wanted = self.job.wanted[self.index]
        before = [*wanted.prompt, *one.tokens[: self.told].tolist()]
        return self.job.engine.likeliest(
            before, one.tokens[self.told :], wanted.temperature, self.job.asked.top or 1
        )


class Stream:
    """All responses of a request as they come. SamplingError: one of them cannot be made."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.parts = [Part(job, index) for index in range(len(job.wanted))]
        self._news: News = asyncio.Queue()
        self._loop = asyncio.get_running_loop()
        self._flying = job.ask([self._teller(part.index) for part in self.parts], closely=True)
        for part, one in zip(self.parts, self._flying, strict=True):
            one.future.add_done_callback(partial(self._put, part.index))

    def _teller(self, index: int) -> Callable[[Ids, Logprobs], bool]:
        def told(tokens: Ids, logprobs: Logprobs) -> bool:
            self._loop.call_soon_threadsafe(self._news.put_nowait, (index, (tokens, logprobs)))
            return False

        return told

    def _put(self, index: int, _: object) -> None:
        """That a response is over; called by the engine's thread."""
        self._loop.call_soon_threadsafe(self._news.put_nowait, (index, None))

    async def events(self) -> AsyncIterator[bytes]:
        """Closing the iterator ends the responses."""
        left, tokens = len(self.parts), 0
        try:
            while left:
                for index, over in (await self._next()).items():
                    choice, part = None, self.parts[index]
                    if over:
                        done = self.job.said(self._flying[index].future.result())
                        left, tokens = left - 1, tokens + len(done.tokens)
                        choice = await part.rest(done)
                    else:
                        choice = await part.news()
                    if choice is not None:
                        yield encoded(self.job.chunk(choice))
            if self.job.tells_usage:
                yield encoded(self.job.usage_chunk(tokens))
            yield b"data: [DONE]\n\n"
        except AceReasonError as fault:
            yield encoded(failed(str(fault)))
        finally:
            for asked in self._flying:
                asked.cancel()

    async def _next(self) -> dict[int, bool]:
        """Which responses have news, all that has come by now, and whether they are over."""
        over: dict[int, bool] = {}
        waiting = [await self._news.get()]
        while not self._news.empty():
            waiting.append(self._news.get_nowait())
        for index, new in waiting:
            over[index] = new is None
            if new is not None:
                self.parts[index].take(*new)
                if self.parts[index].growing.enough:
                    self._flying[index].cancel()
        return over


def encoded(content: object) -> bytes:
    """One event."""
    return b"data: " + msgspec.json.encode(content) + b"\n\n"
