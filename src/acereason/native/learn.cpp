// Forward and backward pass of a Llama-family transformer over packed responses, in float32.
//
// Prompts that several responses share are computed once: a *trunk* of prompt rows, and for each response a
// *branch* of rows that attends to the trunk and to itself. Threads take whole trunks with their branches,
// so they never wait for each other; each sums its own gradients. Only what the backward pass cannot
// cheaply compute again is kept.
//
// Layouts (see decode.cpp for W and P): weights come as panels of their columns, for the forward pass
// [N/P][K][P], and of their rows, for the backward pass [K/P][N][P]. ld(n) is the length of a row of n
// numbers in any buffer. Rows: R of a thread; N, K as in y[R, N] = x[R, K] W[N, K]'.

#include <atomic>
#include <cmath>
#include <cstdint>
#include <cstring>

#include "vectors.h"
#include "matrix.h"
#include "draw.h"

struct Layer {  // panels forward (…), panels backward (…_t), offsets of the gradients (d_…)
    const float *norm1, *qkv, *qkv_t, *qkv_bias, *q_norm, *k_norm, *o, *o_t, *norm2, *up, *up_t, *down, *down_t;
    int64_t d_norm1, d_qkv, d_bias, d_q_norm, d_k_norm, d_o, d_norm2, d_up, d_down;
};

