// Forward and backward pass of a Llama- or Gemma-like transformer over packed responses, in float32, or with the
// layers' products in bfloat16 (see halves.h), where what a product makes is rounded as well.
//
// Prompts that several responses share are computed once: a *trunk* of prompt rows, and for each response a
// *branch* of rows that attends to the trunk and to itself. Threads take whole trunks with their branches,
// so they never wait for each other; each sums its own gradients. Only what the backward pass cannot
// cheaply compute again is kept.
//
// Layouts (see decode.cpp for W and P): weights come as panels of their columns, for the forward pass
// [N/P][K][P], and of their rows, for the backward pass [K/P][N][P] (in bfloat16: of halves.h). ld(n) is the length of a row of n
// numbers in any buffer. Rows: R of a thread; N, K as in y[R, N] = x[R, K] W[N, K]'.

#include <atomic>
#include <cmath>
#include <cstdint>
#include <cstring>

#include "vectors.h"
#include "matrix.h"
#include "halves.h"
#include "draw.h"

struct Layer {  // panels forward (…), panels backward (…_t), offsets of the gradients (d_…)
    const float *norm1, *qkv_bias, *q_norm, *k_norm, *post1, *norm2, *post2, *cos, *sin;  // cos, sin: [positions][dim / 2]
    const void *qkv, *qkv_t, *o, *o_t, *up, *up_t, *down, *down_t;
    int64_t window;  // positions that are looked back to, the own one included; 0: all
    int64_t d_norm1, d_bias, d_q_norm, d_k_norm, d_post1, d_norm2, d_post2, d_qkv, d_o, d_up, d_down;
};

struct Net {  // mirrored in policy/compiled_pass.py
    int32_t layers, hidden, heads, kv_heads, dim, inter, vocab, threads;
    float eps, embed_scale, query_scale;
    Gate gate;
    int32_t half;    // products of the layers in bfloat16
    int32_t frozen;  // layers, from below, whose weights (and the embedding's) need no gradient
    const Layer* layer;
    const float *embed, *norm, *head, *head_t;
    int64_t d_embed, d_norm, d_head, total;  // d_head -1: needs none; total: floats of one thread's gradients
};

struct Batch {  // everything in the order of threads; *_end: where each thread's part ends
    const int32_t *token, *position;                      // [rows]
    const int32_t *q_start, *q_count, *k_start, *k_count;  // [segments]: own rows; rows of the trunk before
    const int32_t *row, *target, *place;                  // [targets]: hidden row, token, where the result goes
    const float* temperature;                             // [targets]
    const int32_t *row_end, *segment_end, *target_end;    // [threads + 1], first 0
};

static int ld(int n) {  // not a large power of two, so that columns do not share cache sets
    const int r = round_up(n, P);
    return r % 256 ? r : r + P;
}

static int gl(int n) { return round_up(n, P); }  // of a gradient: as the parameter lies, where that is even

static constexpr int BLOCK = 96, QUERIES = 16;  // rows that stay in the second cache level; query positions

static int block(const Net& n) { return n.half ? 1024 : BLOCK; }  // in bfloat16 weights are waited for, not rows

struct Sizes {
    int H, Q, A, I, U, D, Dp, V, G;  // rows: hidden, qkv, attention, inter, gate and up, head, vocabulary
    explicit Sizes(const Net& n) {
        H = ld(n.hidden), Q = ld((n.heads + 2 * n.kv_heads) * n.dim), A = ld(n.heads * n.dim), I = ld(n.inter);
        U = 2 * I, D = n.dim, Dp = round_up(n.dim, P), V = ld(n.vocab), G = n.heads / n.kv_heads;
    }
};

struct Kept {  // of one layer: its input, q k v before norm and rotation, attention's output, MLP's input, gate|up;
    std::vector<float> x, qkv, mixed, middle, up, attended, fed;  // what the branches made before their norms
};

struct Scratch {
    std::vector<float> normed, act, d, d_out, d_up, d_mixed, d_qkv, roped, k, v, kp, vp, kn, vn, q, s, ds, o, dk, dv;
    std::vector<float> logits;
    Tiles tiles;
};

