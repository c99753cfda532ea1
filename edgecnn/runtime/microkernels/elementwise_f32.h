/* Runs of contiguous floats: functions of two values, scale and shift, clamp, reductions, softmax. Memory-bound. */
#include "functions_f32.h"

/* The larger and the smaller of two; NaN if either is. */
EC_INLINE vfloat vlarger(vfloat x, vfloat y) { return vselect((y > x) | (y != y), y, x); }
EC_INLINE vfloat vsmaller(vfloat x, vfloat y) { return vselect((y < x) | (y != y), y, x); }

EC_INLINE vfloat binary_add(vfloat x, vfloat y) { return x + y; }
EC_INLINE vfloat binary_subtract(vfloat x, vfloat y) { return x - y; }
EC_INLINE vfloat binary_multiply(vfloat x, vfloat y) { return x * y; }
EC_INLINE vfloat binary_divide(vfloat x, vfloat y) { return x / y; }
EC_INLINE vfloat binary_maximum(vfloat x, vfloat y) { return vlarger(x, y); }
EC_INLINE vfloat binary_minimum(vfloat x, vfloat y) { return vsmaller(x, y); }
EC_INLINE vfloat binary_power(vfloat x, vfloat y) {
    for (int lane = 0; lane < LANES; lane++) x[lane] = powf(x[lane], y[lane]);
    return x;
}
EC_INLINE vfloat binary_prelu(vfloat x, vfloat y) { return vselect(x > 0.0f, x, x * y); }
EC_INLINE vfloat binary_equal(vfloat x, vfloat y) { return vselect(vequal(x, y), vsplat(1.0f), vsplat(0.0f)); }
EC_INLINE vfloat binary_less(vfloat x, vfloat y) { return vselect(vless(x, y), vsplat(1.0f), vsplat(0.0f)); }
EC_INLINE vfloat binary_keep(vfloat x, vfloat y) { return vselect(((vint)y & 0x7fffffff) != 0, x, vsplat(0.0f)); }

