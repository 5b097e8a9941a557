"""OpenAI's requests as typed data. A field that is not known here, or asks for what the engine does not do,
is refused with its name: nothing that was asked for is left out in silence.
"""

from __future__ import annotations

import re
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from acereason.errors import ConfigError

Count = Annotated[int, Meta(ge=1)]
Stop = Annotated[str, Meta(max_length=4096)]
Turn = dict[str, Any]
COLD = 1e-4  # stands for temperature 0


class StreamOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a stream ends with."""

    include_usage: bool = False


class Sampling(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What both routes take. `top_k` and what follows have the one value that changes nothing; `ignore_eos`
    goes with `stop_token_ids` that hold the model's ends."""

    model: str = ""
    max_tokens: Count | None = None
    temperature: Annotated[float, Meta(ge=0, le=100)] | None = 1.0
    top_p: Annotated[float, Meta(gt=0, le=1)] | None = 1.0
    n: Annotated[int, Meta(ge=1, le=128)] = 1
    seed: int | None = None
    stop: Stop | Annotated[list[Stop], Meta(max_length=64)] | None = None
    stop_token_ids: Annotated[list[Annotated[int, Meta(ge=0, lt=1 << 31)]], Meta(max_length=1024)] = []
    ignore_eos: bool = False
    stream: bool = False
    stream_options: StreamOptions | None = None
    return_token_ids: bool = False
    skip_special_tokens: bool = True
    user: str | None = None
    top_k: int | None = -1
    min_p: float | None = 0.0
    min_tokens: int | None = 0
    repetition_penalty: float | None = 1.0
    presence_penalty: float | None = 0.0
    frequency_penalty: float | None = 0.0
    logit_bias: dict[str, float] | None = None

    @property
    def stops(self) -> list[str]:
        stops = [self.stop] if isinstance(self.stop, str) else list(self.stop or [])
        return [text for text in stops if text]

    @property
    def T(self) -> float:
        return max(1.0 if self.temperature is None else self.temperature, COLD)

    def check(self) -> None:
        """ConfigError: something is asked for that the engine does not do."""
        neutral: dict[str, tuple[object, ...]] = {
            "top_k": (-1, 0, None), "min_p": (0, None), "min_tokens": (0, None), "logit_bias": (None, {}),
            "repetition_penalty": (1, None), "presence_penalty": (0, None), "frequency_penalty": (0, None),
        }  # fmt: skip
        for name, values in neutral.items():
            if getattr(self, name) not in values:
                raise ConfigError(f"{name} is not supported; leave it out, or at {values[0]}")


class Completions(Sampling, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The body of /v1/completions. `logprobs`: that many likeliest tokens besides the sampled one."""

    prompt: str | list[Any]
    logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None
    add_special_tokens: bool = True
    echo: bool = False
    suffix: str | None = None
    best_of: int | None = None

    def check(self) -> None:
        super().check()
        if self.echo or self.suffix or self.best_of not in (None, self.n):
            raise ConfigError("echo, suffix and best_of are not supported; leave them out")

    @property
    def budget(self) -> int:
        return self.max_tokens or 16  # OpenAI's own default

    @property
    def top(self) -> int | None:
        return self.logprobs


class Chat(Sampling, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The body of /v1/chat/completions."""

    messages: Annotated[list[Turn], Meta(min_length=1)]
    max_completion_tokens: Count | None = None
    logprobs: bool | None = False
    top_logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None
    response_format: dict[str, Any] | None = None

    def check(self) -> None:
        super().check()
        if self.response_format not in (None, {"type": "text"}):
            raise ConfigError("response_format is not supported; leave it out")
        if self.top_logprobs and not self.logprobs:
            raise ConfigError("top_logprobs goes with logprobs = true")

    @property
    def budget(self) -> int | None:
        return self.max_completion_tokens or self.max_tokens

    @property
    def top(self) -> int | None:
        return (self.top_logprobs or 0) if self.logprobs else None


def failed(said: str, kind: str = "invalid_request_error", code: str | None = None) -> dict[str, Any]:
    """An error in OpenAI's form."""
    return {"error": {"message": said, "type": kind, "param": None, "code": code}}


def read(body: bytes, kind: type[Any]) -> Any:
    """A body as a request; ConfigError says what does not fit."""
    try:
        request = msgspec.json.decode(body, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        unknown = re.search(r"unknown field `(.*?)`", str(error))
        hint = f"; known: {', '.join(kind.__struct_fields__)}" if unknown else ""
        raise ConfigError(f"{error}{hint}") from error
    request.check()
    return request


def prompts(given: str | list[Any]) -> list[str] | list[list[int]]:
    """One or many prompts, as text or as token ids; ConfigError for anything else."""
    if isinstance(given, str):
        return [given]
    if given and all(isinstance(item, str) for item in given):
        return given
    if given and all(type(item) is int for item in given):
        return [given]
    if given and all(isinstance(p, list) and p and all(type(i) is int for i in p) for p in given):
        return given
    raise ConfigError("prompt: expected a text, token ids, or a list of either")


def texts(turns: list[Turn]) -> list[dict[str, str]]:
    """The turns of a chat, whose contents are text or parts of text."""
    plain = []
    for turn in turns:
        content = turn.get("content")
        if isinstance(content, list) and all(
            isinstance(p, dict) and p.get("type") == "text" for p in content
        ):
            content = "".join(str(part.get("text", "")) for part in content)
        if not isinstance(content, str) or not isinstance(turn.get("role"), str):
            raise ConfigError("messages: expected turns of a role and a content that is text")
        plain.append({"role": turn["role"], "content": content})
    return plain
