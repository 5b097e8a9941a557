"""The teacher against a server that misbehaves in every known way, and killed while it works."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import msgspec
import pytest

from acereason.chat import final_part
from acereason.curate.teach import Teacher, teach
from acereason.curate.wire import TeacherProtocol, completion, payload, sample_seed
from acereason.errors import RunError, SamplingError
from acereason.files import read_jsonl, write_jsonl
from acereason.problems import Problem, Response
from acereason.sample.servers.http import Garbled

pytest.importorskip("httpx2")
PROBLEMS = [Problem(f"p{i}", "math", f"What is {i} + {i}?", str(2 * i)) for i in range(12)]
PROTOCOL = TeacherProtocol("fake", max_tokens=100, seed=7)
HOSTILE = ["429", "500", "hang", "half", "fields", "garbage", "finish", "close"]


class Fake(ThreadingHTTPServer):
    """An OpenAI-like server. `plan(body, attempt)` says how it behaves; `asked` counts by
    question."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.bodies: list[dict[str, Any]] = []
        self.asked: Counter[tuple[str, int]] = Counter()
        self.answered: Counter[tuple[str, int]] = Counter()
        self.plan: Any = lambda body, attempt: "good"
        self.delay = 0.0
        self.lock = threading.Lock()
        threading.Thread(target=self.serve_forever, daemon=True, args=(0.01,)).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"

    def handle_error(self, *_: Any) -> None:
        """Clients that are killed leave broken pipes."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Fake

    def log_message(self, *_: Any) -> None: ...

    def send(self, status: int, data: bytes, length: int | None = None, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(length or len(data)))
        self.end_headers()
        self.wfile.write(data)

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        text = body["prompt"] if "prompt" in body else body["messages"][-1]["content"]
        key = (text, body["seed"])
        with self.server.lock:
            self.server.bodies.append(body)
            self.server.asked[key] += 1
            attempt = self.server.asked[key]
        time.sleep(self.server.delay)
        style = self.server.plan(body, attempt)
        said = f"{text.replace('<think>', '')}|{body['seed']}"
        choice: dict[str, Any] = {"finish_reason": "stop", "text": f"think</think>{said}"}
        choice["message"] = {"content": said, "reasoning_content": "think"}
        good = {"choices": [choice], "usage": {"completion_tokens": 5}}
        match style:
            case "good":
                with self.server.lock:
                    self.server.answered[key] += 1
                self.send(200, json.dumps(good).encode())
            case "429":
                self.send(429, b"slow down", Retry_After="0.01")
            case "hang":
                time.sleep(1.5)
                self.close_connection = True
            case "half":
                data = json.dumps(good).encode()
                self.send(200, data[:20], length=len(data))
                self.close_connection = True
            case "fields":
                self.send(200, b'{"choices": [{"message": {"words": "x"}, "finish_reason": "stop"}]}')
            case "garbage":
                self.send(200, b"<html>\xff")
            case "finish":
                choice["finish_reason"] = "content_filter"
                self.send(200, json.dumps(good).encode())
            case "close":
                self.close_connection = True
            case status:
                self.send(int(status), b"no")


@pytest.fixture
def fake() -> Iterator[Fake]:
    server = Fake()
    yield server
    server.shutdown()
    server.server_close()


def teacher(fake: Fake, **changes: Any) -> Teacher:
    settings: dict[str, Any] = {
        "urls": (fake.url,), "samples": 3, "concurrency": 8, "deadline": 0.5, "attempts": 6,
        "pause": 0.01, "breaker": 1000, "progress": False,
    }  # fmt: skip
    return Teacher(**(settings | changes))


def responses(folder: Path) -> list[Response]:
    return list(read_jsonl(folder / "responses.jsonl", Response))


@pytest.mark.parametrize("mode", ["chat", "completion"])
def test_every_sample_is_asked_once_with_all_parameters(fake: Fake, tmp_path: Path, mode: Any) -> None:
    protocol = TeacherProtocol("fake", mode=mode, max_tokens=100)
    summary = teach(PROBLEMS, teacher(fake), protocol, tmp_path)
    assert (summary.asked, summary.refused, summary.tokens) == (36, 0, 180)
    found = responses(tmp_path)
    assert [(r.problem_id, r.sample) for r in found] == [(p.id, k) for k in range(3) for p in PROBLEMS]
    assert all(r.text.startswith("think</think>") and final_part(r.text) for r in found)
    assert set(fake.asked.values()) == {1}
    assert len({body["seed"] for body in fake.bodies}) == 36
    for body in fake.bodies:
        assert body["n"] == 1 and body["temperature"] == 0.6 and body["top_p"] == 0.95
        for name in (
            "top_k",
            "min_p",
            "repetition_penalty",
            "presence_penalty",
            "frequency_penalty",
        ):
            assert name in body
    again = teach(PROBLEMS, teacher(fake), protocol, tmp_path)
    assert (again.found, again.asked) == (36, 0) and len(fake.bodies) == 36
    more = teach(PROBLEMS, teacher(fake, samples=4), protocol, tmp_path)
    assert (more.found, more.asked) == (36, 12)


def test_a_hostile_server_loses_nothing(fake: Fake, tmp_path: Path) -> None:
    def plan(body: dict[str, Any], attempt: int) -> str:
        state = random.Random(body["seed"])
        faults = state.sample(HOSTILE, 2)
        return faults[attempt - 1] if attempt <= 2 else "good"

    fake.plan = plan
    summary = teach(PROBLEMS, teacher(fake, concurrency=32), PROTOCOL, tmp_path)
    assert summary.refused == 0 and len(responses(tmp_path)) == 36
    assert set(fake.answered.values()) == {1}


def test_refused_requests_are_set_aside_and_owed_again(fake: Fake, tmp_path: Path) -> None:
    fake.plan = lambda body, _: "400" if "3 + 3" in body["messages"][-1]["content"] else "good"
    summary = teach(PROBLEMS, teacher(fake), PROTOCOL, tmp_path)
    assert summary.refused == 3 and len(responses(tmp_path)) == 33
    rows = [json.loads(line) for line in (tmp_path / "refused.jsonl").read_text().splitlines()]
    assert {row["problem_id"] for row in rows} == {"p3"} and "status 400" in rows[0]["error"]
    fake.plan = lambda body, _: "good"
    assert teach(PROBLEMS, teacher(fake), PROTOCOL, tmp_path).asked == 3


@pytest.mark.parametrize("status", ["401", "404"])
def test_what_concerns_every_request_stops_at_once(fake: Fake, tmp_path: Path, status: str) -> None:
    fake.plan = lambda *_: status
    with pytest.raises(SamplingError, match=f"refuses every request: status {status}"):
        teach(PROBLEMS, teacher(fake), PROTOCOL, tmp_path)
    assert len(fake.bodies) <= 8


def test_a_dead_server_trips_the_breaker(fake: Fake, tmp_path: Path) -> None:
    fake.plan = lambda _, attempt: "good" if len(fake.answered) < 10 else "500"
    few = teacher(fake, breaker=4, patience=0.3, attempts=1000)
    with pytest.raises(SamplingError, match="nothing that arrived is lost"):
        teach(PROBLEMS, few, PROTOCOL, tmp_path)
    assert len(fake.bodies) < 100  # it waited instead of hammering
    fake.plan = lambda *_: "good"
    summary = teach(PROBLEMS, teacher(fake), PROTOCOL, tmp_path)
    assert summary.found >= 10 and summary.found + summary.asked == 36
    assert set(fake.answered.values()) == {1}


def test_nobody_listens(tmp_path: Path) -> None:
    nobody = Teacher(("http://127.0.0.1:9/v1",), pause=0.01, patience=0.2, attempts=99, progress=False)
    with pytest.raises(SamplingError, match="no response for 0 s"):
        teach(PROBLEMS[:2], nobody, PROTOCOL, tmp_path)


def test_another_protocol_in_the_folder_is_refused(fake: Fake, tmp_path: Path) -> None:
    teach(PROBLEMS[:1], teacher(fake), PROTOCOL, tmp_path)
    with pytest.raises(RunError, match="another protocol"):
        teach(PROBLEMS[:1], teacher(fake), TeacherProtocol("fake", temperature=1.0), tmp_path)


def test_a_torn_last_line_is_owed_again(fake: Fake, tmp_path: Path) -> None:
    teach(PROBLEMS, teacher(fake), PROTOCOL, tmp_path)
    whole = (tmp_path / "responses.jsonl").read_bytes()
    path = tmp_path / "answers.jsonl"
    path.write_bytes(path.read_bytes()[:-9])
    summary = teach(PROBLEMS, teacher(fake), PROTOCOL, tmp_path)
    assert (summary.found, summary.asked) == (35, 1)
    assert (tmp_path / "responses.jsonl").read_bytes() == whole


def body(message: dict[str, Any], finish: Any = "stop", **more: Any) -> bytes:
    return json.dumps({"choices": [{"message": message, "finish_reason": finish}], **more}).encode()


@pytest.mark.parametrize(
    ("message", "finish", "text"),
    [
        ({"content": "4", "reasoning": "2+2"}, "stop", "2+2</think>4"),
        ({"content": "4", "reasoning_content": "2+2"}, "stop", "2+2</think>4"),
        ({"content": "<think>\n2+2</think>4"}, "stop", "2+2</think>4"),
        ({"content": "2+2</think>4"}, "stop", "2+2</think>4"),
        ({"content": None, "reasoning": "2+2 and"}, "length", "2+2 and"),
        ({"content": "<think>\n2+2 and"}, "length", "2+2 and"),
        ({"content": "4 because", "reasoning": "2+2"}, "length", "2+2</think>4 because"),
        ({"content": "just 4"}, "stop", "just 4"),
    ],
)
def test_reasoning_wherever_the_server_puts_it(message: Any, finish: Any, text: str) -> None:
    found = completion(PROTOCOL, PROBLEMS[0], 0, body(message, finish))
    assert (found.text, found.finish, found.meta["tokens"]) == (text, finish, None)


@pytest.mark.parametrize(
    "data",
    [
        b"", b"[]", b"{}", b'{"choices": []}', b"\xff", b"[" * 5000, body({}),
        body({"content": "x"}, None), body({"content": "x"}, usage=[1]),
        body({"content": "x"}, usage={"completion_tokens": "many"}),
    ],
)  # fmt: skip
def test_garbled_bodies(data: bytes) -> None:
    with pytest.raises(Garbled):
        completion(PROTOCOL, PROBLEMS[0], 0, data)


def test_seeds_of_one_problem_never_meet() -> None:
    seeds = {sample_seed(PROTOCOL, PROBLEMS[0], k) for k in range(5000)}
    assert len(seeds) == 5000 and all(0 <= seed < 2**63 for seed in seeds)
    plain = payload(TeacherProtocol("m", extended=False), PROBLEMS[0], 0)
    assert "top_k" not in plain


SCRIPT = """
import sys
from pathlib import Path
from acereason.curate.teach import Teacher, teach
from acereason.curate.wire import TeacherProtocol
from acereason.problems import Problem
problems = [Problem(f"p{i}", "math", f"What is {i} + {i}?", str(2 * i)) for i in range(12)]
settings = Teacher((sys.argv[1],), samples=20, concurrency=8, progress=False)
teach(problems, settings, TeacherProtocol("fake", max_tokens=100, seed=7), Path(sys.argv[2]))
"""


def test_killed_at_any_moment_it_goes_on(fake: Fake, tmp_path: Path) -> None:
    teach(PROBLEMS, teacher(fake, samples=20, concurrency=64), PROTOCOL, tmp_path / "whole")
    fake.answered.clear()
    fake.delay = 0.02
    state = random.Random(1)
    command = [sys.executable, "-c", SCRIPT, fake.url, str(tmp_path / "killed")]
    environment = {**os.environ, "PYTHONWARNINGS": "ignore"}
    answers = tmp_path / "killed" / "answers.jsonl"
    for kill in [True, True, True, True, False]:
        before = Counter(fake.asked)
        held = answers.read_bytes().split(b"\n")[:-1] if answers.exists() else []
        process = subprocess.Popen(command, env=environment)
        if kill:
            while not answers.exists() or answers.read_bytes().count(b"\n") == len(held):
                assert process.poll() is None
                time.sleep(0.005)
            time.sleep(state.random() * 0.1)
            process.send_signal(signal.SIGKILL)
        assert process.wait(60) == (-signal.SIGKILL if kill else 0)
        texts = [json.loads(line)["response"]["text"] for line in held]
        for text in texts:  # what had arrived was not asked for again
            question, seed = text.removeprefix("think</think>").rsplit("|", 1)
            assert fake.asked[question, int(seed)] == before[question, int(seed)]
    assert len(held) >= 4
    for name in ("responses.jsonl", "protocol.json"):
        assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_the_pipeline_asks_a_teacher_and_never_twice(fake: Fake, tmp_path: Path) -> None:
    from acereason.curate.pipeline import curate
    from acereason.curate.settings import Curation, MixSettings, SftSettings, SourceSettings

    write_jsonl(tmp_path / "in.jsonl", PROBLEMS)
    fake.plan = lambda body, _: "400" if "3 + 3" in body["messages"][-1]["content"] else "good"
    settings = Curation(
        sources=(SourceSettings("problems", str(tmp_path / "in.jsonl")),),
        teacher=teacher(fake, samples=2),
        protocol=PROTOCOL,
        sft=SftSettings(mixes=(MixSettings("all"),)),
        format="jsonl",
    )
    lines = {line.name: line for line in curate(settings, tmp_path / "out")}
    assert lines["teacher"].reasons == {"refused or failed": 2}
    assert len((tmp_path / "out/sft/all.responses.jsonl").read_text().splitlines()) == 22
    fake.plan = lambda *_: "good"
    assert curate(settings, tmp_path / "out") == list(lines.values())
    more = msgspec.structs.replace(settings, teacher=teacher(fake, samples=3))
    lines = {line.name: line for line in curate(more, tmp_path / "out")}
    assert lines["teacher"].reasons == {} and set(fake.answered.values()) == {1}
    assert len((tmp_path / "out/sft/all.responses.jsonl").read_text().splitlines()) == 36
