"""All weights of the large shape from one process to another on the same GPU, by the memory they share: what
`sample.servers.ipc` does for a server beside the trainer, with a process in vLLM's place that copies them."""

from __future__ import annotations

import base64
import multiprocessing
import pickle
import time
from concurrent.futures import Future
from typing import Any

import torch
from torch import Tensor

from acereason.policy.model import new_model
from acereason.sample.servers import direct, ipc
from gpu_tools import CUDA, DEVICE, DTYPE, Size, clear, wait


def copying(pipe: Any) -> None:
    """The other process: opens each buffer once, copies what it is told of into tensors of its own."""
    from torch.multiprocessing.reductions import rebuild_cuda_tensor

    opened: dict[str, Tensor] = {}
    kept: dict[str, Tensor] = {}
    while (info := pipe.recv()) is not None:
        said = info["ipc_handles_pickled"]
        if said not in opened:
            told = list(pickle.loads(base64.b64decode(said))[ipc.Buffer.gpu()])
            told[6] = 0
            opened = {said: rebuild_cuda_tensor(*told)}
        at = 0
        for name, size in zip(info["names"], info["tensor_sizes"], strict=True):
            kept.setdefault(name, torch.empty(size, dtype=torch.uint8, device="cuda")).copy_(
                opened[said][at : at + size]
            )
            at += size
        torch.cuda.synchronize()
        pipe.send(sum(int(kept[name][-2:].view(torch.int16)[0]) for name in info["names"]))


def handed_over(size: Size) -> dict[str, Any]:
    """Seconds of three publications, the first with the other's memory still to be taken."""
    if not CUDA:
        return {"not_run": "needs a CUDA device"}
    clear()
    with torch.device(DEVICE):
        model = new_model("qwen2", 1, DTYPE, **size.large)
    told, tensors = direct.told(model, None), [(n, p.detach()) for n, p in model.named_parameters()]
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=copying, args=(there,), daemon=True)
    process.start()
    sums: list[int] = []

    def post(info: dict[str, Any]) -> Future[None]:
        here.send(info)
        sums.append(here.recv())
        done: Future[None] = Future()
        done.set_result(None)
        return done

    carrier, took = ipc.Ipc(), []
    carrier.agree()
    for _ in range(3):
        wait()
        begun = time.perf_counter()
        carrier.carry(told, tensors, post)
        took.append(time.perf_counter() - begun)
    here.send(None)
    process.join(60)
    last = sum(int(t.flatten()[-1:].view(torch.int16)[0]) for _, t in tensors)
    return {
        "gb": carrier.bytes / 1e9, "first_s": took[0], "seconds": min(took[1:]),
        "gb_s": carrier.bytes / 1e9 / min(took[1:]), "right": sum(sums) == 3 * last,
    }  # fmt: skip
