"""Talking to servers over HTTP: the classes of failure, and what an answer's status means.

    Busy           no connection, a hang beyond the deadline, half a body, 408, 425, 429, 5xx:
                   again later, or elsewhere
    Garbled        a body that is not what was asked for: again a few times
    Refused        400, 413, 422: this request cannot be answered
    SamplingError  401, 403, 404 and the rest: no request can be answered, stop

The client library is asked for when it is needed: `pip install 'acereason[server]'`.
"""

from __future__ import annotations

import asyncio
import importlib
from typing import Any

from acereason.errors import ConfigError, SamplingError


class Busy(Exception):
    """The server cannot answer now. `after`: seconds that it asks to wait; `status`: of its answer, None
    when there was none."""

    def __init__(self, reason: str, after: float | None = None, status: int | None = None) -> None:
        super().__init__(reason)
        self.after, self.status = after, status


class Garbled(Exception):
    """The server answered with something that is not what was asked for."""


class Refused(Exception):
    """The server will never answer this request."""


def check_status(status: int, body: bytes, after: str | None) -> None:
    """Raise the class of failure that an HTTP status means; 2xx passes."""
    if 200 <= status < 300:
        return
    said = body[:300].decode("utf-8", "replace")
    if status in (408, 425, 429) or status >= 500:
        raise Busy(f"status {status}: {said}", _seconds(after), status)
    if status in (400, 413, 422):
        raise Refused(f"status {status}: {said}")
    raise SamplingError(f"the server refuses every request: status {status}: {said}")


def _seconds(after: str | None) -> float | None:
    try:
        return None if after is None else min(max(float(after), 0.0), 300.0)
    except ValueError:
        return None  # a date: our own waiting rule does


def client(key: str = "") -> Any:
    """Connections to servers, to be closed. Every call has its own deadline; `key` is a bearer token."""
    httpx = library()
    return httpx.AsyncClient(
        timeout=httpx.Timeout(None, connect=30.0),
        limits=httpx.Limits(max_connections=None, keepalive_expiry=2.0),  # servers close theirs after 5
        headers={"Authorization": f"Bearer {key}"} if key else None,
        trust_env=False,
    )


async def send(
    client: Any, method: str, url: str, body: Any = None, *, seconds: float, optional: bool = False
) -> bytes | None:
    """The body of a 2xx answer within `seconds`; None where an `optional` route does not exist.

    Raises the class of failure, which names the address."""
    httpx = library()
    try:
        async with asyncio.timeout(seconds):
            answer = await client.request(method, url, json=body)
    except TimeoutError as error:
        raise Busy(f"{url}: no answer within {seconds:.0f} s") from error
    except httpx.HTTPError as error:
        raise Busy(f"{url}: {type(error).__name__} {error}") from error
    except (httpx.InvalidURL, ValueError) as error:
        raise SamplingError(f"{url} is no address of a server: {error}") from error
    if optional and answer.status_code in (404, 405):
        return None
    try:
        check_status(answer.status_code, answer.content, answer.headers.get("retry-after"))
    except SamplingError as error:
        raise SamplingError(f"{url}: {error}") from error
    return bytes(answer.content)


async def post(client: Any, url: str, body: Any, seconds: float) -> bytes:
    """As `send`, of a route that must be there."""
    return await send(client, "POST", url, body, seconds=seconds) or b""


def library() -> Any:
    """The HTTP client library; ConfigError that says how to install it when it is not there."""
    try:
        return importlib.import_module("httpx2")
    except ImportError as error:
        raise ConfigError("servers need httpx2: pip install 'acereason[server]'") from error
