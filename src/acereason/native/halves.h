// Products in bfloat16 with sums in float32. Comes after matrix.h.
//
// Rows come as float32, are rounded and laid out in tiles [R/16][K/32][16 rows][32 k]; weights lie in panels
// [N/32][K/32] of two tiles [16 pairs of k][16 columns][2]. What becomes of a row depends on no other. AMX
// where the processor has it and the system allows it, AVX512-BF16, else the same sums in plain code.
#pragma once
#if defined(__AMX_BF16__) && defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#define HALVES_AMX
#endif
#if defined(HALVES_AMX) || defined(__AVX512BF16__)
#include <immintrin.h>
#endif

static constexpr int SIDE = 16, DEPTH = 32, ONE = SIDE * DEPTH;  // rows of a tile, numbers of a row, of a tile
static constexpr size_t NEAR = 1 << 19;                          // numbers that stay in the second cache level

struct Tiles {  // buffers of one thread
    std::vector<uint16_t> left, right;
};

typedef uint32_t Pair __attribute__((may_alias));  // two numbers of a tile

static inline int up(int n, int by) { return (n + by - 1) / by; }

// ---- R tiles of rows times a panel: c[16 R][32] ----------------------------------------------------------

#if defined(HALVES_AMX)
static bool allowed() {  // once a process: the system gives tiles only to those that ask
    static const bool given = syscall(SYS_arch_prctl, 0x1023, 18) == 0;
    return given;
}

struct Configured {  // tiles of 16 rows of 64 bytes for this thread; oneDNN looks before it uses its own
    Configured() {
        struct alignas(64) {
            uint8_t palette = 1, start = 0, none[14] = {};
            uint16_t bytes[16] = {};
            uint8_t rows[16] = {};
        } wanted;
        for (int i = 0; i < 8; i++) wanted.bytes[i] = 64, wanted.rows[i] = 16;
        __asm__ volatile("" : : "r"(&wanted) : "memory");  // older compilers think that 8 bytes of it are read
        if (allowed()) _tile_loadconfig(&wanted);
    }
    ~Configured() {
        if (allowed()) _tile_release();
    }
};

static void amx(int R, const uint16_t* a, long next, const uint16_t* w, int depth, float* c, const uint16_t* ahead) {
    __asm__ volatile("" : : : "memory");  // what the tiles read is written
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    for (int k = 0; k < depth; k++, a += ONE, w += 2 * ONE) {
        for (int i = 0; i < 2 * ONE && ahead; i += DEPTH) __builtin_prefetch(ahead + k * 2 * ONE + i, 0, 2);
        _tile_loadd(6, w, 64);
        _tile_loadd(7, w + ONE, 64);
        _tile_loadd(4, a, 64);
        _tile_dpbf16ps(0, 4, 6);
        _tile_dpbf16ps(1, 4, 7);
        if (R == 1) continue;
        _tile_loadd(5, a + next, 64);
        _tile_dpbf16ps(2, 5, 6);
        _tile_dpbf16ps(3, 5, 7);
    }
    _tile_stored(0, c, 128);
    _tile_stored(1, c + SIDE, 128);
    if (R == 1) return;
    _tile_stored(2, c + 32 * SIDE, 128);
    _tile_stored(3, c + 33 * SIDE, 128);
}
#else
struct Configured {
    Configured() {}
};
#endif

// Rows r .. r+7 of a tile; pairs are added in the order of k.
#if defined(__AVX512BF16__)
static void eight(const uint16_t* a, const uint16_t* w, int depth, float* c) {
    __m512 sum[8][2] = {};
    for (int k = 0; k < depth; k++, a += ONE)
        for (int p = 0; p < DEPTH / 2; p++) {
            const __m512bh b0 = (__m512bh)_mm512_loadu_si512(w + k * 2 * ONE + p * DEPTH);
            const __m512bh b1 = (__m512bh)_mm512_loadu_si512(w + k * 2 * ONE + ONE + p * DEPTH);
#pragma GCC unroll 8
            for (int r = 0; r < 8; r++) {
                int32_t pair;
                memcpy(&pair, a + r * DEPTH + 2 * p, 4);
                const __m512bh x = (__m512bh)_mm512_set1_epi32(pair);
                sum[r][0] = _mm512_dpbf16_ps(sum[r][0], x, b0);
                sum[r][1] = _mm512_dpbf16_ps(sum[r][1], x, b1);
            }
        }
    for (int r = 0; r < 8; r++) _mm512_storeu_ps(c + r * 32, sum[r][0]), _mm512_storeu_ps(c + r * 32 + SIDE, sum[r][1]);
}
#else
static inline float wide(uint16_t bits) {
    const uint32_t shifted = (uint32_t)bits << 16;
    float x;
    memcpy(&x, &shifted, 4);
    return x;
}

