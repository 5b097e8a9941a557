"""A recipe on processors: memory of the machine, and the time of a step, from rates that say where they are
from. Every rank (`torchrun --nproc-per-node`) holds the whole model and has its share of the processors.

Memory of a rank, P weights of which L learn:

    weights      4 P in float32, and what learns is learned in it
    gradients    4 L while a step is learned; moments 8 L, or about 2 in 8 bits
    products     4 P with placement.compute = "bfloat16": the matrices as both passes read them
    sampler      a copy of its own, in the type of the products
    cache        (slots + 1) rows of the longest prompt and response, float32, so far as it is more than the
                 gradients: while one is held the other is not
    activations  of a micro-batch: per token and layer 4 (9 E + 3 Q + 3 K + 4 I) bytes in float32, about two
                 thirds of it with bfloat16 products (E hidden, Q and K query and key-value width, I
                 intermediate)
    head         logits of 256 tokens, three times
    other        Python, PyTorch and the judge's workers: assumed

Time: a matrix product of a core takes `flops`; learning and sampling reach a share of it. A decoding step
also costs `call` seconds whatever its rows, and reads the weights once. The optimiser moves 56 bytes a weight
that learns, and adding gradients up over ranks 16 more. Models under about 50M parameters take longer than
this says by PyTorch, and those that compiled code does not know learn for 1.6 times as long.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

from acereason.config import Recipe, Stage
from acereason.plan import memory as gpus
from acereason.plan.memory import GIB, Means, means_of
from acereason.plan.times import passes
from acereason.shape import Shape

OTHER = 0.9 * GIB
ROWS = 256  # of logits at a time
CUT = 4096  # tokens of a vocabulary that is cut to the data, assumed
STEP_BYTES, SUM_BYTES = 56.0, 16.0  # a weight that learns: Adam, clipping, copies; sums over ranks


@dataclass(frozen=True, slots=True)
class Processors:
    """`cores` of a machine with `memory` bytes, over `ranks` processes."""

    cores: int
    ranks: int
    memory: float


@dataclass(frozen=True, slots=True)
class Rates:
    """Speeds of one core and of a run, with where they come from in `SOURCES`."""

    flops: float
    bandwidth: float
    learn: float
    sample: float
    call: float = 1e-3
    prompt: float = 64.0
    fill: float = 0.35
    learned: float = 0.7


SHARES = {"bfloat16": (0.30, 0.25), "float32": (0.55, 0.50)}  # learn, sample
SOURCES = {
    "flops": "operations/s of a core",
    "bandwidth": "bytes/s of a core, reading and writing",
    "learn": "share of it in learning: measured (270M in bfloat16 on AMX, 135M in float32; compiled)",
    "sample": "share of it in decoding: measured likewise",
    "call": "seconds of a decoding step besides: assumed",
    "prompt": "tokens of a prompt: assumed",
    "fill": "mean response length as a share of the budget: measured with recipes/base.toml",
    "learned": "share of the tokens in groups with a gradient: measured likewise",
}
assert set(SOURCES) == {f.name for f in fields(Rates)}


@dataclass(frozen=True, slots=True)
class Step:
    """Seconds of one RL step and its parts."""

    sample: float
    learn: float

    @property
    def total(self) -> float:
        return self.sample + self.learn


@dataclass(frozen=True, slots=True)
class Plan:
    """Bytes of a rank, part by part; seconds of an SFT step (None: no SFT) and of a step of each stage."""

    shape: Shape
    machine: Processors
    rank: dict[str, float]
    sft: float | None
    stages: tuple[tuple[Stage, Step], ...]

    @property
    def memory(self) -> float:
        """Bytes of all ranks."""
        return self.machine.ranks * sum(self.rank.values())


def plan(recipe: Recipe, shape: Shape, machine: Processors, rates: Rates) -> Plan:
    """Plan a recipe on processors; of a model whose vocabulary is cut, `shape` has the cut one."""
    means = means_of(recipe)
    stages = tuple((s, step(recipe, shape, machine, rates, s)) for s in recipe.stage)
    return Plan(shape, machine, memory(recipe, shape, means), sft(recipe, shape, machine, rates), stages)


def memory(recipe: Recipe, shape: Shape, means: Means) -> dict[str, float]:
    """Bytes that a rank takes, part by part."""
    half = recipe.placement.compute == "bfloat16"
    learned = gpus.weights_learned(shape, means)
    longest = max((s.budget for s in recipe.stage), default=0)
    room = recipe.model.context or 4 * longest
    cache = (recipe.sampling.slots + 1) * 2.0 * shape.kv_bytes * min(room, 2 * longest)
    micro = max(recipe.rl.micro, recipe.sft.micro if recipe.sft else 0)
    return {
        "weights": 4.0 * (shape.parameters + (learned if means.rank else 0)),
        "gradients": 4.0 * learned,
        "moments": means.moment_bytes * learned,
        "products": 4.0 * shape.layers * shape.matrices if half else 0.0,
        "sampler": (2.0 if half else 4.0) * shape.layers * shape.matrices + 4.0 * shape.root,
        "cache": max(0.0, cache - 4.0 * learned),
        "activations": micro * activation(shape, half) * (shape.layers - means.frozen),
        "head": 3 * 4.0 * min(ROWS, micro) * shape.vocab,
        "other": OTHER,
    }


def activation(shape: Shape, half: bool) -> float:
    """Bytes that one layer keeps per token for the backward pass."""
    wide = 4.0 * (9 * shape.hidden + 3 * shape.query_width + 3 * shape.kv_width + 4 * shape.intermediate)
    return wide * 2 / 3 if half else wide


def step(recipe: Recipe, shape: Shape, machine: Processors, rates: Rates, stage: Stage) -> Step:
    """Seconds of one RL step of a stage: every rank samples and learns its share of the prompts."""
    group, response = max(stage.groups), rates.fill * stage.budget
    prompts = stage.prompts / machine.ranks
    rows = rates.learned * prompts * (rates.prompt + group * response)
    learn = learning(recipe, shape, machine, rates, rows, rates.prompt + response)
    return Step(sampling(recipe, shape, machine, rates, prompts * group, stage.budget), learn)


def sft(recipe: Recipe, shape: Shape, machine: Processors, rates: Rates) -> float | None:
    """Seconds of one step of SFT."""
    if recipe.sft is None:
        return None
    rows = recipe.sft.batch_tokens / machine.ranks
    length = min(rates.prompt + 0.5 * (recipe.model.context or 512), recipe.sft.batch_tokens)
    return learning(recipe, shape, machine, rates, rows, length)


def learning(
    recipe: Recipe, shape: Shape, machine: Processors, rates: Rates, rows: float, length: float
) -> float:
    """Seconds in which a rank learns so many rows of sequences of this length, and takes the step."""
    means, cores = means_of(recipe), machine.cores / machine.ranks
    passed = rows * shape.flops(length) * passes(shape, length, means) / (cores * rates.flops * rates.learn)
    each = STEP_BYTES + (SUM_BYTES if machine.ranks > 1 else 0.0)
    return passed + gpus.weights_learned(shape, means) * each / (cores * rates.bandwidth)


def sampling(
    recipe: Recipe, shape: Shape, machine: Processors, rates: Rates, sequences: float, budget: int
) -> float:
    """Seconds in which a rank samples so many responses, `slots` of them at a time."""
    cores, width = machine.cores / machine.ranks, 2.0 if recipe.placement.compute == "bfloat16" else 4.0
    flops = shape.flops(rates.prompt + rates.fill * budget) / 3  # forward only
    group = max((max(s.groups) for s in recipe.stage), default=1)
    tokens = sequences * (rates.fill * budget + rates.prompt / group)
    rounds = max(1.0, sequences / recipe.sampling.slots)
    steps = budget if rounds == 1.0 else rounds * rates.fill * budget + budget / 2
    reading = steps * width * shape.parameters / (cores * rates.bandwidth)
    return max(tokens * flops / (cores * rates.flops * rates.sample), reading) + steps * rates.call
