"""Log-probabilities of a pack and their gradient by compiled code (`native/learn.cpp`), in float32
on CPU.

    logprobs(model, pack, T) -> (log π_T [M], H_T [M])   as `policy.model.logprobs`, or None

The whole model is one autograd function: its forward pass is fused and keeps little, its backward
pass gives every parameter's gradient. Prompts that several responses of a pack share are computed
once, and the last token of a response, from which nothing is predicted, not at all; so put
responses to one prompt into one pack (`packs_by_prompt`). None means that the caller has to take
PyTorch: no compiler, ACEREASON_NATIVE=0, a model that is not Llama, Qwen2 or Qwen3, or not float32
on the processor.

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
from acereason.policy import decoder
from acereason.policy import lora
from acereason.policy.layout import ARRAYS, Layout, lay_out
from acereason.policy.marks import marks_of
from acereason.policy.packing import Pack

_pointer, _int, _long = ctypes.c_void_p, ctypes.c_int32, ctypes.c_int64
_WEIGHTS = (
    *("norm1", "qkv", "qkv_t", "qkv_bias", "q_norm", "k_norm", "o", "o_t"),
    *("norm2", "up", "up_t", "down", "down_t"),
)
_GRADIENTS = ("norm1", "qkv", "qkv_bias", "q_norm", "k_norm", "o", "norm2", "up", "down")


class _Layer(ctypes.Structure):
    _fields_ = [
        *((name, _pointer) for name in _WEIGHTS),
        *((f"d_{name}", _long) for name in _GRADIENTS),
    ]


class _Net(ctypes.Structure):
    _fields_ = [
        *((n, _int) for n in ("layers", "hidden", "heads", "kv_heads", "dim", "inter", "vocab")),
        ("threads", _int),
        ("eps", ctypes.c_float),
        ("frozen", _int),
        ("layer", ctypes.POINTER(_Layer)),
        *((name, _pointer) for name in ("embed", "norm", "head", "head_t", "cos", "sin")),
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
        library.acereason_forward.argtypes = [_pointer] * 5
        library.acereason_backward.argtypes = [_pointer] * 5
    return library


class CompiledPass:
    """The compiled passes of one model, with its weights as panels."""

    def __init__(self, model: Any, library: ctypes.CDLL) -> None:
        self.shape = decoder.read_shape(model.config)
        self.names = [name for name, _ in model.named_parameters() if not lora.is_factor(name)]
        self._library, self._rotation = library, decoder.Rotation(model)
        self._frozen = marks_of(model).frozen
        self._lock = threading.Lock()
        self._buffers: dict[str, Tensor] = {}
        self._layers = (_Layer * self.shape.layers)()
        self._net = self._make_net()
        self._tables(0)
        self._tapes: list[int] = []

    def __del__(self) -> None:
        for tape in getattr(self, "_tapes", ()):
            self._library.acereason_free(tape)

    def _ld(self, n: int) -> int:
        return int(self._library.acereason_width(n))

    def _make_net(self) -> _Net:
        """The network's numbers and where each gradient lies; pointers come with the weights."""
        s, self._places = self.shape, dict[str, tuple[int, int, int]]()
        hidden, queries = self._ld(s.hidden), self._ld(s.heads * s.head_dim)
        inter, joint = self._ld(s.intermediate), (s.heads + 2 * s.kv_heads) * s.head_dim
        at = 0

        def place(name: str, rows: int, width: int) -> int:
            nonlocal at
            self._places[name] = (at, rows, width)
            at += -(-rows * width // 16) * 16
            return self._places[name][0]

        for i, layer in enumerate(self._layers):
            sizes = {
                "norm1": (1, hidden), "norm2": (1, hidden), "qkv": (joint, hidden),
                "qkv_bias": (1, joint), "q_norm": (1, s.head_dim), "k_norm": (1, s.head_dim),
                "o": (s.hidden, queries), "up": (2 * inter, hidden), "down": (s.hidden, inter),
            }  # fmt: skip
            for name, size in sizes.items():
                setattr(layer, f"d_{name}", place(f"{i}.{name}", *size))
        ends = (place("embed", s.vocab, hidden), place("norm", 1, hidden))
        numbers = (s.layers, s.hidden, s.heads, s.kv_heads, s.head_dim, s.intermediate, s.vocab)
        net = _Net(*numbers, 1, s.eps, self._frozen, self._layers)
        net.d_embed, net.d_norm = ends
        net.d_head = ends[0] if s.tied else place("head", s.vocab, hidden)
        if s.tied and self._frozen:
            net.d_head = -1  # nobody asks for its gradient
        net.total = at
        return net

    def _tables(self, length: int) -> None:
        self._length = max(256, 2 * length)
        self._cos, self._sin = self._rotation.tables(self._length)
        self._net.cos, self._net.sin = self._cos.data_ptr(), self._sin.data_ptr()

    def _renew(self, parameters: dict[str, Tensor]) -> None:
        """Pack the weights. Every time: a fused optimiser leaves no mark on what it has written."""
        s = self.shape
        given = decoder.read_weights(parameters, s)
        for i in range(s.layers):
            at = f"layers.{i}."
            self._vector(f"{i}.norm1", given[at + "input_layernorm.weight"])
            self._vector(f"{i}.norm2", given[at + "post_attention_layernorm.weight"])
            self._matrix(f"{i}.qkv", decoder.joined(given, i, "weight"))
            self._matrix(f"{i}.o", given[at + "self_attn.o_proj.weight"])
            halves = [given[f"{at}mlp.{half}_proj.weight"] for half in ("gate", "up")]
            fill = self._ld(s.intermediate) - s.intermediate
            padded = [torch.nn.functional.pad(half, (0, 0, 0, fill)) for half in halves]
            self._matrix(f"{i}.up", torch.cat(padded))
            down = given[at + "mlp.down_proj.weight"]
            self._matrix(f"{i}.down", down, torch.nn.functional.pad(down.t(), (0, 0, 0, fill)))
            if s.qkv_bias:
                self._vector(f"{i}.qkv_bias", decoder.joined(given, i, "bias"))
            if s.qk_norm:
                self._vector(f"{i}.q_norm", given[at + "self_attn.q_norm.weight"])
                self._vector(f"{i}.k_norm", given[at + "self_attn.k_norm.weight"])
        self._vector("embed", given["embed_tokens.weight"])
        self._vector("norm", given["norm.weight"])
        self._matrix("head", given["head"])
        self._point()

    def _vector(self, name: str, values: Tensor) -> None:
        if name in self._buffers:
            self._buffers[name].copy_(values)
        else:
            self._buffers[name] = values.detach().clone()

    def _matrix(self, name: str, values: Tensor, turned: Tensor | None = None) -> None:
        panel = 2 * self._library.acereason_lanes()
        for key, matrix in ((name, values), (f"{name}_t", values.t() if turned is None else turned)):
            if key not in self._buffers:
                self._buffers[key] = decoder.panels(matrix.shape[0], matrix.shape[1], panel)
            decoder.fill_panels(matrix, self._buffers[key])

    def _point(self) -> None:
        for i, layer in enumerate(self._layers):
            for name in _WEIGHTS:
                buffer = self._buffers.get(f"{i}.{name}")
                setattr(layer, name, buffer.data_ptr() if buffer is not None else None)
        for name in ("embed", "norm", "head", "head_t"):
            setattr(self._net, name, self._buffers[name].data_ptr())

    def forward(self, parameters: dict[str, Tensor], layout: Layout) -> tuple[Tensor, Tensor, int]:
        """log-probabilities and entropies [M] and the tape of the pass."""
        with self._lock:
            self._renew(parameters)
            if layout.longest > self._length:
                self._tables(layout.longest)
            tape = self._tapes.pop() if self._tapes else self._library.acereason_tape()
            self._net.threads = len(layout.arrays["row_end"]) - 1
            out = torch.empty(2, len(layout.arrays["row"]))
            self._call(self._library.acereason_forward, layout, tape, out[0], out[1])
        return out[0], out[1], tape

    def backward(self, layout: Layout, tape: int, d_logprob: Tensor) -> dict[str, Tensor]:
        """Gradients by parameter name."""
        with self._lock:
            threads = len(layout.arrays["row_end"]) - 1
            self._net.threads = threads
            grad = torch.zeros(threads, self._net.total)
            self._call(self._library.acereason_backward, layout, tape, d_logprob, grad)
        total = grad[0] if threads == 1 else grad.sum(0)
        return self._gradients({n: self._part(total, n) for n in self._places})

    def release(self, tape: int) -> None:
        """Take a tape back for the next pass. Without the lock: the garbage collector calls this."""
        self._tapes.append(tape)

    def _call(self, function: Any, layout: Layout, tape: int, *out: Tensor) -> None:
        net, batch = (
            ctypes.addressof(self._net),
            _Batch(*(layout.arrays[name].ctypes.data for name in ARRAYS)),
        )
        function(net, ctypes.addressof(batch), tape, *(tensor.data_ptr() for tensor in out))

    def _part(self, total: Tensor, name: str) -> Tensor:
        at, rows, width = self._places[name]
        return total[at : at + rows * width].view(rows, width)

    def _gradients(self, d: dict[str, Tensor]) -> dict[str, Tensor]:
        s, gradients = self.shape, dict[str, Tensor]()
        queries, keys = s.heads * s.head_dim, s.kv_heads * s.head_dim
        gradients["model.embed_tokens.weight"] = d["embed"][:, : s.hidden]
        gradients["model.norm.weight"] = d["norm"][0, : s.hidden]
        if not s.tied:
            gradients["lm_head.weight"] = d["head"][:, : s.hidden]
        for i in range(s.layers):
            at, inter = f"model.layers.{i}.", self._ld(s.intermediate)
            gradients[at + "input_layernorm.weight"] = d[f"{i}.norm1"][0, : s.hidden]
            gradients[at + "post_attention_layernorm.weight"] = d[f"{i}.norm2"][0, : s.hidden]
            bounds = zip("qkv", (0, queries, queries + keys), (queries, keys, keys), strict=True)
            for part, start, rows in bounds:
                own = slice(start, start + rows)
                name = f"{at}self_attn.{part}_proj."
                gradients[name + "weight"] = d[f"{i}.qkv"][own, : s.hidden]
                gradients[name + "bias"] = d[f"{i}.qkv_bias"][0, own]
            gradients[at + "self_attn.q_norm.weight"] = d[f"{i}.q_norm"][0]
            gradients[at + "self_attn.k_norm.weight"] = d[f"{i}.k_norm"][0]
            gradients[at + "self_attn.o_proj.weight"] = d[f"{i}.o"][:, :queries]
            gradients[at + "mlp.gate_proj.weight"] = d[f"{i}.up"][: s.intermediate, : s.hidden]
            up = d[f"{i}.up"][inter : inter + s.intermediate]
            gradients[at + "mlp.up_proj.weight"] = up[:, : s.hidden]
            gradients[at + "mlp.down_proj.weight"] = d[f"{i}.down"][:, : s.intermediate]
        return gradients


class _Function(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, passes: CompiledPass, layout: Layout, *parameters: Tensor) -> tuple[Tensor, Tensor]:
        named = dict(zip(passes.names, parameters, strict=True))
        logprob_M, entropy_M, tape = passes.forward(named, layout)
        ctx.passes, ctx.layout, ctx.tape = passes, layout, tape
        ctx.finalizer = weakref.finalize(ctx, passes.release, tape)
        ctx.mark_non_differentiable(entropy_M)
        return logprob_M, entropy_M

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        d_logprob = gradients[0].contiguous()
        d_weights = ctx.passes.backward(ctx.layout, ctx.tape, d_logprob)
        asked = zip(ctx.passes.names, ctx.needs_input_grad[2:], strict=True)
        return None, None, *(d_weights[name] if needed else None for name, needed in asked)


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
    numbers: tuple[Tensor, Tensor] = _Function.apply(passes, layout, *parameters)  # type: ignore[no-untyped-call]
    return numbers


def available(model: Any) -> bool:
    """Whether compiled code can do this model's passes: not when its parameters are sharded over ranks."""
    if marks_of(model).halved or any(
        p.dtype != torch.float32 or p.device.type != "cpu" or isinstance(p, DTensor)
        for p in model.parameters()
    ):
        return False
    if model not in _made:
        library = open_library()
        try:
            _made[model] = CompiledPass(model, library) if library is not None else None
        except SamplingError:  # an architecture that compiled code does not know
            _made[model] = None
    return _made[model] is not None
