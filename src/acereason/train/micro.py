"""Tokens of a micro-batch, chosen by timing a few sizes before a run's first step, where a recipe says
`micro_tokens = "measured"`.

    recipe = settled(recipe, policy, data, position, run, progress)

The gradient does not depend on them but for rounding; time and memory do. Each size learns the same
examples, the run's own: traces in SFT, prompts of the first stage with responses as long as traces (or half
the budget) in RL. Sizes whose activations would not fit, by what autograd keeps for two small packs, are left
out. The choice is part of the position, so that a run which goes on takes the same.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any, NamedTuple

import msgspec
import torch
from torch import Tensor
from torch.distributed.tensor import DTensor

from acereason import machine, ranks
from acereason.config import Recipe
from acereason.curate import tasks
from acereason.curate.tasks import Data
from acereason.plan import memory as arithmetic
from acereason.policy import model as models
from acereason.policy.activations import work_device
from acereason.policy.packing import Example
from acereason.policy.policy import Policy
from acereason.progress import Progress
from acereason.runs import Run
from acereason.shape import Shape
from acereason.train import parallel
from acereason.train.checkpoint import Position
from acereason.train.optimizers import learned

SECONDS = 20.0  # for all sizes together, about
SMALLEST, MOST = 256, 6  # tokens, and sizes
FREE = 0.5  # of the free memory, for the activations of all ranks of this machine
BACKWARD = 1.5  # of what is kept: gradients and what a layer makes on its way
EQUAL = 0.97  # of the highest rate: the smallest size as quick as that is taken
EXAMPLES = 256


class Tried(NamedTuple):
    """A size and how many tokens a second all ranks learned with it."""

    tokens: int
    rate: float


def settled(
    recipe: Recipe, policy: Policy, data: Data, position: Position, run: Run, progress: Progress
) -> Recipe:
    """The recipe with numbers where micro-batches are to be measured; the position remembers them.
    Collective."""
    phases = {"sft": recipe.sft, "rl": recipe.rl if recipe.stage else None}
    for name, section in phases.items():
        if section is None or section.micro_tokens != "measured":
            continue
        if name not in position.micro:
            tried = measure(policy.model, list(_examples(name, recipe, policy, data)))
            position.micro[name] = chosen(tried)
            _tell(run, progress, position, name, tried)
        own = msgspec.structs.replace(section, micro_tokens=position.micro[name])
        recipe = msgspec.structs.replace(recipe, **{name: own})
    return recipe


def _tell(run: Run, progress: Progress, position: Position, name: str, tried: Sequence[Tried]) -> None:
    size = position.micro[name]
    rates = ", ".join(f"{t.tokens:,}: {t.rate:,.0f}" for t in tried)
    progress.say(f"{name}: micro-batches of {size:,} tokens (tokens a second by size: {rates})")
    measured = {str(t.tokens): t.rate for t in tried}
    run.record("start", step=position.step, micro_tokens={name: size}, measured=measured, seconds={})


def chosen(tried: Sequence[Tried]) -> int:
    """The smallest size that is about as quick as the quickest."""
    best = max(t.rate for t in tried)
    return min(t.tokens for t in tried if t.rate >= EQUAL * best)


def measure(model: Any, examples: Sequence[Example], seconds: float = SECONDS) -> list[Tried]:
    """Each size's rate, sizes from below; no gradient is left. Every rank gives the same examples.
    Collective."""
    own = parallel.share(model, examples)
    sizes = _fitting(model, own, _sizes(own))
    begun = time.perf_counter()
    _pass(model, parallel.share(model, _some(examples, 2 * SMALLEST)), SMALLEST)  # what is made once is made
    enough = _affordable(examples, begun, seconds / (2 * min(len(sizes), MOST)))
    own = parallel.share(model, _some(examples, enough))
    sizes = _few([size for size in sizes if size <= max(enough, SMALLEST)])
    best: dict[int, float] = {}
    for size in (*sizes, *sizes):
        over: bool = ranks.of_main(time.perf_counter() - begun > seconds)
        if best and over:
            break
        now = time.perf_counter()
        _pass(model, own, size)
        took = float(ranks.largest(torch.tensor(time.perf_counter() - now, dtype=torch.float64)))
        best[size] = min(took, best.get(size, took))
    tokens = float(ranks.total(torch.tensor(float(_tokens(own)))))
    return [Tried(size, tokens / took) for size, took in best.items()]


def _affordable(examples: Sequence[Example], begun: float, seconds: float) -> int:
    """Tokens that can be learned in so many seconds, by the first pass's rate; the same on all ranks."""
    first = _tokens(_some(examples, 2 * SMALLEST))
    return max(int(ranks.of_main(first / (time.perf_counter() - begun) * seconds)), first)


