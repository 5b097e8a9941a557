"""A batch that is answered and judged by hash, without a model: for tests of learning while sampling."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from typing import Any, ClassVar

import numpy as np

from acereason.config import Stage
from acereason.draws import draw_seed
from acereason.problems import Problem, Response, Verdict
from acereason.sample.protocol import Completion, Request

STAGE = Stage("s", "math", budget=12, steps=1, group=4, prompts=6)
PROBLEMS = [Problem(str(i), "math", "?") for i in range(6)]


class Words:
    """A tokenizer that knows numbers only."""

    eos_token_id = 1
    added_tokens_decoder: ClassVar[dict[int, str]] = {}

    def convert_ids_to_tokens(self, ids: list[int]) -> list[str]:
        return list(map(str, ids))

    def __len__(self) -> int:
        return 1 << 20

    def encode(self, text: str, **_: Any) -> list[int]:
        return [2 + len(text) % 50, 3, 4]

    def decode(self, ids: list[int], **_: Any) -> str:
        return " ".join(map(str, ids))


class Elsewhere:
    """A remote sampler that makes up responses and yields them from the last request to the first. It calls
    `between` before every completion, and stops after `most`."""

    remote = True

    def __init__(self, between: Any = lambda number: None, most: int = 1000):
        self.between, self.most = between, most

    def sample(self, requests: Iterable[Request]) -> Iterator[Completion]:
        for number, request in enumerate(reversed(list(requests))):
            self.between(number)
            if number == self.most:
                return
            rng = np.random.default_rng(request.seed % 2**32)
            n = int(rng.integers(1, request.budget))
            tokens = rng.integers(0, 61, n).astype(np.int32)
            logprobs = -rng.random(n).astype(np.float32)
            yield Completion(request, tokens, logprobs, -logprobs, logprobs * np.nan, "stop")

    def update(self, weights: Any) -> None:
        return None

    def close(self) -> None:
        return None


class Coin:
    """A judge by hash."""

    def submit(self, problem: Problem, response: Response) -> Future[Verdict]:
        future: Future[Verdict] = Future()
        right = draw_seed(problem.id, response.sample) % 2
        future.set_result(Verdict("correct" if right else "wrong", right))
        return future
