"""What every sampler over servers is: an event loop in a thread of its own, with a fleet and calls in flight.

Responses arrive while the caller does something else. A subclass says what a server must be (`_examine`, once
at the start), whether one still is that (`_check`), and how one that was down is let in again (`_admit`).
"""

from __future__ import annotations

import asyncio
import atexit
import concurrent.futures
import threading
from abc import ABC, abstractmethod
from collections.abc import Coroutine, Iterator, Sequence
from typing import Any, TypeVar

from acereason.errors import SamplingError
from acereason.sample.protocol import Completion, Request
from acereason.sample.servers.fleet import Fleet, Flight
from acereason.sample.servers.http import client
from acereason.sample.servers.vllm import Vllm

T = TypeVar("T")


class RemoteSampler(ABC):
    """Over the servers at `urls`; `close` it.

    cap       requests in flight per server
    deadline  seconds for one response
    patience  seconds for which it is waited while no server answers
    key       sent as bearer token"""

    def __init__(self, urls: Sequence[str], cap: int, deadline: float, patience: float, key: str) -> None:
        self._deadline = deadline
        self._flights: dict[Flight, concurrent.futures.Future[None]] = {}
        self._client = client(key)
        servers = [Vllm(self._client, url) for url in urls]
        self._fleet = Fleet(servers, cap, patience, self._check, self._admit)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True, name="servers")
        self._thread.start()
        atexit.register(self.close)
        try:
            self._run(self._examine_all())
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Abandon what is in flight."""
        if not self._thread.is_alive():
            return
        atexit.unregister(self.close)
        self._abandon("the sampler was closed while responses were in flight")
        self._run(self._leave())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    @abstractmethod
    async def _examine(self, server: Vllm) -> None:
        """SamplingError when a server cannot be sampled from as is needed."""

    @abstractmethod
    async def _check(self, server: Vllm) -> None:
        """Busy when a server does not answer, or not as what it was."""

    @abstractmethod
    async def _admit(self, server: Vllm) -> None:
        """See to it that a server that was down is what it must be; Busy while it is not."""

    def _fly(self, requests: Sequence[Request], ends: Sequence[int]) -> Iterator[Completion]:
        """Yield completions as they finish; closing the iterator abandons the rest."""
        flight = Flight(self._fleet, requests, ends, self._deadline)
        running = self._flights[flight] = self._start(flight.run())
        try:
            while (item := flight.out.get()) is not None:
                if isinstance(item, BaseException):
                    raise item
                yield item
        finally:
            self._flights.pop(flight, None)
            running.cancel()
            flight.done.wait()

    def _abandon(self, why: str) -> None:
        """End the iterators in flight and wait until nothing of theirs is."""
        for flight, running in list(self._flights.items()):
            flight.ended = SamplingError(f"{why}; finish or close an iterator before")
            running.cancel()
            flight.done.wait()
        self._flights.clear()

    def _start(self, work: Coroutine[Any, Any, T]) -> concurrent.futures.Future[T]:
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        return self._start(work).result()

    async def _examine_all(self) -> None:
        await asyncio.gather(*(self._examine(member.server) for member in self._fleet.members))

    async def _leave(self) -> None:
        self._fleet.close()
        await self._client.aclose()
