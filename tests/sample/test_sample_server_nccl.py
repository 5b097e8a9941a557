"""Weights by NCCL: whom nobody waits for. The library is stood in for by a class, so nothing is compiled."""

from __future__ import annotations

import asyncio
import ctypes
import threading
from typing import Any

import pytest
import torch

from acereason.sample.servers import nccl
from acereason.sample.servers.carrier import Party


class Quiet:
    """In the place of `nccl.Library`: a group of whoever is told."""

    def __init__(self) -> None:
        self.sent, self.left, self.full = 0, list[Any](), threading.Event()

    def unique_id(self) -> bytes:
        return bytes(128)

    def join(self, *_: Any) -> ctypes.c_void_p:
        self.full.wait(60)
        return ctypes.c_void_p(1)

    def total(self, *_: Any) -> None: ...

    def broadcast(self, *_: Any) -> None:
        self.sent += 1

    def abort(self, group: Any) -> None:
        self.left.append(group)


class Done:
    def result(self) -> None: ...


@pytest.fixture
def carrier() -> nccl.Nccl:
    made = nccl.Nccl()
    made._library, made._device = Quiet(), None  # type: ignore[assignment]
    made._group = ctypes.c_void_p(1)
    return made


@pytest.fixture
def library(carrier: nccl.Nccl) -> Any:
    return carrier._library


def test_a_server_that_does_not_join_is_not_waited_for(carrier: nccl.Nccl, library: Any) -> None:
    async def init(url: str, info: dict[str, Any]) -> bool:
        return url != "http://b"

    parties = [Party("http://a", [None]), Party("http://b", [None])]
    with pytest.raises(OSError, match="http://b did not join"):
        asyncio.run(carrier.meet(parties, True, init))
    library.full.set()


def test_every_tensor_has_its_own_time(
    carrier: nccl.Nccl, library: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    running, begun = set[int](), list[int]()

    class Timer:
        def __init__(self, *_: Any) -> None: ...

        def start(self) -> None:
            assert not running
            running.add(id(self))
            begun.append(library.sent)

        def cancel(self) -> None:
            running.discard(id(self))

    monkeypatch.setattr(threading, "Timer", Timer)
    carrier.carry({}, ((str(i), torch.ones(2)) for i in range(3)), lambda info: Done())  # type: ignore[arg-type,return-value]
    assert begun == [0, 1, 2, 3] and not running and carrier.bytes == 24


@pytest.mark.parametrize("emptied", [False, True])
def test_a_group_that_is_left_meanwhile_sent_nothing(carrier: nccl.Nccl, library: Any, emptied: bool) -> None:
    """Whether what was on its way hangs, or the abort ended it."""

    class Event:
        def query(self) -> bool:
            carrier.lost()
            return emptied

    carrier._mark = lambda: setattr(carrier, "_sent", Event())  # type: ignore[method-assign]
    with pytest.raises(OSError, match="lost"):
        carrier.carry({}, [("a", torch.ones(2))], lambda info: Done())  # type: ignore[arg-type,return-value]
    assert len(library.left) == 1

    def never(info: dict[str, Any]) -> Any:
        raise AssertionError

    with pytest.raises(OSError, match="lost"):  # servers are not made to wait for what cannot come
        carrier.carry({}, [], never)
