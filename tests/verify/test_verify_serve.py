"""The judge's server before strangers: what is refused before anything is spent, and many clients at once."""

from __future__ import annotations

import asyncio
import http.client
import json
import socket
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from acereason import web
from acereason.verify import Judge
from acereason.verify.serve import Room, Server

ITEM = {
    "problem": {"id": "p", "domain": "math", "question": "", "answer": "3"},
    "response": "</think>\\boxed{3}",
}
JSON = {"Content-Type": "application/json"}
HEAD = "POST /verify HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"


def running(server: web.Listening) -> Iterator[int]:
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server.server_address[1]
    server.shutdown()
    thread.join()


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with Judge(1) as judge, Server(judge) as server:
        yield from running(server)


def ask(port: int, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    data = None if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
    given = {k.replace("_", "-"): v for k, v in headers.items()}
    connection.request(method, path, data, (JSON if body is not None else {}) | given)
    reply = connection.getresponse()
    found = reply.status, json.loads(reply.read())
    connection.close()
    return found


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "evil.example"}, 421),
        ({"Host": "evil.example:8765"}, 421),
        ({"Host": ""}, 421),
        ({"Host": "127.0.0.1.evil.example"}, 421),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Sec_Fetch_Site": "cross-site"}, 403),
        ({"Sec_Fetch_Site": "same-site"}, 403),
        ({"Content_Type": "text/plain"}, 415),
        ({"Content_Type": "application/x-www-form-urlencoded"}, 415),
        ({"Content_Type": "text/plain; application/json"}, 415),
        ({"Content_Type": "application/json; charset=utf-8"}, 200),
        ({"Host": "localhost"}, 200),
        ({"Host": "[::1]:80"}, 200),
    ],
)
def test_strangers_are_refused(port: int, headers: dict[str, str], status: int) -> None:
    found = ask(port, "POST", "/verify", ITEM, **headers)
    assert found[0] == status and (status == 200 or "error" in found[1])


@pytest.mark.parametrize("domain", ["os:system", "antigravity:x", "this_module_is_not:there", "", "Math"])
def test_no_domain_is_looked_for_by_a_callers_name(port: int, domain: str) -> None:
    status, said = ask(port, "POST", "/verify", ITEM | {"problem": {**ITEM["problem"], "domain": domain}})  # type: ignore[dict-item]
    assert status == 400 and "this server judges" in said["error"]
    assert "antigravity" not in sys.modules and "this_module_is_not" not in sys.modules


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[1]", b"null", b"\xff", b"[" * 100_000, b'{"problem": 1}', json.dumps([ITEM, 3]).encode()],
)
def test_what_is_no_item_is_said(port: int, body: bytes) -> None:
    assert ask(port, "POST", "/verify", body)[0] == 400


def test_no_items_are_no_verdicts(port: int) -> None:
    assert ask(port, "POST", "/verify", []) == (200, [])
    assert ask(port, "GET", "/elsewhere")[0] == 404 and ask(port, "GET", "/verify")[0] == 404
    assert ask(port, "PUT", "/verify", ITEM)[0] == 405


def test_500_clients_at_once(port: int) -> None:
    """All connect before any asks; nobody is reset, and everybody gets a verdict."""
    body = json.dumps(ITEM).encode()
    head = f"{HEAD}Content-Length: {len(body)}\r\n\r\n"

    async def one(ready: asyncio.Barrier) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        await ready.wait()
        writer.write(head.encode() + body)
        line = await reader.readline()
        writer.close()
        return line

    async def everyone() -> list[bytes]:
        ready = asyncio.Barrier(500)
        return await asyncio.gather(*(one(ready) for _ in range(500)))

    found = asyncio.run(asyncio.wait_for(everyone(), 120))
    assert set(found) == {b"HTTP/1.1 200 OK\r\n"}


@pytest.fixture
def strict() -> Iterator[int]:
    """A server with little patience and little room."""
    bounds = web.Bounds(connections=64, body=1000, held=1500, head_seconds=0.4, body_seconds=0.8)
    with Judge(1) as judge:
        door = web.Door(Room(judge, ("math",)).application(), bounds, web.Names(), "")
        with web.Listening(door, "127.0.0.1", 0, "", bounds) as server:
            yield from running(server)


def raw(port: int, *parts: str, pause: float = 0.0) -> bytes:
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        for part in parts:
            connection.sendall(part.encode())
            time.sleep(pause)
        found = b""
        while data := connection.recv(1 << 16):
            found += data
        return found


def test_bounds(strict: int) -> None:
    begun = time.monotonic()
    assert raw(strict, "POST /verify HT", "TP/1.1\r\n", pause=0.1) == b""  # a head that does not end
    assert b" 408 " in raw(strict, HEAD + "Content-Length: 900\r\n\r\n{")  # a body that does not come
    assert time.monotonic() - begun < 15
    assert b" 413 " in raw(strict, HEAD + "Content-Length: 1001\r\n\r\n")
    assert b" 400 " in raw(strict, HEAD + f"Content-Length: {10**30}\r\n\r\n")
    assert b" 411 " in raw(strict, HEAD + "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n")
    with socket.create_connection(("127.0.0.1", strict)) as waiting:
        waiting.sendall((HEAD + "Content-Length: 900\r\n\r\n{").encode())
        time.sleep(0.2)
        assert b" 503 " in raw(strict, HEAD + "Content-Length: 900\r\n\r\n{")
    time.sleep(0.2)
    assert ask(strict, "POST", "/verify", ITEM)[0] == 200
