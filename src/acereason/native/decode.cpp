// Decoding of a Llama- or Gemma-like transformer on a processor: prefill and one-token steps, in float32, or with
// the layers' products in bfloat16 (see halves.h).
//
// Law: the bits of a row depend on its own slot and nothing else. Every sum runs in an order that is fixed
// by the model's shape and the row's position, whatever the tile, the batch or the number of threads.
//
// Layouts (W = lanes of a vector, P = 2W columns of a panel):
//   weights  [N/P][K][P]           one panel of P output columns at a time; gate and up alternate in W columns
//                                  (in bfloat16: panels of halves.h; gate and up alternate in 16)
//   K cache  [T/W][D][W]           per layer, slot and key-value head: W positions side by side
//   V cache  [T][Dv]               Dv = D rounded up to W; lanes past D stay 0
// Vectors are GCC vector extensions, so the same source serves AVX-512, AVX2, NEON and SSE.

#include <atomic>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <algorithm>
#include <thread>
#include <vector>

#include "vectors.h"
#include "matrix.h"
#include "halves.h"
#include "draw.h"

struct Layer {
    const float *norm1, *qkv_bias, *q_norm, *k_norm, *post1, *norm2, *post2, *cos, *sin;  // cos, sin: [length][dim / 2]
    const void *qkv, *o, *gate_up, *down;
    int64_t window;  // positions that are looked back to, the own one included; 0: all
};

struct Model {  // mirrored in native.py
    int32_t layers, hidden, heads, kv_heads, dim, inter, vocab, length;  // length: positions a slot holds
    int64_t slots;                                                     // the prompt's own slot included
    float eps, embed_scale, query_scale;
    Gate gate;
    int32_t half, threads;  // half: products of the layers in bfloat16
    const Layer* layer;
    const float *embed, *norm, *head;
    float* cache;
};

struct Slots {  // one entry per slot; mirrored in native.py
    int32_t *token, *position, *count, *budget;  // token: fed next, at `position`; count: drawn so far
    float *temperature, *top_p;
    uint64_t* seed;
    int32_t* out_token;  // [slots][width]
    float *out_logprob, *out_entropy, *out_entropy_1;
    int64_t width;
    const int32_t* eos;
    int64_t eos_count;
};

// ---- attention of one position ------------------------------------------------------------------------

// Scores of G query heads against B blocks of W keys: s[g][block * W + lane].
template <int G, int B>
static inline void score(const float* q, int D, const float* k, float* s, long lds, long ahead) {
    V acc[G][B] = {};
    for (int d = 0; d < D; d++) {
        V key[B];
        for (int b = 0; b < B; b++) {
            const float* at = k + (long)b * D * W + d * W;
            key[b] = load(at);
            fetch(at + ahead);
        }
#pragma GCC unroll 4
        for (int g = 0; g < G; g++) {
            const float x = q[g * D + d];
#pragma GCC unroll 4
            for (int b = 0; b < B; b++) acc[g][b] += x * key[b];
        }
    }
    for (int g = 0; g < G; g++)
        for (int b = 0; b < B; b++) store(s + g * lds + b * W, acc[g][b]);
}

// N vectors, of which D lanes count, of the value-weighted sum for G heads; even and odd positions are two
// chains. Heads stand side by side in `out`, so the lanes past a head's end are not written.
template <int G, int N>
static inline void weigh(const float* p, long ldp, const float* v, int Dv, int T, const float* scale, float* out,
                         int D, int left, long ahead) {
    V even[G][N] = {}, odd[G][N] = {};
    int t = 0;
    for (; t + 2 <= T; t += 2, v += 2 * Dv) {
#pragma GCC unroll 4
        for (int n = 0; n < N; n++) {
            const V a = load(v + n * W), b = load(v + Dv + n * W);
            fetch(v + n * W + ahead);
            fetch(v + Dv + n * W + ahead);
#pragma GCC unroll 4
            for (int g = 0; g < G; g++) {
                even[g][n] += p[g * ldp + t] * a;
                odd[g][n] += p[g * ldp + t + 1] * b;
            }
        }
    }
    if (t < T)
        for (int n = 0; n < N; n++)
            for (int g = 0; g < G; g++) even[g][n] += p[g * ldp + t] * load(v + n * W);
    for (int g = 0; g < G; g++)
        for (int n = 0; n < N; n++) store(out + g * D + n * W, (even[g][n] + odd[g][n]) * scale[g], left - n * W);
}

