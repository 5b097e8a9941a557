"""Data parallel learning by FSDP2: every rank holds a shard of each parameter and learns its own examples.

    shard(model, placement)            parameters over the ranks of `torchrun`, or in bf16 on one
    share(examples)                    this rank's part of a batch that all know, of equal cost
    micro_batches(model, own, budget)  its packs, as many as every other rank has

Parameters, their gradients and the optimiser's state stay in the parameters' own type; the forward and
backward pass compute in `placement.compute`, sums over ranks are made in `placement.reduce`. Gradients are
*sums* over micro-batches and ranks, so that the loss carries the global denominator (law 3). Each
micro-batch gathers the layers' parameters one after the other and scatters their gradients, hence all ranks
do equally many: one that has none left computes along on a pack that weighs nothing.

With `placement.sequence` = S, S neighbouring ranks learn the same packs together, each a slice of the places
(`policy.sequence`); `micro_tokens` are those of one rank.

A sequence of L tokens costs L + L² / (12 hidden): the matrices take 24 hidden² operations a token and layer,
causal attention 2 hidden L. Not covered: tensor or pipeline parallelism.
"""

from __future__ import annotations

import atexit
import heapq
import inspect
import logging
import math
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from types import MethodType
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import (
    CPUOffloadPolicy,
    FSDPModule,
    MixedPrecisionPolicy,
    OffloadPolicy,
    fully_shard,
    register_fsdp_forward_method,
)

from acereason import ranks
from acereason.config import Placement
from acereason.errors import ConfigError
from acereason.policy import halves, sequence
from acereason.policy import model as models
from acereason.policy.frozen import layers
from acereason.policy.marks import marks_of
from acereason.policy.packing import Example, Pack, pack

log = logging.getLogger(__name__)
T = TypeVar("T")
FILLER = Example([0], [0], -1)  # what a rank without examples computes along with


def device(placement: Placement) -> torch.device:
    """Where this rank learns. ConfigError when a CUDA device is asked for and there is none."""
    if placement.device == "cuda" and not torch.cuda.is_available():
        raise ConfigError('placement.device is "cuda", but torch finds no CUDA device; use "auto" or "cpu"')
    cuda = placement.device != "cpu" and torch.cuda.is_available()
    return torch.device("cuda", torch.cuda.current_device()) if cuda else torch.device("cpu")


def wanted(placement: Placement) -> bool:
    """Whether the model has to be sharded: on several ranks, unless each is to hold all of it, and on CUDA
    where it computes in another type."""
    if placement.parallel == "replicate":
        return False
    return ranks.world() > 1 or (placement.compute != "float32" and device(placement).type == "cuda")


def is_sharded(model: Any) -> bool:
    """Whether `shard` was applied."""
    return isinstance(model, FSDPModule)


def shard(model: Any, placement: Placement) -> None:
    """Distribute a model over the ranks, in place; also one on the meta device. Every rank gives the same."""
    where = device(placement)
    if not dist.is_initialized():  # alone, but in another precision
        dist.init_process_group(
            "cpu:gloo,cuda:nccl" if where.type == "cuda" else "gloo",
            store=dist.HashStore(),  # type: ignore[attr-defined]
            rank=0,
            world_size=1,
        )
        atexit.register(dist.destroy_process_group)
    marks = marks_of(model)
    marks.sequence = _part(model, placement)
    compute: torch.dtype = getattr(torch, placement.compute)
    mesh = init_device_mesh(where.type, (ranks.world(),))
    policy = MixedPrecisionPolicy(
        param_dtype=compute, reduce_dtype=getattr(torch, placement.reduce), cast_forward_inputs=False
    )
    offload = "parameters" in placement.offload
    resting = CPUOffloadPolicy(pin_memory=where.type == "cuda") if offload else OffloadPolicy()
    how: dict[str, Any] = {"mesh": mesh, "mp_policy": policy, "offload_policy": resting}
    keep = ranks.world() == 1 and not offload  # else something is saved by giving parameters back
    for layer in layers(model):
        fully_shard(layer, reshard_after_forward=not keep, **how)
    fully_shard(model, **how)
    for module in model.modules():
        if isinstance(module, FSDPModule):
            module.set_gradient_divide_factor(1.0)
            module.set_force_sum_reduction_for_comms(True)
    marks.compute, marks.works_on = compute, where
    model.packed_logprobs = MethodType(models.packed_logprobs, model)
    register_fsdp_forward_method(model, "packed_logprobs")


