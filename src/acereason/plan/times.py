"""Time of a step, from rates: each is a datasheet's, measured, published, or assumed, and says which.

    learn     tokens x flops (x 4/3 with activation checkpointing) / (GPUs x peak x MFU)
    sample    n sequences a server, B of them at a time: n / B x mean length decodings of the full batch,
              then the tail, budget - mean decodings of an eighth of it. One decoding reads the weights and
              the caches of its batch once, or multiplies, whichever takes longer
    judge     runs while sampling does; the longer of the two counts
    publish   bfloat16 weights written and read

Prompts count with 300 tokens. Communication between GPUs is taken to hide behind arithmetic, and learning not
to overlap with sampling, though `rl.overlap` makes it.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

from acereason.config import Stage
from acereason.plan.memory import Machine, cache_tokens
from acereason.plan.shapes import Shape

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


def sampling(shape: Shape, machine: Machine, rates: Rates, sequences: int, budget: int) -> tuple[float, int]:
    """Seconds to sample so many responses, and how many a server has in flight."""
    mean = rates.fill * budget
    share = max(sequences / machine.samplers, 1.0)
    batch = min(share, max(cache_tokens(shape, machine) // int(PROMPT + mean), 1))
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
    checkpointing: bool,
) -> float:
    """Seconds to learn so many tokens of sequences of this length."""
    work = tokens * shape.flops(length) * (4 / 3 if checkpointing else 1)
    return work / (machine.gpus * rates.flops * mfu)


def step(
    shape: Shape, machine: Machine, rates: Rates, stage: Stage, checkpointing: bool, judges: int
) -> StepTimes:
    """One RL step of a stage."""
    sequences = stage.prompts * max(stage.groups)
    length = PROMPT + rates.fill * stage.budget
    sampled, batch = sampling(shape, machine, rates, sequences, stage.budget)
    rate = rates.judge_code if stage.domain == "code" else rates.judge_math
    return StepTimes(
        sampled,
        sequences / (rate * judges),
        learning(shape, machine, rates, sequences * length, length, rates.mfu_rl, checkpointing),
        2.0 * shape.parameters / rates.publish,
        batch,
    )


def measuring(shape: Shape, machine: Machine, rates: Rates, stage: Stage) -> float:
    """Seconds before a stage's first step: the pass-rate filter and the temperature's calibration."""
    rule, filter = stage.temperature, stage.filter
    asked = filter.samples * filter.candidates
    if rule.rule in ("calibrate", "track"):
        asked += rule.prompts * (len(rule.candidates) + 1)
    return sampling(shape, machine, rates, asked, stage.budget)[0] if asked else 0.0
