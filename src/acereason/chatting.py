"""A model tried in the terminal: a question in, the answer as it is written, with the thinking folded.

    session = Session(policy, sampler, judge)
    for piece in session.ask(problem): print(piece, end="")   # the answer; thinking is only counted
    session.verdict(problem)                                  # on it, where there is a reference
    session.reset()                                           # what was said before is forgotten

The first question is asked in the format that the model was trained with, to the token; further ones follow
it in the model's own chat template, earlier answers without their thinking. `Manner` says how it is asked.
"""

from __future__ import annotations

import queue
import secrets
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from acereason.errors import ConfigError
from acereason.policy.policy import Policy
from acereason.problems import Problem, Response, Verdict
from acereason.prompts import END_THINK
from acereason.published.records import unanswered
from acereason.sample.ask import Judging
from acereason.sample.engines.embedded import EmbeddedSampler
from acereason.sample.protocol import Completion, Request

Ids = npt.NDArray[np.int32]
COLD = 1e-4  # stands for temperature 0
HALF = "\ufffd"  # half of a character


@dataclass(slots=True)
class Manner:
    """How questions are asked. budget None: what the context leaves. `seed` None: another one each time."""

    temperature: float = 0.6
    top_p: float = 0.95
    budget: int | None = None
    seed: int | None = None
    domain: str = "math"
    show_thinking: bool = False
    alone: bool = False  # every question without what was said before


@dataclass(slots=True)
class Fold:
    """Splits a response that grows into its thinking and the answer behind the last `</think>`."""

    show: bool = False
    text: str = ""
    _shown: int = 0

    def grow(self, text: str, over: bool = False) -> str:
        """What is to be printed now that the response is `text`; a half character, and what may become the
        end of the thinking, waits until the response is `over`."""
        self.text = text
        sure = len(text) if over else len(text.rstrip(HALF)) - _begun(text.rstrip(HALF), END_THINK)
        if not self.show:
            end = text.rfind(END_THINK)
            self._shown = max(self._shown, sure if end < 0 else end + len(END_THINK))
        piece = text[self._shown : sure]
        if self._shown and not piece.strip() and not over:
            return ""
        self._shown = max(self._shown, sure)
        return piece

    @property
    def thinking(self) -> str:
        """What was thought; all of it, where the thinking was not closed."""
        return self.text.rpartition(END_THINK)[0] if END_THINK in self.text else self.text

    @property
    def answered(self) -> bool:
        return END_THINK in self.text

    @property
    def answer(self) -> str:
        """What stands behind the thinking."""
        return self.text.rpartition(END_THINK)[2].strip() if self.answered else ""


def _begun(text: str, mark: str) -> int:
    """How many characters at the end of a text may be the beginning of a mark."""
    return next((n for n in range(len(mark) - 1, 0, -1) if text.endswith(mark[:n])), 0)


@dataclass(slots=True)
class Session:
    """A model that is asked one question after another."""

    policy: Policy
    sampler: EmbeddedSampler
    judge: Judging
    manner: Manner = field(default_factory=Manner)
    fold: Fold = field(default_factory=Fold)
    turns: list[dict[str, str]] = field(default_factory=list)
    last: Completion | None = None

    def reset(self) -> None:
        """Forget what was said."""
        self.turns.clear()

    def request(self, problem: Problem) -> Request:
        """How it is asked. ConfigError: no room is left in the context, or no further turn is known."""
        how, prompt = self.manner, self._prompt(problem)
        room = min(self.policy.context, self.sampler.longest) - len(prompt)
        if room < 1:
            more = "; /reset forgets what was said before" if self.turns else ""
            raise ConfigError(f"{len(prompt)} tokens leave no room for a response in the context{more}")
        seed = secrets.randbits(62) if how.seed is None else how.seed
        return Request(prompt, min(how.budget or room, room), max(how.temperature, COLD), seed, how.top_p)

    def _prompt(self, problem: Problem) -> list[int]:
        if not self.turns:
            return self.policy.prompt_ids(problem)
        turns = [*self.turns, {"role": "user", "content": problem.question}]
        return self.policy.conversation_ids(turns)

    def _remember(self, problem: Problem) -> None:
        """Keep a question and its answer; one that was cut in its thinking has none."""
        if self.manner.alone or not self.fold.answer:
            return
        asked = problem.question if self.turns else self.policy.prompt.request(problem)
        self.turns += [
            {"role": "user", "content": asked},
            {"role": "assistant", "content": self.fold.answer},
        ]

    def ask(self, problem: Problem, told: Callable[[int], None] = lambda _: None) -> Iterator[str]:
        """The answer, piece by piece. `told` gets the number of tokens so far. Closing the iterator ends the
        response."""
        self.fold, self.last = Fold(self.manner.show_thinking), None
        stream = _Stream(self.sampler, self.request(problem))
        try:
            for tokens in stream:
                told(len(tokens))
                if piece := self.fold.grow(self.policy.text(tokens)):
                    yield piece
        finally:
            stream.close()
        self.last = stream.done
        if self.last is not None:
            yield self.fold.grow(self.policy.text(self.last.tokens), over=True)
            self._remember(problem)

    def verdict(self, problem: Problem) -> Verdict | None:
        """The judge's word on the last response; None where there is nothing to judge it by."""
        if self.last is None or unanswered(problem):
            return None
        response = Response(problem.id, 0, self.fold.text, finish=self.last.finish)
        return self.judge.submit(problem, response).result()


class _Stream:
    """A response as it grows: the sampler works on a thread, and what it has so far is handed over."""

    def __init__(self, sampler: EmbeddedSampler, request: Request) -> None:
        self._news: queue.SimpleQueue[Ids | BaseException | None] = queue.SimpleQueue()
        self._enough = False
        self.done: Completion | None = None
        self._thread = threading.Thread(target=self._run, args=(sampler, request), daemon=True)
        self._thread.start()

    def __iter__(self) -> Iterator[Ids]:
        while (item := self._news.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item

    def close(self) -> None:
        """End the response with its next token."""
        self._enough = True
        self._thread.join()

    def _run(self, sampler: EmbeddedSampler, request: Request) -> None:
        try:
            (self.done,) = sampler.sample([request], self._told, lambda: 1)
        except Exception as error:
            self._news.put(error)
        self._news.put(None)

    def _told(self, _: Request, tokens: Ids, __: Any) -> bool:
        self._news.put(tokens.copy())
        return self._enough
