"""Time of a step, from rates: each is a datasheet's, measured, published, or assumed, and says which.

    learn     tokens x flops (x 4/3 with activation checkpointing; x 2/3 under adapters, whose base needs no
              gradient; x 1/3 in frozen layers) / (GPUs x peak x MFU), and what offloading moves, taken not to
              overlap: moments there and back once a step; inputs of layers there and back; float32
              parameters twice and gradients once a micro-batch, and the processor's step of 28 bytes a
              parameter
    sample    n sequences a server, B of them at a time: n / B x mean length decodings of the full batch,
              then the tail, budget - mean decodings of an eighth of it. One decoding reads the weights and
              the caches of its batch once, or multiplies, whichever takes longer
    judge     runs while sampling does; the longer of the two counts
    publish   bfloat16 weights written and read, or the adapters alone

Prompts count with 300 tokens. Communication between GPUs is taken to hide behind arithmetic, and learning not
to overlap with sampling, though `rl.overlap` makes it.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

from acereason.config import Stage
from acereason.plan.memory import Machine, Means, activation, adapters, cache_tokens, weights_learned
from acereason.shape import Shape

PROMPT = 300  # tokens, assumed mean
LONGEST_PROMPT = 1024  # tokens, assumed


@dataclass(frozen=True, slots=True)
class Rates:
    """Speeds of one GPU and of a run, with where they come from in `SOURCES`."""

    flops: float = 989e12
    mfu_sft: float = 0.5
    mfu_rl: float = 0.4
    bandwidth: float = 4.3e12
    mbu: float = 0.6
    publish: float = 4e9
    link: float = 25e9
    host: float = 100e9
    judge_math: float = 1024 / 3.9 / 64
    judge_code: float = 1024 / 552 / 64
    fill: float = 0.5


SOURCES = {
    "flops": "operations/s, H200 datasheet, dense bf16; matrix products were measured at 770–800e12",
    "mfu_sft": "share of it in SFT: assumed, the project's target",
    "mfu_rl": "share of it in the RL update: assumed, the project's target",
    "bandwidth": "bytes/s, H200, measured by copying",
    "mbu": "share of it while decoding: assumed, the project's target",
    "publish": "bytes/s to write and read weights: assumed",
    "link": "bytes/s between a GPU and the machine's memory: assumed (half of PCIe 5 x16)",
    "host": "bytes/s of the machine's memory in an optimiser's step, for all GPUs: assumed",
    "judge_math": "responses/s and worker: published (3.9 s for 1,024 with 64)",
    "judge_code": "responses/s and worker: published (552 s for 1,024 with 64)",
    "fill": "mean response length as a share of the budget: assumed",
}
assert set(SOURCES) == {f.name for f in fields(Rates)}


@dataclass(frozen=True, slots=True)
class StepTimes:
    """Seconds of one RL step and its parts; `batch` sequences a server decodes together."""

    sample: float
    judge: float
    learn: float
    publish: float
    batch: int

    @property
    def total(self) -> float:
        return max(self.sample, self.judge) + self.learn + self.publish


def decoding(shape: Shape, machine: Machine, rates: Rates, batch: float, context: float) -> float:
    """Seconds to decode one token for each sequence of a batch whose caches hold `context` tokens each."""
    read = 2.0 * shape.parameters + batch * context * shape.kv_bytes
    multiplied = batch * shape.flops(context) / 3  # forward only
    bound = max(read / (rates.bandwidth * rates.mbu), multiplied / (rates.flops * rates.mfu_sft))
    return bound / machine.tensor_parallel


def sampling(
    shape: Shape, machine: Machine, rates: Rates, sequences: int, budget: int, means: Means
) -> tuple[float, int]:
    """Seconds to sample so many responses, and how many a server has in flight."""
    mean = rates.fill * budget
    share = max(sequences / machine.samplers, 1.0)
    batch = min(share, max(cache_tokens(shape, machine, means) // int(PROMPT + mean), 1))
    full = share / batch * mean * decoding(shape, machine, rates, batch, PROMPT + mean / 2)
    tail = (budget - mean) * decoding(shape, machine, rates, max(batch / 8, 1), PROMPT + mean)
    return full + tail, int(batch)


def learning(
    shape: Shape,
    machine: Machine,
    rates: Rates,
    tokens: float,
    length: float,
    mfu: float,
    means: Means,
) -> float:
    """Seconds to learn so many tokens of sequences of this length."""
    work = tokens * shape.flops(length) * passes(shape, length, means)
    return work / (machine.gpus * rates.flops * mfu)


def passes(shape: Shape, length: float, means: Means) -> float:
    """Arithmetic of learning by these means, as a share of a plain forward and backward pass: frozen layers
    are only passed through, and a frozen head passes its gradient on without having one."""
    again = (4 / 3 if means.checkpointing else 1) * (2 / 3 if means.rank else 1)
    layer = 6.0 * (shape.layer + shape.query_width * length)
    head = 2.0 * shape.embedding if means.frozen and shape.tied else 0.0
    return again * (1 - (means.frozen * layer * 2 / 3 + head) / shape.flops(length))


def moving(
    shape: Shape, machine: Machine, rates: Rates, tokens: float, steps: float, micro: float, means: Means
) -> float:
    """Seconds in which offloaded parts go there and back, for so many tokens in so many steps of
    micro-batches of `micro` tokens a rank."""
    own = weights_learned(shape, means)
    batches = tokens / (machine.gpus * micro)
    moved = 0.0  # bytes of one GPU
    if "parameters" in means.offload:
        moved += batches * (2 * 4 * shape.parameters + 4 * own) / machine.gpus
    elif "moments" in means.offload:
        moved += steps * 2 * means.moment_bytes * own / machine.gpus
    if "activations" in means.offload:
        each = 2 * shape.hidden if means.checkpointing else activation(shape)
        moved += 2 * tokens / machine.gpus * (shape.layers - means.frozen) * each
    processor = steps * 28 * own / rates.host if "parameters" in means.offload else 0.0
    return moved / rates.link + processor


def step(
    shape: Shape, machine: Machine, rates: Rates, stage: Stage, means: Means, judges: int, micro: float
) -> StepTimes:
    """One RL step of a stage, learned in micro-batches of `micro` tokens a rank."""
    sequences = stage.prompts * max(stage.groups)
    length = PROMPT + rates.fill * stage.budget
    sampled, batch = sampling(shape, machine, rates, sequences, stage.budget, means)
    rate = rates.judge_code if "code" in stage.domains else rates.judge_math
    tokens = sequences * length
    learned = learning(shape, machine, rates, tokens, length, rates.mfu_rl, means)
    return StepTimes(
        sampled,
        sequences / (rate * judges),
        learned + moving(shape, machine, rates, tokens, 1, micro, means),
        (4.0 * adapters(shape, means.rank) if means.rank else 2.0 * shape.parameters) / rates.publish,
        batch,
    )


def measuring(shape: Shape, machine: Machine, rates: Rates, stage: Stage, means: Means) -> float:
    """Seconds before a stage's first step: the pass-rate filter and the temperature's calibration."""
    filter = stage.filter
    asked = filter.samples * filter.candidates
    for rule in stage.rules:
        if rule.rule in ("calibrate", "track", "annealed", "diversity"):
            each = stage.group_in(0) if rule.rule == "diversity" else 1
            asked += each * rule.prompts * (len(rule.candidates) + 1)
    return sampling(shape, machine, rates, asked, stage.budget, means)[0] if asked else 0.0
