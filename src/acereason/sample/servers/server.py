"""vLLM servers as the sampler: the same requests and completions as the embedded one, over HTTP.

    update(model) ─▶ safetensors in a folder, or a stream (`direct`) ─▶ every server reloads ─▶ canary
    sample(requests) ─▶ least loaded server ─▶ Completion, as each ends, while the rest are being written

Responses arrive while the caller learns (`remote`). A server that dies has its requests asked elsewhere, with
the same seed; one that is started again is given the present weights before it is asked. Weights and
responses never mix: publishing aborts what is in flight.

Colocated servers sleep (vLLM's level 1) but for the time of `sample` and `update`.

On several ranks each samples its own requests, and all must call `update` together; the main rank writes and
publishes. Servers' draws are the servers': the same seed gives the same response again on the same server
up to the kernels' rounding, but not the embedded sampler's response. Entropies are estimates, see `vllm`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar

import torch

from acereason import ranks
from acereason.config import Servers
from acereason.errors import SamplingError
from acereason.policy import lora
from acereason.policy.activations import work_device
from acereason.policy.policy import Policy
from acereason.policy.state import full_tensors
from acereason.sample.protocol import Completion, Request
from acereason.sample.servers import canary, carrier, direct
from acereason.sample.servers.canaries import Answers, Canaries
from acereason.sample.servers.fitting import check_fit, check_room
from acereason.sample.servers.fleet import Member
from acereason.sample.servers.http import Busy, Garbled, Refused
from acereason.sample.servers.publish import Deltas, Outbox
from acereason.sample.servers.remote import RemoteSampler
from acereason.sample.servers.vllm import LOAD, Vllm, reports_raw

log = logging.getLogger(__name__)
T = TypeVar("T")


class ServerSampler(RemoteSampler):
    """Answers requests by the servers of `settings`, from the weights that `update` published last.

    dtype     of the published weights; by default that of the parameters
    patience  seconds for which it is waited while no server answers

    Raises SamplingError when a server is down, serves another model, or reports raw log-probabilities."""

    def __init__(
        self,
        policy: Policy,
        settings: Servers,
        *,
        dtype: torch.dtype | None = None,
        patience: float = 900.0,
    ) -> None:
        self.policy, self.settings, self.dtype = policy, settings, dtype
        self.remote = not settings.colocated
        self._canaries = Canaries(policy, settings.limit)
        self._outbox: Outbox | None = None
        self._direct: direct.Direct | None = None
        self._chosen = False  # whether it is known how weights go
        self._last: Outbox | carrier.Carrier | None = None  # what brought the present weights
        self._weights: tuple[Path | None, str] | None = None  # the folder, where there is one, and the name
        cap = max(1, settings.concurrency // ranks.world())
        key = os.environ.get(settings.api_key or "", "")
        super().__init__(settings.urls, cap, settings.deadline, patience, key)

    @property
    def differences(self) -> dict[str, canary.Mismatch]:
        """Of the last canary, by server."""
        return self._canaries.differences

    def close(self) -> None:
        """Abandon what is in flight and delete the published weights."""
        if isinstance(self._outbox, Deltas) and self._thread.is_alive():
            self._run(self._drop())
        super().close()
        for made in (self._outbox, self._direct):
            if made is not None:
                made.close()

    def sample(self, requests: Iterable[Request]) -> Iterator[Completion]:
        """Yield completions as they finish; sampling goes on between two of them.

        Raises SamplingError when a request does not fit a server's context, or no server answers."""
        if self._weights is None:
            raise SamplingError("no weights were published yet; call update(model) first")
        wanted = list(requests)
        for member in self._fleet.members:
            check_room(member.server.url, member.server.facts, wanted)
        self._rouse()
        self._run(self._begin())
        yield from self._fly(wanted, self.policy.end_ids)
        self._nap()

    def update(self, weights: Any) -> None:
        """Publish the present weights of `weights` (the policy's model), and ask the canary.

        Iterators in flight end with SamplingError, or with `in_flight` = "keep" go on with the new weights.
        Raises SamplingError when the folder is full (the servers keep the weights before), a server cannot
        load, or the canary finds other weights than these."""
        if self.settings.in_flight == "abort":
            self._abandon("the weights were updated while responses were in flight")
        self._run(self._fleet.shut())
        try:
            ranks.barrier()  # nobody lets servers in any more
            self._publish_to_all(weights)
        finally:
            self._loop.call_soon_threadsafe(self._fleet.reopen)

    # on every rank

    def _publish_to_all(self, weights: Any) -> None:
        """By the way that is chosen, or by files; then the canary."""
        begun, way = time.perf_counter(), self._way(weights)
        answers = self._sent(weights, way) if way else {}
        self._last = way.carrier if way and answers else None
        if not answers:
            answers = self._written(weights)
            self._last = self._outbox
        assert self._weights is not None
        folder, name = self._weights
        for member in self._fleet.members if self._adapter_alone else ():
            member.server.adapter = name  # on every rank
        self._canaries.judge(answers)
        if self._outbox is not None and folder is not None:
            self._outbox.served(folder)
        log.info("weights %s published in %.2f s", name, time.perf_counter() - begun)

    def _written(self, weights: Any) -> dict[str, Answers]:
        """Publish as files; the canary's answers."""
        folder, name = self._write(weights)
        self._weights, self._canaries.reference = (folder, name), None
        return self._on_main(lambda: self._run(self._publish(folder, name)))

    def _sent(self, weights: Any, way: direct.Direct) -> dict[str, Answers]:
        """Publish without files, as `_written`; no answers: nobody took the weights."""
        way.carrier.agree()
        urls = self._on_main(lambda: self._run(self._present()))
        what, tensors = direct.told(weights, self.dtype), full_tensors(weights, self.dtype)
        if not ranks.main():
            way.follow(what, tensors)
        name, answers = self._on_main(lambda: self._take(way, urls, what, tensors))
        self._weights, self._canaries.reference = (None, name), None
        return answers

    def _take(
        self, way: direct.Direct, urls: Sequence[str], what: carrier.Told, tensors: carrier.Tensors
    ) -> tuple[str, dict[str, Answers]]:
        members = [m for m in self._fleet.members if m.server.url in urls]
        name, failed = way.publish([m.server for m in members], what, tensors)
        answers = self._run(self._gather(members, failed))
        way.count(bool(answers))
        if not answers:
            said = "; ".join(f"{url}: {error}" for url, error in failed.items())
            log.warning("no server took weights by %s; these go by files. %s", way.way, said)
        return name, answers

    def _write(self, weights: Any) -> tuple[Path, str]:
        """Gather and write the tensors; every rank takes part, the main one writes."""

        def write() -> tuple[Path, str]:
            if self._outbox is None:
                made = Deltas if self.settings.transfer == "delta" else Outbox
                self._outbox = made(Path(self.settings.folder))
            folder, name = self._outbox.write(tensors, lora.WEIGHTS if alone else "")
            if alone:
                lora.describe(weights, folder, self.policy.base)
            return folder, name

        alone = self._adapter_alone
        tensors = lora.factors(weights) if alone else full_tensors(weights, self.dtype)
        if not ranks.main():
            for _ in tensors:
                pass
        return self._on_main(write)

    def _way(self, weights: Any) -> direct.Direct | None:
        """How these weights go to servers without files; None: by files."""
        if not self._chosen:
            facts = [m.server.facts for m in self._fleet.members]
            cuda = work_device(weights).type == "cuda"
            way = ranks.of_main(direct.chosen(self.settings, facts, cuda, self._adapter_alone))
            self._chosen = True
            if way in direct.CARRIERS:
                self._direct = direct.Direct(way, self._start, self.settings.in_flight)
        given_up = ranks.of_main(self._direct is None or self._direct.given_up)
        return None if given_up else self._direct

    @property
    def published(self) -> int | None:
        """Bytes of the last publication; None on ranks that do not write."""
        made = self._last
        return None if made is None or not ranks.main() else made.bytes

    @property
    def _adapter_alone(self) -> bool:
        """Whether adapters are published by themselves, to servers that hold their base."""
        settings = lora.settings_of(self.policy.model)
        return settings is not None and settings.publish == "adapter"

    async def _give(self, server: Vllm, folder: Path, name: str) -> None:
        """Let a server load what was written."""
        how = self.settings.in_flight
        if self._adapter_alone:
            await server.load_adapter(folder, name, how)
        elif isinstance(self._outbox, Deltas):
            await self._outbox.give(server, folder, how)
        else:
            await server.load(folder, name, how)

    def _on_main(self, act: Callable[[], T]) -> T:
        """What `act` returns on the main rank, or its SamplingError, on every rank."""
        result: tuple[Any, str] | None = None
        if ranks.main():
            try:
                result = act(), ""
            except (SamplingError, Busy, Garbled, Refused) as error:
                result = None, str(error)
        value, wrong = ranks.of_main(result)
        if wrong:
            raise SamplingError(wrong)
        return value  # type: ignore[no-any-return]

    def _rouse(self) -> None:
        """Wake colocated servers before any rank asks them."""
        if self.settings.colocated:
            if ranks.main():
                self._run(self._each("wake"))
            ranks.barrier()

    def _nap(self) -> None:
        """Put colocated servers to sleep when every rank is done with them."""
        if self.settings.colocated:
            ranks.barrier()
            if ranks.main():
                self._run(self._each("sleep"))
            ranks.barrier()

    # in the event loop

    async def _examine(self, server: Vllm) -> None:
        """SamplingError when a server is down, is not ours, or cannot be sampled from as is needed."""
        raw = None
        try:
            await self._look(server)
            if ranks.main():  # the others would find it asleep, or say the same
                if self.settings.colocated or await server.asleep():
                    await server.wake()
                raw = await reports_raw(server, canary.requests(self.policy)[0].prompt)
                if self.settings.colocated:
                    await server.sleep()
        except (Busy, Garbled, Refused) as error:
            raise SamplingError(
                f"{server.url} cannot be sampled from: {error}. Start it, see docs/servers.md"
            ) from error
        if raw:
            raise SamplingError(
                f"{server.url} reports raw log-probabilities, not those of the sampled distribution; start "
                "it with --logprobs-mode processed_logprobs"
            )

    async def _look(self, server: Vllm) -> None:
        """What the server is now, which must be the policy's model."""
        facts = await server.look()
        check_fit(server.url, facts, self.policy.model.config, self.settings)

    async def _begin(self) -> None:
        """Before sampling: each server with the present weights, or left out."""
        await asyncio.gather(*(self._confirm(member) for member in self._fleet.up))

    async def _confirm(self, member: Member) -> None:
        try:
            await self._check(member.server)
        except (Busy, Garbled) as error:
            self._fleet.failed(member, error if isinstance(error, Busy) else Busy(str(error)))

    async def _drop(self) -> None:
        """Have servers delete their copies of the weights, as far as they answer."""
        for member in self._fleet.up:
            with contextlib.suppress(Busy, Garbled, Refused, SamplingError):
                await member.server.remote("drop_published", 5.0)

    async def _each(self, verb: Literal["sleep", "wake"]) -> None:
        for member in self._fleet.up:
            try:
                await getattr(member.server, verb)()
            except Busy as error:
                self._fleet.failed(member, error)

    async def _publish(self, folder: Path, name: str) -> dict[str, Answers]:
        """Every server that is up loads the weights; its canary answers by url."""
        if self.settings.colocated:
            await self._each("wake")
        members, answers = self._fleet.up, dict[str, Answers]()
        while not answers:
            parts = await asyncio.gather(*(self._load(m, folder, name) for m in members))
            answers = {url: each for url, each in parts if each is not None}
            members = self._fleet.members
            if not answers:
                await self._fleet.hold()
        if self.settings.colocated:
            await self._each("sleep")
        return answers

    async def _present(self) -> list[str]:
        """Every server that answers, those that were left out included, awake."""
        if self.settings.colocated:
            await self._each("wake")
        return [m.server.url for m in self._fleet.members if m.up or await self._answers(m.server)]

    async def _gather(self, members: Sequence[Member], failed: direct.Failed) -> dict[str, Answers]:
        """The canary's answers of those that took the weights, by url."""
        parts = await asyncio.gather(*(self._taken(m, failed.get(m.server.url)) for m in members))
        answers = {url: each for url, each in parts if each is not None}
        if self.settings.colocated and answers:
            await self._each("sleep")
        return answers

    async def _answers(self, server: Vllm) -> bool:
        """Whether a server that was left out is there again."""
        try:
            await self._look(server)
        except (Busy, Garbled, Refused):
            return False
        return True

    async def _taken(self, member: Member, error: Exception | None) -> tuple[str, Answers | None]:
        """The canary's answers of a server that has the weights; it is left out where it does not."""
        try:
            if error is not None:
                raise error
            answers = await self._ask_canary(member.server)
            member.up = True
            return member.server.url, answers
        except (Busy, Garbled, Refused) as wrong:
            self._fleet.failed(member, wrong if isinstance(wrong, Busy) else Busy(str(wrong)))
            return member.server.url, None

    async def _load(self, member: Member, folder: Path, name: str) -> tuple[str, Answers | None]:
        try:
            await self._give(member.server, folder, name)
            answers = await self._ask_canary(member.server)
            member.up = True
            return member.server.url, answers
        except (Busy, Garbled) as error:
            self._fleet.failed(member, error if isinstance(error, Busy) else Busy(str(error)))
            return member.server.url, None

    async def _ask_canary(self, server: Vllm) -> Answers:
        ends = self.policy.end_ids
        asked = canary.requests(self.policy)
        return list(await asyncio.gather(*(server.complete(r, ends, LOAD) for r in asked)))

    async def _check(self, server: Vllm) -> None:
        """Busy when the server does not answer or serves other weights than the present ones."""
        assert self._weights is not None and server.facts is not None
        if not server.facts.versions:
            await server.call("GET", "/health")
            return
        name = await server.version()
        if name != self._weights[1]:
            raise Busy(
                f"{server.url} serves weights {name!r}, not {self._weights[1]!r}: was it started again?"
            )

    async def _admit(self, server: Vllm) -> None:
        """See to it that a server that was down serves the present weights."""
        if self._weights is None or self._canaries.reference is None:
            raise Busy(f"{server.url} waits for weights to be published")
        assert server.facts is not None
        if server.facts.versions and await server.version() == self._weights[1]:
            return
        await self._look(server)
        folder, name = self._weights
        if folder is None:
            raise Busy(
                f"{server.url} waits for the next weights: they are sent, and there is no file of these"
            )
        if self.settings.transfer == "delta" and self._outbox is None and not self._adapter_alone:
            raise Busy(f"{server.url} waits for the first rank, which has its weights and brings them")
        await self._give(server, folder, name)
        self._canaries.returned(server.url, await self._ask_canary(server))
