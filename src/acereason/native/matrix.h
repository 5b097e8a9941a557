// Matrix products in register tiles, and the row operations that decoding and learning share.
// Comes after vectors.h.
#pragma once
#include <algorithm>
#include <thread>
#include <vector>

static inline int round_up(int n, int to) { return (n + to - 1) / to * to; }

template <class T>
static T* grown(std::vector<T>& v, size_t n) {  // room for n numbers at a 64-byte boundary
    if (v.size() < n + 32) v.assign(n + 32, 0);
    return (T*)(((uintptr_t)v.data() + 63) & ~(uintptr_t)63);
}

template <class F>
static void in_threads(int threads, F&& body) {
    std::vector<std::thread> others;
    for (int t = 1; t < threads; t++) others.emplace_back(body, t);
    body(0);
    for (auto& other : others) other.join();
}

enum Epilogue { STORE, ADD, GATE };

// R rows times one panel. Each output is one chain of multiply-adds over k = 0 .. K-1, in every R.
template <int R>
static void tile(const float* x, long ldx, int K, const float* panel, float* y, long ldy, int n, Epilogue e,
                 Gate by) {
    V acc[R][2];
    for (int r = 0; r < R; r++) acc[r][0] = acc[r][1] = V{};
    for (int k = 0; k < K; k++, panel += P) {
        const V b0 = load(panel), b1 = load(panel + W);
#pragma GCC unroll 16
        for (int r = 0; r < R; r++) {
            const float s = x[r * ldx + k];
            acc[r][0] += s * b0;
            acc[r][1] += s * b1;
        }
    }
    for (int r = 0; r < R; r++, y += ldy) {
        if (e == GATE) {
            store(y + n / 2, gate(acc[r][0], by) * acc[r][1]);
        } else if (e == ADD) {
            store(y + n, load(y + n) + acc[r][0]);
            store(y + n + W, load(y + n + W) + acc[r][1]);
        } else {
            store(y + n, acc[r][0]);
            store(y + n + W, acc[r][1]);
        }
    }
}

using Tile = void (*)(const float*, long, int, const float*, float*, long, int, Epilogue, Gate);
static constexpr Tile TILES[] = {nullptr,  tile<1>, tile<2>, tile<3>,  tile<4>,  tile<5>, tile<6>,
                                 tile<7>, tile<8>, tile<9>, tile<10>, tile<11>, tile<12>};

// y[rows, N] = or += x[rows, K] times a weight packed in panels. Rows are shared evenly among tiles.
static void product(const float* x, long ldx, int rows, int K, const float* w, int N, float* y, long ldy,
                    Epilogue e, Gate by = {1, 0}) {
    const int tiles = (rows + TILE - 1) / TILE;
    for (int n = 0; n < N; n += P, w += (long)K * P)
        for (int t = 0; t < tiles; t++) {
            const int first = (long)rows * t / tiles, last = (long)rows * (t + 1) / tiles;
            TILES[last - first](x + first * ldx, ldx, K, w, y + first * ldy, ldy, n, e, by);
        }
}

// R columns of a by one panel's width of b, over `rows`: c[R, P] += a' b.
template <int R>
static void outer_tile(const float* a, long lda, const float* b, long ldb, int rows, float* c, long ldc) {
    V acc[R][2];
    for (int i = 0; i < R; i++) acc[i][0] = load(c + i * ldc), acc[i][1] = load(c + i * ldc + W);
    for (int r = 0; r < rows; r++, a += lda, b += ldb) {
        const V b0 = load(b), b1 = load(b + W);
#pragma GCC unroll 16
        for (int i = 0; i < R; i++) {
            acc[i][0] += a[i] * b0;
            acc[i][1] += a[i] * b1;
        }
    }
    for (int i = 0; i < R; i++) store(c + i * ldc, acc[i][0]), store(c + i * ldc + W, acc[i][1]);
}

using Outer = void (*)(const float*, long, const float*, long, int, float*, long);
static constexpr Outer OUTERS[] = {nullptr,       outer_tile<1>, outer_tile<2>,  outer_tile<3>,  outer_tile<4>,
                                   outer_tile<5>, outer_tile<6>, outer_tile<7>,  outer_tile<8>,  outer_tile<9>,
                                   outer_tile<10>, outer_tile<11>, outer_tile<12>};

// c[N, K] += a[rows, N]' b[rows, K]; b and c reach to a multiple of P columns.
static inline void outer(const float* a, long lda, int N, const float* b, long ldb, int K, int rows, float* c,
                         long ldc) {
    const int tiles = (N + TILE - 1) / TILE;
    for (int t = 0; t < tiles; t++) {
        const int first = (long)N * t / tiles, last = (long)N * (t + 1) / tiles;
        for (int k = 0; k < K; k += P)
            OUTERS[last - first](a + first, lda, b + k, ldb, rows, c + first * ldc + k, ldc);
    }
}

// ---- row operations ----------------------------------------------------------------------------------

static void rms_norm(const float* x, const float* weight, int n, float eps, float* y) {
    const float scale = 1.f / std::sqrt(sum_of_squares(x, n) / n + eps);
    for (int i = 0; i < n; i++) y[i] = weight[i] * (x[i] * scale);
}

static void rotate(float* x, const float* cos, const float* sin, int half) {
    for (int i = 0; i < half; i++) {
        const float a = x[i], b = x[i + half];
        x[i] = a * cos[i] - b * sin[i];
        x[i + half] = b * cos[i] + a * sin[i];
    }
}

// A bias; where products are in bfloat16 it is rounded, and so is the sum.
static void add_bias(float* row, const float* bias, int n, bool half) {
    const auto near = [half](float x) { return half ? rounded(V{} + x)[0] : x; };
    for (int i = 0; i < n; i++) row[i] = near(row[i] + near(bias[i]));
}
