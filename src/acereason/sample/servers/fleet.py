"""Several servers as one: who is asked next, who is down, and how one that comes back is let in again.

A server that fails is asked nothing until it is well: it answers, and serves the present weights by name.
One that was started again serves others; it gets the present ones, and answers the canary, first. While
none is up requests wait, at most `patience` seconds. A request is tried `ATTEMPTS` times on servers that
answer; an overloaded server (429, 503) is given fewer requests at a time instead.

Everything here runs in one event loop, in a thread of its own.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence

from acereason.errors import SamplingError
from acereason.sample.protocol import Completion, Request
from acereason.sample.servers.http import Busy, Garbled, Refused
from acereason.sample.servers.vllm import Vllm

log = logging.getLogger(__name__)

ATTEMPTS = 8
WATCH = 10.0  # seconds between looks at servers that are writing
OVERLOADED = (408, 425, 429, 503)
Look = Callable[[Vllm], Awaitable[None]]


class Member:
    """A server with what is known of it. `cap`: most requests at a time."""

    def __init__(self, server: Vllm, cap: int) -> None:
        self.server, self.cap = server, cap
        self.load = 0
        self.up = True
        self.reason = ""
        self.calls: set[asyncio.Task[Completion]] = set()
        self._looking = asyncio.Lock()
        self._begun = self._done = 0

    async def vouch(self, check: Look) -> None:
        """A look that begins after this call finds the present weights; calls at one time share a look.

        A response that arrived before the look is of these weights, then: only publishing names them so,
        and a process that was started again in between would have another name."""
        wanted = self._begun + 1
        async with self._looking:
            if self._done < wanted:
                self._begun += 1
                await check(self.server)
                self._done = self._begun

    def lose(self) -> None:
        """Give up what it is writing; the callers see `Busy`."""
        for call in self.calls:
            call.cancel("lost")


class Fleet:
    """All servers. `check` raises Busy when a server does not serve the present weights, `admit` sees to it
    that one that was down does, and raises Busy while it cannot."""

    def __init__(
        self, servers: Sequence[Vllm], cap: int, patience: float, check: Look, admit: Look
    ) -> None:  # fmt: skip
        self.members = [Member(server, cap) for server in servers]
        self.patience, self.check, self.admit = patience, check, admit
        self.broken: SamplingError | None = None
        self.changed = asyncio.Event()
        self.tasks: set[asyncio.Task[None]] = set()
        self.dark_since = time.monotonic()
        self._open, self._admitting = (
            asyncio.Event(),
            0,
        )  # whether servers are let in, and how many are just now
        self._open.set()

    async def shut(self) -> None:
        """Let none in until `reopen`: weights come, and who is let in is given those before."""
        self._open.clear()
        while self._admitting:
            await asyncio.sleep(0.02)

    def reopen(self) -> None:
        """Let servers in again."""
        self._open.set()

    @property
    def up(self) -> list[Member]:
        return [m for m in self.members if m.up]

    def choose(self) -> Member | None:
        """The least loaded server with room."""
        free = [m for m in self.members if m.up and m.load < m.cap]
        return min(free, key=lambda m: m.load, default=None)

    def failed(self, member: Member, error: Busy) -> None:
        """Ask it nothing until it is let in again."""
        if error.status in OVERLOADED:
            member.cap = max(1, member.load - 1)
        member.reason = str(error)
        if not member.up:
            return
        if len(self.up) == 1:
            self.dark_since = time.monotonic()
        member.up = False
        log.warning("a server is left out: %s", error)
        task = asyncio.get_running_loop().create_task(self._return(member, error.after))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def _return(self, member: Member, after: float | None) -> None:
        """Let a server in again once it is well."""
        pause = 0.1 if after is None else after
        while True:
            await asyncio.sleep(pause)
            try:
                await self._admit(member)
            except (Busy, Garbled, Refused) as error:
                member.reason, pause = str(error), min(max(2 * pause, 0.2), 10.0)
            except SamplingError as error:
                self.broken = error
                break
            else:
                log.warning("%s is asked again", member.server.url)
                member.up = True
                break
        self.changed.set()

    async def _admit(self, member: Member) -> None:
        await self._open.wait()
        self._admitting += 1
        try:
            await self.admit(member.server)
        finally:
            self._admitting -= 1

    def left(self) -> float | None:
        """Seconds for which it may still be waited for a server; None while one is up."""
        return None if self.up else self.dark_since + self.patience - time.monotonic()

    def dark(self) -> SamplingError:
        """No server is up, and patience is over."""
        said = "; ".join(f"{m.server.url}: {m.reason}" for m in self.members)
        return SamplingError(
            f"no server has answered for {self.patience:.0f} s. {said}. Start them again and resume the run"
        )

    async def until(self, event: asyncio.Event) -> None:
        """Wait for `event`; raises what broke, or that no server came back."""
        if self.broken:
            raise self.broken
        left = self.left()
        try:
            async with asyncio.timeout(None if left is None else max(left, 0.0)):
                await event.wait()
        except TimeoutError:
            raise self.dark() from None

    async def hold(self, seconds: float = 0.5) -> None:
        """Wait a moment; raises what broke, or that no server came back in time."""
        left = self.left()
        if self.broken or (left is not None and left <= 0):
            raise self.broken or self.dark()
        await asyncio.sleep(seconds)

    def close(self) -> None:
        for task in self.tasks:
            task.cancel()


class Job:
    """A request with its number of failures."""

    __slots__ = ("request", "tries")

    def __init__(self, request: Request) -> None:
        self.request, self.tries = request, 0


class Flight:
    """The requests of one call: `out` receives completions as they finish, then None, or an error."""

    def __init__(
        self, fleet: Fleet, requests: Sequence[Request], ends: Sequence[int], deadline: float
    ) -> None:
        self.fleet, self.ends, self.deadline = fleet, ends, deadline
        self.waiting = deque(Job(r) for r in requests)
        self.calls: set[asyncio.Task[None]] = set()
        self.out: queue.SimpleQueue[Completion | BaseException | None] = queue.SimpleQueue()
        self.ended: SamplingError | None = None  # what an abandoned iterator raises
        self.done = threading.Event()

    async def run(self) -> None:
        """Answer all requests."""
        watch = asyncio.create_task(self._watch())
        try:
            await self._dispatch()
            self.out.put(None)
        except asyncio.CancelledError:
            self.out.put(self.ended or SamplingError("the sampler was closed while responses were in flight"))
            raise
        except SamplingError as error:
            self.out.put(error)
        except Exception as error:
            self.out.put(error)
        finally:
            watch.cancel()
            for call in self.calls:
                call.cancel()
            try:
                await asyncio.gather(watch, *self.calls, return_exceptions=True)
            finally:  # cancelled once more while gathering
                self.done.set()

    async def _dispatch(self) -> None:
        changed = self.fleet.changed
        while self.waiting or self.calls:
            changed.clear()
            while self.waiting and (member := self.fleet.choose()) is not None:
                member.load += 1
                call = asyncio.create_task(self._call(member, self.waiting.popleft()))
                self.calls.add(call)
            await self.fleet.until(changed)
            for call in [c for c in self.calls if c.done()]:
                self.calls.discard(call)
                call.result()

    async def _call(self, member: Member, job: Job) -> None:
        try:
            self.out.put(await self._complete(member, job.request))
        except Busy as error:
            job.tries += error.status not in OVERLOADED
            self.fleet.failed(member, error)
            self._again(job, error)
        except Garbled as error:
            job.tries += 1
            self._again(job, error)
        except Refused as error:
            raise SamplingError(f"{member.server.url} refuses a request: {error}") from error
        finally:
            member.load -= 1
            self.fleet.changed.set()

    async def _complete(self, member: Member, request: Request) -> Completion:
        """One response; Busy when the server was lost meanwhile."""
        inner = asyncio.create_task(member.server.complete(request, self.ends, self.deadline))
        member.calls.add(inner)
        try:
            completion = await inner
            await member.vouch(self.fleet.check)
            return completion
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if inner.cancelled() and not (task and task.cancelling()):
                raise Busy(f"{member.server.url} was lost while it wrote") from None
            raise
        finally:
            inner.cancel()
            member.calls.discard(inner)

    def _again(self, job: Job, error: Exception) -> None:
        if job.tries >= ATTEMPTS:
            raise SamplingError(f"a request failed {job.tries} times, last: {error}") from error
        self.waiting.appendleft(job)

    async def _watch(self) -> None:
        """Look at the servers that write: a dead machine says nothing. Two looks in vain and it is lost."""
        misses: dict[Member, int] = {}
        while True:
            await asyncio.sleep(WATCH)
            for member in self.fleet.up:
                try:
                    await self.fleet.check(member.server)
                    misses[member] = 0
                except (Busy, Garbled) as error:
                    misses[member] = misses.get(member, 0) + 1
                    if misses[member] >= 2 and isinstance(error, Busy):
                        self.fleet.failed(member, error)
                        member.lose()
