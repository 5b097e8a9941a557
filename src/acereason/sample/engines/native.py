"""The compiled engine: `native/decode.cpp` behind the interface of `slots.Engine`, called by
ctypes.

The source is compiled on first use (see `acereason.native.build`); without a compiler, or with
ACEREASON_NATIVE=0, `open_library` says why not and the sampler takes PyTorch. Weights are packed
into the panels that the matrix tiles read; a call releases the interpreter lock.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import math
import mmap
import os

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from acereason.errors import SamplingError
from acereason.native.build import architecture, build_native, load
from acereason.policy.llama import DecoderShape, Rotation, fill_panels, joined, panels, read_weights
from acereason.sample.engines.slots import Ints, Slots

STEPS_A_CALL = 32  # so that an interrupt is heard within a while

_pointer, _int = ctypes.c_void_p, ctypes.c_int32
_LAYER = ("norm1", "qkv", "qkv_bias", "q_norm", "k_norm", "o", "norm2", "gate_up", "down")
_NUMBERS = ("layers", "hidden", "heads", "kv_heads", "dim", "inter", "vocab", "length")


class _Layer(ctypes.Structure):
    _fields_ = [(name, _pointer) for name in _LAYER]


class _Model(ctypes.Structure):
    _fields_ = [
        *((name, _int) for name in _NUMBERS),
        ("slots", ctypes.c_int64),
        ("eps", ctypes.c_float),
        ("threads", _int),
        ("layer", ctypes.POINTER(_Layer)),
        *((name, _pointer) for name in ("embed", "norm", "head", "cos", "sin", "cache")),
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
    library.acereason_decode.argtypes = [*[_pointer] * 4, _int, _int, _pointer]
    return library, built.reason


def zeros(size: tuple[int, ...]) -> npt.NDArray[np.float32]:
    """Zeros in large pages where the system has them; memory is taken as it is first written."""
    memory = mmap.mmap(-1, 4 * math.prod(size))
    if hasattr(mmap, "MADV_HUGEPAGE"):
        with contextlib.suppress(OSError):
            memory.madvise(mmap.MADV_HUGEPAGE)
    return np.frombuffer(memory, np.float32).reshape(size)


class NativeEngine:
    """See `slots.Engine`. A response's bits depend neither on its company nor on `threads`."""

    name = "native"

    def __init__(
        self, library: ctypes.CDLL, shape: DecoderShape, rotation: Rotation, slots: int, threads: int
    ) -> None:
        self._library, self._shape, self._rotation = library, shape, rotation
        self._lanes = library.acereason_lanes()
        self._pool = library.acereason_open(threads)
        self._buffers = self._make_buffers()
        self._layers = (_Layer * shape.layers)()
        for i, layer in enumerate(self._layers):
            for name in _LAYER:
                buffer = self._buffers.get(f"{i}.{name}")
                setattr(layer, name, buffer.data_ptr() if buffer is not None else None)
        head = self._buffers["head"].data_ptr()
        numbers = (shape.layers, shape.hidden, shape.heads, shape.kv_heads, shape.head_dim)
        self._model = _Model(
            *(*numbers, shape.intermediate, shape.vocab, 0, slots + 1, shape.eps, threads),
            self._layers, self._buffers["embed"].data_ptr(), self._buffers["norm"].data_ptr(), head,
        )  # fmt: skip
        self._ended = np.zeros(slots, np.int32)
        self._cache = np.zeros((shape.layers, slots + 1, shape.kv_heads, 0), np.float32)

    def __del__(self) -> None:
        if getattr(self, "_pool", None):
            self._library.acereason_close(self._pool)

    def _make_buffers(self) -> dict[str, Tensor]:
        s, panel = self._shape, 2 * self._lanes
        queries, joint = s.heads * s.head_dim, (s.heads + 2 * s.kv_heads) * s.head_dim
        made = {
            "embed": torch.zeros(s.vocab, s.hidden),
            "norm": torch.zeros(s.hidden),
            "head": panels(s.vocab, s.hidden, panel),
        }
        for i in range(s.layers):
            made[f"{i}.norm1"], made[f"{i}.norm2"] = torch.zeros(s.hidden), torch.zeros(s.hidden)
            made[f"{i}.qkv"] = panels(joint, s.hidden, panel)
            made[f"{i}.o"] = panels(s.hidden, queries, panel)
            made[f"{i}.down"] = panels(s.hidden, s.intermediate, panel)
            blocks = -(-s.intermediate // self._lanes)  # gate and up alternate in vectors
            made[f"{i}.gate_up"] = torch.zeros(blocks, s.hidden, 2, self._lanes)
            if s.qkv_bias:
                made[f"{i}.qkv_bias"] = torch.zeros(joint)
            if s.qk_norm:
                made[f"{i}.q_norm"] = torch.zeros(s.head_dim)
                made[f"{i}.k_norm"] = torch.zeros(s.head_dim)
        return made

    def load(self, weights: object) -> None:
        """Pack the weights of a module or state dict into the engine's buffers."""
        s, out = self._shape, self._buffers
        given = read_weights(weights, s)
        out["embed"].copy_(given["embed_tokens.weight"])
        out["norm"].copy_(given["norm.weight"])
        fill_panels(given["head"], out["head"])
        for i in range(s.layers):
            at = f"layers.{i}."
            out[f"{i}.norm1"].copy_(given[at + "input_layernorm.weight"])
            out[f"{i}.norm2"].copy_(given[at + "post_attention_layernorm.weight"])
            fill_panels(joined(given, i, "weight"), out[f"{i}.qkv"])
            fill_panels(given[at + "self_attn.o_proj.weight"], out[f"{i}.o"])
            fill_panels(given[at + "mlp.down_proj.weight"], out[f"{i}.down"])
            fill_panels(given[at + "mlp.gate_proj.weight"], out[f"{i}.gate_up"][:, :, 0])
            fill_panels(given[at + "mlp.up_proj.weight"], out[f"{i}.gate_up"][:, :, 1])
            if s.qkv_bias:
                out[f"{i}.qkv_bias"].copy_(joined(given, i, "bias"))
            if s.qk_norm:
                out[f"{i}.q_norm"].copy_(given[at + "self_attn.q_norm.weight"])
                out[f"{i}.k_norm"].copy_(given[at + "self_attn.k_norm.weight"])

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
        self._cos, self._sin = self._rotation.tables(length)
        self._cache, model = cache, self._model
        model.length, model.cache = length, cache.ctypes.data
        model.cos, model.sin = self._cos.data_ptr(), self._sin.data_ptr()

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
