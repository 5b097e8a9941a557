"""The compiled engine: `native/decode.cpp` behind the interface of `slots.Engine`, called by
ctypes.

The source is compiled on first use (see `acereason.native.build`); without a compiler, or with
ACEREASON_NATIVE=0, `open_library` says why not and the sampler takes PyTorch. Weights are packed
into the panels that the matrix tiles read; a call releases the interpreter lock.
"""

from __future__ import annotations

import ctypes
import functools
import os

import numpy as np
import torch
from torch import Tensor

from acereason.errors import SamplingError
from acereason.native.build import architecture, build_native, load
from acereason.policy.decoder import DecoderShape, Rotation, joined, read_weights
from acereason.policy.panels import declare, fill_panels, half_panels, pack_half, panels, zeros
from acereason.sample.engines.slots import Ints, Slots

STEPS_A_CALL = 32  # so that an interrupt is heard within a while

_pointer, _int = ctypes.c_void_p, ctypes.c_int32
_NORMS = ("norm1", "qkv_bias", "q_norm", "k_norm", "post1", "norm2", "post2")
_MATRICES = ("qkv", "o", "gate_up", "down")
_NUMBERS = ("layers", "hidden", "heads", "kv_heads", "dim", "inter", "vocab", "length")


class _Layer(ctypes.Structure):
    _fields_ = [
        *((name, _pointer) for name in (*_NORMS, "cos", "sin", *_MATRICES)),
        ("window", ctypes.c_int64),
    ]


class _Model(ctypes.Structure):
    _fields_ = [
        *((name, _int) for name in _NUMBERS),
        ("slots", ctypes.c_int64),
        *((name, ctypes.c_float) for name in ("eps", "embed_scale", "query_scale", "gate_a", "gate_b")),
        *((name, _int) for name in ("half", "threads")),
        ("layer", ctypes.POINTER(_Layer)),
        *((name, _pointer) for name in ("embed", "norm", "head", "cache")),
    ]


_STATE = (
    *("token", "position", "count", "budget", "temperature", "top_p", "seed"),
    *("out_token", "out_logprob", "out_entropy", "out_entropy_1"),
)


class _Slots(ctypes.Structure):
    _fields_ = [
        *((name, _pointer) for name in _STATE),
        ("width", ctypes.c_int64),
        ("eos", _pointer),
        ("eos_count", ctypes.c_int64),
    ]


def open_library() -> tuple[ctypes.CDLL | None, str]:
    """The compiled library, or None and the reason."""
    if os.environ.get("ACEREASON_NATIVE") == "0":
        return None, "ACEREASON_NATIVE=0"
    return _open(architecture())


@functools.cache
def _open(architecture: str) -> tuple[ctypes.CDLL | None, str]:
    """Tried once a process."""
    built = build_native("decode", architecture)
    library = load(built)
    if library is None:
        return None, built.reason if built.path is None else f"{built.path} cannot be loaded"
    library.acereason_open.restype = _pointer
    library.acereason_open.argtypes = [_int]
    library.acereason_close.argtypes = [_pointer]
    library.acereason_prefill.argtypes = [_pointer, _pointer, _pointer, _int, _int, _int]
    library.acereason_copy.argtypes = [_pointer, _int, _int, _int]
    declare(library)
    library.acereason_decode.argtypes = [*[_pointer] * 4, _int, _int, _pointer]
    return library, built.reason