struct Net {  // mirrored in policy/compiled_pass.py
    int32_t layers, hidden, heads, kv_heads, dim, inter, vocab, threads;
    float eps;
    int32_t frozen;  // layers, from below, whose weights (and the embedding's) need no gradient
    const Layer* layer;
    const float *embed, *norm, *head, *head_t, *cos, *sin;  // cos, sin: [positions][dim / 2]
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

static constexpr int BLOCK = 96, QUERIES = 16;  // rows that stay in the second cache level; query positions

struct Sizes {
    int H, Q, A, I, U, D, Dp, V, G;  // rows: hidden, qkv, attention, inter, gate and up, head, vocabulary
    explicit Sizes(const Net& n) {
        H = ld(n.hidden), Q = ld((n.heads + 2 * n.kv_heads) * n.dim), A = ld(n.heads * n.dim), I = ld(n.inter);
        U = 2 * I, D = n.dim, Dp = round_up(n.dim, P), V = ld(n.vocab), G = n.heads / n.kv_heads;
    }
};

struct Kept {  // of one layer: its input, q k v before norm and rotation, attention's output, MLP's input, gate|up
    std::vector<float> x, qkv, mixed, middle, up;
};

struct Scratch {
    std::vector<float> normed, act, d, d_up, d_mixed, d_qkv, roped, k, v, kp, vp, kn, vn, q, s, ds, o, dk, dv, logits;
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

// ---- row operations and their gradients ----------------------------------------------------------------

static void norm_rows(const float* x, const float* weight, int rows, int n, int width, float eps, float* y) {
    for (int r = 0; r < rows; r++) rms_norm(x + (long)r * width, weight, n, eps, y + (long)r * width);
}

// y = weight x / rms(x): adds to dx unless `set`, and to d_weight.
static void norm_back(const float* dy, const float* x, const float* weight, int n, float eps, float* dx,
                      float* d_weight, bool set) {
    const float r = 1.f / std::sqrt(sum_of_squares(x, n) / n + eps);
    V sum = {};
    int i = 0;
    for (; i + W <= n; i += W) sum += load(dy + i) * load(weight + i) * load(x + i);
    float dot = 0;
    for (int k = 0; k < W; k++) dot += sum[k];
    for (; i < n; i++) dot += dy[i] * weight[i] * x[i];
    const float c = dot * r * r * r / n;
    for (i = 0; i < n; i++) {
        const float g = dy[i], v = x[i], d = r * weight[i] * g - c * v;
        d_weight[i] += g * v * r;
        dx[i] = set ? d : dx[i] + d;
    }
}

static void unrotate(float* x, const float* cos, const float* sin, int half) {
    for (int i = 0; i < half; i++) {
        const float a = x[i], b = x[i + half];
        x[i] = a * cos[i] + b * sin[i];
        x[i + half] = b * cos[i] - a * sin[i];
    }
}

static void activate(const float* up, int rows, const Sizes& z, float* act) {
    for (int r = 0; r < rows; r++, up += z.U, act += z.I)
        for (int i = 0; i < z.I; i += W) {
            const V g = load(up + i);
            store(act + i, g / (1.f + exp(-g)) * load(up + z.I + i));
        }
}

static void activate_back(const float* up, const float* d_act, int rows, const Sizes& z, float* d_up) {
    for (int r = 0; r < rows; r++, up += z.U, d_act += z.I, d_up += z.U)
        for (int i = 0; i < z.I; i += W) {
            const V g = load(up + i), u = load(up + z.I + i), d = load(d_act + i), s = 1.f / (1.f + exp(-g));
            store(d_up + i, d * u * s * (1.f + g * (1.f - s)));
            store(d_up + z.I + i, d * g * s);
        }
}

// q and k of a row normed and rotated, v as it is; queries carry 1 / sqrt(D).
static void rope_row(const Net& n, const Layer& l, const float* raw, int t, float* y) {
    const int D = n.dim, all = n.heads + n.kv_heads;
    const float *cos = n.cos + (long)t * (D / 2), *sin = n.sin + (long)t * (D / 2), shrink = 1.f / std::sqrt((float)D);
    memcpy(y, raw, (all + n.kv_heads) * D * sizeof(float));
    for (int h = 0; h < all; h++, y += D) {
        if (l.q_norm) rms_norm(y, h < n.heads ? l.q_norm : l.k_norm, D, n.eps, y);
        rotate(y, cos, sin, D / 2);
        if (h < n.heads)
            for (int i = 0; i < D; i++) y[i] *= shrink;
    }
}

static void rope_back(const Net& n, const Layer& l, const float* raw, int t, float* d, float* grad) {
    const int D = n.dim, all = n.heads + n.kv_heads;
    const float *cos = n.cos + (long)t * (D / 2), *sin = n.sin + (long)t * (D / 2), shrink = 1.f / std::sqrt((float)D);
    for (int h = 0; h < all; h++, d += D, raw += D) {
        if (h < n.heads)
            for (int i = 0; i < D; i++) d[i] *= shrink;
        unrotate(d, cos, sin, D / 2);
        if (l.q_norm) {
            const bool query = h < n.heads;
            norm_back(d, raw, query ? l.q_norm : l.k_norm, D, n.eps, d, grad + (query ? l.d_q_norm : l.d_k_norm), true);
        }
    }
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
static void each_block(int rows, F&& f) {
    for (int a = 0; a < rows; a += BLOCK) f((long)a, std::min(BLOCK, rows - a));
}

static void rope_all(const Net& n, const Layer& l, const Sizes& z, const Batch& b, const Range& e, const float* raw,
                     float* y) {
    for (int r = 0; r < e.rows; r++) rope_row(n, l, raw + (long)r * z.Q, b.position[e.row + r], y + (long)r * z.Q);
}

static void forward(const Net& n, const Batch& b, const Range& e, Part& part, Scratch& w) {
    const Sizes z(n);
    const int joint = (n.heads + 2 * n.kv_heads) * n.dim;
    float *x = grown(part.x, (size_t)e.rows * z.H), *normed = grown(w.normed, (size_t)BLOCK * z.H);
    float *act = grown(w.act, (size_t)BLOCK * z.I), *roped = grown(w.roped, (size_t)e.rows * z.Q);
    part.kept.resize(n.layers);
    for (int r = 0; r < e.rows; r++)
        memcpy(x + (long)r * z.H, n.embed + (long)b.token[e.row + r] * n.hidden, n.hidden * 4);
    for (int i = 0; i < n.layers; i++) {
        const Layer& l = n.layer[i];
        Kept& k = part.kept[i < n.frozen ? 0 : i];  // frozen layers keep nothing
        float *input = grown(k.x, (size_t)e.rows * z.H), *qkv = grown(k.qkv, (size_t)e.rows * z.Q);
        float *mixed = grown(k.mixed, (size_t)e.rows * z.A), *middle = grown(k.middle, (size_t)e.rows * z.H);
        float* up = grown(k.up, (size_t)e.rows * z.U);
        memcpy(input, x, (size_t)e.rows * z.H * 4);
        each_block(e.rows, [&](long a, int rows) {
            norm_rows(x + a * z.H, l.norm1, rows, n.hidden, z.H, n.eps, normed);
            product(normed, z.H, rows, n.hidden, l.qkv, joint, qkv + a * z.Q, z.Q, STORE);
            if (l.qkv_bias)
                for (int r = 0; r < rows; r++)
                    for (int j = 0; j < joint; j++) qkv[(a + r) * z.Q + j] += l.qkv_bias[j];
        });
        rope_all(n, l, z, b, e, qkv, roped);
        each_segment(b, e, [&](const Segment& g) { attend(n, z, g, roped, w, mixed); });
        each_block(e.rows, [&](long a, int rows) {
            product(mixed + a * z.A, z.A, rows, n.heads * n.dim, l.o, n.hidden, x + a * z.H, z.H, ADD);
            memcpy(middle + a * z.H, x + a * z.H, (size_t)rows * z.H * 4);
            norm_rows(x + a * z.H, l.norm2, rows, n.hidden, z.H, n.eps, normed);
            product(normed, z.H, rows, n.hidden, l.up, z.U, up + a * z.U, z.U, STORE);
            activate(up + a * z.U, rows, z, act);
            product(act, z.I, rows, n.inter, l.down, n.hidden, x + a * z.H, z.H, ADD);
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
        if (n.d_head >= 0) outer(dz, z.V, n.vocab, normed, z.H, n.hidden, m, grad + n.d_head, z.H);
        product(dz, z.V, m, n.vocab, n.head_t, n.hidden, d, z.H, STORE);
        for (int i = 0; i < m; i++)
            norm_back(d + (long)i * z.H, rows + (long)i * z.H, n.norm, n.hidden, n.eps,
                      dx + (long)(b.row[at + i] - e.row) * z.H, grad + n.d_norm, false);
    });
}

static void mlp_back(const Net& n, const Layer& l, const Sizes& z, int rows, Scratch& w,
                     const float* middle, const float* up, float* dx, float* grad) {
    float *normed = grown(w.normed, (size_t)BLOCK * z.H), *act = grown(w.act, (size_t)BLOCK * z.I);
    float *d = grown(w.d, (size_t)BLOCK * std::max(z.I, z.H)), *d_up = grown(w.d_up, (size_t)BLOCK * z.U);
    activate(up, rows, z, act);
    outer(dx, z.H, n.hidden, act, z.I, n.inter, rows, grad + l.d_down, z.I);
    product(dx, z.H, rows, n.hidden, l.down_t, z.I, d, z.I, STORE);
    activate_back(up, d, rows, z, d_up);
    norm_rows(middle, l.norm2, rows, n.hidden, z.H, n.eps, normed);
    outer(d_up, z.U, z.U, normed, z.H, n.hidden, rows, grad + l.d_up, z.H);
    product(d_up, z.U, rows, z.U, l.up_t, n.hidden, d, z.H, STORE);
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
        const float *middle = grown(k.middle, 0), *up = grown(k.up, 0);
        each_block(e.rows, [&](long a, int rows) {
            mlp_back(n, l, z, rows, w, middle + a * z.H, up + a * z.U, dx + a * z.H, grad);
            outer(dx + a * z.H, z.H, n.hidden, mixed + a * z.A, z.A, n.heads * n.dim, rows, grad + l.d_o, z.A);
            product(dx + a * z.H, z.H, rows, n.hidden, l.o_t, n.heads * n.dim, d_mixed + a * z.A, z.A, STORE);
        });
        rope_all(n, l, z, b, e, qkv, roped);
        memset(d_qkv, 0, (size_t)e.rows * z.Q * 4);
        each_segment(b, e, [&](const Segment& g) { attend_back(n, z, g, roped, d_mixed, w, d_qkv); });
        float *normed = grown(w.normed, (size_t)BLOCK * z.H), *d = grown(w.d, (size_t)BLOCK * z.H);
        each_block(e.rows, [&](long a, int rows) {
            for (int r = 0; r < rows; r++) {
                float* g = d_qkv + (a + r) * z.Q;
                rope_back(n, l, qkv + (a + r) * z.Q, b.position[e.row + a + r], g, grad);
                if (l.qkv_bias)
                    for (int j = 0; j < joint; j++) grad[l.d_bias + j] += g[j];
            }
            norm_rows(input + a * z.H, l.norm1, rows, n.hidden, z.H, n.eps, normed);
            outer(d_qkv + a * z.Q, z.Q, joint, normed, z.H, n.hidden, rows, grad + l.d_qkv, z.H);
            product(d_qkv + a * z.Q, z.Q, rows, joint, l.qkv_t, n.hidden, d, z.H, STORE);
            for (int r = 0; r < rows; r++)
                norm_back(d + (long)r * z.H, input + (a + r) * z.H, l.norm1, n.hidden, n.eps, dx + (a + r) * z.H,
                          grad + l.d_norm1, false);
        });
    }
    for (int r = 0; r < (n.frozen ? 0 : e.rows); r++) {
        float* g = grad + n.d_embed + (long)b.token[e.row + r] * z.H;
        for (int j = 0; j < n.hidden; j++) g[j] += dx[(long)r * z.H + j];
    }
}

extern "C" {

int acereason_lanes() { return W; }
int acereason_width(int n) { return ld(n); }
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
