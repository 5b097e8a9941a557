"""The embedded sampler on a thread of its own, for callers that come and go.

    asked = engine.ask(request, told)   told(new tokens, their log π_T) every few steps
    await asyncio.wrap_future(asked.future)      `asked.cancel()` ends it early

Requests join those in flight as soon as a slot is free. What a request gets depends on it alone, so neither
the order nor the company of others changes a response.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt
import torch

from acereason.errors import SamplingError
from acereason.policy.output import float_logits, output_of
from acereason.policy.policy import Policy
from acereason.sample.engines.embedded import EmbeddedSampler, check
from acereason.sample.protocol import Completion, Request

Ids = npt.NDArray[np.int32]
Logprobs = npt.NDArray[np.float32]
Told = Callable[[Ids, Logprobs], bool]  # gets the new tokens and their log π_T; True: that is enough
ROWS = 256  # positions whose logits are held at a time


@dataclass(slots=True, eq=False)
class Asked:
    """A request that was made. `cancel` ends it with its next token. `closely`: told of every token."""

    told: Told | None
    closely: bool = False
    future: Future[Completion] = field(default_factory=Future)
    enough: bool = False
    seen: int = 0

    def hear(self, tokens: Ids, logprobs: Logprobs) -> bool:
        """Tell of the tokens that are new; whether that is enough."""
        begin, self.seen = self.seen, len(tokens)
        if self.told is not None and len(tokens) > begin:
            self.enough |= self.told(tokens[begin:].copy(), logprobs[begin:].copy())
        return self.enough

    def cancel(self) -> None:
        self.enough = True


class Engine:
    """Answers requests until it is closed."""

    def __init__(self, policy: Policy, sampler: EmbeddedSampler) -> None:
        self.policy, self.sampler = policy, sampler
        policy.model.eval()
        self._inbox: queue.SimpleQueue[Request | None] = queue.SimpleQueue()
        self._flying: set[Asked] = set()
        self._closed = False
        self._forward = threading.Lock()
        self._thread = threading.Thread(target=self._run, daemon=True, name="acereason-serve")
        self._thread.start()

    @property
    def context(self) -> int:
        """Most tokens of prompt and response, by the model and by the memory of this machine."""
        return min(self.sampler.limits.context, self.sampler.longest)

    def check(self, request: Request) -> None:
        """SamplingError: it cannot be answered as it stands."""
        check(request, replace(self.sampler.limits, context=self.context))

    def ask(self, request: Request, told: Told | None = None, closely: bool = False) -> Asked:
        """Have a request answered that was checked."""
        asked = Asked(told, closely)
        asked.future.set_running_or_notify_cancel()  # whoever waits for it may go, and it is answered still
        self._inbox.put(replace(request, key=asked))
        return asked

    @property
    def busy(self) -> bool:
        """Whether any response is being written."""
        return bool(self._flying)

    def likeliest(self, prompt: Sequence[int], tokens: Ids, T: float, top: int) -> list[dict[int, float]]:
        """The `top` likeliest tokens at each place of a response, with log π_T, by one pass of the model."""
        model = self.policy.model
        ids = torch.tensor([[*prompt, *tokens[:-1].tolist()]], device=model.device)
        with self._forward, torch.inference_mode():
            hidden = model.base_model(input_ids=ids).last_hidden_state[0, len(prompt) - 1 :]
            places: list[dict[int, float]] = []
            for part in hidden.split(ROWS):
                scores = (float_logits(part, output_of(model)).float() / T).log_softmax(-1)
                likeliest = scores.topk(min(top, scores.shape[-1]))
                pairs = zip(likeliest.indices.tolist(), likeliest.values.tolist(), strict=True)
                places += [dict(zip(*pair, strict=True)) for pair in pairs]
        return places

    def close(self) -> None:
        """End what is in flight with its next token, and the thread."""
        self._closed = True
        self._inbox.put(None)
        self._thread.join()

    def _run(self) -> None:
        while not self._closed:
            first = self._inbox.get()
            if first is None:
                continue
            try:
                for completion in self.sampler.sample(self._waiting(first), self._watch, self._pace):
                    asked = completion.request.key
                    self._flying.discard(asked)
                    asked.future.set_result(completion)
            except Exception as error:  # one caller's fault must not leave the others waiting
                self._fail(error)
        self._fail(SamplingError("the server is ending"))

    def _waiting(self, first: Request) -> Iterator[Request]:
        return _Waiting(first, self._inbox, self._flying)

    def _watch(self, request: Request, tokens: Ids, logprobs: Logprobs) -> bool:
        asked: Asked = request.key
        return asked.hear(tokens, logprobs) or self._closed

    def _pace(self) -> int | None:
        return 1 if any(asked.closely for asked in self._flying) else None

    def _fail(self, error: Exception) -> None:
        for asked in self._flying:
            asked.future.set_exception(error)
        self._flying.clear()


class _Waiting:
    """What waits in the inbox, whenever it is asked for; none then, and more later."""

    def __init__(self, first: Request, inbox: queue.SimpleQueue[Request | None], flying: set[Asked]) -> None:
        self._next: Request | None = first
        self._inbox, self._flying = inbox, flying

    def __iter__(self) -> _Waiting:
        return self

    def __next__(self) -> Request:
        request, self._next = self._next, None
        if request is None:
            try:
                request = self._inbox.get_nowait()
            except queue.Empty:
                request = None
        if request is None:
            raise StopIteration
        self._flying.add(request.key)
        return request
