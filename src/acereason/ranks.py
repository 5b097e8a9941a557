"""The ranks of a run: one process, or those that `torchrun` started. Every function works alone, too.

    with ranks.joined():              # joins the process group when there is one
        share = ranks.share(prompts)  # every rank asks, judges and learns from its own

Collectives must be called by every rank in the same order.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from acereason import lifeline, stopping

T = TypeVar("T")


def rank() -> int:
    """This process's number, 0 when alone."""
    return dist.get_rank() if dist.is_initialized() else 0


def world() -> int:
    """How many processes there are."""
    return dist.get_world_size() if dist.is_initialized() else 1


def main() -> bool:
    """Whether this is the rank that writes what all share."""
    return rank() == 0


def local_world() -> int:
    """How many of them are on this machine."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1")) if dist.is_initialized() else 1


@contextmanager
def joined(minutes: float = 60.0) -> Iterator[None]:
    """Join the process group that `torchrun` describes in the environment; leave it at the end.

    A rank that waits for longer than `minutes` on another ends with an error; one that waits for a rank that
    died ends minutes after that (`lifeline`)."""
    if "RANK" not in os.environ or int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield
        return
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    dist.init_process_group(backend(), timeout=timedelta(minutes=minutes))
    with _watched():
        yield
    dist.destroy_process_group()  # not after an error: it would wait for what the others still send


@contextmanager
def _watched() -> Iterator[None]:
    """While a rank is in here, its death ends the others."""
    line = lifeline.hold(rank(), world(), of_main, os.environ["MASTER_ADDR"])
    try:
        yield
    except stopping.Preempted:  # every rank's
        if line:
            line.leave()
        raise
    except BaseException:
        if line:
            line.fail()
        raise
    if line:
        line.leave()


def backend() -> str:
    """What carries the ranks' messages: gloo, and NCCL for tensors on CUDA devices."""
    return "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"


def share(items: Sequence[T]) -> Sequence[T]:
    """This rank's part of what all ranks hold: items rank, rank + world, …"""
    return items[rank() :: world()]


def total(values: Tensor) -> Tensor:
    """The sum over ranks of a small CPU tensor."""
    return _reduce(values, dist.ReduceOp.SUM)


def largest(values: Tensor) -> Tensor:
    """The elementwise maximum over ranks of a small CPU tensor."""
    return _reduce(values, dist.ReduceOp.MAX)


def _reduce(values: Tensor, operation: Any) -> Tensor:
    if world() == 1:
        return values
    result = values.clone()
    dist.all_reduce(result, operation)
    return result


def gathered(value: T) -> list[T]:
    """Every rank's plain value, in the order of ranks (small data: it is pickled between our own ranks)."""
    if world() == 1:
        return [value]
    values: list[Any] = [None] * world()
    dist.all_gather_object(values, value)
    return values


def merged(own: Sequence[T]) -> list[T]:
    """Every rank's part put together again, in the order that `share` took the items from."""
    parts = gathered(list(own))
    return [part[i] for i in range(len(parts[0])) for part in parts if i < len(part)]


def merged_at_main(own: Sequence[T]) -> list[T]:
    """As `merged`, on the main rank; nothing on the others."""
    if world() == 1:
        return list(own)
    parts: list[Any] | None = [None] * world() if main() else None
    dist.gather_object(list(own), parts)
    if parts is None:
        return []
    return [part[i] for i in range(len(parts[0])) for part in parts if i < len(part)]


def of_main(value: T | None) -> T:
    """The main rank's value, on every rank."""
    values: list[Any] = [value]
    if world() > 1:
        dist.broadcast_object_list(values)
    return values[0]  # type: ignore[no-any-return]


def barrier() -> None:
    """Wait until every rank is here."""
    if world() > 1:
        dist.barrier()