class NativeEngine:
    """See `slots.Engine`. A response's bits depend neither on its company nor on `threads`. `half`: products
    of the layers in bfloat16, rounded where `policy.halves` rounds them."""

    name = "native"

    def __init__(
        self,
        library: ctypes.CDLL,
        shape: DecoderShape,
        rotation: Rotation,
        slots: int,
        threads: int,
        half: bool = False,
    ) -> None:
        self._library, self._shape, self._rotation, self._half = library, shape, rotation, half
        self._lanes = library.acereason_lanes()
        self._pool = library.acereason_open(threads)
        self._buffers = self._make_buffers()
        self._layers = (_Layer * shape.layers)()
        for i, layer in enumerate(self._layers):
            layer.window = shape.window_of(i) or 0
            for name in (*_NORMS, *_MATRICES):
                buffer = self._buffers.get(f"{i}.{name}")
                setattr(layer, name, buffer.data_ptr() if buffer is not None else None)
        self._model = _Model(
            *(shape.layers, shape.hidden, shape.heads, shape.kv_heads, shape.head_dim),
            *(shape.intermediate, shape.vocab, 0, slots + 1),
            *(shape.eps, shape.embed_scale, shape.query_scale, *shape.gate, half, threads),
            self._layers, *(self._buffers[name].data_ptr() for name in ("embed", "norm", "head")),
        )  # fmt: skip
        self._ended = np.zeros(slots, np.int32)
        self._cache = np.zeros((shape.layers, slots + 1, shape.kv_heads, 0), np.float32)

    def __del__(self) -> None:
        if getattr(self, "_pool", None):
            self._library.acereason_close(self._pool)

    def _make_buffers(self) -> dict[str, Tensor]:
        s = self._shape
        made = {
            "embed": torch.zeros(s.vocab, s.hidden),
            "norm": torch.zeros(s.hidden),
            "head": panels(s.vocab, s.hidden, 2 * self._lanes),
        }
        for i in range(s.layers):
            made |= {f"{i}.{name}": torch.zeros(s.hidden) for name in s.norm_names()}
            if s.qkv_bias:
                made[f"{i}.qkv_bias"] = torch.zeros(s.query_width + 2 * s.kv_width)
            if s.qk_norm:
                made |= {f"{i}.{name}": torch.zeros(s.head_dim) for name in ("q_norm", "k_norm")}
        return made | self._make_matrices()

    def _make_matrices(self) -> dict[str, Tensor]:
        s, side = self._shape, 16 if self._half else self._lanes
        sizes = {
            "qkv": (s.query_width + 2 * s.kv_width, s.hidden),
            "o": (s.hidden, s.query_width),
            "gate_up": (
                2 * side * -(-s.intermediate // side),
                s.hidden,
            ),  # they alternate in tiles, or vectors
            "down": (s.hidden, s.intermediate),
        }
        every = {f"{i}.{name}": size for i in range(s.layers) for name, size in sizes.items()}
        if self._half:
            return half_panels(every)
        made = {name: panels(*size, 2 * side) for name, size in every.items()}
        return {n: t.unflatten(2, (2, side)) if "gate_up" in n else t for n, t in made.items()}

    @torch.no_grad()
    def load(self, weights: object) -> None:
        """Pack the weights of a module or state dict into the engine's buffers."""
        s, out = self._shape, self._buffers
        given = read_weights(weights, s)
        out["embed"].copy_(given["embed_tokens.weight"])
        out["norm"].copy_(given["norm.weight"]).add_(s.one)
        fill_panels(given["head"], out["head"])
        for i in range(s.layers):
            at = f"layers.{i}."
            for name, long in s.norm_names().items():
                out[f"{i}.{name}"].copy_(given[f"{at}{long}.weight"]).add_(s.one)
            self._fill(joined(given, i, "weight"), out[f"{i}.qkv"])
            self._fill(given[at + "self_attn.o_proj.weight"], out[f"{i}.o"])
            self._fill(given[at + "mlp.down_proj.weight"], out[f"{i}.down"])
            for part, name in enumerate(("gate", "up")):
                self._fill(given[f"{at}mlp.{name}_proj.weight"], out[f"{i}.gate_up"], part)
            if s.qkv_bias:
                out[f"{i}.qkv_bias"].copy_(joined(given, i, "bias"))
            for name in ("q_norm", "k_norm") if s.qk_norm else ():
                out[f"{i}.{name}"].copy_(given[f"{at}self_attn.{name}.weight"]).add_(s.one)

    def _fill(self, matrix: Tensor, out: Tensor, part: int | None = None) -> None:
        """Pack a matrix; `part` of two that lie in turns."""
        if self._half:
            pack_half(self._library, matrix, out, first=part or 0, step=1 if part is None else 2)
        else:
            fill_panels(matrix, out if part is None else out[:, :, part])

    def reserve(self, length: int) -> None:
        """Make room for `length` positions in every slot; what is cached stays."""
        length = -(-length // self._lanes) * self._lanes
        old, dim = self._model.length, self._shape.head_dim
        if length <= old:
            return
        padded = -(-dim // self._lanes) * self._lanes
        cache = zeros((*self._cache.shape[:3], length * (dim + padded)))
        if old:
            cache[..., : old * dim] = self._cache[..., : old * dim]
            cache[..., length * dim : length * dim + old * padded] = self._cache[..., old * dim :]
        self._tables = {kind: self._rotation.tables(length, kind) for kind in set(self._shape.kinds)}
        for kind, layer in zip(self._shape.kinds, self._layers, strict=True):
            layer.cos, layer.sin = (table.data_ptr() for table in self._tables[kind])
        self._cache, model = cache, self._model
        model.length, model.cache = length, cache.ctypes.data

    def resize(self, slots: int) -> None:
        """Have so many slots from now on, with nothing cached."""
        s, self._model.slots, self._model.length = self._shape, slots + 1, 0
        self._ended = np.zeros(slots, np.int32)
        self._cache = np.zeros((s.layers, slots + 1, s.kv_heads, 0), np.float32)

    def prefill(self, tokens: Ints, slot: int) -> None:
        """Fill a slot's cache with the keys and values of `tokens`, from position 0."""
        model = ctypes.addressof(self._model)
        self._library.acereason_prefill(self._pool, model, tokens.ctypes.data, len(tokens), slot, 0)

    def copy(self, source: int, target: int, length: int) -> None:
        """Copy the first `length` cached positions of a slot to another slot."""
        self._library.acereason_copy(ctypes.addressof(self._model), source, target, length)

    def decode(self, slots: Slots, active: Ints, steps: int | None = None) -> Ints:
        """Steps until a response ends; see `slots.Engine.decode`."""
        state = _Slots(*(getattr(slots, name).ctypes.data for name in _STATE), slots.width)
        state.eos, state.eos_count = slots.eos.ctypes.data, len(slots.eos)
        ended = self._library.acereason_decode(
            *(self._pool, ctypes.addressof(self._model), ctypes.addressof(state)),
            *(active.ctypes.data, len(active), steps or STEPS_A_CALL, self._ended.ctypes.data),
        )
        if ended < 0:
            raise SamplingError("a logit is not a finite number; the weights have diverged")
        return self._ended[:ended].copy()
