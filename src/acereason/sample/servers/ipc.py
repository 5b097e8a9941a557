"""Weights by CUDA's shared memory, from trainer ranks to the workers on their own GPUs: vLLM's engine `ipc`.

For colocated servers. Every rank gathers all tensors into a buffer on its GPU, one part after another; the
servers are told where the buffers are, copy what is theirs, and answer before the next part is put in:

    /update_weights {names, dtype_names, shapes, tensor_sizes, ipc_handles_pickled: {GPU: how to open it}}

A buffer is as large as the largest tensor, and at least `LEAST`. Servers open handles only with
VLLM_ALLOW_INSECURE_SERIALIZATION=1 in their environment, since these are pickled; nothing here opens one.
Source: vllm/distributed/weight_transfer/ipc_engine.py and packed_tensor.py, version 0.32.

Run on one H200 between two processes (a 7B shape, docs/gpu.md); not with vLLM on a GPU. Tests without a GPU
put a file that is shared between processes in the GPU buffer's place.
"""

from __future__ import annotations

import base64
import math
import pickle
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from acereason import ranks
from acereason.errors import SamplingError
from acereason.sample.servers.carrier import Carrier, Init, Party, Post, Tensors, Told

LEAST = 256 << 20  # bytes of a buffer


class Buffer:
    """Bytes on this rank's GPU that other processes may open."""

    def __init__(self, size: int) -> None:
        from torch.multiprocessing.reductions import reduce_tensor

        self.bytes = torch.empty(size, dtype=torch.uint8, device="cuda")
        self.handle: Any = reduce_tensor(self.bytes)[1]

    def settle(self) -> None:
        """Wait until what was put in is there."""
        torch.cuda.current_stream().synchronize()

    @staticmethod
    def gpu() -> str:
        """The name of the GPU. SamplingError: there is none."""
        if not torch.cuda.is_available():
            raise SamplingError(
                'sampling.servers.transfer = "ipc" needs a trainer on GPUs; set "stream" or "files"'
            )
        return str(torch.cuda.get_device_properties(torch.cuda.current_device()).uuid)

    def close(self) -> None:
        """Give the memory back once nobody has it open."""
        del self.bytes
        torch.cuda.ipc_collect()


class Part(NamedTuple):
    """Neighbouring tensors that fill a buffer: where they begin among all, and their sizes in bytes."""

    first: int
    sizes: list[int]


def parts(what: Told, room: int) -> Iterator[Part]:
    """All tensors in order, in as few parts as fit into `room` bytes each."""
    first, sizes = 0, list[int]()
    for number, size in enumerate(_sizes(what)):
        if sizes and sum(sizes) + size > room:
            yield Part(first, sizes)
            first, sizes = number, []
        sizes.append(size)
    if sizes:
        yield Part(first, sizes)


def _sizes(what: Told) -> list[int]:
    types = (getattr(torch, name) for name in what["dtype_names"])
    return [math.prod(shape) * dtype.itemsize for shape, dtype in zip(what["shapes"], types, strict=True)]


class Ipc(Carrier):
    """See the module."""

    backend = "ipc"
    every_rank = True

    def __init__(self) -> None:
        self._gpus: set[str] = set()

    def agree(self) -> None:
        self._gpus = self._gpus or set(ranks.gathered(Buffer.gpu()))

    async def meet(self, parties: Sequence[Party], fresh: bool, init: Init) -> None:
        for party in parties:
            if elsewhere := {gpu for gpu in party.gpus if gpu not in self._gpus}:
                raise SamplingError(
                    f"{party.url} has workers on GPUs without a rank of the trainer ({len(elsewhere)} of "
                    f'{len(party.gpus)}); sampling.servers.transfer = "ipc" needs one on each: start so many '
                    'ranks, or set "nccl" or "files"'
                )
        for party in parties:  # all are told only where all can be
            await init(party.url, {"packed": True})

    def carry(self, what: Told, tensors: Tensors, post: Post) -> None:
        coming, self.bytes = iter(tensors), 0
        room = max([LEAST, *_sizes(what)])
        buffer = Buffer(room)
        handles = dict(ranks.gathered((Buffer.gpu(), buffer.handle)))
        said = base64.b64encode(pickle.dumps(handles)).decode()
        try:
            for part in parts(what, room):
                self._fill(buffer, part, coming)
                self._tell(_info(what, part, said), post)
        finally:
            buffer.close()

    def _fill(self, buffer: Buffer, part: Part, coming: Iterator[tuple[str, Tensor]]) -> None:
        at = 0
        for size in part.sizes:
            _, tensor = next(coming)
            data = tensor.detach().contiguous().flatten().view(torch.uint8)
            buffer.bytes[at : at + size].copy_(data)
            at += size
        buffer.settle()
        self.bytes += at

    def _tell(self, info: dict[str, Any], post: Post) -> None:
        """Have the servers copy a part. Every rank waits for their answer, since its buffer is read."""
        ranks.barrier()  # all buffers are full
        wrong = ""
        if ranks.main():
            try:
                post(info).result()
            except Exception as error:  # whatever it is, the other ranks must hear of it
                wrong = str(error) or repr(error)
        if wrong := ranks.of_main(wrong):
            raise OSError(wrong)


def _info(what: Told, part: Part, handles: str) -> dict[str, Any]:
    """`IPCWeightTransferUpdateInfo` of a part."""
    of = slice(part.first, part.first + len(part.sizes))
    return {key: what[key][of] for key in ("names", "dtype_names", "shapes")} | {
        "tensor_sizes": part.sizes,
        "ipc_handles_pickled": handles,
    }