struct Part {  // one thread's
    std::vector<Kept> kept;
    std::vector<float> x, dx;
};

struct Tape {
    std::vector<Part> part;
};

static std::vector<Scratch>& scratch(int threads) {  // the caller sees to it that passes do not overlap
    static std::vector<Scratch> all;
    if ((int)all.size() < threads) all.resize(threads);
    return all;
}

#include "rows.h"

// ---- products, in the model's own way ------------------------------------------------------------------

static void multiply(const Net& n, Scratch& w, const float* x, long ldx, int rows, int K, const void* matrix, int N,
                     float* y, long ldy, Epilogue e = STORE) {
    if (n.half)
        half_product(x, ldx, rows, K, (const uint16_t*)matrix, N, y, ldy, e, w.tiles);
    else
        product(x, ldx, rows, K, (const float*)matrix, N, y, ldy, e);
}

static void add_outer(const Net& n, Scratch& w, const float* a, long lda, int N, const float* b, long ldb, int K, int rows,
                      float* c, long ldc) {
    if (n.half)
        half_outer(a, lda, N, b, ldb, K, rows, c, ldc, w.tiles);
    else
        outer(a, lda, N, b, ldb, K, rows, c, ldc);
}

// x += what a matrix makes of `from`, normed before it is added where the model does so; then `raw` keeps it.
static void branch(const Net& n, const Sizes& z, Scratch& w, const float* from, long ld, int rows, int K,
                   const void* matrix, const float* post, float* raw, float* x) {
    if (!post) return multiply(n, w, from, ld, rows, K, matrix, n.hidden, x, z.H, ADD);
    multiply(n, w, from, ld, rows, K, matrix, n.hidden, raw, z.H);
    float* y = grown(w.d_out, (size_t)block(n) * z.H);
    norm_rows(raw, post, rows, n.hidden, z.H, n.eps, y);
    for (long i = 0; i < (long)rows * z.H; i++) x[i] += y[i];
}

// The gradient of what a branch's matrix made, from that of the residual stream.
static const float* branch_back(const Net& n, const Sizes& z, Scratch& w, const float* dx, int rows, const float* post,
                                const float* raw, float* d_post) {
    if (!post) return dx;
    float* d = grown(w.d_out, (size_t)block(n) * z.H);
    for (int r = 0; r < rows; r++)
        norm_back(dx + (long)r * z.H, raw + (long)r * z.H, post, n.hidden, n.eps, d + (long)r * z.H, d_post, true);
    return d;
}

#include "segments.h"

// ---- one thread's passes -------------------------------------------------------------------------------

struct Range {  // of rows, segments and targets of a thread
    int row, rows, segment, segments, target, targets;
    Range(const Batch& b, int t) {
        row = b.row_end[t], rows = b.row_end[t + 1] - row, segment = b.segment_end[t];
        segments = b.segment_end[t + 1] - segment, target = b.target_end[t], targets = b.target_end[t + 1] - target;
    }
};

template <class F>
static void each_segment(const Batch& b, const Range& e, F&& f) {
    for (int i = e.segment; i < e.segment + e.segments; i++)
        f(Segment{b.q_start[i] - e.row, b.q_count[i], b.k_start[i] - e.row, b.k_count[i], b.q_count[i] + b.k_count[i]});
}

template <class F>
static void each_block(const Net& n, int rows, F&& f) {
    for (int a = 0; a < rows; a += block(n)) f((long)a, std::min(block(n), rows - a));
}

static void rope_all(const Net& n, const Layer& l, const Sizes& z, const Batch& b, const Range& e, const float* raw,
                     float* y) {
    for (int r = 0; r < e.rows; r++) rope_row(n, l, raw + (long)r * z.Q, b.position[e.row + r], y + (long)r * z.Q);
}

