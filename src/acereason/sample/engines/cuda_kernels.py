"""One decoding step's own work as Triton kernels: what matrix products do not do.

    store    norm (Qwen3) and rotate queries and keys, put keys and values into the cache
    attend   each row's query heads over its own cached positions, in chunks; `combine` joins the chunks
    gate     silu(gate) x up
    draw     one token per row of softmax(logits / T), cut to its nucleus, with log-probability and entropies

Rows are responses; `slots` says which part of the cache is a row's, so that rows need not be moved when
others end. Sequences of a batch have any lengths: a program whose chunk lies past its row's end returns.

Legend: R rows, H query heads, K key-value heads, D head dimension, T positions, V vocabulary.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

CHUNK = 512  # cached positions per program
BLOCK = 64  # of them at a time
WIDE = 4096  # logits at a time
HALVINGS = 26  # of the search for the nucleus's smallest logit
RANGE = tl.constexpr(60.0)  # nats below the best logit beyond which no probability counts


@triton.jit  # type: ignore[untyped-decorator]
def _store(  # type: ignore[no-untyped-def]
    qkv, q_norm, k_norm, cos, sin, slots, positions, queries, keys, values, eps,
    T, H: tl.constexpr, K: tl.constexpr, D: tl.constexpr, NORM: tl.constexpr,
):  # fmt: skip
    row, head = tl.program_id(0).to(tl.int64), tl.program_id(1)
    slot, position = tl.load(slots + row).to(tl.int64), tl.load(positions + row).to(tl.int64)
    half = tl.arange(0, D // 2)
    source = qkv + (row * (H + 2 * K) + head) * D
    a = tl.load(source + half).to(tl.float32)
    b = tl.load(source + D // 2 + half).to(tl.float32)
    if head < H + K:
        if NORM:
            weight = q_norm if head < H else k_norm
            scale = tl.rsqrt((tl.sum(a * a, 0) + tl.sum(b * b, 0)) / D + eps)
            a = a * scale * tl.load(weight + half).to(tl.float32)
            b = b * scale * tl.load(weight + D // 2 + half).to(tl.float32)
        c = tl.load(cos + position * (D // 2) + half)
        s = tl.load(sin + position * (D // 2) + half)
        a, b = a * c - b * s, b * c + a * s
    if head < H:
        target = queries + (row * H + head) * D
    elif head < H + K:
        target = keys + ((slot * K + head - H) * T + position) * D
    else:
        target = values + ((slot * K + head - H - K) * T + position) * D
    tl.store(target + half, a.to(target.dtype.element_ty))
    tl.store(target + D // 2 + half, b.to(target.dtype.element_ty))


@triton.jit  # type: ignore[untyped-decorator]
def _attend(  # type: ignore[no-untyped-def]
    queries, keys, values, slots, positions, parts, logsums, scale, T,
    CHUNKS: tl.constexpr, K: tl.constexpr, G: tl.constexpr, GROUP: tl.constexpr, D: tl.constexpr,
    CHUNK: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    row, head, chunk = tl.program_id(1).to(tl.int64), tl.program_id(0), tl.program_id(2)
    length = tl.load(positions + row) + 1
    start = chunk * CHUNK
    if start < length:
        slot = tl.load(slots + row).to(tl.int64)
        group, at_d = tl.arange(0, GROUP), tl.arange(0, D)
        q_at = (row * K * G + head * G + group[:, None]) * D + at_d[None, :]
        q = tl.load(queries + q_at, mask=group[:, None] < G, other=0.0)
        base = (slot * K + head) * T * D
        top = tl.full([GROUP], float("-inf"), tl.float32)
        mass = tl.zeros([GROUP], tl.float32)
        mixed = tl.zeros([GROUP, D], tl.float32)
        for first in range(start, min(start + CHUNK, length), BLOCK):
            at = first + tl.arange(0, BLOCK)
            inside = at < length
            place = base + at[:, None].to(tl.int64) * D + at_d[None, :]
            k = tl.load(keys + place, mask=inside[:, None], other=0.0)
            v = tl.load(values + place, mask=inside[:, None], other=0.0)
            z = tl.where(
                inside[None, :], tl.dot(q, tl.trans(k), input_precision="ieee") * scale, float("-inf")
            )
            new = tl.maximum(top, tl.max(z, 1))
            p = tl.exp(z - new[:, None])
            shrink = tl.exp(top - new)
            mass = mass * shrink + tl.sum(p, 1)
            mixed = mixed * shrink[:, None] + tl.dot(p.to(v.dtype), v, input_precision="ieee")
            top = new
        out = (row * K * G + head * G + group) * CHUNKS + chunk
        mask = group < G
        tl.store(logsums + out, top + tl.log(mass), mask=mask)
        tl.store(parts + out[:, None] * D + at_d[None, :], mixed / mass[:, None], mask=mask[:, None])


@triton.jit  # type: ignore[untyped-decorator]
def _combine(  # type: ignore[no-untyped-def]
    parts,
    logsums,
    positions,
    out,
    CHUNKS: tl.constexpr,
    H: tl.constexpr,
    D: tl.constexpr,
    CHUNK: tl.constexpr,
):
    row, head = tl.program_id(0).to(tl.int64), tl.program_id(1)
    at_d = tl.arange(0, D)
    top = float("-inf")
    mass = 0.0
    mixed = tl.zeros([D], tl.float32)
    first = (row * H + head) * CHUNKS
    for chunk in range(tl.cdiv(tl.load(positions + row) + 1, CHUNK)):
        logsum = tl.load(logsums + first + chunk)
        new = tl.maximum(top, logsum)
        shrink, share = tl.exp(top - new), tl.exp(logsum - new)
        mass = mass * shrink + share
        mixed = mixed * shrink + share * tl.load(parts + (first + chunk) * D + at_d)
        top = new
    tl.store(out + (row * H + head) * D + at_d, (mixed / mass).to(out.dtype.element_ty))


@triton.jit  # type: ignore[untyped-decorator]
def _gate(gate_up, out, N: tl.constexpr, BLOCK: tl.constexpr):  # type: ignore[no-untyped-def]
    row = tl.program_id(0).to(tl.int64)
    at = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    gate = tl.load(gate_up + row * 2 * N + at, mask=at < N, other=0.0).to(tl.float32)
    up = tl.load(gate_up + row * 2 * N + N + at, mask=at < N, other=0.0).to(tl.float32)
    tl.store(out + row * N + at, (gate * tl.sigmoid(gate) * up).to(out.dtype.element_ty), mask=at < N)


@triton.jit  # type: ignore[untyped-decorator]
def _mass_above(row_logits, top, scale, logmass, least, V: tl.constexpr, BLOCK: tl.constexpr):  # type: ignore[no-untyped-def]
    """Probability of the tokens whose z = (logit - top) x scale is at least `least`."""
    total = tl.zeros([BLOCK], tl.float32)
    for start in range(0, V, BLOCK):
        at = start + tl.arange(0, BLOCK)
        z = (tl.load(row_logits + at, mask=at < V, other=float("-inf")) - top) * scale
        total += tl.where(z >= least, tl.exp(z - logmass), 0.0)
    return tl.sum(total, 0)


@triton.jit  # type: ignore[untyped-decorator]
def _draw(  # type: ignore[no-untyped-def]
    logits, settings, tokens, results, R, V: tl.constexpr, BLOCK: tl.constexpr, HALVINGS: tl.constexpr
):
    row = tl.program_id(0).to(tl.int64)
    scale = 1.0 / tl.load(settings + row)
    share, u = tl.load(settings + R + row), tl.load(settings + 2 * R + row)
    here = logits + row * V
    top = tl.full((), float("-inf"), tl.float32)
    mass, weighted, mass_1, weighted_1 = 0.0, 0.0, 0.0, 0.0  # Σ exp(z) and Σ exp(z) (logit - top)
    for start in range(0, V, BLOCK):
        at = start + tl.arange(0, BLOCK)
        raw = tl.load(here + at, mask=at < V, other=float("-inf"))
        new = tl.maximum(top, tl.max(raw, 0))
        moved = tl.where(mass > 0.0, top - new, 0.0)
        shrink, shrink_1 = tl.exp(moved * scale), tl.exp(moved)
        below = tl.where(at < V, raw - new, 0.0)
        p = tl.where(at < V, tl.exp(below * scale), 0.0)
        p_1 = tl.where(at < V, tl.exp(below), 0.0)
        weighted = (weighted + mass * moved) * shrink + tl.sum(p * below, 0)
        weighted_1 = (weighted_1 + mass_1 * moved) * shrink_1 + tl.sum(p_1 * below, 0)
        mass = mass * shrink + tl.sum(p, 0)
        mass_1 = mass_1 * shrink_1 + tl.sum(p_1, 0)
        top = new
    logmass = tl.log(mass)

    kept, least = 1.0, -RANGE
    if share < 1.0:  # the largest `least` above which there is still `share` of the mass
        above = 0.0
        for _ in range(HALVINGS):
            middle = (least + above) * 0.5
            enough = _mass_above(here, top, scale, logmass, middle, V, BLOCK) >= share
            least, above = tl.where(enough, middle, least), tl.where(enough, above, middle)
        kept = _mass_above(here, top, scale, logmass, least, V, BLOCK)

    target, before = u * kept, 0.0
    token, drawn = 0, 0
    for start in range(0, V, BLOCK):
        if drawn == 0:
            at = start + tl.arange(0, BLOCK)
            z = (tl.load(here + at, mask=at < V, other=float("-inf")) - top) * scale
            p = tl.where(z >= least, tl.exp(z - logmass), 0.0)
            block = tl.sum(p, 0)
            reached = before + tl.cumsum(p, 0)
            first = tl.min(tl.where((reached > target) & (p > 0.0), at, V), 0)
            last = tl.max(tl.where(p > 0.0, at, 0), 0)
            token = tl.where(first < V, first, tl.maximum(token, last))  # rounding may leave u unreached
            drawn = tl.where(first < V, 1, 0)
            before += block
    tl.store(tokens + row, token)
    tl.store(results + row, (tl.load(here + token) - top) * scale - logmass)
    tl.store(results + R + row, logmass - weighted / mass * scale)
    tl.store(results + 2 * R + row, tl.log(mass_1) - weighted_1 / mass_1)


def store(
    qkv: Tensor,
    norms: tuple[Tensor, Tensor] | None,
    rotation: tuple[Tensor, Tensor],
    where: tuple[Tensor, Tensor],
    cache: Tensor,
    heads: int,
    eps: float,
) -> Tensor:
    """Rotated queries [R, H, D]; keys and values go to `cache` [2, slots, K, T, D] at (slot, position)."""
    _, _, K, T, D = cache.shape
    rows = len(qkv)
    queries = torch.empty(rows, heads, D, dtype=qkv.dtype, device=qkv.device)
    q_norm, k_norm = norms or (qkv, qkv)
    _store[(rows, heads + 2 * K)](
        qkv, q_norm, k_norm, *rotation, *where, queries, cache[0], cache[1], eps,
        T, H=heads, K=K, D=D, NORM=norms is not None, num_warps=1,
    )  # fmt: skip
    return queries


def attend(queries_RHD: Tensor, cache: Tensor, where: tuple[Tensor, Tensor], longest: int) -> Tensor:
    """[R, H x D]: each row's attention over its first position + 1 cached places, at most `longest`."""
    _, _, K, T, D = cache.shape
    R, H, _ = queries_RHD.shape
    chunks = triton.cdiv(longest, CHUNK)
    parts = torch.empty(R, H, chunks, D, dtype=torch.float32, device=cache.device)
    logsums = torch.empty(R, H, chunks, dtype=torch.float32, device=cache.device)
    _attend[(K, R, chunks)](
        queries_RHD, cache[0], cache[1], *where, parts, logsums, D**-0.5, T,
        CHUNKS=chunks, K=K, G=H // K, GROUP=max(16, triton.next_power_of_2(H // K)), D=D,
        CHUNK=CHUNK, BLOCK=BLOCK, num_warps=4, num_stages=3,
    )  # fmt: skip
    out = torch.empty(R, H * D, dtype=queries_RHD.dtype, device=cache.device)
    _combine[(R, H)](parts, logsums, where[1], out, CHUNKS=chunks, H=H, D=D, CHUNK=CHUNK, num_warps=1)
    return out


def gate(gate_up_R2N: Tensor) -> Tensor:
    """silu(gate) x up, [R, N]."""
    R, N = gate_up_R2N.shape[0], gate_up_R2N.shape[1] // 2
    out = torch.empty(R, N, dtype=gate_up_R2N.dtype, device=gate_up_R2N.device)
    _gate[(R, triton.cdiv(N, 1024))](gate_up_R2N, out, N=N, BLOCK=1024, num_warps=4)
    return out


def draw(logits_RV: Tensor, settings_3R: Tensor, tokens_R: Tensor, results_3R: Tensor) -> None:
    """Draw a token per row. `settings`: T, top-p share and a uniform number; `results`: the token's
    log-probability, the entropy at T and at 1 (nats). Of equal logits at the nucleus's edge all stay."""
    R, V = logits_RV.shape
    _draw[(R,)](
        logits_RV, settings_3R, tokens_R, results_3R, R, V=V, BLOCK=WIDE, HALVINGS=HALVINGS, num_warps=8
    )
