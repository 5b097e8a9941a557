"""Streams say what one answer says, token by token; whatever is sent, the next request is answered; a server
that is told to end does."""

from __future__ import annotations

import http.client
import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from acereason.sample.engines.embedded import EmbeddedSampler
from acereason.sample.protocol import Request
from acereason.serving.answers import Speller, said
from acereason.serving.engine import Engine
from acereason.serving.growing import Growing
from acereason.serving.serve import server
from fake_vllm import tiny_policy

POLICY = tiny_policy()
VOCAB = len(POLICY.tokenizer)
CHAT = [{"role": "user", "content": "What is 3 plus 4?"}]


@pytest.fixture(scope="module")
def place() -> Iterator[tuple[str, int]]:
    listening, engine = server(
        POLICY, EmbeddedSampler(POLICY.model, slots=4, threads=1, eos_ids=POLICY.end_ids), "t"
    )
    with listening:
        thread = threading.Thread(target=listening.serve_forever, daemon=True)
        thread.start()
        yield listening.server_address
        listening.shutdown()
        thread.join()
    engine.close()


def send(place: tuple[str, int], route: str, body: bytes, **headers: str) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection(*place, timeout=60)
    try:
        connection.request("POST", f"/v1/{route}", body, {"Content-Type": "application/json", **headers})
        reply = connection.getresponse()
        return reply.status, reply.read()
    finally:
        connection.close()


def ask(place: tuple[str, int], **body: Any) -> Any:
    route = "chat/completions" if "messages" in body else "completions"
    status, data = send(place, route, json.dumps(body).encode())
    assert status == 200, data
    if not body.get("stream"):
        return json.loads(data)
    lines = [line.removeprefix("data: ") for line in data.decode().split("\n\n") if line]
    assert lines.pop() == "[DONE]"
    return [json.loads(line) for line in lines]


@pytest.mark.parametrize("what", [{"prompt": "Print the largest."}, {"messages": CHAT}])
@pytest.mark.parametrize("top", [None, 0, 3])
@pytest.mark.parametrize("stop", [None, ["a", "qq"], [" pl", "um "]])
def test_a_stream_adds_up_to_the_one_answer(place: tuple[str, int], what: Any, top: Any, stop: Any) -> None:
    body = {
        **what,
        "max_tokens": 90,
        "temperature": 1.2,
        "seed": 11,
        "n": 2,
        "stop": stop,
        "return_token_ids": True,
    }
    if top is not None:
        body |= {"logprobs": True, "top_logprobs": top} if "messages" in what else {"logprobs": top}
    whole = ask(place, **body)
    stream = ask(place, **body, stream=True, stream_options={"include_usage": True})
    assert stream.pop()["usage"] == whole["usage"]
    for index, wanted in enumerate(whole["choices"]):
        parts = [c for event in stream for c in event["choices"] if c["index"] == index]
        assert [p["finish_reason"] for p in parts[:-1]] == [None] * (len(parts) - 1)
        assert parts[-1]["finish_reason"] == wanted["finish_reason"]
        assert [t for p in parts for t in p["token_ids"]] == wanted["token_ids"]
        if "messages" in what:
            assert [p["delta"].get("role") for p in parts] == ["assistant", *[None] * (len(parts) - 1)]
            assert "".join(p["delta"]["content"] for p in parts) == wanted["message"]["content"]
            rows = [row for p in parts if top is not None for row in p["logprobs"]["content"]]
            assert_near(rows, wanted["logprobs"]["content"] if top is not None else [])
        else:
            assert "".join(p["text"] for p in parts) == wanted["text"]
            for name in wanted["logprobs"] or {}:
                told = [p["logprobs"][name] for p in parts]
                assert_near([v for values in told for v in values or []], wanted["logprobs"][name] or [])


def test_a_stream_gets_every_token_by_itself_and_others_go_on_in_strides() -> None:
    sampler = EmbeddedSampler(POLICY.model, slots=2, threads=1, eos_ids=[])
    engine = Engine(POLICY, sampler)
    told: list[int] = []
    prompt = POLICY.tokenizer.encode("Print")

    def hear(tokens: Any, _: Any) -> bool:
        told.append(len(tokens))
        return False

    try:
        for closely in (True, False):
            asked = engine.ask(Request(prompt, 50, 1.0, 3), hear, closely)
            assert len(asked.future.result(60).tokens) == 50
        assert told[:49] == [1] * 49 and told[49:] == [32]
    finally:
        engine.close()


def assert_near(found: Any, wanted: Any) -> None:
    """Equal, numbers to rounding: the likeliest come from passes over other lengths."""
    assert type(found) is type(wanted)
    if isinstance(found, dict):
        assert found.keys() == wanted.keys()
        found, wanted = list(found.values()), list(wanted.values())
    if isinstance(found, list):
        assert len(found) == len(wanted)
        for one, other in zip(found, wanted, strict=True):
            assert_near(one, other)
    elif isinstance(found, float):
        assert found == pytest.approx(wanted, abs=2e-4)
    else:
        assert found == wanted


