// Operations of learning on rows, and their gradients. Comes inside learn.cpp, after the sizes.
#pragma once

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

static void activate(const Net& n, const float* up, int rows, const Sizes& z, float* act) {
    for (int r = 0; r < rows; r++, up += z.U, act += z.I)
        for (int i = 0; i < z.I; i += W) {
            const V g = gate(load(up + i), n.gate), u = load(up + z.I + i);
            store(act + i, n.half ? rounded(rounded(g) * u) : g * u);
        }
}

static void activate_back(const Net& n, const float* up, const float* d_act, int rows, const Sizes& z, float* d_up) {
    for (int r = 0; r < rows; r++, up += z.U, d_act += z.I, d_up += z.U)
        for (int i = 0; i < z.I; i += W) {
            V slope;
            const V g = gate(load(up + i), n.gate, &slope), u = load(up + z.I + i), d = load(d_act + i);
            store(d_up + i, d * u * slope);
            store(d_up + z.I + i, d * g);
        }
}

// q and k of a row normed and rotated, v as it is; queries carry their scale.
static void rope_row(const Net& n, const Layer& l, const float* raw, int t, float* y) {
    const int D = n.dim, all = n.heads + n.kv_heads;
    const float *cos = l.cos + (long)t * (D / 2), *sin = l.sin + (long)t * (D / 2);
    memcpy(y, raw, (all + n.kv_heads) * D * sizeof(float));
    for (int h = 0; h < all; h++, y += D) {
        if (l.q_norm) rms_norm(y, h < n.heads ? l.q_norm : l.k_norm, D, n.eps, y);
        rotate(y, cos, sin, D / 2);
        if (h < n.heads)
            for (int i = 0; i < D; i++) y[i] *= n.query_scale;
    }
}

static void rope_back(const Net& n, const Layer& l, const float* raw, int t, float* d, float* grad) {
    const int D = n.dim, all = n.heads + n.kv_heads;
    const float *cos = l.cos + (long)t * (D / 2), *sin = l.sin + (long)t * (D / 2);
    for (int h = 0; h < all; h++, d += D, raw += D) {
        if (h < n.heads)
            for (int i = 0; i < D; i++) d[i] *= n.query_scale;
        unrotate(d, cos, sin, D / 2);
        if (l.q_norm) {
            const bool query = h < n.heads;
            norm_back(d, raw, query ? l.q_norm : l.k_norm, D, n.eps, d, grad + (query ? l.d_q_norm : l.d_k_norm), true);
        }
    }
}
