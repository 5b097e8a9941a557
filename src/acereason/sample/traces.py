"""Each token's length, surprise and entropy of a response, small enough to be kept beside its text.

    pieces    bytes of the text (UTF-8) that each token stands for; 255 means "and what the next entry adds"
    logprob   -log π_T(token), entropy  the entropy of softmax(logits / T): both in 1/32 nat, at most 255/32

Each is a string of bytes in base64, four characters for three tokens. It is made for reading a response
token by token, not for computing with it: values are rounded to 1/64 nat and cut at 8. Only tokenizers
whose tokens are bytes (byte-level BPE: Qwen, Llama 3, and those built here) can say where a token ends; for
others there is no trace.
"""

from __future__ import annotations

import base64
from typing import Any

import numpy as np
import numpy.typing as npt

from acereason.sample.protocol import Completion

STEPS = 32.0  # per nat
_MOST = 255
NO_TOKEN = b"\xef\xbf\xbd"


def trace(tokenizer: Any, completion: Completion, text: str) -> dict[str, str] | None:
    """The trace of a completion whose text is `text`; None when the tokens do not add up to the text's bytes.

    The end token, of which nothing is in the text, has the length 0."""
    lengths = piece_lengths(tokenizer, completion.tokens.tolist())
    size = len(text.encode())
    if lengths and sum(lengths) - lengths[-1] == size:
        lengths[-1] = 0
    if sum(lengths) != size:
        return None
    return {
        "pieces": _text(np.array([part for length in lengths for part in _parts(length)], np.uint8)),
        "logprob": _text(_rounded(-completion.logprobs)),
        "entropy": _text(_rounded(completion.entropy)),
    }


def piece_lengths(tokenizer: Any, tokens: list[int]) -> list[int]:
    """Bytes per token: a character of a byte-level token is a byte, an added token is its own text, and an id
    without a token (a vocabulary may be padded) is written as U+FFFD."""
    added = {number: str(token) for number, token in tokenizer.added_tokens_decoder.items()}
    names = tokenizer.convert_ids_to_tokens(tokens)
    return [
        len(added[token].encode()) if token in added else len(name or NO_TOKEN)
        for token, name in zip(tokens, names, strict=True)
    ]


def _parts(length: int) -> list[int]:
    return [_MOST] * (length // _MOST) + [length % _MOST]


def _rounded(values: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8]:
    return np.asarray(np.clip(np.rint(np.nan_to_num(values) * STEPS), 0, _MOST), np.uint8)


def _text(values: npt.NDArray[np.uint8]) -> str:
    return base64.b64encode(values.tobytes()).decode()