IDS = st.lists(st.integers(0, VOCAB - 1), max_size=30)
STOPS = st.lists(st.text("aeis pl1", min_size=1, max_size=4), max_size=3)


@given(IDS, STOPS, st.booleans())
def test_what_is_settled_is_a_beginning_of_the_whole(ids: list[int], stops: list[str], special: bool) -> None:
    speller = Speller(POLICY.tokenizer, POLICY.end_ids, special)
    growing, told = Growing(speller, stops), 0
    for n, token in enumerate(ids, 1):
        growing.add([token])
        tokens, chars = growing.settled()
        assert told <= chars and tokens <= n
        told = chars
        if growing.enough:
            break
    whole = said(
        speller, np.array(ids, np.int32), np.zeros(len(ids), np.float32), "length", stops, POLICY.end_ids
    )
    assert whole.text.startswith(growing.text[:told])
    assert growing.settled()[0] <= len(whole.tokens)


HOSTILE = [
    b"", b"null", b"[]", b"{", b"\xff\xfe", b'{"prompt": "\\ud800"}', b'{"prompt": "x", "n": 1e400}',
    b'{"prompt": ' + b"[" * 5000 + b"]" * 5000 + b"}", b'{"prompt": "x", "max_tokens": 1' + b"0" * 400 + b"}",
    b'{"prompt": "x", "max_tokens": 2.5}',
    b'{"prompt": "x", "temperature": NaN}', b'{"prompt": "x", "top_p": 0}', b'{"prompt": [[]]}',
    b'{"prompt": [-1]}', b'{"prompt": [99999999999999999999]}', b'{"prompt": {"a": 1}}',
    b'{"prompt": "x", "stop": 3}', b'{"prompt": "x", "stop": [1]}', b'{"prompt": "x", "logprobs": 99}',
    b'{"prompt": "x", "stop_token_ids": ["a"]}',
    b'{"messages": "x"}', b'{"messages": [[]]}', b'{"messages": [{"role": 1, "content": "x"}]}',
    b'{"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}',
    b'{"messages": [{"role": "user", "content": "x"}], "logprobs": "yes"}',
    json.dumps({"prompt": "<|im_end|>\x00\u202e" * 4000}).encode(),
]  # fmt: skip


@pytest.mark.parametrize("route", ["completions", "chat/completions"])
def test_whatever_is_sent_is_answered_in_openais_form(place: tuple[str, int], route: str) -> None:
    for body in HOSTILE:
        status, data = send(place, route, body)
        assert 400 <= status < 500, (body[:60], status, data[:200])
        assert set(json.loads(data)["error"]) == {"message", "type", "param", "code"}, body[:60]
    for headers in (
        {"Content-Type": "text/plain"},
        {"Host": "evil.example"},
        {"Origin": "http://evil.example"},
    ):
        status, data = send(place, route, b'{"prompt": "x"}', **headers)
        assert status in (403, 415, 421) and json.loads(data)["error"]["message"]
    assert len(ask(place, prompt="x", max_tokens=3, return_token_ids=True)["choices"]) == 1


def started(*command: str) -> tuple[subprocess.Popen[str], str]:
    process = subprocess.Popen(
        [sys.executable, "-m", "acereason", *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout
    while "http" not in (line := process.stdout.readline()):
        assert process.poll() is None, process.communicate()
    return process, next(word for word in line.split() if word.startswith("http"))


@pytest.mark.parametrize("way", [signal.SIGTERM, signal.SIGINT])
def test_a_server_ends_when_it_is_told_in_the_middle_of_a_stream(tmp_path: Path, way: signal.Signals) -> None:
    POLICY.save(tmp_path / "model")
    process, url = started("serve", str(tmp_path / "model"), "--port", "0")
    host, port = url.removeprefix("http://").split("/")[0].split(":")
    body = {"prompt": "x", "max_tokens": 250, "n": 64, "stream": True}
    threading.Thread(target=lambda: swallow((host, int(port)), body), daemon=True).start()
    time.sleep(0.2)
    process.send_signal(way)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 0 and errors.strip().endswith("ended") and "Traceback" not in errors


def swallow(place: tuple[str, int], body: dict[str, Any]) -> None:
    try:
        send(place, "completions", json.dumps(body).encode())
    except (OSError, http.client.HTTPException):
        return


@pytest.mark.parametrize("verb", [["view", "."], ["verify", "--serve"]])
def test_the_other_servers_end_alike(tmp_path: Path, verb: list[str]) -> None:
    (tmp_path / "metrics.jsonl").touch()
    verb = [str(tmp_path) if word == "." else word for word in verb]
    process, _ = started(*verb, "--port", "0")
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 0 and errors.strip().endswith("ended")