def rests_on(placement: Placement) -> torch.device | None:
    """Where parameters lie while they are not at work; None: where they work."""
    return torch.device("cpu") if "parameters" in placement.offload else None


def settle(model: Any, placement: Placement) -> None:
    """Put a model that was built here to where it works; of offloaded ones only what is no parameter."""
    where = device(placement)
    if rests_on(placement) is None:
        model.to(where)
        return
    for module in model.modules():
        for name, buffer in module.named_buffers(recurse=False):
            module._buffers[name] = buffer.to(where)


def _part(model: Any, placement: Placement) -> sequence.Part | None:
    """This rank's part of every pack. ConfigError: the ranks, or the model's heads, are not divided."""
    size = placement.sequence
    if size == 1:
        return None
    if ranks.world() % size:
        raise ConfigError(
            f"placement.sequence = {size} needs a number of ranks that {size} divides, not {ranks.world()}"
        )
    sequence.check(model.config.get_text_config().num_attention_heads, size)
    groups = [dist.new_group(range(first, first + size)) for first in range(0, ranks.world(), size)]
    return sequence.Part(groups[ranks.rank() // size], ranks.rank() % size, size)


def pooled(model: Any, own: Sequence[T]) -> list[T]:
    """What the ranks that learn together have, in the order of ranks. Collective among these."""
    part = sequence.of(model)
    if part is None:
        return list(own)
    every: list[list[T]] = [[] for _ in range(part.size)]
    dist.all_gather_object(every, list(own), group=part.group)
    return [item for each in every for item in each]


def leads(model: Any) -> bool:
    """Whether this rank counts what the ranks that learn together all computed."""
    part = sequence.of(model)
    return part is None or part.index == 0


def prepare(model: Any, placement: Placement) -> None:
    """What is done to a model before it is sharded: fused kernels, activation checkpointing, compilation; and
    where it is not, bfloat16 products over weights of float32.

    ConfigError: a whole model on each of several CUDA ranks."""
    marks_of(model).offload = placement.offload
    if "parameters" in placement.offload and not wanted(placement):
        raise ConfigError(
            'placement.offload of "parameters" is FSDP2\'s: it needs a CUDA device with placement.compute = '
            '"bfloat16", or several ranks with placement.parallel = "shard"'
        )
    if placement.sequence > 1 and not wanted(placement):
        raise ConfigError(
            f'placement.sequence = {placement.sequence} needs placement.parallel = "shard" and several ranks '
            "(torchrun --nproc-per-node)"
        )
    if placement.parallel == "replicate" and ranks.world() > 1:
        if device(placement).type == "cuda":
            raise ConfigError(
                'placement.parallel = "replicate" is for processors; use "shard" on CUDA devices'
            )
        marks_of(model).replicated = getattr(torch, placement.reduce)
    if placement.compute == "bfloat16" and not wanted(placement) and model.dtype == torch.float32:
        if halves.available(device(placement)):
            halves.halve(model)
        else:
            log.warning("this processor has no bfloat16 products; float32 is used in their place")
    cuda = device(placement).type == "cuda"  # a halved model has norms of its own
    if placement.kernels == "auto" and cuda and not marks_of(model).halved and find_spec("liger_kernel"):
        fuse(model)
    if placement.checkpoint_activations:
        enable = getattr(model, "activation_checkpointing_enable", None)  # its name since transformers 5.20
        (enable or model.gradient_checkpointing_enable)({"use_reentrant": False})
    if placement.compile:
        for layer in layers(model):  # on CPU a pack's layout is Python data, which must not be compiled in
            part = layer if device(placement).type == "cuda" else layer.mlp
            part.forward = torch.compile(part.forward, dynamic=True)


def fuse(model: Any) -> None:
    """Put Liger's rotation, norms and gated activation into a model, where Liger knows its architecture, and
    of these what it puts in by itself: its functions do not know the same ones (Gemma's gate is no SwiGLU).
    The head stays ours, for Liger's knows no temperature. Liger puts them into the architecture's module, so
    later models of the process have them too."""
    from liger_kernel.transformers import monkey_patch

    apply = monkey_patch.MODEL_TYPE_TO_APPLY_LIGER_FN.get(model.config.model_type)
    if apply is not None:
        known = inspect.signature(apply).parameters
        heads = {name: False for name in ("cross_entropy", "fused_linear_cross_entropy") if name in known}
        apply(**heads, model=model)


def cost(tokens: int, hidden: int) -> float:
    """What a sequence costs, in units of one token without attention."""
    return tokens + tokens**2 / (12 * hidden)


def balanced(costs: Sequence[float], parts: int) -> list[list[int]]:
    """Indices in so many parts of nearly equal cost: the dearest first, each into the cheapest part."""
    heap = [(0.0, part) for part in range(parts)]
    result: list[list[int]] = [[] for _ in range(parts)]
    for index in sorted(range(len(costs)), key=lambda i: -costs[i]):
        total, part = heapq.heappop(heap)
        result[part].append(index)
        heapq.heappush(heap, (total + costs[index], part))
    return result


def fitting(lengths: Sequence[int], costs: Sequence[float], budget: int) -> list[list[int]]:
    """As few balanced parts as hold at most `budget` tokens each, or one sequence."""
    parts = max(1, math.ceil(sum(lengths) / budget))
    while not _fits(groups := balanced(costs, parts), lengths, budget):
        parts += 1
    return groups


def _fits(groups: Sequence[Sequence[int]], lengths: Sequence[int], budget: int) -> bool:
    return all(len(g) <= 1 or sum(lengths[i] for i in g) <= budget for g in groups)


def share(model: Any, batch: Sequence[Example]) -> list[Example]:
    """This rank's examples of a batch that every rank knows, at about equal cost; ranks that learn together
    have the same."""
    if ranks.world() == 1:
        return list(batch)
    size = 1 if (part := sequence.of(model)) is None else part.size
    costs = [cost(len(e), model.config.hidden_size) for e in batch]
    return [batch[i] for i in balanced(costs, ranks.world() // size)[ranks.rank() // size]]


def micro_batches(model: Any, examples: Sequence[Example], budget: int) -> Iterator[Pack]:
    """This rank's examples as packs of about `budget` tokens, each to be computed before the next is taken.
    A sharded model needs equally many on every rank: those that are `is_filler` are to be computed with
    weight 0. Collective."""
    if not is_sharded(model):
        yield from models.micro_batches(model, examples, budget)
        return
    packs = _even_packs(model, examples, budget)
    for number, packed in enumerate(packs, 1):
        if ranks.world() == 1:  # no memory is saved by handing each one's gradient over
            model.set_requires_gradient_sync(number == len(packs))
        yield packed


def _even_packs(model: Any, examples: Sequence[Example], budget: int) -> list[Pack]:
    lengths = [len(e) for e in examples]
    budget *= 1 if (part := sequence.of(model)) is None else part.size
    costs = [cost(length, model.config.hidden_size) for length in lengths]
    groups = fitting(lengths, costs, budget) if examples else []
    count = int(ranks.largest(torch.tensor(len(groups))))
    even = balanced(costs, count)
    if _fits(even, lengths, budget):
        groups = even
    groups += [[] for _ in range(count - len(groups))]
    waste = models.waste(model)
    return [pack([examples[i] for i in group] or [FILLER], waste) for group in groups]


def reduce_gradients(model: Any) -> None:
    """Add up the gradients of ranks that each hold the whole model, in place. Collective."""
    dtype = marks_of(model).replicated
    if dtype is None:
        return
    for parameter in model.parameters():
        if parameter.requires_grad:
            own = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
            summed = own if own.dtype == dtype else own.to(dtype)
            dist.all_reduce(summed)
            parameter.grad = own.copy_(summed)


def is_filler(packed: Pack) -> bool:
    """Whether a pack only keeps the ranks in step."""
    return int(packed.owners[0]) < 0
