"""Judging over HTTP, so that it can run on machines of its own: a small server, and its client.

    POST /verify   {"problem": {…}, "response": {…} or "text"}   → a verdict
                   [{…}, …]                                      → a list of verdicts, in order
    GET  /health                                                 → {"mode": …, "counters": {…}}

The server listens on the loopback address unless told otherwise and may ask for a token
(`Authorization: Bearer …`); it speaks plain HTTP and belongs on a private network. Strangers, foreign pages,
anything but JSON and what is too large or too slow are turned away (`web.Door`) before a thread is spent.
Problems are of the domains that the server was started with, so that none is looked for by a name that a
caller made up. PENDING answers wait at most; beyond that it says 503.
"""

from __future__ import annotations

import asyncio
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import msgspec

from acereason.errors import AceReasonError, ConfigError, need
from acereason.problems import Problem, Response, Verdict
from acereason.verify import domains
from acereason.verify.judge import Judge, encodable

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response as Answer

    from acereason.web import Listening

PENDING = 4096
LOOPBACK = "127.0.0.1"
LIGHT = 1 << 16  # bytes of a body that is read on the event loop; larger ones on a thread


class Item(msgspec.Struct, frozen=True):
    """One thing to judge."""

    problem: Problem
    response: Response | str


def _respond(item: Item) -> Response:
    if isinstance(item.response, Response):
        return item.response
    return Response(item.problem.id, 0, item.response)


class Room:
    """The endpoints over a judge. `known`: the domains that may be asked for."""

    def __init__(self, judge: Judge, known: tuple[str, ...]) -> None:
        self._judge, self._known = judge, known
        self._waiting = 0

    def application(self) -> Any:
        """As an ASGI application."""
        from starlette.applications import Starlette
        from starlette.routing import Route

        return Starlette(
            routes=[Route("/health", self._health), Route("/verify", self._verify, methods=["POST"])],
            exception_handlers={404: _unknown, 405: _unknown},
        )

    async def _health(self, _: Request) -> Answer:
        return _json({"mode": self._judge.mode, "counters": dict(self._judge.counters)})

    async def _verify(self, request: Request) -> Answer:
        body = await request.body()
        try:
            if len(body) <= LIGHT:
                items = self._items(body)
            else:
                items = await asyncio.to_thread(self._items, body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, ConfigError) as error:
            return _json({"error": str(error)}, 400)
        if self._waiting and self._waiting + len(items) > PENDING:  # one request always fits
            return _json({"error": f"more than {PENDING} answers are waiting"}, 503)
        self._waiting += len(items)
        try:
            verdicts = await self._judged(items)
        except AceReasonError as error:
            return _json({"error": str(error)}, 500)
        finally:
            self._waiting -= len(items)
        return _json(verdicts if body.lstrip()[:1] == b"[" else verdicts[0])

    def _items(self, body: bytes) -> list[Item]:
        """What is asked; ConfigError names a domain that is not judged here."""
        many = body.lstrip()[:1] == b"["
        kind: Any = list[Item] if many else Item
        decoded = msgspec.json.decode(body, type=kind)
        items: list[Item] = decoded if many else [decoded]
        for item in items:
            if item.problem.domain not in self._known:
                known = ", ".join(self._known)
                raise ConfigError(f"unknown domain {item.problem.domain[:80]!r}; this server judges {known}")
        return items

    async def _judged(self, items: list[Item]) -> list[Verdict]:
        def submitted() -> list[Future[Verdict]]:
            return [self._judge.submit(item.problem, _respond(item)) for item in items]

        futures = await asyncio.to_thread(submitted)
        return list(await asyncio.gather(*map(asyncio.wrap_future, futures)))


async def _unknown(_: Request, __: Exception) -> Answer:
    return _json({"error": "known: GET /health, POST /verify"}, 404)


def _json(content: object, status: int = 200) -> Answer:
    from starlette.responses import Response

    return Response(msgspec.json.encode(content), status, media_type="application/json")


def Server(
    judge: Judge, host: str = LOOPBACK, port: int = 0, token: str = "", known: tuple[str, ...] = ()
) -> Listening:
    """A judge behind HTTP; `serve_forever` answers. `server_address` tells the port when 0 was asked for;
    `known` are domains of one's own that are judged besides the registered ones. ConfigError: starlette or
    uvicorn is missing, a domain unknown, or others could reach it without a token."""
    for module in ("starlette", "uvicorn"):
        need(module, "server")
    from acereason import web

    for name in known:
        domains.domain(name)
    room, bounds = Room(judge, domains.registered()), web.Bounds()
    door = web.Door(room.application(), bounds, web.Names(host), token)
    return web.Listening(door, host, port, token, bounds)


def serve(
    host: str = LOOPBACK,
    port: int = 8765,
    workers: int = 2,
    mode: str = "strict",
    token: str = "",
    ready: Callable[[str], None] | None = None,
    known: tuple[str, ...] = (),
) -> None:
    """Serve until interrupted. `ready` is told the address. Listening beyond the loopback address
    without a token is a ConfigError."""
    with Judge(workers, mode) as judge, Server(judge, host, port, token, known) as server:
        if ready is not None:
            ready(f"{server.address}/verify")
        server.serve_forever()


class RemoteJudge:
    """A judge on another machine, with the face of `Judge`: submit, verify, close.

    A request that fails is repeated `retries` times; after that the verdict is "unjudged"."""

    def __init__(self, url: str, token: str = "", connections: int = 16, retries: int = 3) -> None:
        self._url, self._token, self._retries = url, token, retries
        self._pool = ThreadPoolExecutor(connections, thread_name_prefix="acereason-remote")

    def __enter__(self) -> RemoteJudge:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def submit(self, problem: Problem, response: Response) -> Future[Verdict]:
        """The verdict on one response, when it is there."""
        return self._pool.submit(self.verify, problem, response)

    def verify(self, problem: Problem, response: Response) -> Verdict:
        """The verdict on one response; waits for it."""
        text = encodable(response.text)
        short = Response(response.problem_id, response.sample, text, finish=response.finish)
        body = msgspec.json.encode(Item(problem, short))
        reason = ""
        for attempt in range(self._retries):
            try:
                return self._post(body)
            except (OSError, msgspec.DecodeError) as error:
                reason = f"{type(error).__name__}: {error}"
                time.sleep(0.2 * 2**attempt)
        return Verdict("unjudged", None, detail=f"{self._url}: {reason}")

    def _post(self, body: bytes) -> Verdict:
        headers = {"Content-Type": "application/json"}
        if self._token:
            headers["Authorization"] = f"Bearer {self._token}"
        request = urllib.request.Request(self._url, body, headers)
        try:
            with urllib.request.urlopen(request, timeout=600) as reply:
                return msgspec.json.decode(reply.read(), type=Verdict)
        except urllib.error.HTTPError as error:
            with error:
                raise OSError(f"{error.code} {error.read(500).decode(errors='replace')}") from None

    def close(self) -> None:
        """Wait for what was submitted."""
        self._pool.shutdown()
