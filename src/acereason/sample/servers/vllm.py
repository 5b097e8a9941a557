"""One vLLM server over HTTP: what it is, one response, new weights, sleep.

Prompts go and responses come as token ids. Every sampling parameter is sent, for a server fills an unset
one from the model's generation config, silently. The ends of a response are ours (`stop_token_ids` with
`ignore_eos`), never the server's.

Routes beside the OpenAI ones need the server's VLLM_SERVER_DEV_MODE=1. Seeds are folded to 63 bits: servers
take signed ones, and vLLM reads -1 as none. Log-probabilities are of softmax(logits / T) where the server
runs with `--logprobs-mode processed_logprobs`; with top_p < 1 they are of the distribution after the cut.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np

from acereason.errors import SamplingError
from acereason.sample.protocol import Completion, Request
from acereason.sample.servers.delta import Missing
from acereason.sample.servers.http import Busy, Garbled, Refused, send

EXTENSION = "acereason.sample.vllm_worker.Published"
QUICK, LOAD = 30.0, 900.0  # seconds: for an answer without sampling; for loading weights or a first response


class _Logprobs(msgspec.Struct):
    token_logprobs: list[float | None]
    top_logprobs: list[dict[str, float] | None] | None = None


class _Choice(msgspec.Struct):
    finish_reason: str | None
    token_ids: list[int] | None = None
    logprobs: _Logprobs | None = None


class _Body(msgspec.Struct):
    choices: list[_Choice]


@dataclass(frozen=True, slots=True)
class Facts:
    """What a server says of itself. `limit`: most tokens of prompt and response. `shape`: of its model, known
    where it loaded our `extension`. `versions`: it keeps the name of its weights. `kind`, `head` (the type it
    computes its head in), `invariant` (its numbers do not depend on the batch) and `transfer` (the engine of
    weight transfer that it was started with) as far as it tells."""

    model: str
    limit: int
    version: str = "unknown"
    logprobs_mode: str = "unknown"
    device: str = "unknown"
    shape: dict[str, Any] | None = None
    extension: bool = False
    versions: bool = False
    kind: Literal["plain", "fp8", "speculative"] | None = None
    head: str | None = None
    invariant: bool = False
    transfer: str | None = None


class Vllm:
    """The server at `url` (with or without /v1). All methods raise `Busy` when it does not answer."""

    def __init__(self, client: Any, url: str) -> None:
        self.client = client
        self.url = url.rstrip("/").removesuffix("/v1")
        self.facts: Facts | None = None
        self.adapter: str | None = None  # the name of the adapter that is asked in the model's place

    async def call(
        self, method: str, path: str, body: Any = None, seconds: float = QUICK, optional: bool = False
    ) -> bytes | None:
        """The body of the answer; None where an `optional` route does not exist."""
        return await send(self.client, method, self.url + path, body, seconds=seconds, optional=optional)

    async def json(self, method: str, path: str, body: Any = None, **more: Any) -> Any:
        """As `call`, decoded."""
        data = await self.call(method, path, body, **more)
        try:
            return None if data is None else msgspec.json.decode(data)
        except msgspec.DecodeError as error:
            raise Garbled(f"{self.url}{path}: a body that is not JSON: {error}") from error

    async def look(self) -> Facts:
        """Ask the server what it is, and keep that.

        Raises SamplingError when it lacks the routes that weights are published by."""
        await self.call("GET", "/health")
        try:
            model = (await self.json("GET", "/v1/models"))["data"][0]
            version = await self.json("GET", "/version", optional=True) or {}
            said = await self._said()
            self.facts = Facts(
                model["id"], int(model.get("max_model_len") or 0), str(version.get("version", "unknown")),
                said.get("logprobs_mode", "unknown"), said.get("device", "unknown"), said.get("shape"),
                "shape" in said, await self.call("GET", "/weight_info", optional=True) is not None,
                said.get("kind"), said.get("head"), bool(said.get("invariant")), said.get("transfer"),
            )  # fmt: skip
        except (KeyError, IndexError, TypeError, AttributeError) as error:
            raise SamplingError(f"{self.url} is no vLLM server that is understood here: {error!r}") from error
        return self.facts

    async def _said(self) -> dict[str, Any]:
        """What our extension says of the server, or else what /server_info does, when it works."""
        body = {"method": "served_facts"}
        try:
            answer = await self.json("POST", "/collective_rpc", body, optional=True)
            if answer is None:
                raise SamplingError(
                    f"{self.url} has no routes to publish weights by; start it with VLLM_SERVER_DEV_MODE=1 "
                    "in its environment"
                )
            return dict(answer["results"][0])
        except Busy as error:
            if error.status != 500:
                raise
        try:
            info = (await self.json("GET", "/server_info?config_format=json", optional=True))["vllm_config"]
        except (Busy, TypeError):
            return {}
        return {
            "logprobs_mode": str(info["model_config"].get("logprobs_mode", "unknown")),
            "device": str(info["device_config"]["device"]),
        }

    async def remote(self, method: str, seconds: float = QUICK, **arguments: Any) -> list[Any]:
        """Run a method of the server's workers; one result a worker."""
        body = {"method": method, "kwargs": arguments, "timeout": seconds}
        try:
            answer = await self.json("POST", "/collective_rpc", body, seconds=seconds + QUICK)
        except Busy as error:
            if error.status is None:
                raise
            raise SamplingError(f"{self.url} failed in {method}: {error}") from error
        return list(answer["results"]) if answer else []

    async def complete(self, request: Request, ends: Sequence[int], seconds: float) -> Completion:
        """One response. Garbled when what came is not a response to the request."""
        assert self.facts is not None
        body = payload(self.adapter or self.facts.model, request, ends)
        data = await self.call("POST", "/v1/completions", body, seconds=seconds)
        return completion(request, ends, data or b"")

    async def top(self, prompt: Sequence[int], temperature: float, count: int = 5) -> dict[str, float]:
        """The likeliest first tokens with their log-probabilities as the server reports them at T."""
        assert self.facts is not None
        request = Request(prompt, 1, temperature, 1)
        body = payload(self.facts.model, request, []) | {"logprobs": count}
        data = await self.call("POST", "/v1/completions", body, seconds=LOAD)
        try:
            logprobs = msgspec.json.decode(data or b"", type=_Body).choices[0].logprobs
            top = (logprobs.top_logprobs or [None])[0] if logprobs else None
        except (msgspec.DecodeError, IndexError) as error:
            raise Garbled(f"{self.url}: {error}") from error
        return top or {}

    async def version(self) -> str | None:
        """The name of the weights that are served; None where the server keeps none."""
        answer = await self.json("GET", "/weight_info", optional=True)
        return None if answer is None else str(answer.get("weight_version"))

    async def load(self, folder: Path, version: str, in_flight: str = "abort", copy: str = "") -> None:
        """Serve the safetensors in `folder` from now on, under the name `version`; with a `copy` of that name
        on the server's own machine that one, brought up to what `folder` holds.

        Requests in flight are aborted, so that none mixes two policies, or kept; cached prefixes are
        forgotten. Raises SamplingError when the server could not load them, and Missing when its copy is of
        other weights than a delta needs; it must not be asked then."""
        assert self.facts is not None
        await self.call("POST", f"/pause?mode={in_flight}", optional=True, seconds=LOAD)
        try:
            await self.rename("loading")
            held = await self._patch(folder, copy) if copy else str(folder)
            if self.facts.extension:
                await self._own("load_published", folder=held)
            else:
                await self.remote("reload_weights", LOAD, weights_path=held)
            await self.forget(running=in_flight == "keep")
            await self.rename(version)
        finally:
            await self.call("POST", "/resume", optional=True)

    async def _patch(self, folder: Path, copy: str) -> str:
        """Bring the server's copy up to what `folder` holds; where it is."""
        results = await self._own("patch_published", folder=str(folder), copy=copy)
        if missing := [result["missing"] for result in results if "missing" in result]:
            raise Missing(missing[0])
        return str(results[0]["folder"])

    async def _own(self, method: str, **arguments: Any) -> list[dict[str, Any]]:
        """What a method of our extension returns; SamplingError where it says that it failed."""
        results = await self.remote(method, LOAD, **arguments)
        for result in results:
            if not isinstance(result, dict) or "error" in result:
                where = arguments["folder"]
                raise SamplingError(f"{self.url} could not load the weights in {where}: {result}")
        return results

    async def load_adapter(self, folder: Path, version: str, in_flight: str = "abort") -> None:
        """Serve the adapter in `folder` from now on, under the name `version`; as `load` otherwise.

        Its name is new, so no cached prefix is of another one. The one before is taken out."""
        await self.call("POST", f"/pause?mode={in_flight}", optional=True, seconds=LOAD)
        try:
            await self.rename("loading")
            body = {"lora_name": version, "lora_path": str(folder), "load_inplace": True}
            await self._adapters("load", body, LOAD)
            before, self.adapter = self.adapter, version
            if before not in (None, version):
                await self._adapters("unload", {"lora_name": before}, QUICK)
            await self.rename(version)
        finally:
            await self.call("POST", "/resume", optional=True)

    async def _adapters(self, verb: str, body: dict[str, Any], seconds: float) -> None:
        """Load or take out an adapter. SamplingError: the server does not do that, or cannot."""
        try:
            answer = await self.call("POST", f"/v1/{verb}_lora_adapter", body, seconds=seconds, optional=True)
        except (Busy, Refused) as error:
            if isinstance(error, Busy) and error.status is None:
                raise
            raise SamplingError(
                f"{self.url} could not {verb} the adapter: {error}. Start it with --max-lora-rank, at least "
                "lora.rank"
            ) from error
        if answer is None:
            raise SamplingError(
                f"{self.url} takes no adapters; start it with --enable-lora and "
                'VLLM_ALLOW_RUNTIME_LORA_UPDATING=1 in its environment, or set lora.publish = "merged"'
            )

    async def rename(self, version: str) -> None:
        """Name the weights that are served, where the server keeps a name."""
        await self.call("POST", "/update_weight_version", {"new_version": version}, optional=True)

    async def forget(self, running: bool = False) -> None:
        """Forget cached prefixes, which belong to old weights; of `running` requests, too, which are computed
        again when they go on."""
        route = "/reset_prefix_cache" + ("?reset_running_requests=true" if running else "")
        for _ in range(50):  # blocks of aborted requests are freed a moment later
            if (await self.json("POST", route) or {"success": True})["success"]:
                return
            await asyncio.sleep(0.1)
        raise SamplingError(f"{self.url} did not forget its cached prefixes, which belong to old weights")

    async def sleep(self) -> None:
        """Give the GPU's memory back; the weights go to the host's memory."""
        await self.call("POST", "/sleep?level=1", seconds=LOAD)

    async def asleep(self) -> bool:
        """Whether it sleeps, e.g. since a colocated run left it so; it answers no request then."""
        answer = await self.json("GET", "/is_sleeping", optional=True)
        return bool(answer and answer.get("is_sleeping"))

    async def wake(self) -> None:
        """Take the memory again, and the weights from the host's memory."""
        await self.call("POST", "/wake_up", seconds=LOAD)


