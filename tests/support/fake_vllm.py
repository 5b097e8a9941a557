"""A server that speaks vLLM's routes and misbehaves on command; its model, weights and sampling are real."""

from __future__ import annotations

import contextlib
import copy
import json
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from acereason.policy.model import new_model
from acereason.policy.policy import Policy
from acereason.policy.tokenizer import train_tokenizer
from acereason.sample.engines.embedded import EmbeddedSampler
from acereason.sample.protocol import Request
from acereason.sample.servers.vllm_worker import Published, shape_of
from fake_engines import Engine, Stream

Plan = Callable[[dict[str, Any], int], str]


@cache
def tokenizer() -> Any:
    texts = [f"What is {a} plus {b}? Print the largest, add {a * b}." for a in range(12) for b in range(12)]
    return train_tokenizer(texts, 270)


def tiny_policy(seed: int = 0, **shape: Any) -> Policy:
    """A random Qwen3 of two layers with a tokenizer of its own."""
    settings = {
        "vocab_size": len(tokenizer()), "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
        "num_key_value_heads": 1, "head_dim": 32, "intermediate_size": 48, "tie_word_embeddings": True,
        "max_position_embeddings": 256, "eos_token_id": tokenizer().eos_token_id, "bos_token_id": None,
        "pad_token_id": tokenizer().pad_token_id, "initializer_range": 0.15,
    }  # fmt: skip
    return Policy(new_model("qwen3", seed, **(settings | shape)), tokenizer(), "plain")


def shake(policy: Policy, scale: float) -> None:
    """Move every weight a little, as a training step does."""
    with torch.no_grad():
        for p in policy.model.parameters():
            p.add_(scale * torch.randn_like(p))


