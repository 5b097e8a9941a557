"""The page over HTTP, for one's own browser on one's own machine.

    GET /                    the page          GET /page.css, /*.js    what it is made of
    GET /api/runs            the overview      GET /api/run?run=NAME&version=V
    GET /api/responses?run=NAME&stage=…&step=…&outcome=…&truncated=…&family=…&text=…&start=…
    GET /api/group?run=NAME&file=F&problem=P   GET /api/text?run=…&file=…&problem=…&sample=…
    GET /api/lab?run=NAME&run=NAME…            GET /api/studies
    GET /api/desk?run=NAME                     POST /api/judge (`again`; on the loopback address only)

It reads and never writes. What a web page elsewhere could do with a browser that reaches
this server is refused: a Host header that is a foreign name (DNS rebinding), every request that another
site starts, and a body that is not JSON or longer than a list of responses. The Content-Security-Policy
allows this origin's own scripts and styles and nothing else. There is no password: it listens on the
loopback address unless told otherwise, and then anyone who reaches the address can read the runs.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import uvicorn
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from acereason.errors import ConfigError
from acereason.native import heap
from acereason.view import again, assets, liveness
from acereason.view.compare import Lab
from acereason.view.groups import group, listing, whole
from acereason.view.index import Filter
from acereason.view.runs_folder import Followed, RunsFolder
from acereason.view.studies import studies
from acereason.view.tail import Row
from acereason.web import LOCAL, Bounds, Door, Names, run

LOOPBACK = "127.0.0.1"
PATIENCE = 0.3  # seconds that an answer may spend on reading on; the page asks again
MOST = 100  # runs that are compared
GRACE = 3  # seconds that open requests get when the server is told to end
POSTS = {"/api/judge": Bounds(body=256 << 10, held=4 << 20, body_seconds=10)}
SAFE = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self'; font-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
Answer = Callable[[Followed, Request], Row | None]


def application(root: Path, host: str = LOOPBACK) -> ASGIApp:
    """The page over the runs below `root` as an ASGI application that may be reached as `host`."""
    runs, compared, judging = RunsFolder(root), Lab(), again.Again()
    pages: dict[str, tuple[str | bytes, str]] = {f"/{n}": assets.served(n) for n in assets.SERVED}
    pages |= {f"/{name}": (font, "font/woff2") for name, font in assets.fonts().items()}
    pages["/"] = assets.shell()

    def page(request: Request) -> Response:
        content, kind = pages[request.url.path]
        return Response(content, media_type=kind)

    def overview(_: Request) -> Response:
        return _json(runs.overview(PATIENCE))

    def findings(_: Request) -> Response:
        return _json(studies(runs.root))

    def of_run(answer: Answer) -> Callable[[Request], Response]:
        def endpoint(request: Request) -> Response:
            run = runs.get(request.query_params.get("run", ""))
            if run is None:
                return _json({"error": "no such run, or it was deleted"}, 404)
            with run.lock:
                content = answer(run, request)
            return _json({"error": "not there any more"}, 404) if content is None else _json(content)

        return endpoint

    def lab(request: Request) -> Response:
        asked = [runs.get(name) for name in request.query_params.getlist("run")[:MOST]]
        known = [run for run in asked if run is not None]
        if len(known) < len(asked) or not known:
            return _json({"error": "no such run, or it was deleted"}, 404)
        return _json(compared.of(known))

    async def judge(request: Request) -> Response:
        return await run_in_threadpool(judged, await request.body())

    def judged(body: bytes) -> Response:
        try:
            question = msgspec.json.decode(body, type=again.Question)
            known = runs.get(question.run)
            if known is None:
                return _json({"error": "no such run, or it was deleted"}, 404)
            return _json(judging.of(known, question))
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            return _json({"error": f"expected a run and 1 to {again.MOST} of its responses: {error}"}, 422)
        except again.Busy:
            return _json({"error": f"{again.WAITING} responses are being judged; again in a moment"}, 503)
        except (TypeError, ValueError) as error:
            return _json({"error": f"cannot be judged: {again.told(error)}"}, 500)

    routes = [Route(path, page) for path in pages]
    routes += [Route("/api/runs", overview), Route("/api/lab", lab), Route("/api/studies", findings)]
    routes += [Route("/api/judge", judge, methods=["POST"])] if host in LOCAL else []

    def desk(run: Followed, request: Request) -> Row:
        return {**_desk(run), "judge": host in LOCAL}

    answers: dict[str, Answer] = {
        "run": _run,
        "desk": desk,
        "responses": _responses,
        "group": _group,
        "text": _text,
    }
    routes += [Route(f"/api/{name}", of_run(answer)) for name, answer in answers.items()]
    return Guard(Starlette(routes=routes), host)


def serve(root: Path, host: str, port: int, ready: Callable[[str], None] = lambda _: None) -> None:
    """Serve until interrupted; `ready` gets the address. ConfigError: no such folder, or a port in use."""
    if not root.is_dir():
        raise ConfigError(f"expected a folder of runs, found none at {root}; give the folder that holds them")
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listener = socket.create_server((host, port), family=family)
    except OSError as error:
        raise ConfigError(f"cannot listen on {host}, port {port}: {error.strerror}; try --port 0") from error
    heap.share()
    with listener:
        name = f"[{host}]" if ":" in host else host
        ready(f"http://{name}:{listener.getsockname()[1]}/")
        settings = uvicorn.Config(
            application(root, host),
            log_level="warning",
            access_log=False,
            lifespan="off",
            timeout_graceful_shutdown=GRACE,
        )
        run(uvicorn.Server(settings), listener)


class Guard:
    """Refuses what another site could make a browser ask, and adds the headers that keep answers in."""

    def __init__(self, inner: ASGIApp, host: str) -> None:
        self._inner = inner
        self._names = Names(host)
        self._posts = {path: Door(inner, bounds, self._names) for path, bounds in POSTS.items()}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        refusal = self.refusal(scope["method"], scope["path"], Headers(scope=scope))
        inner = self._posts.get(scope["path"], self._inner)
        answer = PlainTextResponse(refusal[1], refusal[0]) if refusal else inner

        async def with_headers(message: Any) -> None:
            if message["type"] == "http.response.start":
                safe = [(name.lower().encode(), value.encode()) for name, value in SAFE.items()]
                message = {**message, "headers": [*message["headers"], *safe]}
            await send(message)

        await answer(scope, receive, with_headers)

    def refusal(self, method: str, path: str, headers: Headers) -> tuple[int, str] | None:
        """Status and reason when a request is not answered."""
        if method not in (("POST",) if path in POSTS else ("GET", "HEAD")):
            return 405, "this page is only for reading: GET"
        if not self._known(headers.get("host", "")):
            return 421, "this server is not called that; open it by its address or as localhost"
        site, mode = headers.get("sec-fetch-site", "none"), headers.get("sec-fetch-mode")
        visit = path == "/" and mode == "navigate" and headers.get("sec-fetch-dest", "document") == "document"
        if site not in ("none", "same-origin") and not visit:
            return 403, "requests from other sites are refused"
        origin = headers.get("origin")
        if origin is not None and origin.partition("://")[2] != headers.get("host"):
            return 403, "requests from other sites are refused"
        return None

    def _known(self, host: str) -> bool:
        return host in self._names


def _run(run: Followed, request: Request) -> Row:
    known = request.query_params.get("version")
    run.reader.advance(4 * PATIENCE if known else PATIENCE)  # the first answer is to be drawn soon
    state = liveness.state(run.folder, time.time(), run.reader.tail.torn, run.reader.step_seconds())
    if known == run.reader.version():
        return {"same": True, "state": state}
    return {**run.reader.page(), "name": run.name, "state": state}


def _responses(run: Followed, request: Request) -> Row:
    asked = request.query_params
    run.index.advance(PATIENCE / 2)
    truncated = {"yes": True, "no": False}.get(asked.get("truncated", ""))
    wanted = Filter(
        asked.get("stage") or None,
        _number(asked.get("step")),
        asked.get("outcome") or None,
        truncated,
        asked.get("family") or None,
        asked.get("text", "")[:1000],
    )
    return listing(run.index, wanted, _number(asked.get("start")) or 0, _number(asked.get("limit")) or 50)


def _desk(run: Followed) -> Row:
    run.index.advance(PATIENCE / 2)
    run.desk.advance(PATIENCE)
    return {**run.desk.page(), "indexed": run.index.indexed}


def _group(run: Followed, request: Request) -> Row | None:
    run.index.advance(PATIENCE / 2)
    asked = request.query_params
    return group(run.folder, run.index, asked.get("file", ""), asked.get("problem", ""))


def _text(run: Followed, request: Request) -> Row | None:
    asked = request.query_params
    return whole(run.index, asked.get("file", ""), asked.get("problem", ""), asked.get("sample", ""))


def _number(text: str | None) -> int | None:
    return int(text) if text and text.isdecimal() and text.isascii() and len(text) < 16 else None


def _json(value: Row, status: int = 200) -> Response:
    return Response(msgspec.json.encode(value), status, media_type="application/json")