static void forward(const Net& n, const Batch& b, const Range& e, Part& part, Scratch& w) {
    const Sizes z(n);
    const int joint = (n.heads + 2 * n.kv_heads) * n.dim;
    float *x = grown(part.x, (size_t)e.rows * z.H), *normed = grown(w.normed, (size_t)block(n) * z.H);
    float *act = grown(w.act, (size_t)block(n) * z.I), *roped = grown(w.roped, (size_t)e.rows * z.Q);
    part.kept.resize(n.layers);
    for (int r = 0; r < e.rows; r++)
        for (int j = 0; j < n.hidden; j++)
            x[(long)r * z.H + j] = n.embed[(long)b.token[e.row + r] * n.hidden + j] * n.embed_scale;
    for (int i = 0; i < n.layers; i++) {
        const Layer& l = n.layer[i];
        Kept& k = part.kept[i < n.frozen ? 0 : i];  // frozen layers keep nothing
        const auto room = [&](std::vector<float>& v, int width) { return grown(v, (size_t)e.rows * width); };
        float *input = room(k.x, z.H), *qkv = room(k.qkv, z.Q), *mixed = room(k.mixed, z.A), *middle = room(k.middle, z.H);
        float *up = room(k.up, z.U), *attended = room(k.attended, l.post1 ? z.H : 0), *fed = room(k.fed, l.post2 ? z.H : 0);
        memcpy(input, x, (size_t)e.rows * z.H * 4);
        each_block(n, e.rows, [&](long a, int rows) {
            norm_rows(x + a * z.H, l.norm1, rows, n.hidden, z.H, n.eps, normed);
            multiply(n, w, normed, z.H, rows, n.hidden, l.qkv, joint, qkv + a * z.Q, z.Q);
            for (int r = 0; r < rows && l.qkv_bias; r++) add_bias(qkv + (a + r) * z.Q, l.qkv_bias, joint, n.half);
        });
        rope_all(n, l, z, b, e, qkv, roped);
        each_segment(b, e, [&](const Segment& g) { attend(n, l, z, g, roped, w, mixed); });
        each_block(n, e.rows, [&](long a, int rows) {
            float* here = x + a * z.H;
            branch(n, z, w, mixed + a * z.A, z.A, rows, n.heads * n.dim, l.o, l.post1, attended + a * z.H, here);
            memcpy(middle + a * z.H, here, (size_t)rows * z.H * 4);
            norm_rows(here, l.norm2, rows, n.hidden, z.H, n.eps, normed);
            multiply(n, w, normed, z.H, rows, n.hidden, l.up, z.U, up + a * z.U, z.U);
            activate(n, up + a * z.U, rows, z, act);
            branch(n, z, w, act, z.I, rows, n.inter, l.down, l.post2, fed + a * z.H, here);
        });
    }
}

// Targets in blocks: hidden rows, normed, and their logits.
template <class F>
static void each_target(const Net& n, const Batch& b, const Range& e, const float* x, Scratch& w, F&& f) {
    const Sizes z(n);
    const int most = std::max(TILE, std::min(BLOCK, (1 << 21) / z.V));
    float *rows = grown(w.d, (size_t)BLOCK * z.H), *normed = grown(w.normed, (size_t)BLOCK * z.H);
    float* logits = grown(w.logits, (size_t)2 * most * z.V);  // the second half for the caller
    for (int at = e.target; at < e.target + e.targets; at += most) {
        const int m = std::min(most, e.target + e.targets - at);
        for (int i = 0; i < m; i++) memcpy(rows + (long)i * z.H, x + (long)(b.row[at + i] - e.row) * z.H, z.H * 4);
        norm_rows(rows, n.norm, m, n.hidden, z.H, n.eps, normed);
        product(normed, z.H, m, n.hidden, n.head, n.vocab, logits, z.V, STORE);
        f(at, m, rows, normed, logits, logits + (long)most * z.V);
    }
}

static void head(const Net& n, const Batch& b, const Range& e, const float* x, Scratch& w, float* logprob,
                 float* entropy) {
    const Sizes z(n);
    each_target(n, b, e, x, w, [&](int at, int m, float*, float*, const float* logits, float*) {
        for (int i = 0; i < m; i++, logits += z.V) {
            const float top = highest(logits, n.vocab), T = b.temperature[at + i];
            const Sums sums = exponentials(logits, n.vocab, top, T, nullptr);
            const double one = ((double)logits[b.target[at + i]] - top) / T;
            logprob[b.place[at + i]] = (float)(one - std::log(sums.mass));
            entropy[b.place[at + i]] = (float)sums.entropy();
        }
    });
}

