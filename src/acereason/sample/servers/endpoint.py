"""H_T of whatever an OpenAI-compatible server serves, from its log-probabilities alone.

    H_T = mean over sampled tokens of -log π_T(token), nats

is without bias when the tokens are drawn at T and the log-probabilities are those of softmax(logits / T). No
tokenizer is needed. Many servers report those of softmax(logits) whatever T is ("raw"); that is found out
first, from the likeliest tokens at two temperatures, and refused, since no reweighting mends it cheaply.

Error bars are over prompts: all samples of a prompt count as one, long and short as they are. `top_p` is 1,
for a cut distribution is another one. Not covered: servers that report no log-probabilities.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from acereason.draws import draw_seed
from acereason.errors import DataError, SamplingError
from acereason.sample.servers.http import Busy, Garbled, Refused, client, post, send
from acereason.sample.servers.vllm import QUICK, raw_ratio
from acereason.sample.temperature import Point, mean_entropy

ATTEMPTS = 6
OURS = {"top_k": -1, "min_p": 0.0, "repetition_penalty": 1.0}  # known to vLLM and SGLang, not to everyone
NO_LOGPROBS = (
    "the server gives no log-probabilities, and H_T cannot be measured without. vLLM gives them with "
    "--logprobs-mode processed_logprobs, `acereason serve MODEL` by itself; many hosted services do not"
)
Prompt = str | list[dict[str, Any]]  # a text to be continued, or the turns of a chat


class Endpoint(msgspec.Struct, frozen=True):
    """What is asked and how. `url` ends in /v1; `key` is sent as bearer token; `deadline` of a
    sample and first `pause` before it is asked again, in seconds."""

    url: str
    model: str
    budget: int
    samples: int = 1
    concurrency: int = 64
    deadline: float = 3600.0
    seed: int = 1
    key: str = ""
    pause: float = 0.5


def read_prompts(path: Path) -> list[Prompt]:
    """Prompts of a file: JSON Lines with `prompt` (continued as it stands), `messages`, or `question` (asked
    in a chat), or plain text, a prompt a line."""
    try:
        lines = [line for line in path.read_text("utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read prompts from {path}: {error}") from error
    if not lines:
        raise DataError(f"{path} holds no prompt")
    return [_prompt(line, f"{path}:{number}") for number, line in enumerate(lines, 1)]


def _prompt(line: str, where: str) -> Prompt:
    if not line.lstrip().startswith("{"):
        return line
    try:
        row = msgspec.json.decode(line)
    except msgspec.DecodeError as error:
        raise DataError(f"{where} is not JSON: {error}") from error
    match row:
        case {"prompt": str(text)}:
            return text
        case {"messages": list(turns)}:
            return turns
        case {"question": str(text)}:
            return [{"role": "user", "content": text}]
    raise DataError(f"{where} has no prompt, messages or question, only {', '.join(row)}")


def payload(e: Endpoint, prompt: Prompt, T: float, seed: int, budget: int, top: int) -> dict[str, Any]:
    """The body of the request for one sample with the `top` likeliest tokens at each place."""
    body: dict[str, Any] = {"model": e.model, "max_tokens": budget, "temperature": T, "top_p": 1.0, "n": 1}
    body |= {"seed": seed, "presence_penalty": 0.0, "frequency_penalty": 0.0, "stream": False}
    if isinstance(prompt, str):
        return body | {"prompt": prompt, "logprobs": top}
    return body | {"messages": prompt, "logprobs": True, "top_logprobs": top}


def logprobs(body: bytes) -> tuple[list[float], dict[str, float]]:
    """The sampled tokens' log-probabilities, and the likeliest first tokens'; Garbled when there are none."""
    try:
        choice = msgspec.json.decode(body)["choices"][0]
        if choice.get("logprobs") is None:
            raise SamplingError(NO_LOGPROBS)
        numbers = choice["logprobs"]
        if "content" in numbers:
            first = numbers["content"][0].get("top_logprobs") or []
            values = [t["logprob"] for t in numbers["content"]]
            return values, {t["token"]: t["logprob"] for t in first}
        return list(numbers["token_logprobs"]), (numbers.get("top_logprobs") or [{}])[0] or {}
    except (msgspec.DecodeError, KeyError, IndexError, TypeError, AttributeError) as error:
        raise Garbled(f"an answer without log-probabilities: {error!r}") from error


class Asker:
    """A connection to the server for as long as one event loop runs. `plain` servers refused `OURS`."""

    def __init__(self, endpoint: Endpoint, plain: bool = False) -> None:
        self.endpoint, self.plain = endpoint, plain
        self.limit = asyncio.Semaphore(endpoint.concurrency)
        self.client = client(endpoint.key)

    async def get(self, path: str) -> Any:
        """A decoded answer; SamplingError when there is none."""
        try:
            url = self.endpoint.url.rstrip("/") + path
            return msgspec.json.decode(await send(self.client, "GET", url, seconds=QUICK) or b"")
        except (Busy, Refused, msgspec.DecodeError) as error:
            raise SamplingError(f"{self.endpoint.url} does not answer: {error}") from error

    async def ask(self, body: dict[str, Any]) -> tuple[list[float], dict[str, float]]:
        """One sample's log-probabilities; tried again where that can help."""
        async with self.limit:
            for attempt in range(ATTEMPTS):
                try:
                    return await self._once(body)
                except Refused as error:
                    if self.plain:
                        raise SamplingError(f"{self.endpoint.url} refuses: {error}") from error
                    self.plain = True
                except (Busy, Garbled) as error:
                    if attempt == ATTEMPTS - 1:
                        raise SamplingError(
                            f"{self.endpoint.url} failed {ATTEMPTS} times: {error}"
                        ) from error
                    await asyncio.sleep(getattr(error, "after", None) or self.endpoint.pause * 2**attempt)
        raise SamplingError(f"{self.endpoint.url} refuses every form of the request")

    async def _once(self, body: dict[str, Any]) -> tuple[list[float], dict[str, float]]:
        route = "/completions" if "prompt" in body else "/chat/completions"
        whole = body if self.plain else body | OURS
        return logprobs(
            await post(self.client, self.endpoint.url.rstrip("/") + route, whole, self.endpoint.deadline)
        )


