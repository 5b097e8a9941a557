// From logits to a drawn token with its log-probability and the entropies, summed in double precision.
// Comes after vectors.h.
#pragma once
#include <algorithm>
#include <vector>

struct Drawn {
    int32_t token;  // -1 when the logits are not finite
    float logprob, entropy, entropy_1;
};

// The number in [0, 1) of protocol.py: two rounds of splitmix64.
static inline uint64_t mix(uint64_t v) {
    v += 0x9E3779B97F4A7C15ull;
    v = (v ^ (v >> 30)) * 0xBF58476D1CE4E5B9ull;
    v = (v ^ (v >> 27)) * 0x94D049BB133111EBull;
    return v ^ (v >> 31);
}

static inline double uniform(uint64_t seed, int position) {
    return (double)(mix(seed ^ mix((uint64_t)position)) >> 11) * 0x1p-53;
}

static inline double total(const Wide& v) {
    double sum = 0;
    for (int k = 0; k < W; k++) sum += v[k];
    return sum;
}

struct Sums {
    double mass, slope;  // sums of e and of e * z, where z = (logit - top) / T <= 0 and e = exp(z)
    double entropy() const { return std::log(mass) - slope / mass; }
};

// e[i] = exp((x[i] - top) / T), with 0 behind the vocabulary; x has room up to a multiple of W.
static inline Sums exponentials(const float* x, int n, float top, float T, float* e) {
    Wide mass = {}, slope = {};
    const V inverse = V{} + 1.f / T;
    for (int i = 0; i < n; i += W) {
        V z = (load(x + i) - top) * inverse, p = exp(z);
        for (int k = n - i; k < W; k++) p[k] = 0, z[k] = 0;
        mass += __builtin_convertvector(p, Wide);
        slope += __builtin_convertvector(p * maximum(z, V{} - 100.f), Wide);  // no 0 * infinity
        if (e) store(e + i, p);
    }
    return {total(mass), total(slope)};
}

// Keeps the fewest likeliest tokens that hold `share` of the mass (ties: the lower id first), zeroes the
// rest, returns the mass kept. The unlikely ones are looked at only where the others do not hold the share.
static inline double nucleus(float* e, int n, double share) {
    thread_local std::vector<int32_t> order;
    const auto later = [e](int32_t a, int32_t b) { return e[a] < e[b] || (e[a] == e[b] && a > b); };
    auto end = order.end();
    double sum = 0;
    for (const float least : {1e-4f, -1.f}) {  // of the likeliest token's, which is 1
        order.clear();
        for (int i = 0; i < n; i++)
            if (e[i] > least) order.push_back(i);
        std::make_heap(order.begin(), order.end(), later);
        for (sum = 0, end = order.end(); sum < share && end != order.begin();) {
            std::pop_heap(order.begin(), end, later);
            sum += e[*--end];
        }
        if (sum >= share) break;
    }
    const int32_t last = *end;  // the likeliest is always kept: the share is above 0
    double kept = 0;
    for (int i = 0; i < n; i++) {
        if (later(i, last)) e[i] = 0;
        kept += e[i];
    }
    return kept;
}

// First index whose running sum exceeds the target.
static inline int find(const float* e, int n, double target) {
    int last = 0;
    double sum = 0;
    for (int i = 0; i < n; i++) {
        sum += e[i];
        if (sum > target) return i;
        if (e[i] > 0) last = i;
    }
    return last;  // rounding left the target a hair above the whole mass
}

static inline Drawn draw(const float* logits, int n, float T, float top_p, double u) {
    thread_local std::vector<float> e;
    if ((int)e.size() < n + W) e.resize(n + W);
    const float top = highest(logits, n);
    const Sums one = exponentials(logits, n, top, 1.f, T == 1.f ? e.data() : nullptr);
    const Sums at = T == 1.f ? one : exponentials(logits, n, top, T, e.data());
    if (!std::isfinite(at.mass) || !std::isfinite(one.mass)) return {-1, NAN, NAN, NAN};
    const double mass = top_p < 1.f ? nucleus(e.data(), n, top_p * at.mass) : at.mass;
    const int token = find(e.data(), n, u * mass);
    const double z = ((double)logits[token] - top) / T;
    return {token, (float)(z - std::log(at.mass)), (float)at.entropy(), (float)one.entropy()};
}
