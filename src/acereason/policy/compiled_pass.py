"""Log-probabilities of a pack and their gradient by compiled code (`native/learn.cpp`), in float32 on CPU, or
with the layers' products in bfloat16 (`policy.halves`).

    logprobs(model, pack, T) -> (log π_T [M], H_T [M])   as `policy.model.logprobs`, or None

The whole model is one autograd function: its forward pass is fused and keeps little, its backward
pass gives every parameter's gradient. Prompts that several responses of a pack share are computed
once, and the last token of a response, from which nothing is predicted, not at all; so put
responses to one prompt into one pack (`packs_by_prompt`). None means that the caller has to take
PyTorch: no compiler, ACEREASON_NATIVE=0, a model of an architecture that `policy.decoder` does not know, or
weights that are not float32 on the processor.

Of a model with adapters the merged weights are given, through which the gradient reaches the factors. Of one
with frozen layers the backward pass ends at the first that learns.

Threads take prompts with their responses, so a pack needs several responses to use several threads.
Gradients are added in the order of threads and are the same in every run with as many threads.
"""

from __future__ import annotations

import ctypes
import functools
import os
import threading
import weakref
from typing import Any

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor

from acereason.errors import SamplingError
from acereason.native.build import architecture, build_native, load
from acereason.policy import decoder, lora, panels
from acereason.policy.layout import ARRAYS, Layout, lay_out
from acereason.policy.marks import marks_of
from acereason.policy.packing import Pack

_pointer, _int, _long = ctypes.c_void_p, ctypes.c_int32, ctypes.c_int64
_VECTORS = ("norm1", "qkv_bias", "q_norm", "k_norm", "post1", "norm2", "post2")
_MATRICES = ("qkv", "o", "up", "down")
_WEIGHTS = (*_VECTORS, *(f"{name}{turned}" for name in _MATRICES for turned in ("", "_t")))


class _Layer(ctypes.Structure):
    _fields_ = [
        *((name, _pointer) for name in (*_VECTORS, "cos", "sin")),
        *((name, _pointer) for name in _WEIGHTS[len(_VECTORS) :]),
        ("window", _long),
        *((f"d_{name}", _long) for name in (*_VECTORS, *_MATRICES)),
    ]


class _Net(ctypes.Structure):
    _fields_ = [
        *((n, _int) for n in ("layers", "hidden", "heads", "kv_heads", "dim", "inter", "vocab")),
        ("threads", _int),
        *((name, ctypes.c_float) for name in ("eps", "embed_scale", "query_scale", "gate_a", "gate_b")),
        *((name, _int) for name in ("half", "frozen")),
        ("layer", ctypes.POINTER(_Layer)),
        *((name, _pointer) for name in ("embed", "norm", "head", "head_t")),
        *((name, _long) for name in ("d_embed", "d_norm", "d_head", "total")),
    ]


class _Batch(ctypes.Structure):
    _fields_ = [(name, _pointer) for name in ARRAYS]


def open_library() -> ctypes.CDLL | None:
    """The compiled library, unless ACEREASON_NATIVE=0."""
    return None if os.environ.get("ACEREASON_NATIVE") == "0" else _open(architecture())


@functools.cache
def _open(architecture: str) -> ctypes.CDLL | None:
    """Tried once a process."""
    library = load(build_native("learn", architecture))
    if library is not None:
        library.acereason_tape.restype = _pointer
        library.acereason_free.argtypes = [_pointer]
        panels.declare(library)
        library.acereason_forward.argtypes = [_pointer] * 5
        library.acereason_backward.argtypes = [_pointer] * 5
    return library


Moved = tuple[int, tuple[tuple[int, int], ...]]  # what changes when a model's weights do


def _moved(model: Any) -> Moved:
    """How often its optimiser told, and its parameters' places and versions, adapters' factors included."""
    return marks_of(model).moved, tuple((p.data_ptr(), p._version) for p in model.parameters())


