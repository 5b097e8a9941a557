"""What brings weights into servers' workers, one class a way: `stream`, `nccl`, `ipc`.

A carrier knows one of vLLM's weight-transfer engines: what its /init_weight_transfer_engine must be told, and
how the tensors travel while /update_weights runs. Calls, names and failures are `direct`'s.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from concurrent.futures import Future
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from torch import Tensor

Told = dict[str, list[Any]]  # names, dtype_names, shapes
Tensors = Iterable[tuple[str, Tensor]]
Init = Callable[[str, dict[str, Any]], Awaitable[bool]]  # whether the server is ready
Post = Callable[[dict[str, Any]], "Future[None]"]
SECONDS = 120.0  # for all workers to come, and for one of them to take a piece


class Party(NamedTuple):
    """A server that takes weights: where it is, and the GPU of each of its workers (None: no GPU)."""

    url: str
    gpus: Sequence[str | None]

    @property
    def host(self) -> str:
        """Its machine."""
        return urlsplit(self.url).hostname or self.url


class Carrier:
    """`backend`: the engine that servers must have been started with. `bytes` of the last publication."""

    backend: str
    every_rank = False  # whether all ranks carry; otherwise the main one does, and the others only gather
    bytes = 0

    def agree(self) -> None:
        """What ranks must tell one another first. Collective."""

    async def meet(self, parties: Sequence[Party], fresh: bool, init: Init) -> None:
        """Before each publication: `init(url, info)` tells a server's engine what it needs; one that is not
        ready then is left out. `fresh`: these are not the servers of the last time. SamplingError: not with
        these. OSError: not now, by none of them."""
        raise NotImplementedError

    def carry(self, what: Told, tensors: Tensors, post: Post) -> None:
        """Send all tensors; `post` has every server call /update_weights. OSError: it did not go well."""
        raise NotImplementedError

    def lost(self) -> None:
        """A server failed meanwhile, so nobody need wait for it."""

    def close(self) -> None:
        """Let go of everything."""
