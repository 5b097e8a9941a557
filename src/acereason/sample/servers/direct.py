"""Weights straight into servers' memory by vLLM's weight-transfer API, in place of files.

    POST /pause ─▶ /init_weight_transfer_engine ─▶ /start_weight_update ─▶ /update_weights ─▶
    /finish_weight_update ─▶ /reset_prefix_cache ─▶ /resume ─▶ the canary, as after files

/update_weights tells names, types and shapes; the tensors come beside it, in that order, to all workers of
all servers at once (`stream`), while this rank gathers them one by one. A server that fails on the way is
left out; one that comes back waits for the next publication, for there is no file to give it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from concurrent.futures import Future
from typing import Any
from urllib.parse import urlsplit

import torch
from torch import Tensor

from acereason.errors import SamplingError
from acereason.policy import lora
from acereason.sample.servers.http import Busy, Garbled, Refused
from acereason.sample.servers.stream import Channel
from acereason.sample.servers.vllm import LOAD, QUICK, Vllm

BACKEND = "acereason_stream"
Told = dict[str, list[Any]]  # names, dtype_names, shapes
Failed = dict[str, Exception]


def told(model: Any, dtype: torch.dtype | None) -> Told:
    """What `state.full_tensors` will yield, without gathering anything."""
    every = [(name, p) for name, p in model.named_parameters() if not lora.is_factor(name)]
    types = [str(dtype or p.dtype).removeprefix("torch.") for _, p in every]
    return {
        "names": [name for name, _ in every],
        "dtype_names": types,
        "shapes": [list(p.shape) for _, p in every],
    }


class Direct:
    """Publishes to many servers at once. `announce` runs in the event loop, `feed` where the weights are."""

    def __init__(self) -> None:
        self.channel = Channel()
        self._count = 0
        self._workers: Future[int] = Future()

    @property
    def bytes(self) -> int:
        """Of the last publication, to one worker."""
        return self.channel.bytes

    def name(self) -> str:
        """A new name for weights."""
        self._count += 1
        self._workers = Future()
        return f"{self.channel.token[:12]}-{self._count}"

    async def announce(self, servers: Sequence[Vllm], what: Told, name: str) -> Failed:
        """Let servers take the weights that `feed` sends meanwhile; what went wrong, by url."""
        failed: Failed = {}
        try:
            begun = [s for s in servers if await _tried(failed, s, self._begin(s))]
            counts = [len(await s.remote("served_facts")) for s in begun]
        except BaseException:
            self._workers.set_result(0)
            raise
        self._workers.set_result(sum(counts))
        await asyncio.gather(*(_tried(failed, s, _take(s, what, name)) for s in begun))
        return failed

    def feed(self, tensors: Iterable[tuple[str, Tensor]]) -> None:
        """Send every tensor to the workers that were announced. The iterable is run to its end."""
        expected, tensors = self._workers.result(), iter(tensors)
        there = self.channel.expect(expected)
        for _, tensor in tensors:
            if there:
                self.channel.send(tensor)
        self.channel.finish()

    async def _begin(self, server: Vllm) -> None:
        await server.call("POST", "/pause?mode=abort", optional=True, seconds=LOAD)
        await server.rename("loading")
        host = urlsplit(server.url).hostname or server.url
        address = {"init_info": self.channel.address(host)}
        try:
            answer = await server.call("POST", "/init_weight_transfer_engine", address, QUICK, optional=True)
        except Busy as error:
            if error.status is None:
                raise
            answer = None
        if answer is None:
            raise SamplingError(
                f"{server.url} takes no weights directly; start it with --weight-transfer-config "
                f'\'{{"backend": "{BACKEND}"}}\' beside the worker extension, or set '
                'sampling.servers.transfer = "files"'
            )
        await server.call("POST", "/start_weight_update", seconds=LOAD)

    def close(self) -> None:
        """Stop listening."""
        self.channel.close()


async def _take(server: Vllm, what: Told, name: str) -> None:
    """Let a server load what comes, and go on with it under its name."""
    try:
        await server.call("POST", "/update_weights", {"update_info": what}, LOAD)
        await server.call("POST", "/finish_weight_update", {}, LOAD)
        faults = [f for f in await server.remote("transfer_fault", QUICK) if f]
        if faults:
            raise Busy(f"{server.url} could not take the weights: {faults[0]}")
        await server.forget()
        await server.rename(name)
    finally:
        await server.call("POST", "/resume", optional=True)


async def _tried(failed: Failed, server: Vllm, act: Any) -> bool:
    """Whether it went well; what did not is put down."""
    try:
        await act
    except (Busy, Garbled, Refused) as error:
        failed[server.url] = error
        return False
    return True