// G query heads that share one key-value head, over positions skip .. T-1. The values are fetched while the
// keys are read, and `next`, the keys that will be wanted after, while the values are.
template <int G>
static void attend(const float* q, int D, const float* k, const float* v, int skip, int T, float* s, float* out,
                   const float* next) {
    const int blocks = (T + W - 1) / W, Dv = round_up(D, W);
    const long lds = (long)blocks * W;
    int b = 0;
    for (; b + 4 <= blocks; b += 4) score<G, 4>(q, D, k + (long)b * D * W, s + b * W, lds, v - k);
    for (; b < blocks; b++) score<G, 1>(q, D, k + (long)b * D * W, s + b * W, lds, v - k);
    for (int g = 0; g < G; g++) std::fill(s + g * lds, s + g * lds + skip, -INFINITY);
    float scale[G];
    for (int g = 0; g < G; g++) scale[g] = 1.f / soft(s + g * lds, T, (int)lds);
    int n = 0;
    for (; n + 2 * W <= Dv; n += 2 * W) weigh<G, 2>(s, lds, v + n, Dv, T, scale, out + n, D, D - n, next - v);
    if (n < Dv) weigh<G, 1>(s, lds, v + n, Dv, T, scale, out + n, D, D - n, next - v);
}

using Attend = void (*)(const float*, int, const float*, const float*, int, int, float*, float*, const float*);
static constexpr Attend ATTEND[] = {nullptr, attend<1>, attend<2>, attend<3>, attend<4>};

// ---- the transformer ---------------------------------------------------------------------------------

struct Barrier {  // threads meet here between writing keys and reading them, when rows share a slot
    std::atomic<int> waiting{0}, round{0};
    int threads;
    void wait() {
        const int mine = round.load();
        if (waiting.fetch_add(1) + 1 == threads) {
            waiting = 0;
            round.fetch_add(1);
        } else {
            for (int spins = 0; round.load() == mine; spins++)
                if (spins > 2000) std::this_thread::yield();
        }
    }
};

struct Work {  // buffers of one thread
    std::vector<float> x, normed, qkv, mixed, gated, branch, scores, logits;
    Tiles tiles;
};

struct Shape {
    int H, D, Dv, G, qkv, mixed, inter;
    size_t head, slot, layer;  // floats of the cache per key-value head, slot and layer
    explicit Shape(const Model& m) {
        H = round_up(m.hidden, P), D = m.dim, Dv = round_up(D, W), G = m.heads / m.kv_heads;
        qkv = round_up((m.heads + 2 * m.kv_heads) * D, P), mixed = m.heads * D + Dv, inter = round_up(m.inter, m.half ? SIDE : W);
        head = (size_t)m.length * (D + Dv), slot = head * m.kv_heads, layer = slot * m.slots;
    }
};

// Bias, norms, rotation; queries stay in the row, keys and values go to the cache.
static void split(const Model& m, const Shape& z, const Layer& l, float* row, float* cache, int t) {
    const int D = m.dim;
    const float *cos = l.cos + (long)t * (D / 2), *sin = l.sin + (long)t * (D / 2);
    if (l.qkv_bias) add_bias(row, l.qkv_bias, (m.heads + 2 * m.kv_heads) * D, m.half);
    for (int h = 0; h < m.heads + m.kv_heads; h++) {
        float* x = row + h * D;
        const bool query = h < m.heads;
        if (l.q_norm) rms_norm(x, query ? l.q_norm : l.k_norm, D, m.eps, x);
        rotate(x, cos, sin, D / 2);
        if (query) {
            for (int i = 0; i < D; i++) x[i] *= m.query_scale;
        } else {
            float* k = cache + (h - m.heads) * z.head + (size_t)(t / W) * D * W + t % W;
            for (int i = 0; i < D; i++) k[i * W] = x[i];
        }
    }
    for (int h = 0; h < m.kv_heads; h++)
        memcpy(cache + h * z.head + (size_t)m.length * D + (size_t)t * z.Dv, row + (m.heads + m.kv_heads + h) * D,
               D * sizeof(float));
}

