"""Log-probabilities of whole sequences from a server: a teacher too large to lie beside the policy.

    Served(url, policy, servers).score(examples, temperatures)      see `train.second`

Any vLLM server does (`/v1/completions` with `prompt_logprobs`, prompts as token ids; no publishing routes).
It reports log-probabilities of a prompt at T = 1 whatever T is asked. Its tokenizer must be the policy's, and
is asked for a probe. A request is tried again while the server is busy, at most `patience` seconds.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
from torch import Tensor

from acereason.config import Servers
from acereason.errors import ConfigError, SamplingError
from acereason.policy.packing import Example
from acereason.policy.policy import Policy
from acereason.sample.servers.http import Busy, Refused, check_status, library

PROBE = "Let x = 12. <think>\n3 + 4·x = 51, naïvely</think> \\boxed{51}"
CONCURRENCY = 64
Floats = npt.NDArray[np.float32]


class _Logprob(msgspec.Struct):
    logprob: float


class _Choice(msgspec.Struct):
    prompt_logprobs: list[dict[str, _Logprob] | None] | None = None


class _Body(msgspec.Struct):
    choices: list[_Choice]


class Served:
    """The model behind `url` (with or without /v1). Keys, deadlines and how many requests fly at a time are
    those of the recipe's own `servers`, where it names some.

    Raises SamplingError: it is no such server; ConfigError: its tokens are not the policy's."""

    def __init__(self, url: str, policy: Policy, servers: Servers | None, patience: float = 600.0) -> None:
        self.url, self.patience = url.rstrip("/").removesuffix("/v1"), patience
        key = os.environ.get(servers.api_key, "") if servers is not None and servers.api_key else ""
        self._headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._deadline, self._concurrency = 3600.0, CONCURRENCY
        if servers is not None:
            self._deadline, self._concurrency = servers.deadline, servers.concurrency
        with self._open() as client:
            self._name = self._said(client, "GET", "/v1/models")["data"][0]["id"]
            self._check_tokens(client, policy)

    def score(self, examples: Sequence[Example], temperatures: Tensor) -> dict[int, Floats]:
        """log π of every response token at T = 1, by the example's index. ConfigError for another T."""
        if any(float(temperatures[e.index]) != 1.0 for e in examples):
            raise ConfigError(f"{self.url} tells log-probabilities at T = 1 alone; sample at T = 1")
        if not examples:
            return {}
        with self._open() as client, ThreadPoolExecutor(self._concurrency) as pool:
            told = pool.map(partial(self._one, client), examples)
            return dict(zip((e.index for e in examples), told, strict=True))

    def _open(self) -> Any:
        """A client with its connections, to be closed."""
        return library().Client(headers=self._headers, timeout=self._deadline)

    def _one(self, client: Any, example: Example) -> Floats:
        ids = [*map(int, example.prompt), *map(int, example.response)]
        asked = {
            "model": self._name,
            "prompt": ids,
            "max_tokens": 1,
            "temperature": 1.0,
            "prompt_logprobs": 1,
        }
        data = self._call(
            client, "POST", "/v1/completions", {**asked, "add_special_tokens": False, "seed": 1}
        )
        try:
            told = msgspec.json.decode(data, type=_Body).choices[0].prompt_logprobs
            assert told is not None and len(told) == len(ids)
            table = [
                (told[place] or {})[str(ids[place])].logprob for place in range(len(example.prompt), len(ids))
            ]
        except (msgspec.DecodeError, IndexError, KeyError, AssertionError) as error:
            raise SamplingError(
                f"{self.url} does not tell the log-probabilities of a prompt of {len(ids)} tokens as vLLM "
                f"does (prompt_logprobs): {type(error).__name__} {error}"
            ) from error
        return np.minimum(np.array(table, np.float32), np.float32(0))

    def _check_tokens(self, client: Any, policy: Policy) -> None:
        own = policy.tokenizer.encode(PROBE, add_special_tokens=False)
        body = {"model": self._name, "prompt": PROBE, "add_special_tokens": False}
        if (other := self._said(client, "POST", "/tokenize", body).get("tokens")) != own:
            raise ConfigError(
                f"the tokens of {self.url} ({self._name}) are not the policy's: a probe has the ids {other}, "
                f"here {own}. Log-probabilities are compared token by token; serve one with the same tokens"
            )

    def _said(self, client: Any, method: str, path: str, body: Any = None) -> dict[str, Any]:
        try:
            return dict(msgspec.json.decode(self._call(client, method, path, body)))
        except (msgspec.DecodeError, TypeError, ValueError) as error:
            raise SamplingError(f"{self.url}{path}: no answer as vLLM gives: {error}") from error

    def _call(self, client: Any, method: str, path: str, body: Any = None) -> bytes:
        """The body of an answer, asked again while the server is busy."""
        begun, pause = time.monotonic(), 0.2
        while True:
            try:
                return self._try(client, method, path, body)
            except Refused as error:
                raise SamplingError(f"{self.url}{path}: {error}") from error
            except Busy as error:
                if time.monotonic() - begun + pause > self.patience:
                    raise SamplingError(f"{self.url}{path} has not answered: {error}") from error
                time.sleep(pause if error.after is None else error.after)
                pause = min(2 * pause, 10.0)

    def _try(self, client: Any, method: str, path: str, body: Any) -> bytes:
        httpx = library()
        try:
            answer = client.request(method, self.url + path, json=body)
        except httpx.HTTPError as error:
            raise Busy(f"{type(error).__name__} {error}") from error
        except (httpx.InvalidURL, ValueError) as error:
            raise SamplingError(f"{self.url} is no address of a server: {error}") from error
        check_status(answer.status_code, answer.content, answer.headers.get("retry-after"))
        return bytes(answer.content)
