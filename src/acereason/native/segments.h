// Attention of a segment, forward and backward: its own rows see the rows of the trunk before and themselves.
// Comes inside learn.cpp, after the sizes and the scratch space.
#pragma once

// Columns [T, D] of rows to panels over T, [T/P][D][P], or over D, [D/P][T][P]; lanes behind are 0.
static void panels_over_rows(const float* x, long ldx, int T, int D, float* out) {
    for (int t = 0; t < round_up(T, P); t++)
        for (int d = 0; d < D; d++) out[(long)(t / P) * D * P + d * P + t % P] = t < T ? x[t * ldx + d] : 0;
}

static void panels_over_columns(const float* x, long ldx, int T, int D, float* out) {
    for (int d = 0; d < round_up(D, P); d += P)
        for (int t = 0; t < T; t++)
            for (int j = 0; j < P; j++) *out++ = d + j < D ? x[t * ldx + d + j] : 0;
}

struct Segment {  // T = before + own keys; rows of the thread's buffers
    int q, own, k, before, T;
};

static void gather(const float* rows, long width, const Segment& g, int D, float* out) {
    for (int t = 0; t < g.T; t++)
        memcpy(out + (long)t * D, rows + (t < g.before ? g.k + t : g.q + t - g.before) * width, D * sizeof(float));
}

static void scatter_add(const float* x, long ldx, const Segment& g, int D, float* rows, long width) {
    for (int t = 0; t < g.T; t++) {
        float* y = rows + (t < g.before ? g.k + t : g.q + t - g.before) * width;
        for (int d = 0; d < D; d++) y[d] += x[t * ldx + d];
    }
}

// The block of `n` query positions from `at` on of the G heads of key-value head h, [n * G, D] <-> rows.
template <class F>
static void each_query(const Segment& g, const Sizes& z, int h, int at, int n, long width, F&& f) {
    for (int i = 0; i < n; i++)
        for (int j = 0; j < z.G; j++) f((long)i * z.G + j, (g.q + at + i) * width + (h * z.G + j) * z.D, g.before + at + i + 1);
}

// Probabilities of a block of queries over the keys they see: s [n * G, Tp].
static void probabilities(const Layer& l, const Segment& g, const Sizes& z, const float* roped, int h, int at, int n, const float* kp,
                          float* q, float* s) {
    const int seen = g.before + at + n, Tp = round_up(g.T, P);
    each_query(g, z, h, at, n, z.Q, [&](long r, long from, int) { memcpy(q + r * z.Dp, roped + from, z.D * 4); });
    product(q, z.Dp, n * z.G, z.D, kp, seen, s, Tp, STORE);
    each_query(g, z, h, at, n, 0, [&](long r, long, int T) {
        if (l.window && l.window < T) std::fill(s + r * Tp, s + r * Tp + T - l.window, -INFINITY);
        const float scale = 1.f / soft(s + r * Tp, T, round_up(seen, P));
        for (int t = 0; t < round_up(seen, P); t += W) store(s + r * Tp + t, load(s + r * Tp + t) * scale);
    });
}

static void attend(const Net& n, const Layer& l, const Sizes& z, const Segment& g, const float* roped, Scratch& w, float* mixed) {
    const int Tp = round_up(g.T, P), D = z.D;
    float *k = grown(w.k, (size_t)g.T * D), *v = grown(w.v, (size_t)g.T * D), *kp = grown(w.kp, (size_t)Tp * D);
    float *vn = grown(w.vn, (size_t)g.T * z.Dp), *q = grown(w.q, (size_t)QUERIES * z.G * z.Dp);
    float *s = grown(w.s, (size_t)QUERIES * z.G * Tp), *o = grown(w.o, (size_t)QUERIES * z.G * z.Dp);
    for (int h = 0; h < n.kv_heads; h++) {
        gather(roped + (n.heads + h) * D, z.Q, g, D, k);
        gather(roped + (n.heads + n.kv_heads + h) * D, z.Q, g, D, v);
        panels_over_rows(k, D, g.T, D, kp);
        panels_over_columns(v, D, g.T, D, vn);
        for (int at = 0; at < g.own; at += QUERIES) {
            const int m = std::min(QUERIES, g.own - at), seen = g.before + at + m;
            probabilities(l, g, z, roped, h, at, m, kp, q, s);
            for (int d = 0; d < D; d += P)
                product(s, Tp, m * z.G, seen, vn + (long)d * g.T, P, o + d, z.Dp, STORE);
            each_query(g, z, h, at, m, z.A, [&](long r, long to, int) { memcpy(mixed + to, o + r * z.Dp, D * 4); });
        }
    }
}