def payload(model: str, request: Request, ends: Sequence[int]) -> dict[str, Any]:
    """The body of the request for one response."""
    return {
        "model": model,
        "prompt": list(request.prompt),
        "max_tokens": request.budget,
        "min_tokens": 0,
        "temperature": request.temperature,
        "top_p": request.top_p,
        "top_k": 0,
        "min_p": 0.0,
        "repetition_penalty": 1.0,
        "presence_penalty": 0.0,
        "frequency_penalty": 0.0,
        "seed": request.seed >> 1 & (1 << 63) - 1,
        "n": 1,
        "stop": [],
        "stop_token_ids": list(ends),
        "ignore_eos": True,
        "skip_special_tokens": False,
        "add_special_tokens": False,
        "stream": False,
        "echo": False,
        "logprobs": 0,
        "return_token_ids": True,
    }


def completion(request: Request, ends: Sequence[int], body: bytes) -> Completion:
    """The response in the body of a 2xx answer; Garbled when it is none.

    `entropy` holds -log π_T of the sampled tokens, whose mean estimates H_T without bias; `entropy_1` is not
    known (NaN)."""
    try:
        choice = msgspec.json.decode(body, type=_Body).choices[0]
    except (msgspec.DecodeError, IndexError) as error:
        raise Garbled(f"a body that is no completion: {error}") from error
    if choice.token_ids is None or choice.logprobs is None:
        raise SamplingError(
            "the server returns no token ids or log-probabilities; vLLM 0.12 or newer is needed, and no "
            "proxy that drops return_token_ids"
        )
    finish, tokens = choice.finish_reason, np.array(choice.token_ids, np.int32)
    if finish not in ("stop", "length") or None in choice.logprobs.token_logprobs:
        raise Garbled(f"finish reason {finish!r} or a missing log-probability")
    logprobs = np.array(choice.logprobs.token_logprobs, np.float32)
    if not 0 < len(tokens) <= request.budget or len(tokens) != len(logprobs):
        raise Garbled(f"{len(tokens)} tokens with {len(logprobs)} log-probabilities, budget {request.budget}")
    if not (logprobs <= 1e-3).all() or (finish == "stop") != (int(tokens[-1]) in ends):
        raise Garbled(f"impossible log-probabilities, or finish {finish!r} at token {int(tokens[-1])}")
    logprobs = np.minimum(logprobs, np.float32(0))
    unknown = np.full(len(tokens), np.nan, np.float32)
    return Completion(request, tokens, logprobs, -logprobs, unknown, "stop" if finish == "stop" else "length")


async def reports_raw(server: Vllm, prompt: Sequence[int]) -> bool | None:
    """Whether the server's log-probabilities ignore the temperature; None when it cannot be told.

    Differences between two tokens' log π_T are differences of logits / T: halving T doubles them."""
    warm, cool = await server.top(prompt, 1.0), await server.top(prompt, 0.5)
    return raw_ratio(warm, cool)


def raw_ratio(warm: dict[str, float], cool: dict[str, float]) -> bool | None:
    """Whether differences of log-probabilities at T = 0.5 equal those at T = 1 instead of doubling."""
    shared = [t for t in warm if t in cool and warm[t] > -50 and cool[t] > -50]
    if len(shared) < 2:
        return None
    high, low = max(shared, key=lambda t: warm[t]), min(shared, key=lambda t: warm[t])
    spread = warm[high] - warm[low]
    if spread < 0.05:
        return None
    return (cool[high] - cool[low]) / spread < 1.5
