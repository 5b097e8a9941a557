"""A recipe on a machine: whether it fits, what to change where it does not, and how long it takes.

    planned = plan(recipe, shape, machine, rates, sft_samples, sft_length)

A sequence is never split, so a micro-batch must hold the longest prompt and response; a server's cache must
hold one, too. `refusals` says what does not fit with the changes that would make it fit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from acereason.config import Recipe, Stage
from acereason.errors import ConfigError
from acereason.plan import means as cheaper
from acereason.plan import memory, times
from acereason.plan.memory import GIB, Machine, Means, means_of
from acereason.plan.shapes import SHAPES
from acereason.plan.times import Rates, StepTimes
from acereason.shape import Shape

BUDGETS = (8192, 16384, 24576, 32768)
TABLE = ("qwen2.5-math-1.5b", "qwen2.5-math-7b", "qwen2.5-14b", "qwen2.5-32b")
H200, H100 = 141e9, 80e9  # bytes of one GPU


@dataclass(frozen=True, slots=True)
class StagePlan:
    """One RL stage: micro-batch tokens it needs, a step, seconds before the first, and the whole."""

    stage: Stage
    tokens: int
    step: StepTimes
    measuring: float

    @property
    def total(self) -> float:
        return self.measuring + self.stage.steps * self.step.total


@dataclass(frozen=True, slots=True)
class Plan:
    """What a recipe takes. `learning` and `sampling`: bytes of a GPU, part by part; `fitting`: most tokens
    of a micro-batch; `cache`: tokens of a server's cache; `sft`: seconds of SFT."""

    shape: Shape
    machine: Machine
    means: Means
    learning: dict[str, float]
    sampling: dict[str, float]
    fitting: int
    cache: int
    sft: float | None
    stages: tuple[StagePlan, ...]


def plan(
    recipe: Recipe,
    shape: Shape,
    machine: Machine,
    rates: Rates,
    sft_samples: int = 2_200_000,
    sft_length: int = 8000,
) -> Plan:
    """Plan a recipe. Raises ConfigError for what cannot fit, with what to change."""
    means = means_of(recipe)
    tokens, sequence = cheaper.needed(recipe)
    problems = refusals(shape, machine, means, tokens, sequence)
    if problems:
        better = cheaper.cheapest(recipe, shape, machine, rates)
        if better is not None:
            problems.append(f"The cheapest means with which it fits: {better.said()}")
        raise ConfigError("this cannot fit:\n" + "\n".join(problems))
    stages = [
        StagePlan(
            stage,
            cheaper.longest(stage),
            times.step(shape, machine, rates, stage, means, recipe.rl.judges, tokens / means.sequence),
            times.measuring(shape, machine, rates, stage, means),
        )
        for stage in recipe.stage
    ]
    return Plan(
        shape,
        machine,
        means,
        memory.learning(shape, machine, tokens, means),
        memory.sampling(shape, machine, means),
        memory.fitting(shape, machine, means),
        memory.cache_tokens(shape, machine, means),
        _sft(recipe, shape, machine, rates, means, float(sft_samples) * sft_length, sft_length),
        tuple(stages),
    )


def _sft(
    recipe: Recipe, shape: Shape, machine: Machine, rates: Rates, means: Means, tokens: float, length: int
) -> float | None:
    """Seconds of SFT, of epochs of so many tokens."""
    if recipe.sft is None:
        return None
    work, own = tokens * recipe.sft.epochs, replace(means, moments=recipe.sft.moments)
    steps = work / max(recipe.sft.batch_tokens, 1)
    micro = max(length, recipe.sft.micro)
    learned = times.learning(shape, machine, rates, work, length, rates.mfu_sft, own)
    return learned + times.moving(shape, machine, rates, work, steps, micro, own)