static void head_back(const Net& n, const Batch& b, const Range& e, const float* x, Scratch& w, const float* d_logprob,
                      float* dx, float* grad) {
    const Sizes z(n);
    float* d = grown(w.d_mixed, (size_t)BLOCK * z.H);
    each_target(n, b, e, x, w, [&](int at, int m, const float* rows, const float* normed, const float* logits, float* dz) {
        memset(dz, 0, (size_t)m * z.V * 4);
        for (int i = 0; i < m; i++) {  // dz = d (onehot - p) / T
            const float T = b.temperature[at + i], g = d_logprob[b.place[at + i]] / T, *l = logits + (long)i * z.V;
            float* y = dz + (long)i * z.V;
            const Sums sums = exponentials(l, n.vocab, highest(l, n.vocab), T, y);
            const float scale = (float)(-g / sums.mass);
            for (int j = 0; j < n.vocab; j++) y[j] *= scale;
            y[b.target[at + i]] += g;
        }
        if (n.d_head >= 0) outer(dz, z.V, n.vocab, normed, z.H, n.hidden, m, grad + n.d_head, gl(n.hidden));
        product(dz, z.V, m, n.vocab, n.head_t, n.hidden, d, z.H, STORE);
        for (int i = 0; i < m; i++)
            norm_back(d + (long)i * z.H, rows + (long)i * z.H, n.norm, n.hidden, n.eps,
                      dx + (long)(b.row[at + i] - e.row) * z.H, grad + n.d_norm, false);
    });
}

static void mlp_back(const Net& n, const Layer& l, const Sizes& z, int rows, Scratch& w, const float* middle,
                     const float* up, const float* fed, float* dx, float* grad) {
    float *normed = grown(w.normed, (size_t)block(n) * z.H), *act = grown(w.act, (size_t)block(n) * z.I);
    float *d = grown(w.d, (size_t)block(n) * std::max(z.I, z.H)), *d_up = grown(w.d_up, (size_t)block(n) * z.U);
    const float* d_fed = branch_back(n, z, w, dx, rows, l.post2, fed, grad + l.d_post2);
    activate(n, up, rows, z, act);
    add_outer(n, w, d_fed, z.H, n.hidden, act, z.I, n.inter, rows, grad + l.d_down, gl(n.inter));
    multiply(n, w, d_fed, z.H, rows, n.hidden, l.down_t, z.I, d, z.I);
    activate_back(n, up, d, rows, z, d_up);
    norm_rows(middle, l.norm2, rows, n.hidden, z.H, n.eps, normed);
    add_outer(n, w, d_up, z.U, z.U, normed, z.H, n.hidden, rows, grad + l.d_up, gl(n.hidden));
    multiply(n, w, d_up, z.U, rows, z.U, l.up_t, n.hidden, d, z.H);
    for (int r = 0; r < rows; r++)
        norm_back(d + (long)r * z.H, middle + (long)r * z.H, l.norm2, n.hidden, n.eps, dx + (long)r * z.H,
                  grad + l.d_norm2, false);
}

