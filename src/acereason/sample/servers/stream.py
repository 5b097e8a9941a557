"""Weights by TCP, tensor after tensor, to any number of workers at once: no folder that all must see.

    channel = Channel()                     the trainer listens
    channel.expect(workers)
    channel.send(tensor)                    to everyone who came, in the order that was announced
    for name, tensor in received(info): …   in a worker, which knows what is coming

A worker names itself by a token, so nobody else is sent weights. One that goes away in the middle is left
out, and `finish` says how many have everything. Servers load this file, too: torch and little else.
"""

from __future__ import annotations

import contextlib
import hmac
import socket
import time
import uuid
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from torch import Tensor

from acereason.sample.servers.carrier import SECONDS, Carrier, Init, Party, Post, Tensors, Told

PIECE = 1 << 22


class Channel:
    """The trainer's side. Its methods block; one thread calls them."""

    def __init__(self) -> None:
        self.token = uuid.uuid4().hex
        self._listener = socket.create_server(("", 0), backlog=256)
        self._workers: list[socket.socket] = []
        self._pool = ThreadPoolExecutor(16, "weights")
        self.bytes = 0

    def address(self, server: str) -> dict[str, Any]:
        """What the workers of a server (its host name) need to come here."""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:  # sends nothing; asks for the route
            probe.connect((server, 9))
            host = probe.getsockname()[0]
        return {"host": host, "port": self._listener.getsockname()[1], "token": self.token}

    def expect(self, workers: int, seconds: float = SECONDS) -> int:
        """Wait until so many workers came; returns how many did."""
        self.bytes, until = 0, time.monotonic() + seconds
        while len(self._workers) < workers and (left := until - time.monotonic()) > 0:
            self._listener.settimeout(left)
            with contextlib.suppress(OSError):
                self._welcome(self._listener.accept()[0])
        return len(self._workers)

    def _welcome(self, worker: socket.socket) -> None:
        worker.settimeout(10.0)
        said = _read(worker, bytearray(len(self.token)))
        if hmac.compare_digest(bytes(said), self.token.encode()):
            worker.settimeout(SECONDS)
            self._workers.append(worker)
        else:
            worker.close()

    def send(self, tensor: Tensor) -> None:
        """Send one tensor to all workers."""
        data = tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data
        self.bytes += len(data)
        for worker, sent in list(
            zip(self._workers, self._pool.map(self._sent(data), self._workers), strict=True)
        ):
            if not sent:
                worker.close()
                self._workers.remove(worker)

    @staticmethod
    def _sent(data: memoryview) -> Any:
        def to(worker: socket.socket) -> bool:
            try:
                worker.sendall(data)
            except OSError:
                return False
            return True

        return to

    def finish(self) -> int:
        """Part with the workers; how many were sent everything."""
        count = len(self._workers)
        for worker in self._workers:
            worker.close()
        self._workers = []
        return count

    def close(self) -> None:
        """Stop listening."""
        self.finish()
        self._listener.close()
        self._pool.shutdown(wait=False)


class Streamed(Carrier):
    """By `Channel`, to the engine that the worker extension brings (`vllm_engine`); on every build."""

    backend = "acereason_stream"

    def __init__(self) -> None:
        self._channel, self._workers = Channel(), 0

    async def meet(self, parties: Sequence[Party], fresh: bool, init: Init) -> None:
        self._workers = 0
        for party in parties:
            if await init(party.url, self._channel.address(party.host)):
                self._workers += len(party.gpus)

    def carry(self, what: Told, tensors: Tensors, post: Post) -> None:
        taken = post(dict(what))
        there = self._channel.expect(self._workers)
        for _, tensor in tensors:
            if there:
                self._channel.send(tensor)
        self._channel.finish()
        self.bytes = self._channel.bytes
        taken.result()

    def close(self) -> None:
        self._channel.close()


def received(
    address: dict[str, Any], names: Sequence[str], dtypes: Sequence[str], shapes: Sequence[Sequence[int]]
) -> Iterator[tuple[str, Tensor]]:
    """A worker's side: the announced tensors, each as it comes. ConnectionError: the trainer went away."""
    with socket.create_connection((address["host"], address["port"]), timeout=SECONDS) as trainer:
        trainer.sendall(address["token"].encode())
        for name, dtype, shape in zip(names, dtypes, shapes, strict=True):
            tensor = torch.empty(list(shape), dtype=getattr(torch, dtype))
            _read(trainer, tensor.flatten().view(torch.uint8).numpy().data)
            yield name, tensor


def _read(connection: socket.socket, into: Any) -> Any:
    """Fill a buffer."""
    view, at = memoryview(into), 0
    while at < len(view):
        count = connection.recv_into(view[at : at + PIECE])
        if not count:
            raise ConnectionError(f"the connection ended after {at:,} of {len(view):,} bytes")
        at += count
    return into