static void attend_back(const Net& n, const Layer& l, const Sizes& z, const Segment& g, const float* roped,
                        const float* d_mixed, Scratch& w, float* d_qkv) {
    const int Tp = round_up(g.T, P), D = z.D, most = QUERIES * z.G;
    float *k = grown(w.k, (size_t)g.T * D), *v = grown(w.v, (size_t)g.T * D), *kp = grown(w.kp, (size_t)Tp * D);
    float *vp = grown(w.vp, (size_t)Tp * D), *kn = grown(w.kn, (size_t)g.T * z.Dp);
    float *q = grown(w.q, (size_t)most * z.Dp), *o = grown(w.o, (size_t)most * z.Dp);
    float *s = grown(w.s, (size_t)most * Tp), *ds = grown(w.ds, (size_t)most * Tp);
    float *dk = grown(w.dk, (size_t)g.T * z.Dp), *dv = grown(w.dv, (size_t)g.T * z.Dp);
    memset(q, 0, (size_t)most * z.Dp * 4), memset(o, 0, (size_t)most * z.Dp * 4);
    for (int h = 0; h < n.kv_heads; h++) {
        gather(roped + (n.heads + h) * D, z.Q, g, D, k);
        gather(roped + (n.heads + n.kv_heads + h) * D, z.Q, g, D, v);
        panels_over_rows(k, D, g.T, D, kp);
        panels_over_rows(v, D, g.T, D, vp);
        panels_over_columns(k, D, g.T, D, kn);
        memset(dk, 0, (size_t)g.T * z.Dp * 4), memset(dv, 0, (size_t)g.T * z.Dp * 4);
        for (int at = 0; at < g.own; at += QUERIES) {
            const int m = std::min(QUERIES, g.own - at), rows = m * z.G, seen = g.before + at + m;
            probabilities(l, g, z, roped, h, at, m, kp, q, s);
            each_query(g, z, h, at, m, z.A, [&](long r, long from, int) { memcpy(o + r * z.Dp, d_mixed + from, D * 4); });
            product(o, z.Dp, rows, D, vp, seen, ds, Tp, STORE);
            for (int r = 0; r < rows; r++) {  // ds = p (dp - sum p dp)
                float *p = s + (long)r * Tp, *d = ds + (long)r * Tp;
                V sum = {};
                for (int t = 0; t < round_up(seen, P); t += W) sum += load(p + t) * load(d + t);
                float dot = 0;
                for (int i = 0; i < W; i++) dot += sum[i];
                for (int t = 0; t < round_up(seen, P); t += W) store(d + t, load(p + t) * (load(d + t) - dot));
            }
            outer(s, Tp, seen, o, z.Dp, D, rows, dv, z.Dp);
            outer(ds, Tp, seen, q, z.Dp, D, rows, dk, z.Dp);
            for (int d = 0; d < D; d += P) product(ds, Tp, rows, seen, kn + (long)d * g.T, P, o + d, z.Dp, STORE);
            each_query(g, z, h, at, m, z.Q, [&](long r, long to, int) { memcpy(d_qkv + to, o + r * z.Dp, D * 4); });
        }
        scatter_add(dk, z.Dp, g, D, d_qkv + (n.heads + h) * D, z.Q);
        scatter_add(dv, z.Dp, g, D, d_qkv + (n.heads + n.kv_heads + h) * D, z.Q);
    }
}

