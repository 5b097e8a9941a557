"""What is said of a completion on the wire: its text up to a stop, its tokens, their log-probabilities."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Ids = npt.NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class Said:
    """A response as the caller gets it: `tokens` are those kept, the end token among them."""

    text: str
    tokens: Ids
    logprobs: npt.NDArray[np.float32]
    finish: str


class Speller:
    """Token ids to text with one tokenizer; `ends` are left out of a text at its end."""

    def __init__(self, tokenizer: Any, ends: Sequence[int], special: bool) -> None:
        self._tokenizer, self.ends, self._skip = tokenizer, frozenset(ends), not special

    def text(self, ids: Sequence[int] | Ids) -> str:
        """A whole response's text."""
        tokens = np.asarray(ids, np.int64)
        return self.piece(tokens[:-1] if len(tokens) and int(tokens[-1]) in self.ends else tokens)

    def piece(self, ids: Sequence[int] | npt.NDArray[Any]) -> str:
        """Any tokens' text."""
        how = {"skip_special_tokens": self._skip, "clean_up_tokenization_spaces": False}
        return str(self._tokenizer.decode(np.asarray(ids, np.int64), **how))

    def token(self, number: int) -> str:
        """One token alone."""
        return str(self._tokenizer.decode([number], clean_up_tokenization_spaces=False))

    def names(self, scores: dict[int, float]) -> dict[str, float]:
        """Scores by the tokens' texts; tokens that share one, halves of a character, by their number."""
        named: dict[str, float] = {}
        for number, score in scores.items():
            name = self.token(number)
            named[f"token_id:{number}" if name in named else name] = score
        return named


def said(
    speller: Speller, tokens: Ids, logprobs: npt.NDArray[np.float32], finish: str, stops: Sequence[str],
    ends: Sequence[int],
) -> Said:  # fmt: skip
    """A response cut at the caller's own stops: token ids, kept, and texts, left out."""
    own = np.flatnonzero(np.isin(tokens, list(ends)))
    if len(own) and own[0] < len(tokens) - 1:
        tokens, finish = tokens[: own[0] + 1], "stop"
    elif len(own):
        finish = "stop"
    text = speller.text(tokens)
    place = first_stop(text, stops)
    if place is not None:
        count = _tokens_of(speller, tokens, stops)
        return Said(text[:place], tokens[:count], logprobs[:count], "stop")
    return Said(text, tokens, logprobs[: len(tokens)], finish)


def first_stop(text: str, stops: Sequence[str]) -> int | None:
    """Where the first of the stops begins."""
    return min((place for stop in stops if (place := text.find(stop)) >= 0), default=None)


def _tokens_of(speller: Speller, tokens: Ids, stops: Sequence[str]) -> int:
    """How many tokens it takes until a stop is whole."""
    low, high = 1, len(tokens)
    while low < high:
        middle = (low + high) // 2
        stopped = first_stop(speller.text(tokens[:middle]), stops) is not None
        low, high = (low, middle) if stopped else (middle + 1, high)
    return low


def of_completion(
    speller: Speller, one: Said, tops: list[dict[int, float]] | None, begin: int = 0
) -> dict[str, Any]:
    """The `logprobs` of a choice of /v1/completions; `begin`: characters told before."""
    names = [speller.token(int(t)) for t in one.tokens]
    lengths = np.cumsum([begin, *map(len, names)])[:-1]
    return {
        "tokens": names,
        "token_logprobs": one.logprobs.tolist(),
        "top_logprobs": None if tops is None else [speller.names(top) for top in tops],
        "text_offset": lengths.tolist(),
    }


def of_chat(speller: Speller, one: Said, tops: list[dict[int, float]] | None, _: int = 0) -> dict[str, Any]:
    """The `logprobs` of a choice of /v1/chat/completions."""
    rows = []
    for place, (token, logprob) in enumerate(zip(one.tokens.tolist(), one.logprobs.tolist(), strict=True)):
        top = [] if tops is None else [_entry(speller, t, v) for t, v in tops[place].items()]
        rows.append({**_entry(speller, token, logprob), "top_logprobs": top})
    return {"content": rows}


def _entry(speller: Speller, token: int, logprob: float) -> dict[str, Any]:
    name = speller.token(token)
    return {"token": name, "logprob": logprob, "bytes": list(name.encode("utf-8", "replace"))}
