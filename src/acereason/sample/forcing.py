"""Thinking that is cut: after so many tokens without its end one is put in, and the answer follows.

    sampler = forcing(sampler, policy, stage.thinking)      the sampler itself where the stage names none

So a response always has a final part to be judged (ScaleRL's interruptions, 2510.13786; budget forcing, s1,
2501.19393). Any sampler does: those that reach the limit are asked a second time, with all they wrote and the
forced end as their prompt. The tokens put in are no draws of the policy: they carry no gradient and count
neither for H_T nor for how far sampler and trainer are apart (`Completion.forced`); they do count as tokens
of the response.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from acereason.config import Thinking
from acereason.draws import draw_seed
from acereason.errors import ConfigError
from acereason.policy import model as models
from acereason.policy.policy import Policy
from acereason.prompts import END_THINK
from acereason.sample.protocol import Completion, Request, Sampler


def forcing(sampler: Sampler, policy: Policy, thinking: Thinking | None) -> Sampler:
    """The sampler with thinking cut as a stage's [thinking] says."""
    return sampler if thinking is None else Forcing(sampler, policy, thinking)


class Forcing:
    """A sampler whose responses think for at most `thinking.budget` tokens.

    Raises ConfigError when a request leaves no token for the answer."""

    def __init__(self, sampler: Sampler, policy: Policy, thinking: Thinking) -> None:
        self._sampler, self._policy, self._most = sampler, policy, thinking.budget
        self._end: Sequence[int] = models.encode(policy.tokenizer, thinking.end)

    @property
    def remote(self) -> bool:
        """As the sampler's own."""
        return self._sampler.remote

    def sample(self, requests: Iterable[Request]) -> Iterator[Completion]:
        """Yield completions; those that were cut come last."""
        cut: list[Completion] = []
        for first in self._sampler.sample(self._short(r) for r in requests):
            if self._goes_on(first):
                cut.append(first)
            else:
                yield replace(first, request=first.request.key)
        for rest in self._sampler.sample([self._rest(first) for first in cut]) if cut else ():
            before, end = rest.request.key
            yield joined(before, end, rest)

    def update(self, weights: Any) -> None:
        """See `Sampler`."""
        self._sampler.update(weights)

    def close(self) -> None:
        """See `Sampler`."""
        self._sampler.close()

    def _short(self, request: Request) -> Request:
        """The request for no more than the thinking; its key is the request itself."""
        if self._most + len(self._end) >= request.budget:
            raise ConfigError(
                f"thinking.budget ({self._most}) and the {len(self._end)} tokens of thinking.end leave none "
                f"for an answer in a budget of {request.budget}; lower thinking.budget, or raise the stage's"
            )
        return replace(request, budget=self._most, key=request)

    def _goes_on(self, first: Completion) -> bool:
        return first.finish == "length"

    def _rest(self, first: Completion) -> Request:
        """What is asked after the thinking, with draws of its own; its key: what was, and what is put in."""
        request: Request = first.request.key
        end = [] if END_THINK in self._policy.text(first.tokens) else list(self._end)
        prompt = [*request.prompt, *first.tokens.tolist(), *end]
        left = request.budget - len(first.tokens) - len(end)
        seed = draw_seed(request.seed, "after the thinking")
        return replace(request, prompt=prompt, budget=left, seed=seed, key=(first, end))


def joined(first: Completion, end: Sequence[int], rest: Completion) -> Completion:
    """The response of three parts: the thinking, what was put in, and the answer."""
    start, nothing = len(first.tokens), np.zeros(len(end), np.float32)
    return Completion(
        request=first.request.key,
        tokens=np.concatenate([first.tokens, np.array(end, np.int32), rest.tokens]),
        logprobs=np.concatenate([first.logprobs, nothing, rest.logprobs]),
        entropy=np.concatenate([first.entropy, nothing, rest.entropy]),
        entropy_1=np.concatenate([first.entropy_1, nothing, rest.entropy_1]),
        finish=rest.finish,
        forced=(start, start + len(end)) if end else (0, 0),
    )
