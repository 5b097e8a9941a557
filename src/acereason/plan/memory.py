"""Memory of one GPU while it learns and while it samples, in bytes, part by part.

Learning, N ranks, FSDP2 as in `train.parallel`, P parameters, by the means of a recipe (`Means`):

    states       float32 weights 4 P / N, gradients 4 P / N, and Adam's two moments 8 P / N, or 2 in 8 bits;
                 nothing of what is offloaded. Under adapters the base as it is kept (4, 2, or about 0.53 P in
                 4 bits), and all this of the adapters alone; of frozen layers the weights alone
    gathered     the bfloat16 weights at work: two layers and the root (embedding, head); all when N = 1 and
                 parameters are not offloaded
    gradients    of the layer or root that is being reduced: bfloat16, and float32 for the sum; and the
                 head's, which is reduced last; none under adapters
    head         one chunk of logits with what is made of it, or the head's float32 gradient
    second       2 Q / N + its two gathered layers: a teacher's or reference's Q parameters in bfloat16
    activations  per token and layer 16 E + 4 Q + 4 K + 8 I bytes (E hidden, Q and K query and key-value
                 width, I intermediate): two norms with their float32 input, q, k, v, attention, and the
                 gated MLP; with checkpointing 2 E, or nothing where it is offloaded, and one layer in full.
                 Ranks that share sequences have a share of the tokens
    other        CUDA context, NCCL, fragmentation, and a sleeping vLLM that shares the GPU: assumed

Sampling: bfloat16 weights over `tensor_parallel` GPUs, the cache, and beside a trainer its states but for the
gradients, which are gone. A sleeping server keeps its weights in the machine's memory.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from acereason.config import Recipe
from acereason.plan import shapes
from acereason.shape import Shape

GIB = 1 << 30
CHUNK = 1 << 28  # logits held at a time on CUDA, as in policy.head
OTHER = 3.0 * GIB  # assumed
ASLEEP = 1.5 * GIB  # assumed
SERVER = 3.0 * GIB  # assumed: CUDA context, graphs and activations of vLLM
FOUR_BITS = 0.5 + 4 / 64  # bytes a weight in NF4: a float32 maximum for each 64
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


@dataclass(frozen=True, slots=True)
class Means:
    """What a recipe does about memory. `rank` of adapters, 0 where all weights learn; `base`: bytes a weight
    that does not learn; `sequence`: ranks that share a sequence; `second`: the shape of a teacher or a
    reference beside the policy; `frozen`: layers, from below, that keep their weights."""

    checkpointing: bool = False
    moments: str = "float32"
    offload: tuple[str, ...] = ()
    rank: int = 0
    base: float = 4.0
    sequence: int = 1
    second: Shape | None = None
    frozen: int = 0

    @property
    def moment_bytes(self) -> float:
        """Bytes of Adam's two moments of a weight, wherever they rest."""
        return 8.0 if self.moments == "float32" else 2.0 + 8.0 / 256


def means_of(recipe: Recipe) -> Means:
    """The means of a recipe, in RL."""
    place, lora = recipe.placement, recipe.lora
    width = 4.0 if recipe.model.dtype == "float32" else 2.0
    width = FOUR_BITS if lora is not None and lora.base == "nf4" else width
    return Means(
        place.checkpoint_activations, recipe.rl.moments, place.offload, 0 if lora is None else lora.rank,
        width, place.sequence, beside(recipe), recipe.model.frozen_layers,
    )  # fmt: skip


def beside(recipe: Recipe) -> Shape | None:
    """The largest teacher or reference that lies beside the policy in some stage. None: there is none, or a
    server has it. ConfigError: its shape is not known."""
    names = {str(recipe.second_of(stage)) for stage in recipe.stage if recipe.second_of(stage)}
    own = {"sft", *(stage.name for stage in recipe.stage)}
    local = [name for name in names if not name.startswith(("http://", "https://"))]
    others = [shapes.of(recipe.model) if name in own else shapes.named(name) for name in local]
    return max(others, key=lambda one: one.parameters, default=None)


def second(shape: Shape, machine: Machine) -> float:
    """Bytes of a second model of that shape, which only tells log-probabilities."""
    gathered = 0.0 if machine.gpus == 1 else 2.0 * (2 * shape.layer + shape.root)
    return 2.0 * shape.parameters / machine.gpus + gathered


def adapters(shape: Shape, rank: int) -> int:
    """Weights of adapters beside all linear layers of the decoder."""
    E, Q, K, I = shape.hidden, shape.query_width, shape.kv_width, shape.intermediate  # noqa: E741
    return shape.layers * rank * (2 * (E + Q) + 2 * (E + K) + 3 * (E + I))


