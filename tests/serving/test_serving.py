"""OpenAI's routes over the embedded engine: what is answered is what the engine draws, and our own callers of
servers work against it."""

from __future__ import annotations

import json
import socket
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from acereason.curate.teach import Teacher, teach
from acereason.curate.wire import TeacherProtocol
from acereason.problems import Problem
from acereason.sample.engines.embedded import EmbeddedSampler
from acereason.sample.protocol import Request
from acereason.sample.servers import endpoint
from acereason.sample.servers.served import Served
from acereason.serving.engine import Engine
from acereason.serving.serve import server
from fake_vllm import tiny_policy

POLICY = tiny_policy()
PROMPT = "What is 3 plus 4?"
HEAD = "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"


def sampler() -> EmbeddedSampler:
    return EmbeddedSampler(POLICY.model, slots=4, threads=1, eos_ids=POLICY.end_ids)


@pytest.fixture(scope="module")
def running() -> Iterator[tuple[str, Engine]]:
    listening, engine = server(POLICY, sampler(), "tiny")
    with listening:
        thread = threading.Thread(target=listening.serve_forever, daemon=True)
        thread.start()
        yield f"{listening.address}/v1", engine
        listening.shutdown()
        thread.join()
    engine.close()


@pytest.fixture(scope="module")
def url(running: tuple[str, Engine]) -> str:
    return running[0]


def post(url: str, **body: Any) -> tuple[int, Any]:
    route = "/chat/completions" if "messages" in body else "/completions"
    request = urllib.request.Request(
        url + route, json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    try:
        with urllib.request.urlopen(request, timeout=60) as reply:
            said = reply.read().decode()
            return reply.status, said if body.get("stream") else json.loads(said)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


def test_many_at_once_get_what_each_gets_alone(url: str) -> None:
    prompts = [POLICY.tokenizer.encode(f"Print the largest, add {i % 5}.") for i in range(24)]
    alone = sampler()

    def one(i: int) -> list[int]:
        body = {"prompt": prompts[i], "max_tokens": 8 + i, "temperature": 0.8, "top_p": 0.9, "seed": i}
        status, said = post(url, **body, return_token_ids=True, logprobs=0)
        assert status == 200
        return list(said["choices"][0]["token_ids"])

    with ThreadPoolExecutor(24) as pool:
        found = list(pool.map(one, range(24)))
    for i, tokens in enumerate(found):
        (wanted,) = alone.sample([Request(prompts[i], 8 + i, 0.8, i, 0.9)])
        assert tokens == wanted.tokens.tolist()


def test_logprobs_are_of_the_tempered_distribution(url: str) -> None:
    ids = POLICY.tokenizer.encode(PROMPT)
    _, said = post(url, prompt=ids, max_tokens=12, temperature=0.7, seed=3, logprobs=4, return_token_ids=True)
    choice = said["choices"][0]
    tokens = choice["token_ids"]
    with torch.no_grad():
        logits = POLICY.model(torch.tensor([ids + tokens])).logits[0, len(ids) - 1 : -1]
    scores = (logits / 0.7).log_softmax(-1)
    own = scores[torch.arange(len(tokens)), torch.tensor(tokens)]
    assert np.allclose(choice["logprobs"]["token_logprobs"], own, atol=1e-4)
    tops = [sorted(top.values(), reverse=True) for top in choice["logprobs"]["top_logprobs"]]
    assert np.allclose(tops, scores.topk(4).values, atol=1e-4)


def chunks(stream: str) -> list[Any]:
    lines = [line.removeprefix("data: ") for line in stream.split("\n\n") if line]
    assert lines[-1] == "[DONE]"
    return [json.loads(line) for line in lines[:-1]]


@pytest.mark.parametrize("stop", [None, ["a"], ["is", "qq"], [" p", "um"]])
def test_a_stream_says_what_one_answer_says(url: str, stop: list[str] | None) -> None:
    for seed in range(6):
        body = {"prompt": PROMPT, "max_tokens": 120, "seed": seed, "temperature": 1.3, "stop": stop, "n": 2}
        whole = post(url, **body)[1]["choices"]
        texts, ends = ["", ""], ["", ""]
        for chunk in chunks(post(url, **body, stream=True)[1]):
            (choice,) = chunk["choices"]
            texts[choice["index"]] += choice["text"]
            ends[choice["index"]] = choice["finish_reason"] or ends[choice["index"]]
        assert texts == [c["text"] for c in whole] and ends == [c["finish_reason"] for c in whole]
        assert not any(s in text for s in stop or [] for text in texts)


def test_samples_of_one_prompt_differ_and_count_up(url: str) -> None:
    _, said = post(url, prompt=PROMPT, max_tokens=20, n=3, seed=5)
    _, second = post(url, prompt=PROMPT, max_tokens=20, seed=6)
    texts = [c["text"] for c in said["choices"]]
    assert len(set(texts)) == 3 and texts[1] == second["choices"][0]["text"]
    _, many = post(url, prompt=[PROMPT, "Print"], max_tokens=20, n=2, seed=5)
    assert [c["index"] for c in many["choices"]] == [0, 1, 2, 3] and many["choices"][0]["text"] == texts[0]


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        ({"prompt": "x", "wrong": 1}, 400, "unknown field `wrong`; known: "),
        ({"prompt": ""}, 400, "the prompt is empty"),
        ({"prompt": []}, 400, "prompt: expected"),
        ({"prompt": [1, "x"]}, 400, "prompt: expected"),
        ({"prompt": [1, 10**6]}, 400, "vocabulary"),
        ({"prompt": [True]}, 400, "prompt: expected"),
        ({"prompt": "x", "max_tokens": 999}, 400, "context of 256"),
        ({"prompt": "x", "max_tokens": 0}, 400, ">= 1"),
        ({"prompt": "x", "temperature": -1}, 400, ">= 0"),
        ({"prompt": "x", "top_k": 3}, 400, "top_k is not supported"),
        ({"prompt": "x", "repetition_penalty": 1.1}, 400, "repetition_penalty is not supported"),
        ({"prompt": "x", "ignore_eos": True}, 400, "ignore_eos is not supported"),
        ({"prompt": "x", "model": "gpt"}, 404, "served: tiny"),
        ({"prompt": "x", "n": 10**9}, 400, "<= 128"),
        ({"prompt": ["x"] * 1025}, 400, "at most 1024 responses"),
        ({"prompt": "x", "stream": True, "max_tokens": 999}, 400, "context of 256"),
        ({"prompt": "x", "stop": ["x"] * 65}, 400, "length <= 64"),
        ({"prompt": "x", "stop_token_ids": [1 << 40]}, 400, "stop_token_ids"),
        ({"messages": []}, 400, "length >= 1"),
        ({"messages": [{"role": "user"}]}, 400, "messages: expected"),
        ({"messages": [{"role": "system", "content": "s"}]}, 400, "chat template refuses"),
        ({"messages": [{"role": "user", "content": "x"}], "tools": []}, 400, "unknown field `tools`"),
    ],
)
def test_what_cannot_be_done_is_said(url: str, body: dict[str, Any], status: int, said: str) -> None:
    found, answer = post(url, **body)
    assert found == status and said in answer["error"]["message"]
    assert post(url, prompt="x", max_tokens=2)[0] == 200


