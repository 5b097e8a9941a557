"""Judging over HTTP, so that it can run on machines of its own: a small server, and its client.

    POST /verify   {"problem": {…}, "response": {…} or "text"}   → a verdict
                   [{…}, …]                                      → a list of verdicts, in order
    GET  /health                                                 → {"mode": …, "counters": {…}}

The server listens on the loopback address unless told otherwise and may ask for a token
(`Authorization: Bearer …`); it speaks plain HTTP and belongs on a private network. Bodies are
limited to MAX_BODY bytes and PENDING answers wait at most; beyond that it says 413 and 503.
"""

from __future__ import annotations

import hmac
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import msgspec

from acereason.errors import AceReasonError, ConfigError
from acereason.problems import Problem, Response, Verdict
from acereason.verify.judge import Judge, encodable

MAX_BODY = 64 << 20
PENDING = 4096
LOOPBACK = "127.0.0.1"


class Item(msgspec.Struct, frozen=True):
    """One thing to judge."""

    problem: Problem
    response: Response | str


def _respond(item: Item) -> Response:
    if isinstance(item.response, Response):
        return item.response
    return Response(item.problem.id, 0, item.response)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 600
    server: Server

    def do_GET(self) -> None:
        judge = self.server.judge
        if self.path != "/health":
            self._send(404, {"error": "known: GET /health, POST /verify"})
        else:
            self._send(200, {"mode": judge.mode, "counters": dict(judge.counters)})

    def do_POST(self) -> None:
        body = self._body()
        if body is None:
            return
        try:
            many = body.lstrip()[:1] == b"["
            if many:
                listed = msgspec.json.decode(body, type=list[Item])
            else:
                listed = [msgspec.json.decode(body, type=Item)]
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            self._send(400, {"error": str(error)})
            return
        if not self.server.reserve(len(listed)):
            self._send(503, {"error": f"more than {PENDING} answers are waiting"})
            return
        try:
            futures = [self.server.judge.submit(item.problem, _respond(item)) for item in listed]
            verdicts = [future.result() for future in futures]
            self._send(200, verdicts if many else verdicts[0])
        except AceReasonError as error:
            self._send(500, {"error": str(error)})
        finally:
            self.server.release(len(listed))

    def _body(self) -> bytes | None:
        """The request's body, or None when it has been refused."""
        length = self.headers.get("Content-Length", "")
        token = self.server.token
        given = self.headers.get("Authorization", "").removeprefix("Bearer ")
        if self.path != "/verify":
            refusal = (404, "known: GET /health, POST /verify")
        elif token and not hmac.compare_digest(given.encode(), token.encode()):
            refusal = (401, "a token is needed")
        elif not length.isdecimal():
            refusal = (411, "Content-Length is needed")
        elif int(length) > MAX_BODY:
            refusal = (413, f"at most {MAX_BODY} bytes")
        else:
            return self.rfile.read(int(length))
        self.close_connection = True
        self._send(refusal[0], {"error": refusal[1]})
        return None

    def _send(self, status: int, content: object) -> None:
        data = msgspec.json.encode(content)
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *arguments: Any) -> None:
        """Nothing: requests carry model text, which does not belong into a terminal."""


class Server(ThreadingHTTPServer):
    """A judge behind HTTP. `server_address` tells the port when 0 was asked for."""

    daemon_threads = True

    def __init__(self, judge: Judge, host: str = LOOPBACK, port: int = 0, token: str = "") -> None:
        self.judge, self.token = judge, token
        self._waiting, self._lock = 0, threading.Lock()
        super().__init__((host, port), _Handler)

    def reserve(self, count: int) -> bool:
        """Whether there is room for `count` more; then it is taken. One request always fits."""
        with self._lock:
            if self._waiting and self._waiting + count > PENDING:
                return False
            self._waiting += count
            return True

    def release(self, count: int) -> None:
        """Give room back."""
        with self._lock:
            self._waiting -= count


def serve(
    host: str = LOOPBACK,
    port: int = 8765,
    workers: int = 2,
    mode: str = "strict",
    token: str = "",
    ready: Callable[[str], None] | None = None,
) -> None:
    """Serve until interrupted. `ready` is told the address. Listening beyond the loopback address
    without a token is a ConfigError."""
    if host not in (LOOPBACK, "localhost", "::1") and not token:
        raise ConfigError(f"listening on {host} lets others run programs here: give a token")
    with Judge(workers, mode) as judge, Server(judge, host, port, token) as server:
        if ready is not None:
            ready(f"http://{server.server_address[0]!s}:{server.server_address[1]}/verify")
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            return


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
