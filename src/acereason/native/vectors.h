// Vectors of W floats in GCC's vector extensions, and the few functions of them that decoding needs.
#pragma once
#include <cmath>
#include <cstdint>
#include <cstring>

#if defined(__AVX512F__)
static constexpr int W = 16, TILE = 12;  // lanes; rows of a matrix tile (2 * TILE accumulators)
#elif defined(__AVX__)
static constexpr int W = 8, TILE = 6;
#elif defined(__aarch64__)
static constexpr int W = 4, TILE = 12;
#else
static constexpr int W = 4, TILE = 6;
#endif
static constexpr int P = 2 * W;      // columns of a weight panel
static constexpr int ROWS = 256;     // rows that one thread takes through the layers at once

typedef float V __attribute__((vector_size(W * 4)));
typedef int32_t I __attribute__((vector_size(W * 4)));
typedef float Unaligned __attribute__((vector_size(W * 4), aligned(4), may_alias));
typedef double Wide __attribute__((vector_size(W * 8)));
typedef uint32_t U __attribute__((vector_size(W * 4)));
typedef uint16_t Half __attribute__((vector_size(W * 2), aligned(2), may_alias));
typedef uint16_t Halves __attribute__((vector_size(W * 2)));

static inline V load(const float* p) { return *(const Unaligned*)p; }
static inline void store(float* p, V v) { *(Unaligned*)p = v; }

static inline void store(float* p, V v, int lanes) {  // the first `lanes`, which may be more than W
    if (lanes >= W) store(p, v);
    else memcpy(p, &v, lanes * sizeof(float));
}

// Into the second cache level: more of these can be under way than misses of the first.
static inline void fetch(const float* p) { __builtin_prefetch(p, 0, 2); }

// exp(x) for x <= 88, relative error below 2e-7; 0 under -87. Cody-Waite reduction and the polynomial of
// Cephes' expf.
static inline V exp(V x) {
    const V magic = V{} + 12582912.f;  // 1.5 * 2^23: adding and taking it away rounds to an integer
    const V n = (x * 1.44269504088896341f + magic) - magic;
    const V r = (x - n * 0.693359375f) - n * -2.12194440e-4f;
    V p = V{} + 1.9875691500e-4f;
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * (r * r) + r + 1.f;
    const I bits = (I)p + (__builtin_convertvector(n, I) << 23);
    return (V)(bits & ~(I)(x <= -87.f));  // a NaN stays one
}

// bfloat16 is the upper half of a float: to the nearest, ties to even; a NaN stays one.
static inline U half_bits(V v) {
    const U bits = (U)v, near = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
    return (U)(v == v ? (I)near : I{} + 0x7fc0);
}

static inline V widen(const uint16_t* p) { return (V)(__builtin_convertvector((Halves)*(const Half*)p, U) << 16); }
static inline void narrow(uint16_t* p, V v) { *(Half*)p = __builtin_convertvector(half_bits(v), Halves); }
static inline V rounded(V v) { return (V)(half_bits(v) << 16); }

struct Gate {  // x σ(a x + b x³): SiLU with a = 1, b = 0; GELU by tanh with a = 2 √(2/π), b = 0.044715 a
    float a, b;
};

static inline V gate(V x, Gate by, V* slope = nullptr) {
    const V square = x * x, z = x * (by.a + by.b * square);
    const V s = 1.f / (1.f + exp(z < -87.f ? V{} + 87.f : -z));
    if (slope) *slope = s * (1.f + x * (1.f - s) * (by.a + 3.f * by.b * square));
    return x * s;
}

static inline V maximum(V a, V b) { return a > b ? a : b; }

static inline float highest(const float* x, int n) {  // a NaN may be lost here; the sums keep it
    float m = -INFINITY;
    int i = 0;
    if (n >= W) {
        V v = load(x);
        for (i = W; i + W <= n; i += W) v = maximum(v, load(x + i));
        for (int k = 0; k < W; k++) m = v[k] > m ? v[k] : m;
    }
    for (; i < n; i++) m = x[i] > m ? x[i] : m;
    return m;
}

static inline float sum_of_squares(const float* x, int n) {
    V v = {};
    int i = 0;
    for (; i + W <= n; i += W) v += load(x + i) * load(x + i);
    float sum = 0;
    for (int k = 0; k < W; k++) sum += v[k];
    for (; i < n; i++) sum += x[i] * x[i];
    return sum;
}

// s[0 .. T) becomes exp(s - max), s[T .. padded) becomes 0; returns the sum.
static inline float soft(float* s, int T, int padded) {
    const V top = V{} + highest(s, T);
    for (int i = T; i < padded; i++) s[i] = -INFINITY;
    V sum = {};
    for (int i = 0; i < padded; i += W) {
        const V e = exp(load(s + i) - top);
        store(s + i, e);
        sum += e;
    }
    float total = 0;
    for (int k = 0; k < W; k++) total += sum[k];
    return total;
}
