"""The CUDA engine: one decoding step is one graph, in bfloat16, and the host stays a step behind.

A step reads every weight and every cached key and value once, so memory bandwidth bounds it and everything
here serves that: matrix products by cuBLAS, the rest by a few Triton kernels (`cuda_kernels`), replayed as a
CUDA graph. The next step is launched before the last one's tokens are read, since it takes them from
device memory; what it computed for a response that had just ended is thrown away. Graphs are kept per
number of rows and per reach of the cache, both rounded up to powers of two.

Memory: weights, and (slots + 2) x longest prompt + budget x layers x key-value heads x head_dim x 4 bytes.

Legend: R rows, H query heads, K key-value heads, D head dimension, T positions, V vocabulary, L layers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention.bias import causal_lower_right

from acereason.draws import uniforms
from acereason.errors import SamplingError
from acereason.policy.decoder import DecoderShape, Rotation
from acereason.policy.output import Output, float_logits
from acereason.sample.engines import cuda_kernels as kernels
from acereason.sample.engines.slots import Ints, Slots
from acereason.sample.engines.weights import DecoderWeights, Layer

PREFILL = 4096  # prompt tokens at once
HEAD_SIZES = (16, 32, 64, 128, 256)  # powers of two, as Triton's tiles are
STEPS = 64  # most steps between two looks at what ended


@dataclass(slots=True)
class _Buffers:
    """What a graph of R rows reads and writes: places in the cache, tokens fed and drawn, and numbers."""

    where: Tensor  # [2, R] int32: slot, position
    settings: Tensor  # [3, R] float32: T, top-p share, uniform number
    tokens: Tensor  # [R] int64: fed, then drawn
    results: Tensor  # [3, R] float32: log-probability, entropy at T, entropy at 1


@dataclass(slots=True)
class _Flight:
    """A step that was launched: its rows' slots and the host's copies of what it will have drawn."""

    tokens: Tensor
    results: Tensor
    done: torch.cuda.Event | None


class CudaEngine:
    """See `slots.Engine`. `graphs=False` runs the same step eagerly, on any device that Triton serves.

    SamplingError: heads of a size that it does not decode."""

    name = "cuda"

    def __init__(
        self,
        shape: DecoderShape,
        rotation: Rotation,
        slots: int,
        device: torch.device,
        dtype: torch.dtype = torch.bfloat16,
        graphs: bool = True,
    ) -> None:
        if shape.head_dim not in HEAD_SIZES:
            known = ", ".join(map(str, HEAD_SIZES))
            raise SamplingError(f"the CUDA engine decodes heads of {known} numbers, not of {shape.head_dim}")
        self._shape, self._rotation, self._device, self._dtype = shape, rotation, device, dtype
        self._slots, self._length, self._graphs = slots, 0, graphs
        self._weights = DecoderWeights(shape, dtype, device)
        self._buffers: dict[int, _Buffers] = {}
        self._steps: dict[tuple[int, int], Callable[[], None]] = {}
        self._cache = torch.empty(
            0
        )  # [L, 2, slots + 2, K, T, D]: the prompt's own slot, and one for idle rows
        self._pool: Any = None  # memory that the graphs share

    def load(self, weights: object) -> None:
        """Copy the weights of a module or state dict into the engine's own, in place."""
        self._weights.load(weights)

    def reserve(self, length: int) -> None:
        """Make room for `length` positions in every slot; what is cached stays."""
        s, old = self._shape, self._length
        if length + 1 <= old:  # one more: the step that runs ahead
            return
        self._length = -(-(length + 1) // 128) * 128
        size = (s.layers, 2, self._slots + 2, s.kv_heads, self._length, s.head_dim)
        before = self._cache
        try:
            self._cache = torch.zeros(size, dtype=self._dtype, device=self._device)
        except torch.OutOfMemoryError as error:
            gib = np.prod(size, dtype=float) * self._dtype.itemsize / 2**30
            raise SamplingError(
                f"{self._slots} slots of {self._length} positions need {gib:.1f} GiB of cache, more than the "
                "GPU has left; lower sampling.slots or the budget"
            ) from error
        if old:
            self._cache[..., :old, :] = before
        self._cos, self._sin = (t.to(self._device) for t in self._rotation.tables(self._length))
        self._steps.clear()  # they hold the old cache's address; a pool ends with its last graph
        self._pool = torch.cuda.graph_pool_handle() if self._graphs else None

    def resize(self, slots: int) -> None:
        """Only the processor's memory is looked at before it is taken."""
        raise NotImplementedError

    @torch.no_grad()
    def prefill(self, tokens: Ints, slot: int) -> None:
        """Fill a slot's cache with the keys and values of `tokens`, from position 0."""
        for start in range(0, len(tokens), PREFILL):
            self._prefill(torch.from_numpy(tokens[start : start + PREFILL]).long(), start, slot)

    def _prefill(self, ids: Tensor, start: int, slot: int) -> None:
        s, count = self._shape, len(ids)
        at = torch.arange(start, start + count, dtype=torch.int32, device=self._device)
        where = (torch.full_like(at, slot), at)
        x = self._weights.embed[ids.to(self._device)]
        for i, layer in enumerate(self._weights.layers):
            queries = self._queries(layer, x, i, where)
            k, v = self._cache[i, :, slot, None, :, : start + count]
            q = queries.transpose(0, 1)[None]
            bias = causal_lower_right(count, start + count) if start else None
            mixed = F.scaled_dot_product_attention(
                q, k, v, attn_mask=bias, is_causal=not start, enable_gqa=s.heads != s.kv_heads
            )
            x = self._rest(layer, x, mixed[0].transpose(0, 1).reshape(count, -1))

    def copy(self, source: int, target: int, length: int) -> None:
        """Copy the first `length` cached positions of a slot to another slot."""
        self._cache[:, :, target, :, :length] = self._cache[:, :, source, :, :length]

    @torch.no_grad()
    def decode(self, slots: Slots, active: Ints, steps: int | None = None) -> Ints:
        """Tokens for each active slot until one of them ends, and one more for those that did not; see
        `slots.Engine.decode`."""
        buffers = self._prepare(slots, active)
        flight = self._launch(buffers, slots, active, 0)
        ended = np.zeros(0, np.int32)
        most = max(2, min(steps or STEPS, STEPS))
        for step in range(1, most):
            ahead = self._launch(buffers, slots, active, 1)
            ended = self._land(flight, slots, active, np.ones(len(active), bool))
            flight = ahead
            if len(ended) or step == most - 1:
                break
        alive = ~np.isin(active, ended)
        return np.concatenate([ended, self._land(flight, slots, active, alive)])

    def _prepare(self, slots: Slots, active: Ints) -> _Buffers:
        """The buffers for so many rows; rows past the active ones are idle."""
        rows = max(8, 1 << (len(active) - 1).bit_length())
        if rows not in self._buffers:
            self._buffers[rows] = _Buffers(
                torch.zeros(2, rows, dtype=torch.int32, device=self._device),
                torch.ones(3, rows, device=self._device),
                torch.zeros(rows, dtype=torch.int64, device=self._device),
                torch.zeros(3, rows, device=self._device),
            )
        tokens = np.zeros(rows, np.int64)
        tokens[: len(active)] = slots.token[active]
        self._send(self._buffers[rows].tokens, tokens)
        return self._buffers[rows]

    def _launch(self, buffers: _Buffers, slots: Slots, active: Ints, ahead: int) -> _Flight:
        """Queue one step, `ahead` steps after what the host knows, and the copy of its results."""
        rows = len(buffers.tokens)
        where, settings = np.zeros((2, rows), np.int32), np.ones((3, rows), np.float32)
        where[0] = self._slots + 1
        here = slice(0, len(active))
        where[0, here], where[1, here] = active, slots.position[active] + ahead
        settings[0, here], settings[1, here] = slots.temperature[active], slots.top_p[active]
        settings[2, here] = uniforms(slots.seed[active], slots.count[active] + ahead)
        self._send(buffers.where, where)
        self._send(buffers.settings, settings)
        longest = int(where[1].max()) + 1
        reach = min(self._length, max(1024, 1 << (longest - 1).bit_length()))
        self._step(buffers, reach)()
        tokens = buffers.tokens[here].to("cpu", non_blocking=True, copy=True)
        results = buffers.results[:, here].to("cpu", non_blocking=True, copy=True)
        return _Flight(tokens, results, self._mark())

    def _mark(self) -> torch.cuda.Event | None:
        if self._device.type != "cuda":
            return None
        event = torch.cuda.Event()
        event.record()
        return event

    def _land(self, flight: _Flight, slots: Slots, active: Ints, alive: npt.NDArray[np.bool_]) -> Ints:
        """Wait for a step and write down what it drew for the slots still alive; returns those that end."""
        if flight.done is not None:
            flight.done.synchronize()
        part = active[alive]
        numbers = flight.results.numpy()[:, alive]
        if not np.isfinite(numbers).all():
            self._cache.zero_()
            raise SamplingError("a logit is not a finite number; the weights have diverged")
        here = (part, slots.count[part])
        slots.token[part] = slots.out_token[here] = flight.tokens.numpy()[alive]
        slots.out_logprob[here], slots.out_entropy[here], slots.out_entropy_1[here] = numbers
        slots.count[part] += 1
        slots.position[part] += 1
        over = np.isin(slots.token[part], slots.eos) | (slots.count[part] == slots.budget[part])
        ended: Ints = part[over]
        return ended

    def _send(self, target: Tensor, values: npt.NDArray[np.generic]) -> None:
        source = torch.from_numpy(values)
        target.copy_(source.pin_memory() if self._device.type == "cuda" else source, non_blocking=True)

    def _step(self, buffers: _Buffers, reach: int) -> Callable[[], None]:
        """The step for these buffers over caches of at most `reach` positions, captured on first use."""
        key = len(buffers.tokens), reach
        if key not in self._steps:
            self._steps[key] = self._captured(lambda: self._through(buffers, reach), buffers)
        return self._steps[key]

    def _captured(self, step: Callable[[], None], buffers: _Buffers) -> Callable[[], None]:
        if not self._graphs:
            return step
        tokens = buffers.tokens.clone()
        step()  # compiles the kernels; drawing again later gives the same, so the tokens are put back
        buffers.tokens.copy_(tokens)
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._pool):
            step()
        return graph.replay

    def _through(self, buffers: _Buffers, reach: int) -> None:
        """One token for every row."""
        where = (buffers.where[0], buffers.where[1])
        x = self._weights.embed[buffers.tokens]
        for i, layer in enumerate(self._weights.layers):
            queries = self._queries(layer, x, i, where)
            x = self._rest(layer, x, kernels.attend(queries, self._cache[i], where, reach))
        x = F.rms_norm(x, x.shape[-1:], self._weights.norm, self._shape.eps)
        logits = float_logits(x, Output(self._weights.head))
        kernels.draw(logits, buffers.settings, buffers.tokens, buffers.results)

    def _queries(self, layer: Layer, x: Tensor, i: int, where: tuple[Tensor, Tensor]) -> Tensor:
        """Rotated queries [R, H, D]; keys and values go into the cache."""
        s = self._shape
        qkv = F.linear(F.rms_norm(x, x.shape[-1:], layer.norm1, s.eps), layer.qkv, layer.bias)
        norms = None if layer.q_norm is None or layer.k_norm is None else (layer.q_norm, layer.k_norm)
        return kernels.store(qkv, norms, (self._cos, self._sin), where, self._cache[i], s.heads, s.eps)

    def _rest(self, layer: Layer, x: Tensor, mixed: Tensor) -> Tensor:
        """The layer after its attention."""
        x = torch.addmm(x, mixed, layer.o.t())
        gate_up = F.linear(F.rms_norm(x, x.shape[-1:], layer.norm2, self._shape.eps), layer.gate_up)
        return torch.addmm(x, kernels.gate(gate_up), layer.down.t())
