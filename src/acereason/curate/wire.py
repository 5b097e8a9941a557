"""One sample from an OpenAI-compatible server: what is sent, what comes back, what is tried again.

Every sampling parameter is sent: a server fills an unset one from the model's generation config,
silently. Each request asks for one sample with its own seed: with n > 1 servers give sample i the
seed + i, so neighbours would share samples. The reasoning text is taken wherever a server puts it
(`reasoning`, `reasoning_content`, or the content up to `</think>`) and joined again, so a response
reads `reasoning</think>answer` as our prompts want it.

Failures are of the classes of `sample.servers.http`; a finish that is neither "stop" nor "length" is Garbled.
"""

from __future__ import annotations

import hashlib
from typing import Any, Literal

import msgspec

from acereason.draws import draw_seed
from acereason.problems import Problem, Response
from acereason.prompts import END_THINK, FORMATS, THINK, Format
from acereason.sample.servers.http import Garbled

SAMPLES_BITS = 20  # a problem has at most 2**20 samples


class TeacherProtocol(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a response depends on besides its prompt and its sample number.

    mode: "chat" lets the server apply its chat template, "completion" sends the prompt of `format`
    raw. top_k -1 and min_p 0 switch these off. extended: also send top_k, min_p and
    repetition_penalty, which vLLM and SGLang know and some hosted services refuse. temperature 0.6
    and top_p 0.95 are the defaults of the teacher's makers; the paper prints no sampling
    parameters."""

    model: str
    mode: Literal["chat", "completion"] = "chat"
    format: Format = "chatml-1.1"
    temperature: float = 0.6
    top_p: float = 0.95
    top_k: int = -1
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    max_tokens: int = 32_768
    seed: int = 0
    extended: bool = True


def sample_seed(protocol: TeacherProtocol, problem: Problem, sample: int) -> int:
    """The seed of a sample: 63 bits, unrelated between problems, distinct within one by
    construction."""
    base = draw_seed(protocol.seed, "teach", problem.id, problem.question) >> 1
    scattered = sample * 0x9E375 % (1 << SAMPLES_BITS)  # odd, so no two samples below 2**20 meet
    return base ^ scattered


def messages(protocol: TeacherProtocol, problem: Problem) -> list[dict[str, str]]:
    """The chat turns of a problem."""
    asked = FORMATS[protocol.format]
    system = [{"role": "system", "content": asked.system}] if asked.system else []
    return [*system, {"role": "user", "content": asked.request(problem)}]


def payload(protocol: TeacherProtocol, problem: Problem, sample: int) -> dict[str, Any]:
    """The body of the request for one sample."""
    body: dict[str, Any] = {
        "model": protocol.model,
        "temperature": protocol.temperature,
        "top_p": protocol.top_p,
        "presence_penalty": protocol.presence_penalty,
        "frequency_penalty": protocol.frequency_penalty,
        "max_tokens": protocol.max_tokens,
        "seed": sample_seed(protocol, problem, sample),
        "n": 1,
        "stream": False,
    }
    if protocol.extended:
        body |= {
            "top_k": protocol.top_k,
            "min_p": protocol.min_p,
            "repetition_penalty": protocol.repetition_penalty,
        }
    if protocol.mode == "chat":
        return body | {"messages": messages(protocol, problem)}
    return body | {"prompt": FORMATS[protocol.format].text(problem)}


def route(protocol: TeacherProtocol) -> str:
    return "chat/completions" if protocol.mode == "chat" else "completions"


def content_hash(protocol: TeacherProtocol, problem: Problem, sample: int) -> str:
    """What names a sample: everything that is sent, so nothing else is taken for it on resume."""
    body = msgspec.json.encode([route(protocol), payload(protocol, problem, sample)], order="sorted")
    return hashlib.blake2b(body, digest_size=16).hexdigest()


def completion(protocol: TeacherProtocol, problem: Problem, sample: int, body: bytes) -> Response:
    """The response in the body of a 2xx answer; Garbled when it is none."""
    try:
        data = msgspec.json.decode(body)
        choice = data["choices"][0]
        finish = choice["finish_reason"]
        said = _chat_text(choice["message"], finish) if protocol.mode == "chat" else choice["text"]
        tokens = (data.get("usage") or {}).get("completion_tokens")
    except (msgspec.DecodeError, RecursionError) as error:
        raise Garbled(f"a body that is not JSON: {error}") from error
    except (KeyError, IndexError, TypeError, AttributeError) as error:
        raise Garbled(f"a body without {type(error).__name__} {error}") from error
    if finish not in ("stop", "length"):
        raise Garbled(f"finish reason {finish!r}, expected 'stop' or 'length'")
    if not isinstance(said, str) or not isinstance(tokens, int | None):
        raise Garbled("text or token count of another type")
    return Response(
        problem.id, sample, said, finish=finish, temperature=protocol.temperature,
        meta={"tokens": tokens, "model": protocol.model},
    )  # fmt: skip


def _chat_text(message: dict[str, Any], finish: str) -> str:
    content = str(message.get("content") or "")
    reasoning = message.get("reasoning") or message.get("reasoning_content")
    if reasoning is None and "content" not in message:
        raise KeyError("content")
    if not reasoning:
        return content.lstrip().removeprefix(THINK).removeprefix("\n")
    if finish == "length" and not content:
        return str(reasoning)  # cut while thinking: unclosed, so no answer is ever read from it
    return f"{reasoning}{END_THINK}{content}"
