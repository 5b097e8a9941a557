"""What every sampler is: requests in, completions out as they finish, weights updated in place.

The randomness of a completion depends on its request alone: the uniform number that draws the token
at position t is a hash of (`Request.seed`, t). Neither the other requests nor their order matter,
so one sample can be redone alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from acereason.errors import SamplingError
from acereason.problems import Finish

LEAST_T = 1e-30  # logits divided by it are still float32


@dataclass(frozen=True, slots=True)
class Request:
    """One response wanted. Requests with equal prompts that follow one another share their prefill.

    prompt       token ids
    budget       most response tokens, the end token included
    temperature  T > 0 of the sampled distribution softmax(logits / T)
    top_p        probability mass kept (1 in training; 0.6/0.95 is the paper's evaluation)
    seed         64-bit; makes the draws, see `draw_seed`
    key          anything the caller wants back, e.g. (problem id, sample)
    """

    prompt: Sequence[int]
    budget: int
    temperature: float
    seed: int
    top_p: float = 1.0
    key: Any = None


@dataclass(frozen=True, slots=True)
class Completion:
    """A finished response: tokens (end token included when it stopped), and for each token the
    log-probability and the entropy in nats of softmax(logits / T), before any top-p cut.
    `entropy_1` is the entropy of softmax(logits), i.e. at T = 1, on the same tokens. Tokens of the places
    from `forced[0]` to `forced[1]` were put in, not drawn (`sample.forcing`): all three are 0 there."""

    request: Request
    tokens: npt.NDArray[np.int32]
    logprobs: npt.NDArray[np.float32]
    entropy: npt.NDArray[np.float32]
    entropy_1: npt.NDArray[np.float32]
    finish: Finish
    forced: tuple[int, int] = (0, 0)

    @property
    def drawn(self) -> int:
        """How many tokens were drawn from the policy."""
        return len(self.tokens) - (self.forced[1] - self.forced[0])


class Sampler(Protocol):
    """Anything that answers requests: in process, or servers.

    `remote` says that responses are sampled elsewhere, so that this process can learn meanwhile."""

    @property
    def remote(self) -> bool: ...

    def sample(self, requests: Iterable[Request]) -> Iterator[Completion]:
        """Yield completions as they finish, in no promised order.

        Closing the iterator abandons the rest."""
        ...

    def update(self, weights: Any) -> None:
        """Take over the policy's present weights, in place."""
        ...

    def close(self) -> None:
        """Abandon what is in flight and give back what is held outside the process. May be called twice."""
        ...


def check_how(budget: int, temperature: float, top_p: float) -> None:
    """SamplingError for what no sampler can be asked, whatever the prompt."""
    if budget < 1:
        raise SamplingError(f"the budget is {budget} tokens; at least 1 was expected")
    if not LEAST_T <= temperature < float("inf"):
        raise SamplingError(
            f"the temperature is {temperature}; a number from {LEAST_T:g}, which always takes the likeliest "
            "token, upwards was expected"
        )
    if not 0 < top_p <= 1:
        raise SamplingError(f"top_p is {top_p}; a number in (0, 1] was expected")