def states(shape: Shape, machine: Machine, means: Means, gradients: bool = True) -> float:
    """Bytes of weights, gradients and moments that a GPU holds."""
    if "parameters" in means.offload:
        return 0.0
    each = 4.0 + (4.0 if gradients else 0.0) + (0.0 if "moments" in means.offload else means.moment_bytes)
    kept = _frozen(shape, means.base) if means.rank else means.base * frozen(shape, means)
    return (each * weights_learned(shape, means) + kept) / machine.gpus


def weights_learned(shape: Shape, means: Means) -> int:
    """Weights that learn: all, those above frozen layers, or the adapters'."""
    return adapters(shape, means.rank) if means.rank else shape.parameters - frozen(shape, means)


def frozen(shape: Shape, means: Means) -> int:
    """Weights of the frozen layers and the embedding under them, with a head that is tied to it."""
    return means.frozen * shape.layer + (shape.embedding if means.frozen else 0)


def _frozen(shape: Shape, base: float) -> float:
    """Bytes of a base that does not learn; in four bits embedding and head are not."""
    return base * shape.layers * shape.layer + max(base, 2.0) * shape.root


def activation(shape: Shape) -> int:
    """Bytes that one layer keeps per token for the backward pass, without checkpointing."""
    return 16 * shape.hidden + 4 * shape.query_width + 4 * shape.kv_width + 8 * shape.intermediate


def _backward(shape: Shape) -> int:
    """Bytes per token of gradients inside one layer while it is done: those of the MLP are the most."""
    return 2 * (3 * shape.intermediate + 2 * shape.hidden)


def per_token(shape: Shape, means: Means) -> float:
    """Bytes that one token of a micro-batch takes while learning."""
    inputs = 0 if "activations" in means.offload else (shape.layers - means.frozen) * 2 * shape.hidden
    layers = inputs + activation(shape) if means.checkpointing else _plainly(shape, means)
    outside = 14 * shape.hidden  # embedding, last norm, hidden states at the head and their gradient
    return (layers + _backward(shape) + outside) / means.sequence


def _plainly(shape: Shape, means: Means) -> int:
    layers = shape.layers - means.frozen
    return activation(shape) * (min(2, layers) if "activations" in means.offload else layers)


def learning(shape: Shape, machine: Machine, tokens: int, means: Means) -> dict[str, float]:
    """What learning takes with micro-batches of so many tokens."""
    alone = machine.gpus == 1 and "parameters" not in means.offload
    layer_gradients = 6.0 * shape.layer + 2.0 * shape.embedding
    root_gradients = 2.0 * shape.root + 4.0 * shape.root
    head = 0.0 if means.rank or (means.frozen and shape.tied) else 4.0 * shape.embedding
    other = {} if means.second is None else {"second": second(means.second, machine)}
    return {
        "states": states(shape, machine, means),
        "gathered": _gathered(shape, alone, means),
        "gradients": 0.0 if means.rank else max(layer_gradients, root_gradients),
        "head": max(head, 2.5 * 4 * CHUNK),
        "activations": tokens * per_token(shape, means),
        **other,
        "other": OTHER + (0 if machine.separate else ASLEEP),
    }


def _gathered(shape: Shape, alone: bool, means: Means) -> float:
    """Bytes of the weights at work; a base in four bits is made wide a layer at a time."""
    if means.rank and means.base < 1:
        return 2.0 * shape.layer
    return 2.0 * (shape.parameters if alone else 2 * shape.layer + shape.root)


def fitting(shape: Shape, machine: Machine, means: Means) -> int:
    """Most tokens of a micro-batch that fit, a multiple of 1,024; 0 when nothing does."""
    room = machine.memory - sum(learning(shape, machine, 0, means).values())
    return max(math.floor(room / per_token(shape, means)) // STEP * STEP, 0)


def sampling(shape: Shape, machine: Machine, means: Means) -> dict[str, float]:
    """What a GPU that samples holds besides the cache."""
    trainer = 0.0 if machine.separate else states(shape, machine, means, gradients=False) + OTHER
    trainer += 0.0 if machine.separate or means.second is None else second(means.second, machine)
    return {
        "trainer": trainer,
        "weights": 2.0 * shape.parameters / machine.tensor_parallel,
        "server": SERVER,
    }


def cache_tokens(shape: Shape, machine: Machine, means: Means) -> int:
    """Tokens of all sequences in flight that one server's cache holds; 0 when its weights do not fit."""
    room = machine.memory - sum(sampling(shape, machine, means).values())
    return max(int(room * machine.tensor_parallel / shape.kv_bytes), 0)
