"""Hub ids, through the real client of huggingface_hub, from a hub that runs here.

The server answers the four routes that a download of a data set takes: what a revision is, the
tree of a commit, a file's head, the file.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("huggingface_hub", reason="pip install acereason[hub]")
pytest.importorskip("pyarrow")

OLD, NEW = "a" * 40, "b" * 40
ROWS = [{"problem": f"Mary has {i} apples and buys {i * i} more. How many?", "answer": str(i + i * i)}
        for i in range(2, 8)]  # fmt: skip
FILES = {
    ("nvidia/AceReason-Math", OLD): {"train.jsonl": ROWS[:3], "README.md": []},
    ("nvidia/AceReason-Math", NEW): {"train.jsonl": ROWS, "README.md": []},
    ("me/bench", NEW): {"test.jsonl": [{"problem": ROWS[0]["problem"]}]},
}
ROUTE = re.compile(r"/(?:api/)?datasets/([\w-]+/[\w.-]+)/(revision|tree|resolve)/([\w.]+)/?([^?]*)")


def content(rows: list[dict[str, str]]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


class Hub(ThreadingHTTPServer):
    """`main` is the new commit, the tag `v1` the old one."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.asked: list[str] = []


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        pass

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        match = ROUTE.match(self.path)
        assert isinstance(self.server, Hub)
        self.server.asked.append(f"{self.command} {self.path}")
        commit = {"main": NEW, "v1": OLD}.get(match[3], match[3]) if match else ""
        files = FILES.get((match[1], commit)) if match else None
        if match is None or files is None:
            self.say(404, b"{}", {"X-Error-Code": "RepoNotFound"})
        elif match[2] == "revision":
            siblings = [{"rfilename": name} for name in files]
            told = {"id": match[1], "sha": commit, "siblings": siblings, "private": False, "tags": []}
            self.say(200, json.dumps(told).encode())
        elif match[2] == "tree":
            entries = [self.entry(name, content(rows)) for name, rows in files.items()]
            self.say(200, json.dumps(entries).encode())
        else:
            data = content(files[match[4]])
            self.say(200, data, {"ETag": f'"{self.entry("", data)["oid"]}"', "X-Repo-Commit": commit})

    def entry(self, name: str, data: bytes) -> dict[str, Any]:
        oid = hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
        return {"type": "file", "path": name, "oid": oid, "size": len(data)}

    def say(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {**(headers or {}), "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)


@pytest.fixture
def hub() -> Iterator[Hub]:
    with Hub() as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def recipe(folder: Path, revision: str = "", name: str = "nvidia/AceReason-Math") -> Path:
    path = folder / "curation.toml"
    path.write_text(
        f'[[sources]]\nname = "acereason-math"\npath = "{name}"\ncheck_rows = false\n{revision}\n'
        '[[benchmarks]]\nname = "bench"\npath = "me/bench"\n'
        '[rl]\nstages = [{ name = "all" }]\n'
    )
    return path


def curate(port: int, folder: Path, path: Path) -> subprocess.CompletedProcess[str]:
    """`acereason curate` in a process of its own: the client reads its address when it is imported."""
    hidden = ("HF_", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(hidden)}
    environment |= {
        "HF_ENDPOINT": f"http://127.0.0.1:{port}", "HF_HOME": str(folder / "cache"),
        "HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_XET": "1", "NO_PROXY": "127.0.0.1",
    }  # fmt: skip
    return subprocess.run(
        [sys.executable, "-m", "acereason.cli", "curate", str(path), "--out", str(folder / "out")],
        capture_output=True, text=True, env=environment, timeout=200, check=False,
    )  # fmt: skip


def manifest(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "out" / "manifest.json").read_text())
    return found


def test_a_set_and_a_benchmark_from_the_hub(hub: Hub, tmp_path: Path) -> None:
    """Downloaded once, the commit named in the manifest and the card; later without any hub."""
    path = recipe(tmp_path)
    done = curate(hub.server_address[1], tmp_path, path)
    assert done.returncode == 0, done.stderr
    told = manifest(tmp_path)
    assert [(o["name"], o["commit"]) for o in told["origins"]] == [("acereason-math", NEW), ("bench", NEW)]
    assert list(told["origins"][0]["files"]) == ["train.jsonl"]
    assert told["files"]["rl/all.parquet"]["rows"] == len(ROWS) - 1  # one leaked into the benchmark
    assert NEW in (tmp_path / "out" / "README.md").read_text()
    fetched = [asked for asked in hub.asked if asked.startswith("GET") and "/resolve/" in asked]
    assert len(fetched) == 2 and not any("README" in asked for asked in hub.asked)
    hub.shutdown()
    hub.server_close()
    again = curate(hub.server_address[1], tmp_path, path)
    assert again.returncode == 0, again.stderr
    assert manifest(tmp_path) == told


def test_a_pinned_revision_is_what_is_read(hub: Hub, tmp_path: Path) -> None:
    for revision in ("v1", OLD):
        folder = tmp_path / revision
        folder.mkdir()
        done = curate(hub.server_address[1], folder, recipe(folder, f'revision = "{revision}"'))
        assert done.returncode == 0, done.stderr
        assert manifest(folder)["origins"][0]["commit"] == OLD
        assert manifest(folder)["files"]["rl/all.parquet"]["rows"] == 2


def test_an_id_that_the_hub_does_not_have_is_named(hub: Hub, tmp_path: Path) -> None:
    done = curate(hub.server_address[1], tmp_path, recipe(tmp_path, name="nvidia/Other"))
    assert done.returncode != 0
    said = " ".join(done.stderr.split())
    assert "nvidia/Other: no such file or folder here" in said and "Traceback" not in said
