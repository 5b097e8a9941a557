"""Weights between processes on real GPUs: the memory of one that two share, NCCL between two. The first
passed on an H200; the second has not been run."""

from __future__ import annotations

import asyncio
import base64
import multiprocessing
import pickle
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor

from acereason.sample.servers import direct, ipc, nccl
from acereason.sample.servers.carrier import Party
from acereason.sample.servers.delta import digest
from fake_vllm import tiny_policy

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")]


@contextmanager
def worker(act: Any) -> Iterator[Any]:
    """`act` in a process of its own; what is asked of it through the pipe."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=act, args=(there,), daemon=True)
    process.start()
    yield here
    here.send(None)
    process.join(60)


def opening(pipe: Any) -> None:
    """A worker of vLLM's `ipc` engine, packed: opens what it is told, copies, and says the hashes."""
    from torch.multiprocessing.reductions import rebuild_cuda_tensor

    opened: dict[tuple[Any, ...], Tensor] = {}
    while (info := pipe.recv()) is not None:
        handles = pickle.loads(base64.b64decode(info["ipc_handles_pickled"]))
        told = list(handles[str(torch.cuda.get_device_properties(0).uuid)])
        told[6] = 0
        if tuple(told) not in opened:
            opened = {tuple(told): rebuild_cuda_tensor(*told)}
        buffer = opened[tuple(told)][: sum(info["tensor_sizes"])]
        named = zip(info["names"], info["shapes"], buffer.split(info["tensor_sizes"]), strict=True)
        pipe.send({n: digest(t.clone().view(torch.bfloat16).view(s).cpu()) for n, s, t in named})


def receiving(pipe: Any) -> None:
    """A worker of vLLM's `nccl` engine on the second GPU, by the library's own calls."""
    torch.cuda.set_device(1)
    library, (name, info) = nccl.Library(), pipe.recv()
    group = library.join(name, 1, 2)
    library.total(group, torch.zeros(1, device="cuda"), torch.cuda.current_stream().cuda_stream)
    got = [torch.empty(shape, dtype=torch.bfloat16, device="cuda") for shape in info["shapes"]]
    for tensor in got:
        library.broadcast(group, tensor, torch.cuda.current_stream().cuda_stream)
    torch.cuda.synchronize()
    pipe.send({n: digest(t.cpu()) for n, t in zip(info["names"], got, strict=True)})
    pipe.recv()


def weights() -> tuple[Any, list[tuple[str, Tensor]]]:
    model = tiny_policy(seed=3).model
    told = direct.told(model, torch.bfloat16)
    return told, [(n, p.detach().bfloat16().cuda()) for n, p in model.named_parameters()]


def test_a_process_reads_the_buffers_of_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ipc, "LEAST", 4096)
    told, tensors = weights()
    got: dict[str, str] = {}
    with worker(opening) as pipe:

        def post(info: dict[str, Any]) -> Future[None]:
            pipe.send(info)
            got.update(pipe.recv())
            done: Future[None] = Future()
            done.set_result(None)
            return done

        carrier = ipc.Ipc()
        carrier.agree()
        for _ in range(2):  # a buffer is given back and made again
            carrier.carry(told, tensors, post)
            assert got == {name: digest(tensor.cpu()) for name, tensor in tensors}
            got.clear()


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")
def test_nccl_carries_between_two_gpus() -> None:
    told, tensors = weights()
    with worker(receiving) as pipe:
        carrier = nccl.Nccl()

        async def init(url: str, info: dict[str, Any]) -> None:
            pipe.send((base64.b64decode(info["nccl_unique_id_b64"]), told))

        asyncio.run(carrier.meet([Party("http://a", ["GPU"])], True, init))  # type: ignore[arg-type]
        done: Future[None] = Future()
        done.set_result(None)
        carrier.carry(told, tensors, lambda info: done)
        assert pipe.recv() == {name: digest(tensor.cpu()) for name, tensor in tensors}
        carrier.close()