def refusals(shape: Shape, machine: Machine, means: Means, tokens: int, sequence: int) -> list[str]:
    """What does not fit, each with the changes that would help. `tokens` of a micro-batch, `sequence` of a
    response with its prompt."""
    result = []
    fits = memory.fitting(shape, machine, means)
    if fits < tokens:
        need = sum(memory.learning(shape, machine, tokens, means).values())
        changes = _learning_changes(shape, machine, means, tokens, sequence)
        result.append(
            f"learning: micro-batches of {tokens:,} tokens take {need / GIB:,.0f} GiB of a GPU's "
            f"{machine.memory / GIB:,.0f}. {changes}"
        )
    room = memory.cache_tokens(shape, machine, means)
    if room < sequence:
        held = sum(memory.sampling(shape, machine, means).values())
        result.append(
            f"sampling: weights and what shares the GPU take {held / GIB:,.0f} GiB of its "
            f"{machine.memory / GIB:,.0f}, which leaves a cache of {room:,} tokens, and one response takes "
            f"{sequence:,}. {_sampling_changes(shape, machine, means, sequence)}"
        )
    return result


def _learning_changes(shape: Shape, machine: Machine, means: Means, tokens: int, sequence: int) -> str:
    changes = []
    fits = memory.fitting(shape, machine, means)
    again = replace(means, checkpointing=True)
    if sequence <= fits:
        changes.append(f"rl.micro_tokens and sft.micro_tokens of at most {fits}")
    if not means.checkpointing and memory.fitting(shape, machine, again) >= tokens:
        changes.append("placement.checkpoint_activations = true")
    gpus = least_gpus(shape, machine, again, tokens)
    if gpus is not None and gpus > machine.gpus:
        changes.append(f"--gpus {gpus}{'' if means.checkpointing else ' with checkpointing'}")
    if not changes:
        changes.append("a GPU with more memory, a smaller budget, or a smaller model")
    return f"Change: {', or '.join(changes)}"


def _sampling_changes(shape: Shape, machine: Machine, means: Means, sequence: int) -> str:
    changes = []
    for width in (2, 4, 8):
        wider = replace(machine, tensor_parallel=width)
        if width > machine.tensor_parallel and memory.cache_tokens(shape, wider, means) >= sequence:
            changes.append(f"--tensor-parallel {width}")
            break
    apart = replace(machine, separate=machine.gpus)
    if not machine.separate and memory.cache_tokens(shape, apart, means) >= sequence:
        changes.append(f"--separate {machine.gpus}")
    return f"Change: {', or '.join(changes or ['more GPUs, or GPUs with more memory'])}"


def least_gpus(shape: Shape, machine: Machine, means: Means, tokens: int) -> int | None:
    """The least power of two of such GPUs that can learn micro-batches of so many tokens, if 1,024 can."""
    for power in range(11):
        if memory.fitting(shape, replace(machine, gpus=1 << power), means) >= tokens:
            return 1 << power
    return None


def table(gpus: int = 8, sizes: Sequence[float] = (H200, H100)) -> str:
    """Memory per GPU for every shape and budget, with activation checkpointing, as Markdown."""
    names = [f"{size / 1e9:.0f} GB" for size in sizes]
    head = ["model", "budget", "learning, GiB", *(f"tokens that fit, {n}" for n in names)]
    head += [*(f"in flight, {n}" for n in names), *(f"least GPUs, {n}" for n in names)]
    rows = [_row(name, budget, gpus, sizes) for name in TABLE for budget in BUDGETS]
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def _row(name: str, budget: int, gpus: int, sizes: Sequence[float]) -> list[str]:
    shape, tokens = SHAPES[name], budget + times.LONGEST_PROMPT
    machines = [Machine(gpus, size) for size in sizes]
    means = Means(checkpointing=True)
    need = sum(memory.learning(shape, machines[0], tokens, means).values())
    fits = [memory.fitting(shape, m, means) for m in machines]
    flights = [memory.cache_tokens(shape, m, means) // tokens for m in machines]
    least = [least_gpus(shape, m, means, tokens) for m in machines]
    return [
        name,
        f"{budget:,}",
        f"{need / GIB:.0f}",
        *(f"{n:,}" if n >= tokens else "no" for n in fits),
        *(f"{n:,}" if n else "no" for n in flights),
        *("–" if n is None else str(n) for n in least),
    ]
