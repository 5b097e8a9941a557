"""Weights by NCCL, from the trainer's GPU to the GPUs of all servers: vLLM's engine `nccl`.

The trainer is rank 0 of a group of its own with the servers' workers, one broadcast a tensor (`packed` is
off). They meet by an id of NCCL's that is sent over HTTP (`nccl_unique_id_b64`), so the trainer needs none of
vLLM: only NCCL, of the same version as the servers', which torch brings. vLLM's workers sum one element
after joining; so does the trainer. Source: vllm/distributed/weight_transfer/nccl_common.py and
device_communicators/pynccl.py, version 0.32.

Not run at this scale: tests put a small library in NCCL's place that speaks its calls over sockets.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import ctypes
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from acereason.sample.servers.carrier import SECONDS, Carrier, Init, Party, Post, Tensors, Told

LIBRARY = "libnccl.so.2"
TYPES = {torch.float16: 6, torch.float32: 7, torch.float64: 8, torch.bfloat16: 9}  # ncclDataType_t
SUM = 0  # ncclRedOp_t


class UniqueId(ctypes.Structure):
    """ncclUniqueId."""

    _fields_ = (("internal", ctypes.c_byte * 128),)


class Library:
    """The calls of NCCL that are needed. OSError: one failed, or there is no library."""

    def __init__(self, path: str = "") -> None:
        try:
            self._calls = ctypes.CDLL(path or LIBRARY)
        except OSError as error:
            raise OSError(f"NCCL cannot be loaded: {error}") from error
        self._calls.ncclGetErrorString.restype = ctypes.c_char_p

    def unique_id(self) -> bytes:
        """The name of a new group, 128 bytes."""
        made = UniqueId()
        self._done(self._calls.ncclGetUniqueId(ctypes.byref(made)))
        return bytes(made)

    def join(self, unique_id: bytes, rank: int, world: int) -> ctypes.c_void_p:
        """Come into the group; waits for all others."""
        group, named = ctypes.c_void_p(), UniqueId.from_buffer_copy(unique_id)
        self._done(self._calls.ncclCommInitRank(ctypes.byref(group), world, named, rank))
        return group

    def broadcast(self, group: ctypes.c_void_p, tensor: Tensor, stream: int) -> None:
        """Send a contiguous tensor from rank 0, in the order of the stream."""
        at, count = ctypes.c_void_p(tensor.data_ptr()), ctypes.c_size_t(tensor.numel())
        how = TYPES[tensor.dtype], 0, group, ctypes.c_void_p(stream)
        self._done(self._calls.ncclBroadcast(at, at, count, *how))

    def total(self, group: ctypes.c_void_p, tensor: Tensor, stream: int) -> None:
        """The sum over all ranks, in place."""
        at, count = ctypes.c_void_p(tensor.data_ptr()), ctypes.c_size_t(tensor.numel())
        how = TYPES[tensor.dtype], SUM, group, ctypes.c_void_p(stream)
        self._done(self._calls.ncclAllReduce(at, at, count, *how))

    def abort(self, group: ctypes.c_void_p) -> None:
        """Leave the group, and end what waits in it."""
        self._calls.ncclCommAbort(group)

    def _done(self, status: int) -> None:
        if status:
            raise OSError(f"NCCL: {self._calls.ncclGetErrorString(status).decode('utf-8', 'replace')}")


class Nccl(Carrier):
    """See the module. The group stays as long as its servers do."""

    backend = "nccl"

    def __init__(self) -> None:
        self._library: Library | None = None
        self._group: ctypes.c_void_p | None = None
        self._lock = threading.Lock()
        self._sent: Any = None  # the event after the last tensor
        self._device = (
            torch.device("cuda", torch.cuda.current_device()) if torch.cuda.is_available() else None
        )

    async def meet(self, parties: Sequence[Party], fresh: bool, init: Init) -> None:
        if self._group is not None and not fresh:
            return
        self.lost()
        self._library = self._library or Library()
        world, name, offset, told = 1 + sum(len(p.gpus) for p in parties), self._library.unique_id(), 1, []
        for party in parties:
            told.append((party.url, _info(name, offset, world)))
            offset += len(party.gpus)
        inits = [asyncio.ensure_future(_ready(init, url, info)) for url, info in told]
        try:
            async with asyncio.timeout(SECONDS):
                self._group, *_ = await asyncio.gather(_aside(lambda: self._join(name, world)), *inits)
        except TimeoutError:
            raise TimeoutError(
                f"servers and trainer did not meet by NCCL within {SECONDS:.0f} s: have they the same "
                "version of NCCL, and can they reach one another?"
            ) from None
        finally:
            for each in inits:
                each.cancel()

    def _join(self, name: bytes, world: int) -> ctypes.c_void_p:
        assert self._library is not None
        if self._device is not None:
            torch.cuda.set_device(self._device)
        group = self._library.join(name, 0, world)
        self._library.total(group, torch.zeros(1, device=self._device), self._stream())
        if self._device is not None:
            torch.cuda.current_stream().synchronize()
        return group

    def carry(self, what: Told, tensors: Tensors, post: Post) -> None:
        self._still()
        taken, self.bytes = post(dict(what)), 0
        try:
            for _, tensor in tensors:
                with self._watched():
                    self._wait()  # for the one before, so that the time is one tensor's
                    self._send(tensor.detach().to(self._device or tensor.device).contiguous())
            with self._watched():
                self._wait()
        except OSError:
            self.lost()
            raise
        taken.result()

    @contextlib.contextmanager
    def _watched(self) -> Iterator[None]:
        """The group is left when this takes too long, which ends what waits in it."""
        watch = threading.Timer(SECONDS, self.lost)
        watch.daemon = True
        watch.start()
        try:
            yield
        finally:
            watch.cancel()

    def _still(self) -> tuple[Library, ctypes.c_void_p]:
        """The group. OSError: it was left."""
        if self._group is None or self._library is None:
            raise OSError("a server was lost, or took no weights in time")
        return self._library, self._group

    def _send(self, tensor: Tensor) -> None:
        with self._lock:
            library, group = self._still()
            library.broadcast(group, tensor, self._stream())
        self._mark()
        self.bytes += tensor.nbytes

    def _stream(self) -> int:
        return int(torch.cuda.current_stream().cuda_stream) if self._device is not None else 0

    def _mark(self) -> None:
        """Remember that what was sent until now is the last to be waited for."""
        self._sent = None if self._device is None else torch.cuda.Event()
        if self._sent is not None:
            self._sent.record()

    def _wait(self) -> None:
        """Until all that was sent has gone. OSError: the group was left, which empties the stream, too."""
        while self._sent is not None and not self._sent.query():
            self._still()
            time.sleep(1e-3)
        self._still()

    def lost(self) -> None:
        free = self._lock.acquire(timeout=1.0)  # not while a call begins; one that hangs is ended by this
        group, self._group = self._group, None
        if group is not None and self._library is not None:
            self._library.abort(group)
        if free:
            self._lock.release()

    def close(self) -> None:
        self.lost()


def _info(name: bytes, offset: int, world: int) -> dict[str, Any]:
    """`NCCLWeightTransferInitInfo` of a server whose first worker has the rank `offset`."""
    return {
        "nccl_unique_id_b64": base64.b64encode(name).decode(),
        "rank_offset": offset,
        "world_size": world,
        "packed": False,
    }


async def _ready(init: Init, url: str, info: dict[str, Any]) -> None:
    """OSError: a server did not come, and the group is not complete without it."""
    if not await init(url, info):
        raise OSError(f"{url} did not join")


async def _aside(act: Callable[[], Any]) -> Any:
    """What `act` returns in a thread that does not keep the process from ending."""
    loop = asyncio.get_running_loop()
    done = loop.create_future()

    def tell(how: Callable[[Any], None], value: Any) -> None:
        if not done.done():
            how(value)

    def run() -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed, nobody waits any more
            try:
                loop.call_soon_threadsafe(tell, done.set_result, act())
            except BaseException as error:
                loop.call_soon_threadsafe(tell, done.set_exception, error)

    threading.Thread(target=run, daemon=True, name="nccl").start()
    return await done