static void eight(const uint16_t* a, const uint16_t* w, int depth, float* c) {
    memset(c, 0, 8 * 32 * sizeof(float));
    for (int k = 0; k < depth; k++, a += ONE, w += 2 * ONE)
        for (int r = 0; r < 8; r++)
            for (int p = 0; p < DEPTH / 2; p++) {
                const float x0 = wide(a[r * DEPTH + 2 * p]), x1 = wide(a[r * DEPTH + 2 * p + 1]);
                for (int j = 0; j < 32; j++) {
                    const uint16_t* b = w + j / SIDE * ONE + p * DEPTH + j % SIDE * 2;
                    c[r * 32 + j] += x0 * wide(b[0]) + x1 * wide(b[1]);
                }
            }
}
#endif

// `ahead`: the panel that is wanted next, fetched meanwhile if it is not near.
static void multiply(int R, const uint16_t* a, long next, const uint16_t* w, int depth, float* c,
                     const uint16_t* ahead = nullptr) {
#if defined(HALVES_AMX)
    if (allowed()) return amx(R, a, next, w, depth, c, ahead);
#endif
    for (int r = 0; r < 2 * R; r++) eight(a + r / 2 * next + r % 2 * (ONE / 2), w, depth, c + r * 8 * 32);
}

// ---- layouts -------------------------------------------------------------------------------------------

// Rows [rows, K] to tiles; what lies behind them is 0.
static void to_tiles(const float* x, long ldx, int rows, int K, uint16_t* out) {
    const int depth = up(K, DEPTH);
    for (int r = 0; r < up(rows, SIDE) * SIDE; r++) {
        uint16_t* to = out + ((long)(r / SIDE) * depth * SIDE + r % SIDE) * DEPTH;
        const float* from = x + r * ldx;
        for (int k = 0; k < K && r < rows; k += DEPTH, to += ONE) {
            alignas(64) float last[DEPTH] = {};
            if (K - k < DEPTH) memcpy(last, from + k, (K - k) * sizeof(float));
            const float* at = K - k < DEPTH ? last : from + k;
            for (int j = 0; j < DEPTH; j += W) narrow(to + j, load(at + j));
        }
        for (int k = 0; k < depth && r >= rows; k++, to += ONE) memset(to, 0, DEPTH * 2);
    }
}

// Sixteen columns of 2 rows, in pairs; n of the columns count, and rows past the end are 0.
static inline void pairs(const float* x, long ldx, int rows, int n, uint32_t* out) {
    alignas(64) float edge[2][SIDE] = {};
    const float* from[2] = {x, x + ldx};
    if (n < SIDE || rows < 2)
        for (int r = 0; r < 2; r++) {
            if (r < rows) memcpy(edge[r], from[r], n * sizeof(float));
            from[r] = edge[r];
        }
    for (int j = 0; j < SIDE; j += W) {
        const U both = half_bits(load(from[0] + j)) | half_bits(load(from[1] + j)) << 16;
        memcpy(out + j, &both, sizeof both);
    }
}

// Columns [rows, K] to panels whose depth are the rows, or, turned, to tiles of them.
static void columns_to(const float* x, long ldx, int rows, int K, bool turned, uint16_t* out) {
    const int depth = up(rows, DEPTH), across = turned ? up(K, SIDE) : up(K, DEPTH) * 2;
    alignas(64) uint32_t tile[SIDE][SIDE];
    for (int c = 0; c < across; c++)
        for (int d = 0; d < depth; d++) {
            const int n = std::max(0, std::min(SIDE, K - c * SIDE));
            for (int p = 0; p < SIDE; p++) {
                const int r = d * DEPTH + 2 * p;
                pairs(x + r * ldx + c * SIDE, ldx, rows - r, n, tile[p]);
            }
            if (turned) {
                Pair* to = (Pair*)(out + ((long)c * depth + d) * ONE);
                for (int j = 0; j < SIDE; j++)
                    for (int p = 0; p < SIDE; p++) *to++ = tile[p][j];
            } else {
                memcpy(out + (((long)(c / 2) * depth + d) * 2 + c % 2) * ONE, tile, sizeof tile);
            }
        }
}

