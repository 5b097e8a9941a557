"""`calibrate --server` against a server whose entropy is known in closed form."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from acereason.errors import DataError, SamplingError
from acereason.sample.servers import endpoint
from acereason.sample.servers.endpoint import Endpoint, read_prompts

pytest.importorskip("httpx2")
LOGITS = np.array([0.0, 1.0, 2.5, 4.0])


def tempered(T: float, shift: float = 0.0) -> np.ndarray:
    z = LOGITS * (1 + shift) / T
    p = np.exp(z - z.max())
    return np.asarray(p / p.sum())


def entropy(T: float, shift: float = 0.0) -> float:
    p = tempered(T, shift)
    return float(-(p * np.log(p)).sum())


class Known(ThreadingHTTPServer):
    """Draws tokens from known distributions; a prompt's length shifts them, so that prompts differ."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.raw = self.strict = self.silent = False
        self.failures = 0
        self.bodies: list[dict[str, Any]] = []
        threading.Thread(target=self.serve_forever, daemon=True, args=(0.01,)).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Known

    def log_message(self, *_: Any) -> None: ...

    def send(self, value: Any, status: int = 200) -> None:
        data = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def do_GET(self) -> None:
        self.send({"data": [{"id": "known"}]})

    def do_POST(self) -> None:
        body, s = json.loads(self.rfile.read(int(self.headers["Content-Length"]))), self.server
        s.bodies.append(body)
        if s.failures:
            s.failures -= 1
            return self.send({"error": "busy"}, 503)
        if s.strict and "top_k" in body:
            return self.send({"error": "unknown parameter top_k"}, 400)
        chat = "messages" in body
        text = body["messages"][-1]["content"] if chat else body["prompt"]
        shift, T = 0.1 * (len(text) % 3 - 1), body["temperature"]
        rng = np.random.default_rng(body["seed"])
        n = int(rng.integers(1, body["max_tokens"] + 1))
        tokens = rng.choice(len(LOGITS), size=n, p=tempered(T, shift))
        scores = np.log(tempered(1.0 if s.raw else T, shift))
        values = [float(scores[t]) for t in tokens]
        top = {str(t): float(v) for t, v in enumerate(scores)}
        if s.silent:
            found: Any = None
        elif chat:
            pairs = [{"token": t, "logprob": v} for t, v in top.items()]
            found = {"content": [{"logprob": v, "top_logprobs": pairs} for v in values]}
        else:
            found = {"token_logprobs": values, "top_logprobs": [top] * n}
        return self.send({"choices": [{"logprobs": found}]})


@pytest.fixture
def known() -> Iterator[Known]:
    server = Known()
    yield server
    server.shutdown()
    server.server_close()


PROMPTS: list[endpoint.Prompt] = ["a", "bb", "ccc"] * 40


@pytest.mark.parametrize("chat", [False, True])
def test_the_estimate_is_the_entropy(known: Known, chat: bool) -> None:
    prompts = [[{"role": "user", "content": p}] for p in PROMPTS] if chat else PROMPTS
    e = Endpoint(known.url, "known", budget=20, samples=3)
    assert endpoint.check(e, prompts)
    at = endpoint.measure(e, prompts, True)
    for T in (0.5, 1.0, 1.5):
        point = at(T, 0)
        wanted = float(np.mean([entropy(T, s) for s in (-0.1, 0.0, 0.1)]))
        assert abs(point.H - wanted) < 4 * point.se < 0.2


def test_error_bars_are_over_prompts(known: Known) -> None:
    """Asking the same few prompts more often must not shrink what prompts differ by to nothing."""
    few: list[endpoint.Prompt] = ["a", "bb", "ccc"]
    once = endpoint.measure(Endpoint(known.url, "known", 20, samples=4), few, True)(0.7, 0)
    often = endpoint.measure(Endpoint(known.url, "known", 20, samples=60), few, True)(0.7, 0)
    spread = np.std([entropy(0.7, s) for s in (-0.1, 0.0, 0.1)], ddof=1) / np.sqrt(3)
    assert often.se > 0.5 * spread and once.se > 0


def test_every_sample_has_its_own_draws(known: Known) -> None:
    endpoint.measure(Endpoint(known.url, "known", 5, samples=4), ["a", "a"], True)(1.0, 0)
    assert len({b["seed"] for b in known.bodies}) == 8
    for body in known.bodies:
        assert {"top_p": 1.0, "top_k": -1, "min_p": 0.0, "repetition_penalty": 1.0}.items() <= body.items()


def test_raw_logprobs_are_refused(known: Known) -> None:
    known.raw = True
    with pytest.raises(SamplingError, match=r"raw log-probabilities.*processed_logprobs"):
        endpoint.check(Endpoint(known.url, "known", 5), PROMPTS)


def test_a_server_that_reports_nothing(known: Known) -> None:
    known.silent = True
    with pytest.raises(SamplingError, match="gives no log-probabilities"):
        endpoint.check(Endpoint(known.url, "known", 5, pause=0.01), PROMPTS)


def test_a_server_that_knows_no_more_than_it_must(known: Known) -> None:
    known.strict, known.failures = True, 2
    e = Endpoint(known.url, "known", 5, pause=0.01)
    assert not endpoint.check(e, PROMPTS)
    endpoint.measure(e, PROMPTS[:4], False)(1.0, 0)
    assert "top_k" not in known.bodies[-1]


def test_prompts_of_every_form(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    path.write_text(
        '{"prompt": "x"}\n{"messages": [{"role": "user", "content": "y"}]}\n{"question": "z"}\nplain\n'
    )
    turns = [[{"role": "user", "content": c}] for c in "yz"]
    assert read_prompts(path) == ["x", *turns, "plain"]
    path.write_text('{"answer": "4"}\n')
    with pytest.raises(DataError, match=r"p.jsonl:1 has no prompt, messages or question, only answer"):
        read_prompts(path)


def acereason(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "acereason.cli", *arguments], capture_output=True, text=True, timeout=120
    )


def test_the_verb_meets_the_target_and_draws(known: Known, tmp_path: Path) -> None:
    prompts, plot = tmp_path / "p.jsonl", tmp_path / "curve.svg"
    prompts.write_text("".join(json.dumps({"prompt": p}) + "\n" for p in PROMPTS))
    shown = acereason(
        *("calibrate", "--server", known.url, "--prompts", str(prompts), "--budget", "30"),
        *("--target", "0.6", "--samples", "2", "--plot", str(plot)),
    )
    assert shown.returncode == 0, shown.stderr
    T = float(shown.stdout.split("T = ")[1].split()[0])
    assert abs(float(np.mean([entropy(T, s) for s in (-0.1, 0.0, 0.1)])) - 0.6) < 0.06
    root = ET.fromstring(plot.read_text())
    names = [element.tag.split("}")[1] for element in root.iter()]
    assert names.count("circle") >= 5 and "polyline" in names and "href" not in plot.read_text()


def test_the_verb_refuses_raw_and_wrong_use(known: Known, tmp_path: Path) -> None:
    prompts = tmp_path / "p.txt"
    prompts.write_text("a\nbb\n")
    known.raw = True
    common = ("--server", known.url, "--budget", "5")
    shown = acereason("calibrate", *common, "--prompts", str(prompts))
    assert shown.returncode == 2 and "raw log-probabilities" in shown.stderr
    shown = acereason("calibrate", *common)
    assert shown.returncode == 2 and "--prompts FILE" in shown.stderr