class FakeVllm(ThreadingHTTPServer):
    """`plan(body, attempt)` says how a completion is answered, `attempt` counting equal requests.

    `loads`: "good", "nothing" (success is reported, the weights stay), "head" (all but the head), "error".
    `used`: for every good answer the name of the weights it was drawn from."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, policy: Policy, port: int = 0, host: str = "127.0.0.1") -> None:
        super().__init__((host, port), Handler)
        self.model = copy.deepcopy(policy.model)
        self.sampler = EmbeddedSampler(self.model, slots=1, threads=1, eos_ids=policy.end_ids)
        self.plan: Plan = lambda body, attempt: "good"
        self.loads, self.version, self.mode, self.limit = "good", "default", "processed_logprobs", 256
        self.extension = self.dev = True
        self.engine: Engine | None = Stream()  # of weight transfer; None: started without
        self.fault = ""
        self.worker = Published()  # our extension, for what it does with files alone
        self.going = threading.Event()  # cleared while a pause keeps requests
        self.going.set()
        self.reached, self.free = threading.Event(), threading.Event()  # of answers that are "held"
        self.adapters, self.loaded = True, dict[str, Any]()  # name of an adapter: the merged weights
        self.bodies: list[dict[str, Any]] = []
        self.used: list[str] = []
        self.routes: list[str] = []
        self.attempts: Counter[tuple[int, str]] = Counter()
        self.flying = 0
        self.connections: list[socket.socket] = []
        self.lock = threading.Lock()
        threading.Thread(target=self.serve_forever, daemon=True, args=(0.01,)).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def die(self) -> None:
        """Stop listening and cut every connection, as a killed process does."""
        self.shutdown()
        self.server_close()
        for connection in self.connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def get_request(self) -> tuple[socket.socket, Any]:
        connection, address = super().get_request()
        self.connections.append(connection)
        return connection, address

    def handle_error(self, *_: Any) -> None:
        """Clients that go away leave broken pipes."""

    def load(self, folder: str) -> dict[str, Any]:
        if self.loads == "error":
            return {"error": "OSError: no such file"}
        tensors: dict[str, torch.Tensor] = {}
        for path in sorted(Path(folder).glob("*.safetensors")):
            tensors |= load_file(path)
        if self.loads == "head":
            del tensors["lm_head.weight"]
        if self.loads != "nothing":
            self.model.load_state_dict(tensors, strict=False)
            self.sampler.update(self.model)
        return {"refreshed": 2}

    def take(self, coming: dict[str, Any]) -> None:
        """Receive weights as the engine's workers do."""
        assert self.engine is not None
        try:
            tensors = self.engine.take(coming)
        except OSError as error:
            self.fault = str(error)
            return
        if self.loads != "nothing":
            self.model.load_state_dict(tensors, strict=False)

    def load_adapter(self, name: str, folder: str) -> None:
        """Merge an adapter in peft's files with the base, by arithmetic of its own."""
        told = json.loads((Path(folder) / "adapter_config.json").read_text())
        factors = load_file(Path(folder) / "adapter_model.safetensors")
        merged = copy.deepcopy(self.model)
        for key in [k for k in factors if k.endswith(".lora_A.weight") and self.loads != "nothing"]:
            at = key.removesuffix(".lora_A.weight")
            product = factors[f"{at}.lora_B.weight"] @ factors[key]
            weight = merged.get_parameter(at.removeprefix("base_model.model.") + ".weight")
            weight.data += told["lora_alpha"] / told["r"] * product
        self.loaded[name] = merged

    def draw(self, body: dict[str, Any]) -> dict[str, Any]:
        """The choice of a good answer."""
        budget, T = body["max_tokens"], body["temperature"]
        request = Request(body["prompt"], budget, T, body["seed"], body["top_p"])
        with self.lock:
            self.sampler.update(self.loaded.get(body["model"], self.model))
            (found,) = self.sampler.sample([request])
            self.used.append(self.version)
        logprobs: dict[str, Any] = {"token_logprobs": found.logprobs.tolist()}
        if body["logprobs"] > 0:
            logits = self.model(torch.tensor([body["prompt"]])).logits[0, -1]
            scores = (logits / (1.0 if self.mode == "raw" else T)).log_softmax(-1)
            top = scores.topk(body["logprobs"])
            pairs = zip(top.indices.tolist(), top.values.tolist(), strict=True)
            logprobs["top_logprobs"] = [{str(i): v for i, v in pairs}]
        finish = found.finish
        if not set(body["stop_token_ids"]) & {int(found.tokens[-1])}:
            finish = "length"
        return {"token_ids": found.tokens.tolist(), "logprobs": logprobs, "finish_reason": finish}

    def score(self, ids: list[int]) -> dict[str, Any]:
        """The choice of an answer that was asked for the prompt's own log-probabilities."""
        with torch.no_grad(), self.lock:
            table = self.model(torch.tensor([ids])).logits[0].log_softmax(-1)
        told = [{str(i): {"logprob": float(table[place, i])}} for place, i in enumerate(ids[1:])]
        return {"finish_reason": "length", "prompt_logprobs": [None, *told]}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: FakeVllm

    def log_message(self, *_: Any) -> None: ...

    def send(self, value: Any, status: int = 200, cut: bool = False, **headers: str) -> None:
        data = value if isinstance(value, bytes) else json.dumps(value).encode()
        self.send_response(status)
        for name, text in headers.items():
            self.send_header(name.replace("_", "-"), text)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data[: len(data) // 2] if cut else data)
        self.close_connection = self.close_connection or cut

    def do_GET(self) -> None:
        s = self.server
        match self.path.partition("?")[0]:
            case "/health":
                self.send(b"")
            case "/v1/models":
                self.send({"data": [{"id": "tiny", "max_model_len": s.limit}]})
            case "/version":
                self.send({"version": "fake"})
            case "/weight_info":
                self.send({"weight_version": s.version})
            case "/server_info" if s.dev:
                said = {"model_config": {"logprobs_mode": s.mode}, "device_config": {"device": "cpu"}}
                self.send({"vllm_config": said})
            case _:
                self.send({"error": "no such route"}, 404)

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)) or "null")
        s, path = self.server, self.path.partition("?")[0]
        s.routes.append(path)
        match path:
            case "/v1/completions":
                self.complete(body)
            case "/tokenize":
                self.send({"tokens": tokenizer().encode(body["prompt"], add_special_tokens=False)})
            case "/collective_rpc" if not s.dev:
                self.send({"error": "no such route"}, 404)
            case "/collective_rpc" if body["method"] == "served_facts" and not s.extension:
                self.send({"error": "'CPUWorker' object has no attribute 'served_facts'"}, 500)
                self.close_connection = True
            case "/collective_rpc" if body["method"] == "served_facts":
                mode = s.mode if s.mode != "raw" else "unknown"
                shape = shape_of(s.model.config)
                said = {"shape": shape, "logprobs_mode": mode, "device": "cpu"}
                engine = s.engine or Engine()
                more = {"transfer": engine.backend or None}
                self.send({"results": [{**said, **more, "gpu": gpu} for gpu in engine.gpus]})
            case "/collective_rpc" if body["method"] in ("patch_published", "drop_published"):
                self.send({"results": [getattr(s.worker, body["method"])(**body["kwargs"])]})
            case "/collective_rpc" if body["method"] == "transfer_fault":
                self.send({"results": [s.fault]})
            case "/pause":
                if "mode=keep" in self.path:
                    s.going.clear()
                self.send({})
            case "/resume":
                s.going.set()
                self.send({})
            case "/init_weight_transfer_engine" if s.engine is None:
                self.send({"error": "Weight transfer not configured"}, 500)
            case "/init_weight_transfer_engine":
                s.engine.begin(body["init_info"])  # type: ignore[union-attr]
                s.fault = ""
                self.send({})
            case "/update_weights":
                with s.lock:
                    s.take(body["update_info"])
                self.send({})
            case "/collective_rpc":
                with s.lock:
                    self.send({"results": [s.load(next(iter(body["kwargs"].values())))]})
            case "/v1/load_lora_adapter" | "/v1/unload_lora_adapter" if not s.adapters:
                self.send({"error": "no such route"}, 404)
            case "/v1/load_lora_adapter":
                with s.lock:
                    s.load_adapter(body["lora_name"], body["lora_path"])
                self.send({})
            case "/v1/unload_lora_adapter":
                del s.loaded[body["lora_name"]]
                self.send({})
            case "/update_weight_version":
                s.version = body["new_version"]
                self.send({"success": True})
            case "/reset_prefix_cache":
                self.send({"success": True})
            case _:
                self.send({})

    def complete(self, body: dict[str, Any]) -> None:
        s = self.server
        key = (body["seed"], str(body["prompt"]))
        with s.lock:
            s.bodies.append(body)
            s.attempts[key] += 1
            s.flying += 1
            style = s.plan(body, s.attempts[key])
        try:
            self.answer(style, body)
        finally:
            with s.lock:
                s.flying -= 1

    def answer(self, style: str, body: dict[str, Any]) -> None:
        match style:
            case "good" if "prompt_logprobs" in body:
                self.send({"choices": [self.server.score(body["prompt"])]})
            case "good":
                self.server.going.wait()
                self.send({"choices": [self.server.draw(body)]})
            case "held":
                self.server.reached.set()
                self.server.free.wait(20)
                self.server.going.wait()
                self.send({"choices": [self.server.draw(body)]})
            case "slow":
                time.sleep(0.3)
                self.send({"choices": [self.server.draw(body)]})
            case "429":
                self.send(b"slow down", 429, Retry_After="0.01")
            case "hang":
                time.sleep(2.5)
                self.close_connection = True
            case "half":
                self.send({"choices": [self.server.draw(body)]}, cut=True)
            case "abort":
                self.send({"choices": [self.server.draw(body) | {"finish_reason": "abort"}]})
            case "fewer":
                choice = self.server.draw(body)
                self.send({"choices": [choice | {"token_ids": [*choice["token_ids"], 5]}]})
            case "noids":
                self.send({"choices": [self.server.draw(body) | {"token_ids": None}]})
            case "garbage":
                self.send(b"<html>\xff")
            case "close":
                self.close_connection = True
            case status:
                self.send({"error": "as planned"}, int(status))