class CompiledPass:
    """The compiled passes of one model, with its weights as panels."""

    def __init__(self, model: Any, library: ctypes.CDLL) -> None:
        self.shape = decoder.read_shape(model.config)
        self.names = [name for name, _ in model.named_parameters() if not lora.is_factor(name)]
        self._library, self._rotation = library, decoder.Rotation(model)
        self._frozen, self.half = marks_of(model).frozen, marks_of(model).halved
        self._lock = threading.Lock()
        self._buffers: dict[str, Tensor] = {}
        self._layers = (_Layer * self.shape.layers)()
        self._net = self._make_net()
        self._tables(0)
        self._panel = 2 * library.acereason_lanes()
        self._tapes: list[int] = []
        self._base = 0  # where the gradients of the last pass lie
        self._seen: Moved | None = None

    def __del__(self) -> None:
        for tape in getattr(self, "_tapes", ()):
            self._library.acereason_free(tape)

    def _ld(self, n: int) -> int:
        return int(self._library.acereason_width(n))

    def _make_net(self) -> _Net:
        """The network's numbers and where each gradient lies; pointers come with the weights."""
        s, self._places = self.shape, dict[str, tuple[int, int, int]]()
        width = self._library.acereason_gradient_width
        hidden, queries, inter = width(s.hidden), width(s.query_width), width(s.intermediate)
        joint = s.query_width + 2 * s.kv_width
        at = 0

        def place(name: str, rows: int, width: int) -> int:
            nonlocal at
            self._places[name] = (at, rows, width)
            at += -(-rows * width // 16) * 16
            return self._places[name][0]

        for i, layer in enumerate(self._layers):
            layer.window = s.window_of(i) or 0
            sizes = {
                "qkv": (joint, hidden), "o": (s.hidden, queries),
                "up": (2 * self._ld(s.intermediate), hidden), "down": (s.hidden, inter),
                "qkv_bias": (1, joint), "q_norm": (1, s.head_dim), "k_norm": (1, s.head_dim),
            }  # fmt: skip
            for name, size in (sizes | dict.fromkeys(s.norm_names(), (1, hidden))).items():
                setattr(layer, f"d_{name}", place(f"{i}.{name}", *size))
        ends = (place("embed", s.vocab, hidden), place("norm", 1, hidden))
        numbers = (s.layers, s.hidden, s.heads, s.kv_heads, s.head_dim, s.intermediate, s.vocab)
        scales = (s.eps, s.embed_scale, s.query_scale, *s.gate)
        net = _Net(*numbers, 1, *scales, self.half, self._frozen, self._layers)
        net.d_embed, net.d_norm = ends
        net.d_head = ends[0] if s.tied else place("head", s.vocab, hidden)
        if s.tied and self._frozen:
            net.d_head = -1  # nobody asks for its gradient
        net.total = at
        return net

    def _tables(self, length: int) -> None:
        self._length = max(256, 2 * length)
        self._rotations = {kind: self._rotation.tables(self._length, kind) for kind in set(self.shape.kinds)}
        for kind, layer in zip(self.shape.kinds, self._layers, strict=True):
            layer.cos, layer.sin = (table.data_ptr() for table in self._rotations[kind])

    def _renew(self, parameters: dict[str, Tensor], moved: Moved) -> None:
        """Pack the weights. Every time, since a fused optimiser leaves no mark on what it has written; but of
        a halved model, whose optimiser tells (`halves.refresh`), when they have moved."""
        if self.half and self._seen == moved:
            return
        s, self._seen = self.shape, None
        given = decoder.read_weights(parameters, s)
        for i in range(s.layers):
            at = f"layers.{i}."
            for name, long in s.norm_names().items():
                self._vector(f"{i}.{name}", given[f"{at}{long}.weight"], s.one)
            self._matrix(f"{i}.qkv", decoder.joined(given, i, "weight"))
            self._matrix(f"{i}.o", given[at + "self_attn.o_proj.weight"])
            halves = [given[f"{at}mlp.{half}_proj.weight"] for half in ("gate", "up")]
            fill = self._ld(s.intermediate) - s.intermediate
            padded = [torch.nn.functional.pad(half, (0, 0, 0, fill)) for half in halves]
            self._matrix(f"{i}.up", torch.cat(padded))
            self._matrix(f"{i}.down", given[at + "mlp.down_proj.weight"], fill)
            if s.qkv_bias:
                self._vector(f"{i}.qkv_bias", decoder.joined(given, i, "bias"))
            for name in ("q_norm", "k_norm") if s.qk_norm else ():
                self._vector(f"{i}.{name}", given[f"{at}self_attn.{name}.weight"], s.one)
        self._vector("embed", given["embed_tokens.weight"])
        self._vector("norm", given["norm.weight"], s.one)
        self._matrix("head", given["head"])
        self._point()
        self._seen = moved

    def _vector(self, name: str, values: Tensor, one: float = 0.0) -> None:
        if name not in self._buffers:
            self._buffers[name] = torch.empty(values.shape)
        torch.add(values.detach(), one, out=self._buffers[name])

    def _matrix(self, name: str, values: Tensor, fill: int = 0) -> None:
        """A matrix and its transpose, behind which lie `fill` rows of zeros."""
        rows, columns = values.shape
        if self.half and name != "head":
            sizes = {name: (rows, columns), f"{name}_t": (columns + fill, rows)}
            self._buffers |= {} if name in self._buffers else panels.half_panels(sizes)
            panels.pack_half(self._library, values, self._buffers[name], self._buffers[f"{name}_t"])
            return
        for key, matrix, more in ((name, values, 0), (f"{name}_t", values.t(), fill)):
            if key not in self._buffers:
                self._buffers[key] = panels.panels(len(matrix) + more, matrix.shape[1], self._panel)
            panels.fill_panels(matrix, self._buffers[key])

    def _point(self) -> None:
        for i, layer in enumerate(self._layers):
            for name in _WEIGHTS:
                buffer = self._buffers.get(f"{i}.{name}")
                setattr(layer, name, buffer.data_ptr() if buffer is not None else None)
        for name in ("embed", "norm", "head", "head_t"):
            setattr(self._net, name, self._buffers[name].data_ptr())

    def forward(
        self, parameters: dict[str, Tensor], layout: Layout, moved: Moved
    ) -> tuple[Tensor, Tensor, int]:
        """log-probabilities and entropies [M] and the tape of the pass."""
        with self._lock:
            self._renew(parameters, moved)
            if layout.longest > self._length:
                self._tables(layout.longest)
            tape = self._tapes.pop() if self._tapes else self._library.acereason_tape()
            self._net.threads = len(layout.arrays["row_end"]) - 1
            out = torch.empty(2, len(layout.arrays["row"]))
            self._call(self._library.acereason_forward, layout, tape, out[0], out[1])
        return out[0], out[1], tape

    def backward(
        self, layout: Layout, tape: int, d_logprob: Tensor, held: dict[str, Tensor | None]
    ) -> dict[str, Tensor]:
        """Gradients by parameter name; none where they were added to `held`, what the parameters have: when
        that is what the last pass gave, and one thread goes through the pack."""
        threads = len(layout.arrays["row_end"]) - 1
        with self._lock:
            self._net.threads = threads
            base = self._base if threads == 1 and self._ours(held) else 0
            grad = torch.from_numpy(panels.zeros((0 if base else threads, self._net.total)))
            self._call(self._library.acereason_backward, layout, tape, d_logprob, base or grad)
            if base:
                return {}
            total = grad[0] if threads == 1 else grad.sum(0)
            self._base = total.data_ptr()
        return self._gradients(total)

    def _ours(self, held: dict[str, Tensor | None]) -> bool:
        """Whether these gradients all lie where the last pass put its own."""
        places = self._gradients(torch.empty(self._net.total, device="meta"))
        return bool(self._base) and all(
            grad is not None
            and grad.untyped_storage().data_ptr() == self._base
            and grad.untyped_storage().nbytes() >= 4 * self._net.total
            and grad.storage_offset() == places[name].storage_offset()
            and grad.stride() == places[name].stride()
            for name, grad in held.items()
        )

    def release(self, tape: int) -> None:
        """Take a tape back for the next pass. Without the lock: the garbage collector calls this."""
        self._tapes.append(tape)

    def _call(self, function: Any, layout: Layout, tape: int, *out: Tensor | int) -> None:
        net, batch = (
            ctypes.addressof(self._net),
            _Batch(*(layout.arrays[name].ctypes.data for name in ARRAYS)),
        )
        places = (x.data_ptr() if isinstance(x, Tensor) else x for x in out)
        function(net, ctypes.addressof(batch), tape, *places)

    def _part(self, total: Tensor, name: str) -> Tensor:
        at, rows, width = self._places[name]
        return total[at : at + rows * width].view(rows, width)

    def _gradients(self, total: Tensor) -> dict[str, Tensor]:
        """A thread's gradients by parameter name: views of one tensor."""
        s, d = self.shape, {n: self._part(total, n) for n in self._places}
        gradients = {
            "model.embed_tokens.weight": d["embed"][:, : s.hidden],
            "model.norm.weight": d["norm"][0, : s.hidden],
        }
        if not s.tied:
            gradients["lm_head.weight"] = d["head"][:, : s.hidden]
        for i in range(s.layers):
            at, inter = f"model.layers.{i}.", self._ld(s.intermediate)
            for name, long in s.norm_names().items():
                gradients[f"{at}{long}.weight"] = d[f"{i}.{name}"][0, : s.hidden]
            rows = (s.query_width, s.kv_width, s.kv_width)
            split = zip("qkv", d[f"{i}.qkv"].split(rows), d[f"{i}.qkv_bias"][0].split(rows), strict=True)
            for part, weight, bias in split:
                gradients[f"{at}self_attn.{part}_proj.weight"] = weight[:, : s.hidden]
                gradients[f"{at}self_attn.{part}_proj.bias"] = bias
            gradients[at + "self_attn.q_norm.weight"] = d[f"{i}.q_norm"][0]
            gradients[at + "self_attn.k_norm.weight"] = d[f"{i}.k_norm"][0]
            gradients[at + "self_attn.o_proj.weight"] = d[f"{i}.o"][:, : s.query_width]
            gate, up = (d[f"{i}.up"][start : start + s.intermediate, : s.hidden] for start in (0, inter))
            gradients |= {at + "mlp.gate_proj.weight": gate, at + "mlp.up_proj.weight": up}
            gradients[at + "mlp.down_proj.weight"] = d[f"{i}.down"][:, : s.intermediate]
        return gradients


class _Function(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, passes: CompiledPass, layout: Layout, moved: Moved, *parameters: Tensor
    ) -> tuple[Tensor, Tensor]:
        named = dict(zip(passes.names, parameters, strict=True))
        logprob_M, entropy_M, tape = passes.forward(named, layout, moved)
        ctx.passes, ctx.layout, ctx.tape = passes, layout, tape
        ctx.leaves = [p if p.is_leaf else None for p in parameters]
        ctx.finalizer = weakref.finalize(ctx, passes.release, tape)
        ctx.mark_non_differentiable(entropy_M)
        return logprob_M, entropy_M

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        passes, d_logprob = ctx.passes, gradients[0].contiguous()
        asked = zip(passes.names, ctx.leaves, ctx.needs_input_grad[3:], strict=True)
        wanted = {name: leaf for name, leaf, needed in asked if needed}
        held = {name: None if leaf is None else leaf.grad for name, leaf in wanted.items()}
        others = (leaf for name, leaf in zip(passes.names, ctx.leaves, strict=True) if name not in wanted)
        if any(leaf is not None and leaf.grad is not None for leaf in others):
            held = dict.fromkeys(held)  # among them lies a gradient that is not to grow
        found = passes.backward(ctx.layout, ctx.tape, d_logprob, held)
        return None, None, None, *(found.get(name) if name in wanted else None for name in passes.names)


_made: weakref.WeakKeyDictionary[Any, CompiledPass | None] = weakref.WeakKeyDictionary()


def logprobs(
    model: Any, pack: Pack, temperature: float | Tensor = 1.0, threads: int | None = None
) -> tuple[Tensor, Tensor] | None:
    """log π_T of every predicted token [M], with gradient, and H_T in nats [M], without; or None."""
    if not available(model):
        return None
    passes, parameters = _made[model], [p for _, p in lora.merged(model)]
    T_M = torch.as_tensor(temperature, dtype=torch.float32).expand(len(pack.targets))
    layout = lay_out(pack, T_M, threads or torch.get_num_threads())
    if layout is None:
        return None
    numbers: tuple[Tensor, Tensor] = _Function.apply(  # type: ignore[no-untyped-call]
        passes, layout, _moved(model), *parameters
    )
    return numbers


def available(model: Any) -> bool:
    """Whether compiled code can do this model's passes: not when its parameters are sharded over ranks."""
    if any(
        p.dtype != torch.float32 or p.device.type != "cpu" or isinstance(p, DTensor)
        for p in model.parameters()
    ):
        return False
    known = _made.get(model)
    if model not in _made or (known is not None and known.half != marks_of(model).halved):
        library = open_library()
        try:
            _made[model] = CompiledPass(model, library) if library is not None else None
        except SamplingError:  # an architecture that compiled code does not know
            _made[model] = None
    return _made[model] is not None