static void backward(const Net& n, const Batch& b, const Range& e, Part& part, Scratch& w, const float* d_logprob,
                     float* grad) {
    const Sizes z(n);
    const int joint = (n.heads + 2 * n.kv_heads) * n.dim;
    float* dx = grown(part.dx, (size_t)e.rows * z.H);
    memset(dx, 0, (size_t)e.rows * z.H * 4);
    head_back(n, b, e, grown(part.x, 0), w, d_logprob, dx, grad);
    float *roped = grown(w.roped, (size_t)e.rows * z.Q), *d_qkv = grown(w.d_qkv, (size_t)e.rows * z.Q);
    float* d_mixed = grown(w.d_mixed, (size_t)std::max(e.rows, BLOCK) * std::max(z.A, z.H));
    for (int i = n.layers - 1; i >= n.frozen; i--) {
        const Layer& l = n.layer[i];
        Kept& k = part.kept[i];
        const float *input = grown(k.x, 0), *qkv = grown(k.qkv, 0), *mixed = grown(k.mixed, 0);
        const float *middle = grown(k.middle, 0), *up = grown(k.up, 0), *attended = grown(k.attended, 0), *fed = grown(k.fed, 0);
        each_block(n, e.rows, [&](long a, int rows) {
            float* here = dx + a * z.H;
            mlp_back(n, l, z, rows, w, middle + a * z.H, up + a * z.U, fed + a * z.H, here, grad);
            const float* d = branch_back(n, z, w, here, rows, l.post1, attended + a * z.H, grad + l.d_post1);
            add_outer(n, w, d, z.H, n.hidden, mixed + a * z.A, z.A, n.heads * n.dim, rows, grad + l.d_o, gl(n.heads * n.dim));
            multiply(n, w, d, z.H, rows, n.hidden, l.o_t, n.heads * n.dim, d_mixed + a * z.A, z.A);
        });
        rope_all(n, l, z, b, e, qkv, roped);
        memset(d_qkv, 0, (size_t)e.rows * z.Q * 4);
        each_segment(b, e, [&](const Segment& g) { attend_back(n, l, z, g, roped, d_mixed, w, d_qkv); });
        float *normed = grown(w.normed, (size_t)block(n) * z.H), *d = grown(w.d, (size_t)block(n) * z.H);
        each_block(n, e.rows, [&](long a, int rows) {
            for (int r = 0; r < rows; r++) {
                float* g = d_qkv + (a + r) * z.Q;
                rope_back(n, l, qkv + (a + r) * z.Q, b.position[e.row + a + r], g, grad);
                if (l.qkv_bias)
                    for (int j = 0; j < joint; j++) grad[l.d_bias + j] += g[j];
            }
            norm_rows(input + a * z.H, l.norm1, rows, n.hidden, z.H, n.eps, normed);
            add_outer(n, w, d_qkv + a * z.Q, z.Q, joint, normed, z.H, n.hidden, rows, grad + l.d_qkv, gl(n.hidden));
            multiply(n, w, d_qkv + a * z.Q, z.Q, rows, joint, l.qkv_t, n.hidden, d, z.H);
            for (int r = 0; r < rows; r++)
                norm_back(d + (long)r * z.H, input + (a + r) * z.H, l.norm1, n.hidden, n.eps, dx + (a + r) * z.H,
                          grad + l.d_norm1, false);
        });
    }
    for (int r = 0; r < (n.frozen ? 0 : e.rows); r++) {
        float* g = grad + n.d_embed + (long)b.token[e.row + r] * gl(n.hidden);
        for (int j = 0; j < n.hidden; j++) g[j] += dx[(long)r * z.H + j] * n.embed_scale;
    }
}

extern "C" {

int acereason_lanes() { return W; }
int acereason_width(int n) { return ld(n); }
int acereason_gradient_width(int n) { return gl(n); }
Tape* acereason_tape() { return new Tape; }
void acereason_free(Tape* tape) { delete tape; }

// Log-probability and entropy of every target; the tape keeps what `acereason_backward` needs.
void acereason_forward(const Net* n, const Batch* b, Tape* tape, float* logprob, float* entropy) {
    tape->part.resize(n->threads);
    auto& work = scratch(n->threads);
    in_threads(n->threads, [&](int t) {
        const Range e(*b, t);
        if (!e.rows) return;
        forward(*n, *b, e, tape->part[t], work[t]);
        head(*n, *b, e, grown(tape->part[t].x, 0), work[t], logprob, entropy);
    });
}

// Gradients [threads][total] of sum(d_logprob * logprob), added to what is there.
void acereason_backward(const Net* n, const Batch* b, Tape* tape, const float* d_logprob, float* grad) {
    auto& work = scratch(n->threads);
    in_threads(n->threads, [&](int t) {
        const Range e(*b, t);
        if (e.rows) backward(*n, *b, e, tape->part[t], work[t], d_logprob, grad + t * n->total);
    });
}

}  // extern "C"
