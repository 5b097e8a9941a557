"""vLLM's weight-transfer engines as a server's workers run them, by its own account of what they are told.

`take(info)` returns what each worker got; a server loads the first, and all must be alike. NCCL is a library
that is compiled from `fake_nccl.cpp`, and a GPU's memory is a file."""

from __future__ import annotations

import base64
import ctypes
import pickle
import subprocess
import tempfile
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from acereason.sample.servers.stream import received

KEYS = ("names", "dtype_names", "shapes")
NUMBERS = {"float16": 6, "float32": 7, "float64": 8, "bfloat16": 9}  # ncclDataType_t
Got = dict[str, Tensor]


@cache
def nccl() -> Path:
    """The library; skip where nothing can compile it."""
    out = Path(tempfile.mkdtemp()) / "libnccl.so"
    source = Path(__file__).with_name("fake_nccl.cpp")
    subprocess.run(["c++", "-O1", "-shared", "-fPIC", "-std=c++17", str(source), "-o", str(out)], check=True)
    return out


class Engine:
    """`workers` of one server."""

    backend = ""

    def __init__(self, workers: int = 1) -> None:
        self.gpus: list[str | None] = [None] * workers

    def begin(self, info: dict[str, Any]) -> None:
        raise NotImplementedError

    def take(self, info: dict[str, Any]) -> Got:
        """What all workers got, alike."""
        every = self.each(lambda number: self.get(number, info))
        assert all(g.keys() == every[0].keys() for g in every)
        assert all(torch.equal(g[k], t) for g in every for k, t in every[0].items())
        return every[0]  # type: ignore[no-any-return]

    def each(self, act: Callable[[int], Any]) -> list[Any]:
        """What all workers do at one time."""
        with ThreadPoolExecutor(len(self.gpus)) as pool:
            return list(pool.map(act, range(len(self.gpus))))

    def get(self, number: int, info: dict[str, Any]) -> Got:
        raise NotImplementedError

    def end(self) -> None: ...


class Stream(Engine):
    backend = "acereason_stream"

    def begin(self, info: dict[str, Any]) -> None:
        self.address = info

    def get(self, number: int, info: dict[str, Any]) -> Got:
        return dict(received(self.address, *(info[key] for key in KEYS)))


class Nccl(Engine):
    """`NCCLWeightTransferEngine`, `packed` off: tensor after tensor, from rank 0."""

    backend = "nccl"
    vanish = -1  # the worker that goes away in the middle

    def begin(self, info: dict[str, Any]) -> None:
        assert info.keys() == {"nccl_unique_id_b64", "rank_offset", "world_size", "packed"}
        assert info["packed"] is False
        name = base64.b64decode(info["nccl_unique_id_b64"], validate=True)
        assert len(name) == 128
        self.calls = ctypes.CDLL(str(nccl()))
        self.groups = self.each(lambda n: self._join(name, info["rank_offset"] + n, info["world_size"]))

    def _join(self, name: bytes, rank: int, world: int) -> ctypes.c_void_p:
        group, one = ctypes.c_void_p(), torch.zeros(1)
        by_value = (ctypes.c_byte * 128).from_buffer_copy(name)
        passed = type("Id", (ctypes.Structure,), {"_fields_": [("internal", ctypes.c_byte * 128)]})(by_value)
        self._done(self.calls.ncclCommInitRank(ctypes.byref(group), world, passed, rank))
        at = ctypes.c_void_p(one.data_ptr())
        self._done(self.calls.ncclAllReduce(at, at, ctypes.c_size_t(1), 7, 0, group, None))
        return group

    def get(self, number: int, info: dict[str, Any]) -> Got:
        found = {}
        for place, (name, kind, shape) in enumerate(zip(*(info[key] for key in KEYS), strict=True)):
            if number == self.vanish and place == 3:
                self.calls.ncclCommAbort(self.groups[number])
            found[name] = torch.empty(shape, dtype=getattr(torch, kind))
            at, count = ctypes.c_void_p(found[name].data_ptr()), ctypes.c_size_t(found[name].numel())
            self._done(self.calls.ncclBroadcast(at, at, count, NUMBERS[kind], 0, self.groups[number], None))
        return found

    @staticmethod
    def _done(status: int) -> None:
        if status:
            raise ConnectionError(f"NCCL says {status}")


class Ipc(Engine):
    """`IPCWeightTransferEngine`, packed: views into the exported buffer, copied before the answer."""

    backend = "ipc"

    def __init__(self, *gpus: str) -> None:
        super().__init__(len(gpus))
        self.gpus = list(gpus)

    def begin(self, info: dict[str, Any]) -> None:
        assert info == {"packed": True}
        self.sizes: list[int] = []

    def get(self, number: int, info: dict[str, Any]) -> Got:
        assert info.keys() == {*KEYS, "tensor_sizes", "ipc_handles_pickled"}
        handles = pickle.loads(base64.b64decode(info["ipc_handles_pickled"], validate=True))
        path, size = handles[self.gpus[number]]
        buffer = torch.from_file(path, shared=True, size=size, dtype=torch.uint8)
        pieces = buffer[: sum(info["tensor_sizes"])].split(info["tensor_sizes"])
        told = zip(*(info[key] for key in KEYS), pieces, strict=True)
        if number == 0:
            self.sizes.append(sum(info["tensor_sizes"]))
        return {
            name: piece.contiguous().view(getattr(torch, kind)).view(shape).clone()
            for name, kind, shape, piece in told
        }


class SharedFile:
    """In the place of `ipc.Buffer`: bytes that other processes may open by a path."""

    name = "GPU-0"

    def __init__(self, size: int) -> None:
        self.path = Path(tempfile.gettempdir()) / f"acereason-buffer-{uuid.uuid4().hex}"
        self.bytes = torch.from_file(str(self.path), shared=True, size=size, dtype=torch.uint8)
        self.handle = (str(self.path), size)

    def settle(self) -> None: ...

    @classmethod
    def gpu(cls) -> str:
        return cls.name

    def close(self) -> None:
        self.path.unlink()