// A matrix [N, K] to panels, of which every `step`th tile from `first` on is its own, and the transpose to others.
extern "C" void acereason_pack(const float* w, int N, int K, int first, int step, uint16_t* out, uint16_t* turned) {
    const int depth = up(K, DEPTH);
    alignas(64) uint32_t tile[SIDE][SIDE];
    for (int b = 0; b < up(N, SIDE); b++)
        for (int d = 0; d < depth; d++) {
            const long at = (long)b * SIDE * K + d * DEPTH;
            memset(tile, 0, sizeof tile);
            for (int r = 0; r < std::min(SIDE, N - b * SIDE); r++) {
                alignas(64) float edge[DEPTH] = {};
                const int n = std::min(DEPTH, K - d * DEPTH);
                if (n < DEPTH) memcpy(edge, w + at + (long)r * K, n * sizeof(float));
                const float* x = n < DEPTH ? edge : w + at + (long)r * K;
                for (int j = 0; j < DEPTH; j += W) narrow((uint16_t*)tile[r] + j, load(x + j));
            }
            const int place = first + b * step;
            Pair* to = (Pair*)(out + (((long)(place / 2) * depth + d) * 2 + place % 2) * ONE);
            for (int p = 0; p < SIDE; p++)
                for (int r = 0; r < SIDE; r++) *to++ = tile[r][p];
        }
    if (turned) columns_to(w, K, N, K, false, turned);
}

// ---- products ------------------------------------------------------------------------------------------

// Rows of c, each number rounded as a bfloat16 product's is, to y from column n on; y has `end` columns.
static void finish(const float* c, int rows, int n, int end, float* y, long ldy, Epilogue e, Gate by) {
    for (int r = 0; r < rows; r++, c += 32, y += ldy) {
        if (e == GATE) {
            for (int j = 0; j < SIDE && n / 2 + j < end; j += W) {
                const V g = rounded(gate(rounded(load(c + j)), by));
                store(y + n / 2 + j, rounded(g * rounded(load(c + SIDE + j))));
            }
            continue;
        }
        for (int j = 0; j < 32 && n + j < end; j += W) {
            const V sum = rounded(load(c + j));
            store(y + n + j, e == ADD ? load(y + n + j) + sum : sum);
        }
    }
}

// y[rows, N] = or += x[rows, K] times a weight in panels, rounded to bfloat16; GATE halves N.
static void half_product(const float* x, long ldx, int rows, int K, const uint16_t* w, int N, float* y, long ldy,
                         Epilogue e, Tiles& t, Gate by = {1, 0}) {
    const int depth = up(K, DEPTH), most = std::max(2 * SIDE, (int)(NEAR / (depth * DEPTH)) / (2 * SIDE) * (2 * SIDE));
    const long tile = (long)depth * ONE;
    const int end = round_up(e == GATE ? up(N, 2) : N, W);
    const Configured on;
    alignas(64) float c[32 * 32];
    for (int at = 0; at < rows; at += most) {
        const int here = std::min(most, rows - at);
        uint16_t* a = grown(t.left, (size_t)up(here, SIDE) * tile);
        to_tiles(x + at * ldx, ldx, here, K, a);
        for (int n = 0; n < N; n += 32)
            for (int r = 0; r < here; r += 32) {
                const int left = std::min(32, here - r);
                const uint16_t* panel = w + n / 32 * 2 * tile;
                multiply(up(left, SIDE), a + r / SIDE * tile, tile, panel, depth, c, r ? nullptr : panel + 2 * tile);
                finish(c, left, n, end, y + (at + r) * ldy, ldy, e, by);
            }
    }
}

// c[N, K] += a[rows, N]' b[rows, K], both rounded; c reaches to a multiple of W columns.
static void half_outer(const float* a, long lda, int N, const float* b, long ldb, int K, int rows, float* c, long ldc,
                       Tiles& t) {
    const int depth = up(rows, DEPTH), most = std::max(2 * SIDE, (int)(NEAR / (depth * DEPTH)) / (2 * SIDE) * (2 * SIDE));
    const long tile = (long)depth * ONE;
    uint16_t *left = grown(t.left, (size_t)up(N, SIDE) * tile), *right = grown(t.right, (size_t)up(K, 32) * 2 * tile);
    columns_to(a, lda, rows, N, true, left);
    columns_to(b, ldb, rows, K, false, right);
    const Configured on;
    alignas(64) float sum[32 * 32];
    for (int at = 0; at < N; at += most)
        for (int k = 0; k < K; k += 32)
            for (int n = at; n < std::min(N, at + most); n += 32) {
                const int here = std::min(32, N - n);
                multiply(up(here, SIDE), left + n / SIDE * tile, tile, right + k / 32 * 2 * tile, depth, sum);
                for (int i = 0; i < here; i++) {
                    float* to = c + (n + i) * ldc + k;
                    for (int j = 0; j < 32 && k + j < K; j += W) store(to + j, load(to + j) + load(sum + i * 32 + j));
                }
            }
}
