"""A hub of models and data sets that runs here, for the real client of huggingface_hub.

It answers the four routes that a download takes: what a revision is, the tree of a commit, a file's head, the
file. `commits` maps (id, commit) to files, `refs` names of revisions to commits.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

ROUTE = re.compile(
    r"/(?:api/)?(?:(?:datasets|models)/)?([\w-]+/[\w.-]+)/(revision|tree|resolve)/([\w.]+)/?([^?]*)"
)
HEAD = re.compile(r"/api/models/([\w-]+/[\w.-]+)()()()$")


class Hub(ThreadingHTTPServer):
    """Serves what it is given; `asked` is every request."""

    def __init__(self, commits: Mapping[tuple[str, str], Mapping[str, bytes]], refs: dict[str, str]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.commits, self.refs, self.asked = commits, refs, list[str]()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        pass

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        hub = self.server
        assert isinstance(hub, Hub)
        hub.asked.append(f"{self.command} {self.path}")
        match = ROUTE.match(self.path) or HEAD.match(self.path)
        name = (match[3] or "main") if match else ""
        commit = hub.refs.get(name, name)
        files = hub.commits.get((match[1], commit)) if match else None
        if match is None or files is None:
            self.say(404, b"{}", {"X-Error-Code": "RepoNotFound"})
        elif match[2] in ("revision", ""):
            siblings = [{"rfilename": name} for name in files]
            told = {"id": match[1], "sha": commit, "siblings": siblings, "private": False, "tags": []}
            self.say(200, json.dumps(told).encode())
        elif match[2] == "tree":
            self.say(200, json.dumps([entry(name, data) for name, data in files.items()]).encode())
        elif match[4] not in files:
            self.say(404, b"{}", {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": commit})
        else:
            data = files[match[4]]
            self.say(200, data, {"ETag": f'"{entry("", data)["oid"]}"', "X-Repo-Commit": commit})

    def say(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {**(headers or {}), "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)


def entry(name: str, data: bytes) -> dict[str, Any]:
    oid = hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
    return {"type": "file", "path": name, "oid": oid, "size": len(data)}


@contextmanager
def running(commits: Mapping[tuple[str, str], Mapping[str, bytes]], refs: dict[str, str]) -> Iterator[Hub]:
    """The hub on a free port of this machine."""
    with Hub(commits, refs) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()