def test_a_caller_that_goes_away_ends_its_response(running: tuple[str, Engine]) -> None:
    url, engine = running
    host, port = url.removeprefix("http://").removesuffix("/v1").split(":")
    body = json.dumps({"prompt": PROMPT, "max_tokens": 240, "n": 64, "temperature": 1.0}).encode()
    head = f"{HEAD}Content-Length: {len(body)}\r\n\r\n"
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall(head.encode() + body)
        time.sleep(0.05)
    end = time.monotonic() + 30
    while engine.busy and time.monotonic() < end:
        time.sleep(0.02)
    assert not engine.busy and post(url, prompt="x", max_tokens=2)[0] == 200


def test_our_own_callers_of_servers_work(url: str, tmp_path: Path) -> None:
    """Calibration, evaluation of a served model, and the teacher, each asking for real."""
    e = endpoint.Endpoint(url, "tiny", budget=20, samples=2)
    prompts: list[endpoint.Prompt] = [f"Print {i}" for i in range(8)]
    chats: list[endpoint.Prompt] = [[{"role": "user", "content": f"Print {i}"}] for i in range(8)]
    for asked in (prompts, chats):
        assert endpoint.check(e, asked)
        assert 0 < endpoint.measure(e, asked, True)(0.8, 0).H < np.log(270)
    POLICY.tokenizer.save_pretrained(tmp_path / "tokenizer")
    served = Served([url])
    try:
        policy = served.policy(str(tmp_path / "tokenizer"), "plain")
        wanted = [
            Request(policy.prompt_ids(Problem(str(i), "math", f"{i}?")), 16, 0.8, i << 1) for i in range(9)
        ]
        done = {c.request.seed: c for c in served.sample(wanted)}
        for one in wanted:
            (own,) = sampler().sample([Request(one.prompt, 16, 0.8, one.seed >> 1)])
            assert done[one.seed].tokens.tolist() == own.tokens.tolist()
    finally:
        served.close()
    problems = [Problem(str(i), "math", f"What is {i}?") for i in range(4)]
    for mode in ("chat", "completion"):
        protocol = TeacherProtocol("tiny", mode=mode, format="plain", max_tokens=12)
        made = teach(problems, Teacher((url,), samples=2, progress=False), protocol, tmp_path / mode)
        assert (made.asked, made.refused) == (8, 0)
