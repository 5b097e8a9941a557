"""The state of the responses being written: one entry per slot, in arrays that every engine shares.

Legend: `token` is fed next, at `position`; `count` tokens of the response have been drawn so far,
and `out_*[slot, :count]` hold them. Rows of `out_*` are as wide as the largest budget seen.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
import numpy.typing as npt

from acereason.sample.protocol import Request

Ints = npt.NDArray[np.int32]
Floats = npt.NDArray[np.float32]


class Slots:
    """Arrays over `number` slots; `eos` are the tokens that end a response."""

    def __init__(self, number: int, eos: Ints) -> None:
        self.number, self.eos = number, eos
        self.token, self.position, self.count, self.budget = (np.zeros(number, np.int32) for _ in range(4))
        self.temperature, self.top_p = np.ones(number, np.float32), np.ones(number, np.float32)
        self.seed = np.zeros(number, np.uint64)
        self.out_token = np.zeros((number, 0), np.int32)
        self.out_logprob, self.out_entropy, self.out_entropy_1 = (
            np.zeros((number, 0), np.float32) for _ in range(3)
        )

    @property
    def width(self) -> int:
        """Most response tokens that a slot can hold."""
        return int(self.out_token.shape[1])

    def widen(self, width: int) -> None:
        """Make room for responses of `width` tokens; what was drawn stays."""
        if width <= self.width:
            return
        more = ((0, 0), (0, width - self.width))
        self.out_token = np.pad(self.out_token, more)
        self.out_logprob = np.pad(self.out_logprob, more)
        self.out_entropy = np.pad(self.out_entropy, more)
        self.out_entropy_1 = np.pad(self.out_entropy_1, more)

    def start(self, slot: int, request: Request) -> None:
        """Begin a response: the prompt's last token is fed next, all before it is in the cache."""
        self.token[slot], self.position[slot] = request.prompt[-1], len(request.prompt) - 1
        self.count[slot], self.budget[slot] = 0, request.budget
        self.temperature[slot], self.top_p[slot] = request.temperature, request.top_p
        self.seed[slot] = request.seed & 0xFFFFFFFFFFFFFFFF


class Engine(Protocol):
    """Computes prefill and one-token steps. The slot one past the last is the prompt's own."""

    name: str

    def load(self, weights: object) -> None:
        """Copy a module's or a state dict's weights into the engine's buffers."""
        ...

    def reserve(self, length: int) -> None:
        """Make room for `length` positions in every slot; what is cached stays."""
        ...

    def resize(self, slots: int) -> None:
        """Have so many slots from now on, with nothing cached and no room reserved."""
        ...

    def prefill(self, tokens: Ints, slot: int) -> None:
        """Fill a slot's cache with the keys and values of `tokens`, from position 0."""
        ...

    def copy(self, source: int, target: int, length: int) -> None:
        """Copy the first `length` cached positions of a slot to another slot."""
        ...

    def decode(self, slots: Slots, active: Ints, steps: int | None = None) -> Ints:
        """Draw tokens for the active slots until one of them ends its response, or for about `steps` steps
        (None: as many as are quickest).

        Returns the slots that ended; SamplingError when a logit is not finite."""
        ...
