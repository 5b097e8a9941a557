"""What every HTTP server here shares: a door that most requests of strangers do not pass, and bounds.

    application = Door(starlette_app, Bounds(), host, token)
    with Listening(application, host, port) as server: server.serve_forever()

Before a request costs anything it is refused when its Host is a foreign name (DNS rebinding), when a page of
another site sent it (Origin, Sec-Fetch-Site), when its token is wrong, when it posts anything but JSON, or
when it says no length or too great a one. Then its body is read, in bounded time and memory, and only a whole
one reaches the application. It is plain HTTP, for the loopback address or a private network.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import ipaddress
import resource
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec
import uvicorn
from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from acereason.errors import ConfigError

LOOPBACK = "127.0.0.1"
LOCAL = (LOOPBACK, "localhost", "::1")
GRACE = 3  # seconds that open requests get when the server is told to end


@dataclass(frozen=True, slots=True)
class Bounds:
    """connections at a time; bytes of one `body` and of all that are `held`; seconds for a request's head,
    and for its body."""

    connections: int = 2048
    body: int = 64 << 20
    held: int = 512 << 20
    head_seconds: float = 20.0
    body_seconds: float = 120.0


class Names:
    """The names by which a server may be asked. Addresses are fine: a foreign site reaches it only by a name
    of its own."""

    def __init__(self, *names: str) -> None:
        own = () if set(names) <= set(LOCAL) else (socket.getfqdn(),)
        self._names = {name.lower() for name in ("localhost", socket.gethostname(), *own, *names)}

    def __contains__(self, host: object) -> bool:
        """Whether a Host header's value names this server."""
        text = str(host)
        begin, _, port = text.rpartition(":")
        name = (begin if port.isdecimal() and not text.endswith("]") else text).strip("[]").lower()
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return name in self._names
        return True


def foreign(headers: Headers) -> bool:
    """Whether a page of another site sent the request."""
    origin = headers.get("origin")
    if headers.get("sec-fetch-site", "none") not in ("none", "same-origin"):
        return True
    return origin is not None and origin.partition("://")[2] != headers.get("host")


Says = Callable[[str], object]  # what an error looks like as JSON