def first_model(endpoint: Endpoint) -> str:
    """The name of the first model that the server lists."""

    async def find() -> str:
        asker = Asker(endpoint)
        async with asker.client:
            return str((await asker.get("/models"))["data"][0]["id"])

    try:
        return asyncio.run(find())
    except (KeyError, IndexError, TypeError) as error:
        raise SamplingError(f"{endpoint.url} lists no model; name one with --model-name") from error


def check(endpoint: Endpoint, prompts: Sequence[Prompt]) -> bool:
    """Whether the server took every sampling parameter (some know no top_k, min_p, repetition penalty).

    Raises SamplingError when its log-probabilities are raw, or when that cannot be told."""

    async def tell() -> tuple[list[bool | None], bool]:
        asker = Asker(endpoint)
        async with asker.client:
            raw = []
            for prompt in prompts[:8]:
                tops = [(await asker.ask(payload(endpoint, prompt, T, 1, 1, 5)))[1] for T in (1.0, 0.5)]
                raw.append(raw_ratio(*tops))
            return raw, not asker.plain

    raw, whole = asyncio.run(tell())
    if True in raw:
        raise SamplingError(
            f"{endpoint.url} reports raw log-probabilities: they do not change with the temperature, so H_T "
            "cannot be measured from them. vLLM: start it with --logprobs-mode processed_logprobs"
        )
    if False not in raw:
        raise SamplingError(
            f"whether {endpoint.url} reports log-probabilities of the tempered distribution cannot be told: "
            "it gives no likeliest tokens (top_logprobs), or the first is always the same. Give prompts "
            "that can be answered in several ways"
        )
    return whole


def measure(endpoint: Endpoint, prompts: Sequence[Prompt], whole: bool) -> Callable[[float, int], Point]:
    """A function (T, round) → Point that samples every prompt `samples` times."""

    async def sample(T: float, round_: int) -> list[list[float]]:
        asker = Asker(endpoint, plain=not whole)

        async def one(i: int, j: int) -> list[float]:
            seed = draw_seed(endpoint.seed, "calibrate", round_, round(T * 1e6), i, j) >> 33
            return (await asker.ask(payload(endpoint, prompts[i], T, seed, endpoint.budget, 1)))[0]

        pairs = [(i, j) for i in range(len(prompts)) for j in range(endpoint.samples)]
        async with asker.client:
            return list(await asyncio.gather(*(one(*pair) for pair in pairs)))

    def at(T: float, round_: int) -> Point:
        samples, k = asyncio.run(sample(T, round_)), endpoint.samples
        groups = [samples[i : i + k] for i in range(0, len(samples), k)]
        sums = [-sum(sum(values) for values in group) for group in groups]
        mean, se = mean_entropy(sums, [sum(len(values) for values in group) for group in groups])
        return Point(T, mean, se)

    return at
