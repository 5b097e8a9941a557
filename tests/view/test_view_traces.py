"""Traces: the tokens' bytes add up to the text, and the numbers come back within half a step."""

from __future__ import annotations

import base64

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from acereason.policy.tokenizer import train_tokenizer
from acereason.sample.protocol import Completion, Request
from acereason.sample.traces import piece_lengths, trace

TOKENIZER = train_tokenizer(["solve 12 + 30 = 42 </think>\n\\boxed{42}", "naïve ∑ 漢字 🙂 text"] * 3, 340)
RANDOM = np.random.default_rng(0)


def completion(tokens: list[int]) -> Completion:
    numbers = RANDOM.exponential(1.5, (2, len(tokens))).astype(np.float32)
    request = Request([1], 64, 0.9, 1)
    return Completion(request, np.array(tokens, np.int32), -numbers[0], numbers[1], numbers[1], "stop")


def decoded(text: str) -> np.ndarray:
    return np.frombuffer(base64.b64decode(text), np.uint8)


@given(st.text(max_size=60), st.booleans())
@settings(deadline=None)
def test_pieces_add_up_and_numbers_come_back(text: str, ended: bool) -> None:
    tokens = TOKENIZER.encode(text)
    said = TOKENIZER.decode(tokens, skip_special_tokens=False)
    tokens += [TOKENIZER.eos_token_id] * ended
    whole = completion(tokens)
    kept = trace(TOKENIZER, whole, said)
    assert kept is not None
    pieces = decoded(kept["pieces"])
    assert pieces.sum() == len(said.encode()) and len(pieces) == len(tokens)
    for name, values in (("logprob", -whole.logprobs), ("entropy", whole.entropy)):
        assert np.abs(decoded(kept[name]) / 32 - np.minimum(values, 255 / 32)).max(initial=0) <= 1 / 64 + 1e-6


def test_every_cut_is_where_the_token_ends() -> None:
    tokens = TOKENIZER.encode("12 + 30 = 42</think>")
    ends = np.cumsum(piece_lengths(TOKENIZER, tokens))
    whole = TOKENIZER.decode(tokens)
    assert [whole[:end] for end in ends] == [TOKENIZER.decode(tokens[: n + 1]) for n in range(len(tokens))]


def test_a_text_that_the_tokens_do_not_make_has_no_trace() -> None:
    tokens = TOKENIZER.encode("12 + 30")
    assert trace(TOKENIZER, completion(tokens), "12 + ") is None


@pytest.mark.parametrize("length", [254, 255, 256, 700])
def test_long_tokens_go_on(length: int) -> None:
    class One:
        added_tokens_decoder = {0: "x" * length}  # noqa: RUF012

        def convert_ids_to_tokens(self, tokens: list[int]) -> list[str]:
            return [""] * len(tokens)

    kept = trace(One(), completion([0, 0]), "x" * 2 * length)
    assert kept is not None
    pieces = decoded(kept["pieces"])
    assert pieces.sum() == 2 * length and (pieces < 255).sum() == 2
