"""For the tests of evaluation: a tiny model that answers with a digit, and a server of the routes that
`evaluate.served` asks, with faults to order."""

from __future__ import annotations

import json
import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

from acereason.chat import prompt
from acereason.policy.tokenizer import train_tokenizer
from acereason.problems import Problem

ANSWER = "</think>\\boxed{%d}"
DIGITS = [7, 7, 1, 2, 3]
PROBLEMS = [Problem(f"p{i}", "math", f"Say a digit, {i}.", answer="7") for i in range(6)]


def make_model(folder: Path) -> Path:
    """Train a model of one layer, for a second, to answer with a digit, a seven more often than others."""
    tokenizer = train_tokenizer([prompt(p, "plain") for p in PROBLEMS] + [ANSWER % d for d in range(10)], 330)
    end = tokenizer.convert_tokens_to_ids(tokenizer.eos_token)
    torch.manual_seed(0)
    config = Qwen3Config(
        vocab_size=len(tokenizer), hidden_size=32, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=1, head_dim=16, intermediate_size=48, max_position_embeddings=128,
        tie_word_embeddings=True, eos_token_id=end, bos_token_id=None, pad_token_id=None,
    )  # fmt: skip
    model = Qwen3ForCausalLM(config)
    optimizer = torch.optim.AdamW(model.parameters(), 1e-2)
    draw = random.Random(0)
    for _ in range(60):
        rows = [_row(tokenizer, draw, end) for _ in range(16)]
        ids = torch.nn.utils.rnn.pad_sequence([torch.tensor(r) for r in rows], True, -100)
        model(input_ids=ids.clamp_min(0), labels=ids).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def _row(tokenizer: PreTrainedTokenizerFast, draw: random.Random, end: int) -> list[int]:
    digit = draw.choice(DIGITS)
    text = prompt(draw.choice(PROBLEMS), "plain") + ANSWER % digit
    return [*tokenizer.encode(text, add_special_tokens=False), end]


class Fake:
    """What a test can order of the server, and what it counted. `faults`: taken one by one by requests."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast, limit: int) -> None:
        self.tokenizer, self.limit = tokenizer, limit
        self.end = tokenizer.convert_tokens_to_ids(tokenizer.eos_token)
        self.model = "tiny"
        self.faults: list[Any] = []
        self.seeds: list[int] = []
        self.asked = 0
        self.lock = threading.Lock()

    def answer(self, body: dict[str, Any]) -> dict[str, Any]:
        """A digit that depends on the seed alone, as token ids with log-probabilities."""
        digit = random.Random(body["seed"]).choice(DIGITS)
        tokens = [*self.tokenizer.encode(ANSWER % digit, add_special_tokens=False), self.end]
        choice = {
            "finish_reason": "stop", "token_ids": tokens,
            "logprobs": {"token_logprobs": [-1.0] * len(tokens)},
        }  # fmt: skip
        return {"choices": [choice]}


@contextmanager
def serving(fake: Fake, port: int = 0) -> Iterator[str]:
    """The server's URL; use again with its port for a restart."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: Any) -> None:
            return None

        def do_GET(self) -> None:
            models = [{"id": fake.model, "max_model_len": fake.limit}]
            self.reply(200, {"data": models} if self.path == "/v1/models" else {})

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with fake.lock:
                fake.asked += 1
                fault = fake.faults.pop(0) if fake.faults else None
            if callable(fault):
                fault = fault()
            if fault == "half":
                self.reply(200, fake.answer(body), cut=20)
            elif isinstance(fault, int):
                self.reply(fault, {"error": "so it was ordered"})
            elif fault == "garbled":
                self.reply(200, {"choices": []})
            else:
                with fake.lock:
                    fake.seeds.append(body["seed"])
                self.reply(200, fake.answer(body))

        def reply(self, status: int, data: Any, cut: int = 0) -> None:
            raw = json.dumps(data).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(raw)))
            self.send_header("Retry-After", "0")
            self.end_headers()
            self.wfile.write(raw[: len(raw) - cut])
            if cut:
                self.close_connection = True

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