static void attention(const Model& m, const Shape& z, const Layer& l, const float* q, const float* cache, int T,
                      float* s, float* out, const float* next_row) {
    const int first = l.window && l.window < T ? T - (int)l.window : 0, start = first / W * W;
    for (int h = 0; h < m.kv_heads; h++) {
        const float *k = cache + h * z.head, *v = k + (size_t)m.length * z.D;
        const float* next = h + 1 < m.kv_heads ? k + z.head : next_row;
        k += (size_t)start * z.D, v += (size_t)start * z.Dv;
        for (int g = 0; g < z.G; g += 4) {
            const long at = (long)(h * z.G + g) * z.D;
            ATTEND[std::min(4, z.G - g)](q + at, z.D, k, v, first - start, T - start, s, out + at, next);
        }
    }
}

static void multiply(const Model& m, Work& w, const float* x, long ldx, int rows, int K, const void* matrix, int N,
                     float* y, long ldy, Epilogue e) {
    if (m.half)
        half_product(x, ldx, rows, K, (const uint16_t*)matrix, N, y, ldy, e, w.tiles, m.gate);
    else
        product(x, ldx, rows, K, (const float*)matrix, N, y, ldy, e, m.gate);
}

// x += what a matrix makes of `from`, normed before it is added where the model does so.
static void branch(const Model& m, const Shape& z, Work& w, const float* from, long ld, int rows, int K,
                   const void* matrix, const float* post, float* x) {
    if (!post) return multiply(m, w, from, ld, rows, K, matrix, m.hidden, x, z.H, ADD);
    float* y = grown(w.branch, (size_t)rows * z.H);
    multiply(m, w, from, ld, rows, K, matrix, m.hidden, y, z.H, STORE);
    for (int r = 0; r < rows; r++, x += z.H, y += z.H) {
        rms_norm(y, post, m.hidden, m.eps, y);
        for (int i = 0; i < m.hidden; i++) x[i] += y[i];
    }
}

// Rows through every layer; x holds the last hidden states. `meet` is null unless rows share a slot.
static float* transform(const Model& m, const Shape& z, Work& w, int rows, const int32_t* token,
                        const int32_t* slot, const int32_t* position, Barrier* meet) {
    float *x = grown(w.x, (size_t)rows * z.H), *normed = grown(w.normed, (size_t)rows * z.H);
    float *qkv = grown(w.qkv, (size_t)rows * z.qkv), *mixed = grown(w.mixed, (size_t)(rows + 1) * z.mixed);
    float *gated = grown(w.gated, (size_t)rows * z.inter);
    float* s = grown(w.scores, 4 * (size_t)round_up(m.length, W) + W);
    const auto norm = [&](const float* weight) {
        for (int r = 0; r < rows; r++) rms_norm(x + (long)r * z.H, weight, m.hidden, m.eps, normed + (long)r * z.H);
    };
    for (int r = 0; r < rows; r++)
        for (int i = 0; i < m.hidden; i++) x[(long)r * z.H + i] = m.embed[(long)token[r] * m.hidden + i] * m.embed_scale;
    for (int i = 0; i < m.layers; i++) {
        const Layer& l = m.layer[i];
        float* cache = m.cache + i * z.layer;
        norm(l.norm1);
        multiply(m, w, normed, z.H, rows, m.hidden, l.qkv, (m.heads + 2 * m.kv_heads) * m.dim, qkv, z.qkv, STORE);
        for (int r = 0; r < rows; r++)
            split(m, z, l, qkv + (long)r * z.qkv, cache + slot[r] * z.slot, position[r]);
        if (meet) meet->wait();
        for (int r = 0; r < rows; r++)
            attention(m, z, l, qkv + (long)r * z.qkv, cache + slot[r] * z.slot, position[r] + 1, s,
                      mixed + (long)r * z.mixed, cache + slot[std::min(r + 1, rows - 1)] * z.slot);
        branch(m, z, w, mixed, z.mixed, rows, m.heads * m.dim, l.o, l.post1, x);
        norm(l.norm2);
        multiply(m, w, normed, z.H, rows, m.hidden, l.gate_up, 2 * z.inter, gated, z.inter, GATE);
        branch(m, z, w, gated, z.inter, rows, m.inter, l.down, l.post2, x);
    }
    return x;
}

