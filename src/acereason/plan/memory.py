"""Memory of one GPU while it learns and while it samples, in bytes, part by part.

Learning, N ranks, FSDP2 as in `train.parallel`, P parameters:

    states       16 P / N: float32 weights, gradients, and Adam's two moments
    gathered     the bfloat16 weights at work: two layers and the root (embedding, head); all when N = 1
    gradients    of the layer or root that is being reduced: bfloat16, and float32 for the sum; and the
                 head's, which is reduced last
    head         one chunk of logits with what is made of it, or the head's float32 gradient
    second       2 Q / N + its two gathered layers: a teacher's or reference's Q parameters in bfloat16
    activations  per token and layer 16 E + 4 Q + 4 K + 8 I bytes (E hidden, Q and K query and key-value
                 width, I intermediate): two norms with their float32 input, q, k, v, attention, and the
                 gated MLP; with checkpointing 2 E, and one layer in full
    other        CUDA context, NCCL, fragmentation, and a sleeping vLLM that shares the GPU: assumed

Sampling: bfloat16 weights over `tensor_parallel` GPUs, the cache, and beside a trainer its 12 P / N (weights
and moments; gradients are gone). A sleeping server keeps its weights in the machine's memory.
"""

from __future__ import annotations

from dataclasses import dataclass

from acereason.plan.shapes import Shape

GIB = 1 << 30
CHUNK = 1 << 28  # logits held at a time on CUDA, as in policy.head
OTHER = 3.0 * GIB  # assumed
ASLEEP = 1.5 * GIB  # assumed
SERVER = 3.0 * GIB  # assumed: CUDA context, graphs and activations of vLLM
STEP = 1024  # tokens that fit are rounded down to a multiple of it


@dataclass(frozen=True, slots=True)
class Machine:
    """`gpus` learn; they also sample (colocated) unless `separate` GPUs do. `memory` is bytes of one GPU."""

    gpus: int
    memory: float
    separate: int = 0
    tensor_parallel: int = 1

    @property
    def samplers(self) -> int:
        """How many vLLM servers there are."""
        return max((self.separate or self.gpus) // self.tensor_parallel, 1)


def activation(shape: Shape) -> int:
    """Bytes that one layer keeps per token for the backward pass, without checkpointing."""
    return 16 * shape.hidden + 4 * shape.query_width + 4 * shape.kv_width + 8 * shape.intermediate


def _backward(shape: Shape) -> int:
    """Bytes per token of gradients inside one layer while it is done: those of the MLP are the most."""
    return 2 * (3 * shape.intermediate + 2 * shape.hidden)


def per_token(shape: Shape, checkpointing: bool) -> float:
    """Bytes that one token of a micro-batch takes while learning."""
    kept = shape.layers * 2 * shape.hidden + activation(shape)
    layers = kept if checkpointing else shape.layers * activation(shape)
    outside = 14 * shape.hidden  # embedding, last norm, hidden states at the head and their gradient
    return layers + _backward(shape) + outside


def second(shape: Shape, machine: Machine) -> float:
    """Bytes of a second model of that shape, which only tells log-probabilities."""
    gathered = 0.0 if machine.gpus == 1 else 2.0 * (2 * shape.layer + shape.root)
    return 2.0 * shape.parameters / machine.gpus + gathered


def learning(
    shape: Shape, machine: Machine, tokens: int, checkpointing: bool, beside: Shape | None = None
) -> dict[str, float]:
    """What learning takes with micro-batches of so many tokens, and a second model where there is one."""
    alone = machine.gpus == 1
    layer_gradients = 6.0 * shape.layer + 2.0 * shape.embedding
    root_gradients = 2.0 * shape.root + 4.0 * shape.root
    other = {} if beside is None else {"second": second(beside, machine)}
    return {
        "states": 16.0 * shape.parameters / machine.gpus,
        "gathered": 2.0 * (shape.parameters if alone else 2 * shape.layer + shape.root),
        "gradients": max(layer_gradients, root_gradients),
        "head": max(4.0 * shape.embedding, 2.5 * 4 * CHUNK),
        "activations": tokens * per_token(shape, checkpointing),
        **other,
        "other": OTHER + (0 if machine.separate else ASLEEP),
    }


def fitting(shape: Shape, machine: Machine, checkpointing: bool, beside: Shape | None = None) -> int:
    """Most tokens of a micro-batch that fit, a multiple of 1,024; 0 when nothing does."""
    room = machine.memory - sum(learning(shape, machine, 0, checkpointing, beside).values())
    return max(int(room / per_token(shape, checkpointing)) // STEP * STEP, 0)


def sampling(shape: Shape, machine: Machine, beside: Shape | None = None) -> dict[str, float]:
    """What a GPU that samples holds besides the cache."""
    trainer = 0.0 if machine.separate else 12.0 * shape.parameters / machine.gpus + OTHER
    trainer += 0.0 if machine.separate or beside is None else 2.0 * beside.parameters / machine.gpus
    return {
        "trainer": trainer,
        "weights": 2.0 * shape.parameters / machine.tensor_parallel,
        "server": SERVER,
    }


def cache_tokens(shape: Shape, machine: Machine, beside: Shape | None = None) -> int:
    """Tokens of all sequences in flight that one server's cache holds; 0 when its weights do not fit."""
    room = machine.memory - sum(sampling(shape, machine, beside).values())
    return max(int(room * machine.tensor_parallel / shape.kv_bytes), 0)