#define EC_BINARY(NAME)                                                                                                \
    static void NAME##_f32(const float *x, const float *y, float *out, size_t n) {                                     \
        size_t i = 0;                                                                                                  \
        for (; i + LANES <= n; i += LANES) vstore(out + i, binary_##NAME(vload(x + i), vload(y + i)));                 \
        if (i < n) vstore_first(out + i, binary_##NAME(vload_first(x + i, n - i), vload_first(y + i, n - i)), n - i);  \
    }                                                                                                                  \
    static void NAME##_scalar_f32(const float *x, float y, float *out, size_t n) {                                     \
        size_t i = 0;                                                                                                  \
        for (; i + LANES <= n; i += LANES) vstore(out + i, binary_##NAME(vload(x + i), vsplat(y)));                    \
        if (i < n) vstore_first(out + i, binary_##NAME(vload_first(x + i, n - i), vsplat(y)), n - i);                  \
    }                                                                                                                  \
    static void scalar_##NAME##_f32(const float *y, float x, float *out, size_t n) {                                   \
        size_t i = 0;                                                                                                  \
        for (; i + LANES <= n; i += LANES) vstore(out + i, binary_##NAME(vsplat(x), vload(y + i)));                    \
        if (i < n) vstore_first(out + i, binary_##NAME(vsplat(x), vload_first(y + i, n - i)), n - i);                  \
    }
EC_BINARY_LIST(EC_BINARY)

static void scale_shift_f32(const float *x, const float *scale, const float *shift, float *out, size_t n) {
    size_t i = 0;
    for (; i + LANES <= n; i += LANES) vstore(out + i, vload(x + i) * vload(scale + i) + vload(shift + i));
    if (i < n) {
        vfloat y = vload_first(x + i, n - i) * vload_first(scale + i, n - i) + vload_first(shift + i, n - i);
        vstore_first(out + i, y, n - i);
    }
}
static void clamp_f32(float *x, size_t n, float low, float high) {
    vfloat l = vsplat(low), h = vsplat(high);
    size_t i = 0;
    for (; i + LANES <= n; i += LANES) vstore(x + i, vmin(h, vmax(l, vload(x + i))));
    if (i < n) vstore_first(x + i, vmin(h, vmax(l, vload_first(x + i, n - i))), n - i);
}

/* Four vectors of channels at a time: their sums stay in registers while the pixels pass. */
#define EC_REDUCE(NAME, COMBINE)                                                                             \
    static void NAME(const float *x, size_t pixel, size_t count, float *out, size_t channels) {               \
        size_t c = 0;                                                                                        \
        for (; c + 4 * LANES <= channels; c += 4 * LANES) {                                                  \
            vfloat y[4];                                                                                     \
            EC_UNROLL for (int v = 0; v < 4; v++) y[v] = vload(out + c + v * LANES);                          \
            for (size_t i = 0; i < count; i++) {                                                             \
                EC_UNROLL for (int v = 0; v < 4; v++) y[v] = COMBINE(y[v], vload(x + i * pixel + c + v * LANES)); \
            }                                                                                                \
            EC_UNROLL for (int v = 0; v < 4; v++) vstore(out + c + v * LANES, y[v]);                          \
        }                                                                                                    \
        for (; c < channels; c += LANES) {                                                                   \
            size_t n = channels - c < LANES ? channels - c : LANES;                                          \
            vfloat y = vload_first(out + c, n);                                                              \
            for (size_t i = 0; i < count; i++) y = COMBINE(y, vload_first(x + i * pixel + c, n));             \
            vstore_first(out + c, y, n);                                                                     \
        }                                                                                                    \
    }
#define EC_PLUS(a, b) ((a) + (b))
EC_REDUCE(reduce_add_f32, EC_PLUS)
EC_REDUCE(reduce_max_f32, vlarger)
EC_REDUCE(reduce_min_f32, vsmaller)

static void reduce_squares_f32(const float *x, size_t pixel, size_t count, float mean, float *sums, float *squares,
                               size_t channels) {
    for (size_t c = 0; c < channels; c += LANES) {
        size_t n = channels - c < LANES ? channels - c : LANES;
        vfloat sum = vload_first(sums + c, n), square = vload_first(squares + c, n);
        for (size_t i = 0; i < count; i++) {
            vfloat d = vload_first(x + i * pixel + c, n) - mean;
            sum += d;
            square += d * d;
        }
        vstore_first(sums + c, sum, n);
        vstore_first(squares + c, square, n);
    }
}

static void normalize_f32(const float *x, float mean, float rest, float factor, const float *gamma, const float *beta,
                          float *out, size_t n) {
    size_t i = 0;
    for (; i + LANES <= n; i += LANES)
        vstore(out + i, ((vload(x + i) - mean) - rest) * (factor * vload(gamma + i)) + vload(beta + i));
    if (i < n) {
        vfloat y = ((vload_first(x + i, n - i) - mean) - rest) * (factor * vload_first(gamma + i, n - i));
        vstore_first(out + i, y + vload_first(beta + i, n - i), n - i);
    }
}

EC_INLINE vfloat weighed(const float *const *rows, const float *weights, size_t count, size_t i, size_t n) {
    vfloat y = vload_first(rows[0] + i, n) * weights[0];
    for (size_t k = 1; k < count; k++) y += vload_first(rows[k] + i, n) * weights[k];
    return y;
}
static void weigh_f32(const float *const *rows, const float *weights, size_t count, float *out, size_t n) {
    size_t i = 0;
    for (; i + 4 * LANES <= n; i += 4 * LANES) {
        vfloat y[4];
        EC_UNROLL for (int v = 0; v < 4; v++) y[v] = vload(rows[0] + i + v * LANES) * weights[0];
        for (size_t k = 1; k < count; k++) {
            EC_UNROLL for (int v = 0; v < 4; v++) y[v] += vload(rows[k] + i + v * LANES) * weights[k];
        }
        EC_UNROLL for (int v = 0; v < 4; v++) vstore(out + i + v * LANES, y[v]);
    }
    for (; i + LANES <= n; i += LANES) vstore(out + i, weighed(rows, weights, count, i, LANES));
    if (i < n) vstore_first(out + i, weighed(rows, weights, count, i, n - i), n - i);
}

/* Four rows at a time: each sum is loaded and stored once for them. So many streams the hardware fetches ahead of best: of a
   matrix in memory, Zen 5 reads 43 GB/s by four rows, 38 by eight, 35 by two and 38 by one (9216 x 4096). */
#define EC_STREAMS 4
EC_INLINE void add_rows(const int ROWS, const float *x, const float *rows, size_t stride, float *out, size_t n) {
    size_t i = 0;
    vfloat factor[EC_STREAMS];
    EC_UNROLL for (int k = 0; k < ROWS; k++) factor[k] = vsplat(x[k]);
    for (; i + LANES <= n; i += LANES) {
        vfloat y = vload(out + i);
        EC_UNROLL for (int k = 0; k < ROWS; k++) y += factor[k] * vload(rows + k * stride + i);
        vstore(out + i, y);
    }
    if (i < n) {
        vfloat y = vload_first(out + i, n - i);
        EC_UNROLL for (int k = 0; k < ROWS; k++) y += factor[k] * vload_first(rows + k * stride + i, n - i);
        vstore_first(out + i, y, n - i);
    }
}
/* Rows of few vectors, one after the other, the sums in registers: where there is no gap between the rows, Zen 5's
   second-level cache gives 190 to 260 GB/s so, and 140 in any other order. Parts of longer rows come faster four at a time. */
#ifdef __AVX512F__
#define EC_SHORT 16
#else
#define EC_SHORT 8
#endif
EC_INLINE void add_short_rows(const int VECTORS, const float *x, const float *rows, size_t stride, size_t count, float *out) {
    vfloat y[EC_SHORT];
    EC_UNROLL for (int v = 0; v < VECTORS; v++) y[v] = vload(out + v * LANES);
    for (size_t k = 0; k < count; k++) {
        EC_UNROLL for (int v = 0; v < VECTORS; v++) y[v] += vsplat(x[k]) * vload(rows + k * stride + v * LANES);
    }
    EC_UNROLL for (int v = 0; v < VECTORS; v++) vstore(out + v * LANES, y[v]);
}
static void add_rows_f32(const float *x, const float *rows, size_t stride, size_t count, float *out, size_t n) {
    size_t k = 0;
    if (stride <= EC_SHORT * LANES && n % LANES == 0) {
        switch (n / LANES) {
#define EC_CASE(VECTORS) case VECTORS: add_short_rows(VECTORS, x, rows, stride, count, out); return;
            EC_CASE(3) EC_CASE(4) EC_CASE(5) EC_CASE(6) EC_CASE(7) EC_CASE(8)
#if EC_SHORT == 16
            EC_CASE(9) EC_CASE(10) EC_CASE(11) EC_CASE(12) EC_CASE(13) EC_CASE(14) EC_CASE(15) EC_CASE(16)
#endif
#undef EC_CASE
        }
    }
    for (; k + EC_STREAMS <= count; k += EC_STREAMS) add_rows(EC_STREAMS, x + k, rows + k * stride, stride, out, n);
    for (; k < count; k++) add_rows(1, x + k, rows + k * stride, stride, out, n);
}

/* In double precision, where squares may leave the range of floats, and a logarithm would take too much of its power's digits. */
static void respond_exactly(const float *x, size_t before, size_t size, float bias, float alpha, float beta, float *out,
                            size_t n) {
    for (size_t i = 0; i < n; i++) {
        double sum = 0;
        for (size_t k = 0; k < size; k++) sum += (double)x[i + k] * (double)x[i + k];
        out[i] = (float)((double)x[i + before] / pow(bias + alpha * sum, beta));
    }
}
static void respond_f32(const float *x, size_t before, size_t size, float bias, float alpha, float beta, float *out, size_t n) {
    vfloat largest = vsplat(0.0f);
    for (size_t i = 0; i < n; i += LANES)
        largest = vlarger(largest, vabs(vload_first(x + before + i, n - i < LANES ? n - i : LANES)));
    for (int lane = 0; lane < LANES; lane++) {
        if (!(largest[lane] < 1e5f)) { /* or NaN */
            respond_exactly(x, before, size, bias, alpha, beta, out, n);
            return;
        }
    }
    for (size_t i = 0; i < n; i += LANES) {
        size_t rest = n - i < LANES ? n - i : LANES;
        vfloat sum = vsplat(0.0f);
        for (size_t k = 0; k < size; k++) {
            vfloat y = vload_first(x + i + k, rest);
            sum += y * y;
        }
        vstore_first(out + i, vload_first(x + before + i, rest) * vexp(-beta * vlog(bias + alpha * sum)), rest);
    }
}

static float largest_f32(const float *x, size_t n) {
    vfloat largest = vsplat(x[0]);
    size_t i = 0;
    for (; i + LANES <= n; i += LANES) largest = vlarger(largest, vload(x + i));
    float top = largest[0];
    for (int lane = 1; lane < LANES; lane++) top = largest[lane] > top ? largest[lane] : top;
    for (; i < n; i++) top = x[i] > top ? x[i] : top;
    return top;
}

/* The sum of exp(x - top); the terms go to `out` unless it is NULL. */
EC_INLINE float sum_of_exponentials(const float *x, float top, float *out, size_t n) {
    vfloat sums = {0};
    size_t i = 0;
    for (; i + LANES <= n; i += LANES) {
        vfloat y = vexp(vload(x + i) - top);
        if (out) vstore(out + i, y);
        sums += y;
    }
    float sum = 0;
    for (int lane = 0; lane < LANES; lane++) sum += sums[lane];
    if (i < n) {
        vfloat y = vexp(vload_first(x + i, n - i) - top);
        for (size_t lane = 0; lane < n - i; lane++) sum += y[lane];
        if (out) vstore_first(out + i, y, n - i);
    }
    return sum;
}

static void softmax_f32(const float *x, float *out, size_t n) {
    float sum = sum_of_exponentials(x, largest_f32(x, n), out, n);
    multiply_scalar_f32(out, 1.0f / sum, out, n);
}

static void log_softmax_f32(const float *x, float *out, size_t n) {
    float top = largest_f32(x, n), rest = logf(sum_of_exponentials(x, top, NULL, n));
    for (size_t i = 0; i < n; i++) out[i] = (x[i] - top) - rest;
}

/* Twelve chains of dependent multiply-adds: more than latency times units on any CPU here (4 x 2 on x86, 4 x 2 on A76). */
static double measure_peak_f32(long rounds) {
    vfloat sum[12];
    for (int i = 0; i < 12; i++) sum[i] = vsplat(0.1f * (float)i);
    volatile float source = 0.5f;
    vfloat factor = vsplat(source), term = vsplat(source * 0.25f);
    for (long r = 0; r < rounds; r++) {
        EC_UNROLL for (int i = 0; i < 12; i++) sum[i] = sum[i] * factor + term;
    }
    vfloat total = sum[0];
    for (int i = 1; i < 12; i++) total += sum[i];
    volatile float sink = total[0];
    (void)sink;
    return (double)rounds * 12 * LANES;
}