// Head and draw for rows that have been transformed. False when a logit is not finite.
static bool draw_rows(const Model& m, const Shape& z, Work& w, float* x, int rows, const int32_t* slot, Slots& st) {
    const int Vp = round_up(m.vocab, P);
    const int most = std::max(4 * TILE, (8 << 20) / Vp);  // 32 MiB of logits at a time
    bool fine = true;
    float* normed = grown(w.normed, (size_t)rows * z.H);
    for (int r = 0; r < rows; r++) rms_norm(x + (long)r * z.H, m.norm, m.hidden, m.eps, normed + (long)r * z.H);
    for (int start = 0; start < rows; start += most) {
        const int n = std::min(most, rows - start);
        float* logits = grown(w.logits, (size_t)n * Vp);
        product(normed + (long)start * z.H, z.H, n, m.hidden, m.head, m.vocab, logits, Vp, STORE);
        for (int r = 0; r < n; r++) {
            const int s = slot[start + r];
            const Drawn d = draw(logits + (long)r * Vp, m.vocab, st.temperature[s], st.top_p[s],
                                 uniform(st.seed[s], st.count[s]));
            const int64_t at = s * st.width + st.count[s];
            st.out_token[at] = d.token, st.out_logprob[at] = d.logprob;
            st.out_entropy[at] = d.entropy, st.out_entropy_1[at] = d.entropy_1;
            fine = fine && d.token >= 0;
        }
    }
    return fine;
}

struct Pool {
    std::vector<Work> work;
};

extern "C" {

int acereason_lanes() { return W; }

Pool* acereason_open(int threads) {
    Pool* pool = new Pool;
    pool->work.resize(threads);
    return pool;
}

void acereason_close(Pool* pool) { delete pool; }

// Tokens at positions first .. first+n-1 of one slot: fills its cache.
void acereason_prefill(Pool* pool, const Model* m, const int32_t* tokens, int n, int slot, int first) {
    const Shape z(*m);
    const int chunk = ROWS * m->threads;
    std::vector<int32_t> slots(std::min(n, chunk), slot), positions(std::min(n, chunk));
    for (int start = 0; start < n; start += chunk) {
        const int rows = std::min(chunk, n - start), threads = std::min(m->threads, (rows + TILE - 1) / TILE);
        for (int r = 0; r < rows; r++) positions[r] = first + start + r;
        Barrier meet;
        meet.threads = threads;
        in_threads(threads, [&](int t) {
            const int a = (long)rows * t / threads, b = (long)rows * (t + 1) / threads;
            transform(*m, z, pool->work[t], b - a, tokens + start + a, slots.data() + a, positions.data() + a, &meet);
        });
    }
}

// The first `length` positions of a slot, to another slot.
void acereason_copy(const Model* m, int from, int to, int length) {
    const Shape z(*m);
    for (int i = 0; i < m->layers; i++)
        for (int h = 0; h < m->kv_heads; h++) {
            const float* a = m->cache + i * z.layer + from * z.slot + h * z.head;
            float* b = m->cache + i * z.layer + to * z.slot + h * z.head;
            const size_t v = (size_t)m->length * z.D;
            memcpy(b, a, (size_t)round_up(length, W) * z.D * 4);
            memcpy(b + v, a + v, (size_t)length * z.Dv * 4);
        }
}

// Steps of one token for the slots in `active` until one of them ends (its end token or its budget), at
// most `steps`. Returns how many ended and writes them to `ended`; -1 when a logit was not finite.
int acereason_decode(Pool* pool, const Model* m, Slots* st, const int32_t* active, int n, int steps,
                     int32_t* ended) {
    const Shape z(*m);
    std::vector<int32_t> token(n), position(n);
    const int threads = std::min(m->threads, n);
    for (int step = 0, count = 0; step < steps; step++) {
        for (int r = 0; r < n; r++) token[r] = st->token[active[r]], position[r] = st->position[active[r]];
        std::atomic<bool> fine{true};
        in_threads(threads, [&](int t) {
            const int last = (long)n * (t + 1) / threads;
            for (int a = (long)n * t / threads; a < last; a += ROWS) {
                const int rows = std::min(ROWS, last - a);
                float* x = transform(*m, z, pool->work[t], rows, token.data() + a, active + a, position.data() + a, nullptr);
                if (!draw_rows(*m, z, pool->work[t], x, rows, active + a, *st)) fine = false;
            }
        });
        if (!fine) return -1;
        for (int r = 0; r < n; r++) {
            const int s = active[r], drawn = st->out_token[s * st->width + st->count[s]];
            st->token[s] = drawn, st->position[s]++;
            const bool end = std::find(st->eos, st->eos + st->eos_count, drawn) != st->eos + st->eos_count;
            if (++st->count[s] == st->budget[s] || end) ended[count++] = s;
        }
        if (count) return count;
    }
    return 0;
}

}  // extern "C"
