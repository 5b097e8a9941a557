"""Weights straight into servers' memory by vLLM's weight-transfer API, in place of files.

    POST /pause ─▶ /init_weight_transfer_engine ─▶ /start_weight_update ─▶ /update_weights … ─▶
    /finish_weight_update ─▶ /reset_prefix_cache ─▶ /resume ─▶ the canary, as after files

/update_weights tells names, types and shapes; the tensors come beside it, in that order, to all workers of
all servers at once (`carrier`), while this rank gathers them one by one. A server that fails on the way is
left out; where all fail, these weights go by files (`server`).
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import uuid
from collections.abc import Callable, Coroutine, Iterable, Sequence
from concurrent.futures import Future
from typing import Any, TypeVar

import torch

from acereason import ranks
from acereason.config import Servers
from acereason.errors import SamplingError
from acereason.policy import lora
from acereason.sample.servers.carrier import Carrier, Party, Tensors, Told
from acereason.sample.servers.http import Busy, Garbled, Refused
from acereason.sample.servers.ipc import Ipc
from acereason.sample.servers.nccl import Nccl
from acereason.sample.servers.stream import Streamed
from acereason.sample.servers.vllm import LOAD, QUICK, Facts, Vllm

CARRIERS: dict[str, type[Carrier]] = {"stream": Streamed, "nccl": Nccl, "ipc": Ipc}
PATIENCE = 2  # publications in a row that nobody took, after which all go by files
LEFT_OUT = (Busy, Garbled, Refused)  # what of one server leaves it out
Failed = dict[str, Exception]
T = TypeVar("T")
Start = Callable[[Coroutine[Any, Any, Any]], "Future[Any]"]


def told(model: Any, dtype: torch.dtype | None) -> Told:
    """What `state.full_tensors` will yield, without gathering anything."""
    every = [(name, p) for name, p in model.named_parameters() if not lora.is_factor(name)]
    types = [str(dtype or p.dtype).removeprefix("torch.") for _, p in every]
    return {
        "names": [name for name, _ in every],
        "dtype_names": types,
        "shapes": [list(p.shape) for _, p in every],
    }


def chosen(settings: Servers, facts: Sequence[Facts | None], cuda: bool, alone: bool) -> str:
    """The way that weights go: the recipe's, or the one that the placement allows and the servers were
    started for. `alone`: adapters without their base, which go by files."""
    if settings.transfer != "auto":
        return settings.transfer
    engines = {fact.transfer if fact else None for fact in facts}
    ways = {Streamed.backend: "stream"}
    if cuda:
        ways |= {Ipc.backend: "ipc"} if settings.colocated else {Nccl.backend: "nccl"}
    return "files" if alone or len(engines) != 1 else ways.get(engines.pop() or "", "files")


class Direct:
    """Publishes to many servers at once; `start` runs something in the event loop."""

    def __init__(self, way: str, start: Start, in_flight: str) -> None:
        self.way, self.carrier = way, CARRIERS[way]()
        self._start, self._pause = start, f"/pause?mode={in_flight}"
        self._run, self._count, self._failures = uuid.uuid4().hex[:12], 0, 0
        self._known: tuple[str, ...] = ()  # who took the last weights, which had this name
        self._name = ""

    @property
    def given_up(self) -> bool:
        """Whether it failed too often to be tried again."""
        return self._failures >= PATIENCE

    def count(self, taken: bool) -> None:
        """Put down whether anybody took the last weights."""
        self._failures = 0 if taken else self._failures + 1

    def publish(self, servers: Sequence[Vllm], what: Told, tensors: Tensors) -> tuple[str, Failed]:
        """Send the weights from the main rank; their name, and what went wrong, by url."""
        self._count += 1
        name, failed, coming = f"{self._run}-{self._count}", Failed(), iter(tensors)
        try:
            self._send(servers, what, coming, failed)
        except BaseException as error:
            _fail(servers, failed, Busy(f"{self.way}: {error!r}"))
            raise
        finally:  # servers are let go on whatever happened
            self._start(self._finish(servers, name, failed)).result()
            self._known, self._name = () if failed else tuple(s.url for s in servers), name
        return name, failed

    def _send(self, servers: Sequence[Vllm], what: Told, coming: Tensors, failed: Failed) -> None:
        begun = (
            self._guarded(lambda: self._start(self._begin(servers, failed)).result(), servers, failed) or []
        )

        def post(info: dict[str, Any]) -> Future[None]:
            return self._start(self._update(begun, info, failed))

        if self._together(bool(begun)):
            self._guarded(lambda: self.carrier.carry(what, coming, post), begun, failed)
        for _ in coming:  # the other ranks are in the same gathering
            pass

    def follow(self, what: Told, tensors: Tensors) -> None:
        """The part of a rank that does not publish."""
        coming = iter(tensors)
        if self.carrier.every_rank and self._together(None):
            with contextlib.suppress(OSError):  # the main rank says it
                self.carrier.carry(what, coming, _never)
        for _ in coming:
            pass

    def _together(self, begun: bool | None) -> bool:
        """Whether the main rank has servers that take weights; on every rank that carries."""
        return ranks.of_main(begun) if self.carrier.every_rank else bool(begun)

    def _guarded(self, act: Callable[[], T], servers: Sequence[Vllm], failed: Failed) -> T | None:
        """What `act` returns; where it fails, that all servers failed."""
        try:
            return act()
        except OSError as error:
            said: Exception = Busy(f"{self.way}: {error}")
        except (SamplingError, *LEFT_OUT) as error:
            said = error
        _fail(servers, failed, said)
        return None

    def close(self) -> None:
        """Let go of everything."""
        self.carrier.close()

    # in the event loop

    async def _begin(self, servers: Sequence[Vllm], failed: Failed) -> list[Vllm]:
        """Make all servers ready; those that are."""
        gpus: dict[str, list[str | None]] = {}
        await _all(_tried(failed, s, self._halt(s, gpus)) for s in servers)
        asked = {s.url: s for s in servers if s.url in gpus}

        async def init(url: str, info: dict[str, Any]) -> bool:
            return await _tried(failed, asked[url], self._init(asked[url], info))

        fresh = tuple(asked) != self._known
        if fresh and self._name:  # engines let go of the group before
            gone = (s.call("POST", "/shutdown_weight_transfer_engine", optional=True) for s in asked.values())
            await _all(map(_tried, itertools.repeat(failed), asked.values(), gone))
        await self.carrier.meet([Party(url, gpus[url]) for url in asked], fresh, init)
        met = [s for s in asked.values() if s.url not in failed]
        ready = (s.call("POST", "/start_weight_update", seconds=LOAD) for s in met)
        await _all(_tried(failed, s, call, self.carrier) for s, call in zip(met, ready, strict=True))
        return [s for s in met if s.url not in failed]

    async def _halt(self, server: Vllm, gpus: dict[str, list[str | None]]) -> None:
        await server.call("POST", self._pause, optional=True, seconds=LOAD)
        if await server.version() not in (None, self._name):  # it was started again, or had others by file
            self._known = ()
        await server.rename("loading")
        gpus[server.url] = [fact.get("gpu") for fact in await server.remote("served_facts")]

    async def _init(self, server: Vllm, info: dict[str, Any]) -> None:
        try:
            body = {"init_info": info}
            answer = await server.call("POST", "/init_weight_transfer_engine", body, LOAD, optional=True)
        except Busy as error:
            if error.status != 500:
                raise
            answer = None
        if answer is None:
            raise SamplingError(
                f"{server.url} takes no weights directly; start it with --weight-transfer-config "
                f'\'{{"backend": "{self.carrier.backend}"}}\' beside the worker extension, or set '
                'sampling.servers.transfer = "files"'
            )

    async def _update(self, servers: Sequence[Vllm], info: dict[str, Any], failed: Failed) -> None:
        body = {"update_info": info}
        left = [s for s in servers if s.url not in failed]
        calls = (_tried(failed, s, s.call("POST", "/update_weights", body, LOAD), self.carrier) for s in left)
        await _all(calls)

    async def _finish(self, servers: Sequence[Vllm], name: str, failed: Failed) -> None:
        await _all(self._end(s, name, failed) for s in servers)

    async def _end(self, server: Vllm, name: str, failed: Failed) -> None:
        """Let a server go on with what it took, under its name."""
        try:
            if server.url not in failed:
                await _tried(failed, server, self._named(server, name))
        finally:
            await _tried({}, server, server.call("POST", "/resume", optional=True))

    async def _named(self, server: Vllm, name: str) -> None:
        await server.call("POST", "/finish_weight_update", {}, LOAD)
        faults = [f for f in await server.remote("transfer_fault", QUICK) if f]
        if faults:
            raise Busy(f"{server.url} could not take the weights: {faults[0]}")
        await server.forget(running=self._pause.endswith("keep"))
        await server.rename(name)


def _never(info: dict[str, Any]) -> Future[None]:
    raise AssertionError("only the main rank asks servers")


def _fail(servers: Sequence[Vllm], failed: Failed, error: Exception) -> None:
    """Put down that all failed, those that did before by their own error."""
    failed.update({s.url: error for s in servers if s.url not in failed})


async def _all(acts: Iterable[Coroutine[Any, Any, Any]]) -> None:
    """Run all at once to their end; raises the first error then, when nothing is under way any more."""
    for result in await asyncio.gather(*acts, return_exceptions=True):
        if isinstance(result, BaseException):
            raise result


async def _tried(failed: Failed, server: Vllm, act: Any, carrier: Carrier | None = None) -> bool:
    """Whether it went well; what did not is put down, and told to who else waits."""
    try:
        await act
    except LEFT_OUT as error:
        failed[server.url] = error
        if carrier is not None:
            carrier.lost()
        return False
    return True
