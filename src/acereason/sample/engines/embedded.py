"""The sampler inside the process: key-value cache, continuous refill, one token a slot and step.

    requests ──▶ free slot ──▶ prefill (once per run of equal prompts) ──▶ steps ──▶ Completion

A slot holds one response. When it ends, the next request takes its place at once, so the rows of a
step stay full however uneven the lengths are. Requests are pulled only when a slot is free. The
steps themselves are computed by an engine: on CPU, where a compiler is found, compiled C++ for Llama,
Mistral, Qwen2, Qwen3, Gemma and Gemma 3; on a GPU where Triton is installed CUDA graphs in bfloat16 for the
first four; else, for any decoder-only model, PyTorch with the layers of its own class.

Memory: (slots + 1) × longest prompt + budget seen × layers × key-value heads × head_dim × 8 bytes, half of
that on CUDA; of a layer that looks through a window the PyTorch engine keeps no more than that. On a
processor slots are lowered, and that is said, to what the machine's free memory holds (`room`), and stay so.
How many rows a step has moves the PyTorch engine's numbers by rounding; so a run's checkpoints keep the
number. Not covered: prefixes shared other than by whole prompts, several GPUs.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from acereason import machine
from acereason.errors import SamplingError
from acereason.policy.activations import work_device
from acereason.policy.decoder import DecoderShape, Rotation, read_shape
from acereason.policy.marks import marks_of
from acereason.sample.engines import room
from acereason.sample.engines.native import NativeEngine, open_library
from acereason.sample.engines.room import RowSize
from acereason.sample.engines.slots import Engine, Slots
from acereason.sample.engines.torch import TorchEngine
from acereason.sample.protocol import Completion, Request, check_how

log = logging.getLogger(__name__)
Watch = Callable[[Request, npt.NDArray[np.int32], npt.NDArray[np.float32]], bool]
Pace = Callable[[], int | None]


@dataclass(frozen=True, slots=True)
class Bounds:
    """Most positions of a sequence, and tokens of the vocabulary."""

    context: int
    vocab: int

    @staticmethod
    def of(config: Any) -> Bounds:
        """The limits that a transformers configuration declares."""
        return Bounds(config.max_position_embeddings, config.vocab_size)


class EmbeddedSampler:
    """Answers requests from a copy of a decoder-only model.

    slots    most responses written at once; more fill the processor better and hold more cache
    threads  of the native engine; by default as many as PyTorch uses
    eos_ids  tokens that end a response; by default the model's own
    native   False: PyTorch even where a compiler, or Triton, is found
    """

    remote = False

    def __init__(
        self,
        model: nn.Module,
        *,
        slots: int = 256,
        threads: int | None = None,
        eos_ids: int | Sequence[int] | None = None,
        native: bool = True,
    ) -> None:
        if slots < 1:
            raise SamplingError(f"slots is {slots}; at least 1 was expected")
        self.limits = Bounds.of(model.config)
        eos = np.array(_end_tokens(model, eos_ids), np.int32)
        self._slots, self._length, self._longest = Slots(slots, eos), 0, 0
        self._engine = _engine(model, slots, threads, native)
        self._row = RowSize.of(model.config, windowed=self._engine.name == "torch")
        self._on_processor = work_device(model).type == "cpu"
        self._prompt: tuple[int, ...] | None = None  # what the prompt's own slot holds
        self._run = 0
        self.update(model)

    @property
    def engine(self) -> str:
        """ "native", "cuda" or "torch"."""
        return self._engine.name

    @property
    def slots(self) -> int:
        """Most responses written at once: as many as asked for, or what they were lowered to."""
        return self._slots.number

    def update(self, weights: nn.Module | dict[str, torch.Tensor]) -> None:
        """Copy new weights (a model or its state dict) into place.

        Responses in flight are abandoned: their iterator raises SamplingError, for they would
        mix two policies."""
        self._run += 1
        self._prompt = None
        self._engine.load(weights)

    @property
    def longest(self) -> int:
        """Most positions of a sequence for which every slot's cache fits into the machine's memory."""
        if self._engine.name == "cuda":  # the GPU's memory is what counts; the engine looks at it
            return self.limits.context
        return self._row.longest(machine.memory() // (self._slots.number + 1), self.limits.context)

    def close(self) -> None:
        """Abandon responses in flight; there is nothing outside the process."""
        self._run += 1

    def sample(
        self, requests: Iterable[Request], watch: Watch | None = None, pace: Pace | None = None
    ) -> Iterator[Completion]:
        """Yield completions as they finish; starting abandons the iterator of an earlier call.

        `requests` is asked for more whenever a slot is free, also after it had none. `watch` is told every
        few steps, about `pace()` where that is a number, what tokens and log-probabilities each response in
        flight has so far; where it says so, the response ends with the next token, as one that reached its
        budget."""
        self._run += 1
        run, waiting, flying = self._run, iter(requests), dict[int, Request]()
        free, held = self._free(), None
        while True:
            while free and (request := held or next(waiting, None)) is not None:
                self._check_run(run)
                held = None if self._has_room(request) else request
                if held and flying:  # the cache has to be laid out anew: when these have ended
                    break
                if held:
                    self._lower(request)
                    free = self._free()
                self._admit(request, free[-1])
                flying[free.pop()], held = request, None
            self._check_run(run)
            if not flying:
                self._rest()
                return
            active = np.fromiter(flying, np.int32, len(flying))
            for slot in self._engine.decode(self._slots, active, pace and pace()).tolist():
                free.append(slot)
                yield self._completion(flying.pop(slot), slot)
                self._check_run(run)
            if watch is not None:
                self._watch(watch, flying)

    def _rest(self) -> None:
        """Give the cache's memory back until somebody asks again: a trainer may need it meanwhile."""
        if self._on_processor:
            self._engine.resize(self._slots.number)
            self._length, self._prompt = 0, None

    def _watch(self, watch: Watch, flying: dict[int, Request]) -> None:
        for slot, request in flying.items():
            count = int(self._slots.count[slot])
            if watch(request, self._slots.out_token[slot, :count], self._slots.out_logprob[slot, :count]):
                self._slots.budget[slot] = min(count + 1, int(self._slots.budget[slot]))

    def _check_run(self, run: int) -> None:
        if run != self._run:
            raise SamplingError(
                "the weights were updated, or another sample() began, while responses were in"
                " flight; finish or close an iterator before either"
            )

    def _free(self) -> list[int]:
        """The slots, all of them free, the last to be taken first."""
        return list(reversed(range(self._slots.number)))

    def _has_room(self, request: Request) -> bool:
        """Whether every slot can hold the request, by the memory that is free. SamplingError: it cannot be
        answered as it stands."""
        check(request, self.limits)
        length = _rounded(len(request.prompt) + request.budget)
        if length <= self._longest or not self._on_processor:  # what was granted once stays so
            return True
        return room.rows(self._row.row(length)) > self._slots.number

    def _lower(self, request: Request) -> None:
        """Lay the cache out anew for as many slots as there is room for, and reserve some length to spare, so
        that this does not happen again soon. Nothing is in flight. SamplingError: there is room for none."""
        before, length = self._slots.number, _rounded(len(request.prompt) + request.budget)
        self._length, self._longest, self._prompt = 0, 0, None
        self._engine.resize(before)  # what was cached takes no memory any more
        if room.rows(self._row.row(length)) < 2:
            raise SamplingError(
                f"one response of {length} positions needs {2 * self._row.row(length) / 2**30:.1f} GiB of "
                "cache (its prompt has a row of its own), more than is free; lower the budget, or free memory"
            )
        spare = min(length * 5 // 4 // 64 * 64, max(_rounded(self.limits.context), length))
        spare = spare if room.rows(self._row.row(spare)) > 1 else length
        slots = min(max(room.rows(self._row.row(spare)) - 1, 1), before)
        if slots < before:
            log.warning(
                "sampling %d responses at a time instead of %d: so many caches of %d positions fit into the "
                "memory that is free; lower sampling.slots or the budget to choose yourself",
                *(slots, before, spare),
            )
            self._slots = Slots(slots, self._slots.eos)
            self._engine.resize(slots)
        self._reserve(spare, request.budget)

    def _admit(self, request: Request, slot: int) -> None:
        """Make room, and bring the request's prompt but for the last token into the slot."""
        self._reserve(len(request.prompt) + request.budget, request.budget)
        own, cached = self._slots.number, len(request.prompt) - 1
        prompt = tuple(request.prompt)
        if prompt != self._prompt:
            self._prompt = None
            self._engine.prefill(np.array(prompt[:-1], np.int32), own)
            self._prompt = prompt
        self._engine.copy(own, slot, cached)
        self._slots.start(slot, request)

    def _reserve(self, length: int, budget: int) -> None:
        if length > self._length:
            longest = max(_rounded(length), self._longest)
            self._engine.reserve(longest)  # may fail, and then nothing is there
            self._length = self._longest = longest
        self._slots.widen(_rounded(budget))

    def _completion(self, request: Request, slot: int) -> Completion:
        state, count = self._slots, int(self._slots.count[slot])
        stopped = state.token[slot] in state.eos
        return Completion(
            request=request,
            tokens=state.out_token[slot, :count].copy(),
            logprobs=state.out_logprob[slot, :count].copy(),
            entropy=state.out_entropy[slot, :count].copy(),
            entropy_1=state.out_entropy_1[slot, :count].copy(),
            finish="stop" if stopped else "length",
        )


def _engine(model: nn.Module, slots: int, threads: int | None, native: bool) -> Engine:
    device = work_device(model)
    half = marks_of(model).halved  # then the trainer's products are the sampler's
    made = _faster(model, slots, threads, device, half) if native else None
    return made or TorchEngine(model.config, slots, device, half)


def _faster(
    model: nn.Module, slots: int, threads: int | None, device: torch.device, half: bool
) -> Engine | None:
    """The engine for this architecture and machine that is not PyTorch's; None, and why in the log."""
    try:
        shape, rotation = read_shape(model.config), Rotation(model)
    except SamplingError as error:
        log.info("sampling goes by PyTorch: %s", error)
        return None
    if device.type == "cuda" and find_spec("triton") and shape.plain and not half:
        return _cuda(shape, rotation, slots, device)
    if device.type != "cpu":
        return None
    library, reason = open_library()
    if library is not None:
        return NativeEngine(library, shape, rotation, slots, threads or torch.get_num_threads(), half)
    log.warning("sampling falls back to PyTorch, several times slower: %s", reason)
    return None


def _cuda(shape: DecoderShape, rotation: Rotation, slots: int, device: torch.device) -> Engine | None:
    from acereason.sample.engines.cuda import CudaEngine

    try:
        return CudaEngine(shape, rotation, slots, device)
    except SamplingError as error:
        log.info("sampling goes by PyTorch: %s", error)
        return None


def _rounded(length: int) -> int:
    """Positions that are reserved for so many."""
    return -(-length // 64) * 64


def _end_tokens(model: Any, eos_ids: int | Sequence[int] | None) -> list[int]:
    if eos_ids is None:
        generation = getattr(model, "generation_config", None)
        eos_ids = getattr(generation, "eos_token_id", None)
        eos_ids = model.config.eos_token_id if eos_ids is None else eos_ids
    if eos_ids is None:
        return []
    return [eos_ids] if isinstance(eos_ids, int) else list(eos_ids)


def check(request: Request, limits: Bounds) -> None:
    """SamplingError when a request cannot be answered as it stands."""
    length = len(request.prompt)
    if not length:
        raise SamplingError("the prompt is empty; at least one token was expected")
    check_how(request.budget, request.temperature, request.top_p)
    if length + request.budget > limits.context:
        raise SamplingError(
            f"a prompt of {length} tokens with a budget of {request.budget} is longer than the"
            f" model's context of {limits.context}; lower the budget or raise"
            " max_position_embeddings"
        )
    if min(request.prompt) < 0 or max(request.prompt) >= limits.vocab:
        raise SamplingError(
            f"the prompt's tokens reach from {min(request.prompt)} to {max(request.prompt)}; 0 to"
            f" {limits.vocab - 1}, the model's vocabulary, was expected"
        )
