// Elementwise passes of learning, each in one walk over memory: norms and their gradients, gates, sums of halves.
//
// Rows of n floats lie together. s = 1 / sqrt(mean x² + eps) of a row; w + one is what a norm multiplies by.
// Threads take equal parts; what they add up to is summed in their order.

#include <algorithm>
#include <vector>

#include "vectors.h"
#include "matrix.h"

static inline float total(V v) {
    float sum = 0;
    for (int k = 0; k < W; k++) sum += v[k];
    return sum;
}

// f(first, last) for each thread's part of n things, in steps of `step`.
template <class F>
static void parts(int threads, int64_t n, int64_t step, F&& f) {
    const int64_t each = ((n + step - 1) / step + threads - 1) / threads * step;
    in_threads(threads, [&](int t) {
        if (t * each < n) f(t, t * each, std::min(n, (t + 1) * each));
    });
}

static void norm_back(const float* g, const float* x, float s, const float* w, float one, int n, float* dx, float* dw) {
    V along = {};
    float rest = 0;
    int i = 0;
    for (; i + W <= n; i += W) {
        const V a = load(g + i) * load(x + i) * s;
        store(dw + i, load(dw + i) + a);
        along += a * (load(w + i) + one);
    }
    for (; i < n; i++) {
        const float a = g[i] * x[i] * s;
        dw[i] += a, rest += a * (w[i] + one);
    }
    const float mean = (total(along) + rest) / n * s;
    for (i = 0; i + W <= n; i += W) store(dx + i, s * (load(g + i) * (load(w + i) + one) - load(x + i) * mean));
    for (; i < n; i++) dx[i] = s * (g[i] * (w[i] + one) - x[i] * mean);
}

extern "C" {

void acereason_norm(const float* x, const float* w, float one, int64_t rows, int n, float eps, int threads, float* y,
                    float* scale) {
    parts(threads, rows, 1, [&](int, int64_t first, int64_t last) {
        for (int64_t r = first; r < last; r++) {
            const float *from = x + r * n, s = scale[r] = 1.f / std::sqrt(sum_of_squares(x + r * n, n) / n + eps);
            float* to = y + r * n;
            int i = 0;
            for (; i + W <= n; i += W) store(to + i, load(from + i) * s * (load(w + i) + one));
            for (; i < n; i++) to[i] = from[i] * s * (w[i] + one);
        }
    });
}

// dx of a norm, and dw [n].
void acereason_norm_back(const float* g, const float* x, const float* scale, const float* w, float one, int64_t rows,
                         int n, int threads, float* dx, float* dw) {
    std::vector<std::vector<float>> sums(threads);
    parts(threads, rows, 1, [&](int t, int64_t first, int64_t last) {
        sums[t].assign(n, 0.f);
        for (int64_t r = first; r < last; r++)
            norm_back(g + r * n, x + r * n, scale[r], w, one, n, dx + r * n, sums[t].data());
    });
    std::fill(dw, dw + n, 0.f);
    for (const auto& sum : sums)
        for (size_t i = 0; i < sum.size(); i++) dw[i] += sum[i];
}

void acereason_gate(const uint16_t* x, float a, float b, int64_t n, int threads, uint16_t* y) {
    parts(threads, n, W, [&](int, int64_t i, int64_t last) {
        for (; i + W <= last; i += W) narrow(y + i, gate(widen(x + i), {a, b}));
        uint16_t in[W] = {}, out[W];
        for (; i < last; i++) in[0] = x[i], narrow(out, gate(widen(in), {a, b})), y[i] = out[0];
    });
}

// dx = g times the gate's slope at x
void acereason_gate_back(const uint16_t* g, const uint16_t* x, float a, float b, int64_t n, int threads, uint16_t* dx) {
    parts(threads, n, W, [&](int, int64_t i, int64_t last) {
        V slope;
        for (; i + W <= last; i += W) gate(widen(x + i), {a, b}, &slope), narrow(dx + i, widen(g + i) * slope);
        uint16_t in[W] = {}, by[W] = {}, out[W];
        for (; i < last; i++) {
            in[0] = x[i], by[0] = g[i];
            gate(widen(in), {a, b}, &slope), narrow(out, widen(by) * slope), dx[i] = out[0];
        }
    });
}

// sum += d
void acereason_add(float* sum, const uint16_t* d, int64_t n, int threads) {
    parts(threads, n, W, [&](int, int64_t i, int64_t last) {
        for (; i + W <= last; i += W) store(sum + i, load(sum + i) + widen(d + i));
        uint16_t in[W] = {};
        for (; i < last; i++) in[0] = d[i], sum[i] += widen(in)[0];
    });
}

}  // extern "C"
