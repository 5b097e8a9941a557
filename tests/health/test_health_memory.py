"""The rules see the same in a bounded memory as in all rows; alerts are posted once, and never harm."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from itertools import pairwise
from typing import Any

import pytest

from acereason.config import Health
from acereason.errors import ConfigError
from acereason.health import memory
from acereason.health.alert import Alert, check
from acereason.health.findings import findings
from acereason.health.memory import Memory
from doctored import DOCTORED, run


def remembered(rows: list[dict[str, Any]], limits: Health = Health()) -> Memory:  # noqa: B008
    held = Memory(limits)
    for row in rows:
        held.add(str(row.get("kind")), row)
    return held


@pytest.mark.parametrize("name", DOCTORED)
def test_a_short_run_is_remembered_whole(name: str) -> None:
    rows, expected = DOCTORED[name]
    assert remembered(rows).findings() == findings(rows)
    assert {f.rule for f in findings(rows)} == expected


@pytest.mark.parametrize("name", DOCTORED)
def test_a_long_run_is_named_alike_and_little_is_kept(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "LAST", 20)
    held = remembered(DOCTORED[name][0])
    assert {f.rule for f in held.findings()} == DOCTORED[name][1]
    assert all(len(kept.rows()) <= 3 * Health().window + 500 for kept in held._kept.values())


def test_sft_is_thinned_evenly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "LAST", 50)
    rows = [{"kind": "sft", "stage": "sft", "step": i, "loss": 2.0 - i / 5000} for i in range(5000)]
    kept = next(iter(remembered(rows)._kept.values())).rows()
    gaps = {b["step"] - a["step"] for a, b in pairwise(kept)}
    assert len(gaps) == 1 and 50 < len(kept) <= 101
    assert not remembered(rows).findings()
    assert [f.rule for f in remembered([{**r, "loss": 2.0} for r in rows]).findings()] == ["sft_flat"]


def test_only_the_present_stage_ends_a_run() -> None:
    held = remembered(DOCTORED["dead"][0], Health(stop=("no_gradient",)))
    assert held.fatal("code") is None
    found = held.fatal("math")
    assert found is not None and found.rule == "no_gradient"
    assert remembered(DOCTORED["dead"][0]).fatal("math") is None


@contextmanager
def webhook(status: int) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    heard: list[dict[str, Any]] = []

    class Hook(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            heard.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(status)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            return

    server = HTTPServer(("127.0.0.1", 0), Hook)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}/hook", heard
    server.shutdown()
    server.server_close()


def test_a_finding_is_posted_once_with_what_to_do() -> None:
    with webhook(200) as (url, heard):
        alert = Alert(url, "runs/a", Health())
        for row in DOCTORED["mismatched"][0]:
            alert(row["kind"], row)
        alert.close()
    assert [(one["rule"], one["stage"]) for one in heard] == [("mismatch", "math")]
    assert heard[0]["run"] == "runs/a" and heard[0]["remedy"] in heard[0]["text"] == heard[0]["content"]


def test_a_webhook_that_fails_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    with webhook(500) as (url, heard):
        alert = Alert(url, "runs/a", Health())
        for row in run(lambda t: {"logprob_difference": {"k3": 0.02}}):
            alert(row["kind"], row)
        alert.close()
    assert len(heard) == 2 and "could not be sent" in caplog.text


@pytest.mark.parametrize("url", ["file:///etc/passwd", "host/path", "http://", "http://[::1", "ftp://a/b"])
def test_addresses_that_are_no_webhook(url: str) -> None:
    with pytest.raises(ConfigError, match="--alert"):
        check(url)