def _pass(model: Any, own: Sequence[Example], size: int) -> None:
    """Learn the examples in micro-batches of so many tokens, and forget what was learned."""
    for packed in parallel.micro_batches(model, own, size):
        logprob, _ = models.logprobs(model, packed)
        (-logprob.sum() * (0.0 if parallel.is_filler(packed) else 1.0)).backward()
    model.zero_grad(set_to_none=True)
    if work_device(model).type == "cuda":
        torch.cuda.synchronize()


def _sizes(own: Sequence[Example]) -> list[int]:
    """Powers of two up to the first that holds all; the same on all ranks."""
    most = int(ranks.largest(torch.tensor(_tokens(own))))
    sizes = [SMALLEST]
    while sizes[-1] < most:
        sizes.append(2 * sizes[-1])
    return sizes


def _few(sizes: list[int]) -> list[int]:
    """The smallest and the last of the others, `MOST` in all."""
    return sizes[:1] + sizes[1:][1 - MOST :]


def _fitting(model: Any, own: Sequence[Example], sizes: list[int]) -> list[int]:
    """The sizes whose activations fit into the memory that is free, at least the smallest."""
    room, each = (_free(model) - _later(model)) * FREE / BACKWARD, _bytes(model, own)
    most = float(-ranks.largest(torch.tensor(-room / max(each, 1.0), dtype=torch.float64)))
    return [size for size in sizes if size <= most] or [SMALLEST]


def _free(model: Any) -> float:
    """Bytes of memory that this rank may take."""
    device = work_device(model)
    if device.type == "cuda":
        kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return float(torch.cuda.mem_get_info(device)[0] + kept)
    return (machine.available() or machine.memory()) / ranks.local_world()


def _later(model: Any) -> float:
    """Bytes that learning takes besides and that may not be taken yet: gradients and two moments."""
    own = (p.to_local() if isinstance(p, DTensor) else p for p in learned(model))
    return float(sum(12 * p.numel() for p in own))


def _bytes(model: Any, own: Sequence[Example]) -> float:
    """What a token's activations take: the difference of two small packs, or arithmetic where autograd does
    not see them (compiled code), or the passes are collective."""
    small, large = _some(own, SMALLEST), _some(own, 2 * SMALLEST)
    more = _tokens(large) - _tokens(small)
    found = 0.0
    if more > 0 and not parallel.is_sharded(model):
        found = (_kept(model, large) - _kept(model, small)) / more
    if found > 0:
        return found
    try:
        shape = Shape.read(model.config)
    except AttributeError:
        return 0.0
    return 2.0 * arithmetic.per_token(shape, arithmetic.Means())


def _kept(model: Any, examples: Sequence[Example]) -> int:
    """Bytes that autograd keeps for one pack of these examples."""
    sizes: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        sizes[storage.data_ptr()] = storage.nbytes()
        return tensor

    (packed,) = models.micro_batches(model, examples, 1 << 40)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        kept = models.logprobs(model, packed)
    del kept
    return sum(sizes.values())


def _tokens(examples: Sequence[Example]) -> int:
    return sum(map(len, examples))


def _some(examples: Sequence[Example], tokens: int) -> list[Example]:
    """The first examples of together about so many tokens, at least one."""
    taken: list[Example] = []
    for example in examples:
        if taken and _tokens(taken) + len(example) > tokens:
            break
        taken.append(example)
    return taken


def _examples(name: str, recipe: Recipe, policy: Policy, data: Data) -> Iterator[Example]:
    """What a batch of the phase is made of: as many as it has, at most `EXAMPLES`."""
    traces = list(_traces(policy, data))
    if name == "sft":
        assert recipe.sft is not None
        yield from _some(traces, recipe.sft.batch_tokens) if traces else [_made_up(policy)]
        return
    stage = recipe.stage[0]
    lengths = [len(t.response) for t in traces] or [max(1, stage.budget // 2)]
    vocabulary, group = policy.model.config.vocab_size, max(stage.groups)
    problems = tasks.of_stage(data.rl, stage.name)[: min(stage.prompts, -(-EXAMPLES // group))]
    for number in range(len(problems) * group):
        prompt = policy.prompt_ids(problems[number // group])
        length = min(lengths[number % len(lengths)], stage.budget, max(1, policy.context - len(prompt)))
        yield Example(prompt, [(7 * number + i) % vocabulary for i in range(length)], number)


def _traces(policy: Policy, data: Data) -> Iterator[Example]:
    """Some of the traces as they are learned, of all parts of the file."""
    problems = tasks.by_id(data.sft)
    step = max(1, len(data.traces) // EXAMPLES)
    for number, trace in enumerate(islice(data.traces, 0, step * EXAMPLES, step)):
        example = policy.example(problems[trace.problem_id], trace, number)
        if len(example) <= policy.context:
            yield example


def _made_up(policy: Policy) -> Example:
    """For a run without a trace that fits."""
    return Example([0], [0] * min(64, policy.context - 1), 0)