class Door:
    """The application behind its refusals. `open_to_all` are paths that need no token."""

    def __init__(
        self, inner: ASGIApp, bounds: Bounds, names: Names, token: str = "",
        says: Says = lambda text: {"error": text}, open_to_all: tuple[str, ...] = ("/health",),
    ) -> None:  # fmt: skip
        self._inner, self._bounds, self._names = inner, bounds, names
        self._token, self._says, self._open = token, says, open_to_all
        self._held = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        headers = Headers(scope=scope)
        refusal = self._refusal(scope["method"], scope["path"], headers)
        if refusal is not None:
            await self._refuse(*refusal, scope, receive, send)
            return
        length = int(headers.get("content-length") or 0)
        self._held += length
        try:
            body = await self._body(receive, length)
            if body is None:
                await self._refuse(408, "the body did not come", scope, receive, send)
            else:
                await self._inner(scope, _again(body, receive), send)
        finally:
            self._held -= length

    def _refusal(self, method: str, path: str, headers: Headers) -> tuple[int, str] | None:
        """Status and reason when a request is not answered."""
        if headers.get("host", "") not in self._names:
            return 421, "this server is not called that; ask it by its address or as localhost"
        if foreign(headers):
            return 403, "requests of other sites' pages are refused"
        given = headers.get("authorization", "").removeprefix("Bearer ")
        if self._token and path not in self._open and not _same(given, self._token):
            return 401, "a token is needed: Authorization: Bearer …"
        if method not in ("POST", "GET", "HEAD"):
            return 405, "known: GET, POST"
        return self._of_body(method, headers)

    def _of_body(self, method: str, headers: Headers) -> tuple[int, str] | None:
        length = headers.get("content-length", "" if method == "POST" else "0")
        kind = headers.get("content-type", "").partition(";")[0].strip().lower()
        if method == "POST" and kind != "application/json":
            return 415, "expected Content-Type: application/json"
        if not (length.isdecimal() and length.isascii()) or "transfer-encoding" in headers:
            return 411, "Content-Length is needed"
        if len(length) > 15 or int(length) > self._bounds.body:
            return 413, f"at most {self._bounds.body} bytes"
        if self._held + int(length) > self._bounds.held:
            return 503, "too many bytes are waiting; again in a moment"
        return None

    async def _refuse(self, status: int, said: str, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer without having read the body, and close: what else comes on this connection is not read."""
        more = {"connection": "close"} | ({"retry-after": "1"} if status == 503 else {})
        answer = Response(msgspec.json.encode(self._says(said)), status, more, "application/json")
        await answer(scope, receive, send)

    async def _body(self, receive: Receive, length: int) -> bytes | None:
        """The whole body; None when it did not come in time."""
        parts: list[bytes] = []
        try:
            async with asyncio.timeout(self._bounds.body_seconds):
                while sum(map(len, parts)) < length:
                    message = await receive()
                    if message["type"] != "http.request":
                        return None
                    parts.append(message.get("body", b""))
        except TimeoutError:
            return None
        return b"".join(parts)


def _same(given: str, token: str) -> bool:
    return hmac.compare_digest(given.encode(), token.encode())


def _again(body: bytes, receive: Receive) -> Receive:
    """What the application receives: the body, then what else happens on the connection."""
    left: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def received() -> Message:
        return left.pop() if left else await receive()

    return received


def run(server: uvicorn.Server, listener: socket.socket) -> None:
    """Answer until told to end by SIGINT or SIGTERM; what is open gets its grace."""
    with contextlib.suppress(KeyboardInterrupt):  # the signal is raised again when all has ended
        server.run(sockets=[listener])


def _impatient(seconds: float) -> type[H11Protocol]:
    """uvicorn's protocol, which closes a connection whose request's head is not whole in time."""

    class Impatient(H11Protocol):
        _late: asyncio.TimerHandle | None = None

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            self._look()

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            self._look()

        def _look(self) -> None:
            waiting = self.cycle is None or self.cycle.response_complete
            if waiting and self._late is None:
                self._late = self.loop.call_later(seconds, self.transport.close)
            elif not waiting and self._late is not None:
                self._late.cancel()
                self._late = None

        def connection_lost(self, exc: Exception | None) -> None:
            super().connection_lost(exc)
            if self._late is not None:
                self._late.cancel()

    return Impatient


class Listening:
    """A server on a port (0: a free one, told by `address`); `serve_forever` from any thread, `shutdown` from
    another. ConfigError: the port is taken, or others could reach it without a token."""

    def __init__(self, application: Any, host: str, port: int, token: str, bounds: Bounds) -> None:
        if host not in LOCAL and not token:
            raise ConfigError(f"listening on {host} lets others use what is served: give a token")
        try:
            family = socket.AF_INET6 if ":" in host else socket.AF_INET
            self._socket = socket.create_server((host, port), family=family, backlog=bounds.connections)
        except OSError as error:
            raise ConfigError(
                f"cannot listen on {host}, port {port}: {error.strerror}; try --port 0"
            ) from error
        files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        settings = uvicorn.Config(
            application, http=_impatient(bounds.head_seconds), ws="none", lifespan="off",
            log_level="critical", access_log=False, timeout_graceful_shutdown=GRACE,
            limit_concurrency=min(bounds.connections, max(files - 64, 8)), backlog=bounds.connections,
        )  # fmt: skip
        self._server = uvicorn.Server(settings)
        self.server_address = self._socket.getsockname()[:2]

    @property
    def address(self) -> str:
        """http://host:port"""
        host, port = self.server_address
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    def serve_forever(self) -> None:
        """Answer until `shutdown`, or until the process is interrupted."""
        run(self._server, self._socket)

    def shutdown(self) -> None:
        """Have `serve_forever` return."""
        self._server.should_exit = True

    def __enter__(self) -> Listening:
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self._socket.close()
