"""The PyTorch engine: any decoder-only model, by the layers of its own transformers class.

The engine holds a copy of the model. `policy.attention` hands every layer's queries, keys and values to the
engine's cache, and `policy.output` makes logits, so windows, soft caps, several rotations, norms after
branches and scaled embeddings are the model's own code and cannot differ from it. It is the engine for
architectures without a faster one, for machines without a compiler, and for GPUs that the CUDA engine does
not serve.

Rows of the cache are kept dense: when a sixth of them are idle the last ones move down. Tokens are drawn as
in the native engine. `half`: products in bfloat16, as `policy.halves` does in learning. Rounding inside
matrix products may depend on the size of the batch here. On a GPU the steps are CUDA graphs (`graphs`).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from acereason.draws import uniforms
from acereason.errors import SamplingError
from acereason.policy import halves, shards
from acereason.policy.output import float_logits, output_of
from acereason.policy.state import full_tensors
from acereason.sample.engines.cache import SlotCache
from acereason.sample.engines.draw import draw
from acereason.sample.engines.graphs import StepGraphs
from acereason.sample.engines.slots import Ints, Slots

CHUNK = 512  # prompt tokens at once
LOGITS = 1 << 24  # logits held at once: 64 MiB


class TorchEngine:
    """See `slots.Engine`."""

    name = "torch"

    def __init__(self, config: Any, slots: int, device: torch.device, half: bool = False) -> None:
        self._device = device
        self._graphs = StepGraphs(self._step, device) if device.type == "cuda" else None
        self.resize(slots)
        self._model = shards.empty_model(config, Path(), torch.float32).eval()
        self._model._apply(lambda t: torch.empty_like(t, device=device) if t.is_meta else t.to(device))
        self._model.tie_weights()
        if half:
            halves.halve(self._model, keep_masters=False)
        self._output = output_of(self._model)

    @torch.no_grad()
    def load(self, weights: object) -> None:
        """Copy the weights of a module or state dict into the engine's own."""
        given = dict(full_tensors(weights)) if isinstance(weights, nn.Module) else weights
        if not isinstance(given, Mapping):
            raise SamplingError(f"expected a model or its state dict, found {type(weights).__name__}")
        for name, own in self._model.named_parameters():
            if name not in given:
                raise SamplingError(f"the weights lack {name!r}; expected those of the model at hand")
            if given[name].shape != own.shape:
                raise SamplingError(f"{name} is {tuple(given[name].shape)}; {tuple(own.shape)} was expected")
            layer = self._model.get_submodule(name.rpartition(".")[0])
            if isinstance(layer, halves.HalfLinear) and layer.weight is own:
                halves.take(layer, given[name], self._slots)
            else:
                own.copy_(given[name])

    def resize(self, slots: int) -> None:
        """Have so many slots from now on, with nothing cached."""
        self._slots = slots
        self._row = list(range(slots + 1))  # row of the cache that holds each slot
        self._cache = SlotCache(slots + 1, self._device)
        self._moved()

    def reserve(self, length: int) -> None:
        """Make room for `length` positions in every slot; what is cached stays."""
        if length > self._cache.length:
            self._cache.reserve(-(-length // 64) * 64)
            self._moved()

    def _moved(self) -> None:
        if self._graphs is not None:
            self._graphs.clear()

    @torch.no_grad()
    def prefill(self, tokens: Ints, slot: int) -> None:
        """Fill a slot's cache with the keys and values of `tokens`, from position 0."""
        row = self._row[slot]
        for start in range(0, len(tokens), CHUNK):
            ids = torch.from_numpy(tokens[start : start + CHUNK]).long().to(self._device)
            position_C = torch.arange(start, start + len(ids), device=self._device)
            self._through(ids, position_C, slice(row, row + 1), start + len(ids))

    def copy(self, source: int, target: int, length: int) -> None:
        """Copy the first `length` cached positions of a slot to another slot."""
        self._cache.move(self._row[source], self._row[target], length)

    @torch.no_grad()
    def decode(self, slots: Slots, active: Ints, steps: int | None = None) -> Ints:
        """One token for each active slot; see `slots.Engine.decode`."""
        span = self._compact(slots, active)
        token, position = np.zeros(span, np.int64), np.zeros(span, np.int64)
        rows = np.array([self._row[slot] for slot in active])
        token[rows], position[rows] = slots.token[active], slots.position[active]
        if self._graphs is not None and self._slots > 1:
            hidden = self._graphs(token, position, self._slots, self._cache.length)
        else:
            ids, at = (torch.from_numpy(x).to(self._device) for x in (token, position))
            hidden = self._step(ids, at, int(position.max()) + 1)
        hidden = hidden[torch.from_numpy(rows).to(self._device)]
        step = max(1, LOGITS // len(self._output.weight))
        for start in range(0, len(active), step):
            self._draw(slots, active[start : start + step], hidden[start : start + step])
        slots.count[active] += 1
        slots.position[active] += 1
        over = np.isin(slots.token[active], slots.eos)
        ended: Ints = active[over | (slots.count[active] == slots.budget[active])]
        return ended

    def _draw(self, slots: Slots, part: Ints, hidden: Tensor) -> None:
        number = uniforms(slots.seed[part], slots.count[part])
        T, share = slots.temperature[part].astype(float), slots.top_p[part].astype(float)
        logits = float_logits(hidden, self._output)
        if not bool(torch.isfinite(logits).all()):
            self._cache.clear()
            raise SamplingError("a logit is not a finite number; the weights have diverged")
        drawn = draw(logits, *map(torch.from_numpy, (T, share, number)))
        here = (part, slots.count[part])
        slots.token[part] = slots.out_token[here] = drawn.token
        slots.out_logprob[here], slots.out_entropy[here] = drawn.logprob, drawn.entropy
        slots.out_entropy_1[here] = drawn.entropy_1

    def _compact(self, slots: Slots, active: Ints) -> int:
        """Rows to compute: up to the last active one, after moving rows down when many are idle."""
        used = sorted((self._row[slot], int(slot)) for slot in active)
        if 6 * len(used) > 5 * (used[-1][0] + 1):
            return int(used[-1][0]) + 1
        holder = {row: slot for slot, row in enumerate(self._row)}
        holes = sorted(set(range(len(used))) - {row for row, _ in used})
        for (row, slot), hole in zip(reversed(used), holes, strict=False):
            self._cache.move(row, hole, int(slots.position[slot]))
            self._row[slot], self._row[holder[hole]] = hole, row
        return len(used)

    def _step(self, ids: Tensor, position: Tensor, reach: int) -> Tensor:
        """Hidden states of one token of each of the first rows."""
        return self._through(ids, position, slice(0, len(ids)), reach)

    def _through(self, ids: Tensor, position: Tensor, rows: slice, reach: int) -> Tensor:
        """Hidden states after the last norm [C, hidden]: C tokens of one row, or one of each."""
        self._cache.begin(rows, position, reach)
        output = self._model.base_model(
            input_ids=ids[None], position_ids=position[None], use_cache=False, pack_cache=self._cache
        )
        hidden: Tensor = output.last_hidden_state[0]
        return hidden
