/* Depthwise convolution and pooling: windows that slide over the pixels of each channel alone.

   Vectors run over channels. A depthwise convolution takes one block of channels through all its rows before the next, so
   that the rows above stay in the first-level cache; eight neighbouring outputs of a row are computed together: they share
   the columns that they have in common (3 x 3, stride 1: 30 loads of input for 72 multiply-adds) and hide the latency of
   each other's chains of dependent additions. */
#include "elementwise_f32.h"

EC_INLINE size_t smaller(size_t a, size_t b) { return a < b ? a : b; }

/* The taps [*from, *to) of a window that fall inside [0, length); `start` may be negative. */
EC_INLINE void taps_inside(ptrdiff_t start, size_t taps, size_t dilation, size_t length, size_t *from, size_t *to) {
    size_t first = 0, last = taps;
    if (start < 0) first = smaller(taps, ((size_t)-start + dilation - 1) / dilation);
    ptrdiff_t room = (ptrdiff_t)length - start; /* taps at start + t * dilation < length */
    if (room <= 0) last = 0;
    else last = smaller(taps, ((size_t)room + dilation - 1) / dilation);
    *from = first;
    *to = last < first ? first : last;
}

/* Bits do not depend on the path: for every output the sum starts with the bias and takes the taps inside the image row by
   row. This is the path for any window. */
EC_INLINE vfloat depthwise_one(const ec_window *w, const float *x, const float *weights, ptrdiff_t top, ptrdiff_t left,
                               size_t row_from, size_t row_to, size_t n) {
    size_t column_from, column_to;
    taps_inside(left, w->kernel_width, w->dilation_width, w->width, &column_from, &column_to);
    vfloat sum = vload(weights);
    for (size_t i = row_from; i < row_to; i++) {
        const float *row = x + (top + (ptrdiff_t)(i * w->dilation_height)) * (ptrdiff_t)w->row;
        const float *tap = weights + LANES * (1 + i * w->kernel_width);
        for (size_t j = column_from; j < column_to; j++) {
            const float *p = row + (left + (ptrdiff_t)(j * w->dilation_width)) * (ptrdiff_t)w->pixel;
            sum += (n == LANES ? vload(p) : vload_first(p, n)) * vload(tap + LANES * j);
        }
    }
    return sum;
}

EC_INLINE void depthwise_store(float *out, vfloat y, size_t n, const ec_activation *a) {
    y = vmin(vsplat(a->high), vmax(vsplat(a->low), y));
    if (n == LANES) vstore(out, y);
    else vstore_first(out, y, n);
    if (a->function) a->function(out, n, a->parameters);
}

/* COLUMNS neighbouring outputs of a row at once, for windows WIDTH taps wide without dilation. Each column of the input is
   loaded once for all outputs that it is part of; those outside the image are left out. n < LANES: the last channels. */
EC_INLINE void depthwise_columns(const int COLUMNS, const int WIDTH, const int STRIDE, const int WHOLE, const ec_window *w,
                                 const float *x, const float *weights, ptrdiff_t top, ptrdiff_t left, size_t row_from,
                                 size_t row_to, float *out, size_t n, const ec_activation *a) {
    vfloat sum[8];
    vfloat bias = vload(weights);
    const float *corner = x + left * (ptrdiff_t)w->pixel;
    EC_UNROLL for (int c = 0; c < COLUMNS; c++) sum[c] = bias;
    for (size_t i = row_from; i < row_to; i++) {
        const float *row = corner + (top + (ptrdiff_t)i) * (ptrdiff_t)w->row;
        const float *tap = weights + LANES * (1 + i * WIDTH);
        vfloat weight[8];
        EC_UNROLL for (int j = 0; j < WIDTH; j++) weight[j] = vload(tap + j * LANES);
        EC_UNROLL for (int column = 0; column < (COLUMNS - 1) * STRIDE + WIDTH; column++) {
            if (WHOLE || (size_t)(left + column) < w->width) { /* negative ones are huge as size_t */
                const float *p = row + column * (ptrdiff_t)w->pixel;
                vfloat y = n == LANES ? vload(p) : vload_first(p, n);
                EC_UNROLL for (int c = 0; c < COLUMNS; c++) {
                    int j = column - c * STRIDE;
                    if (j >= 0 && j < WIDTH) sum[c] += y * weight[j];
                }
            }
        }
    }
    EC_UNROLL for (int c = 0; c < COLUMNS; c++) depthwise_store(out + c * w->out_pixel, sum[c], n, a);
}

/* One block of channels through rows [first, last). Eight columns at once, or seven where the width asks for it (7, 14, 28
   and 56 are usual), then what is left. */
#define EC_DEPTHWISE(WIDTH, STRIDE)                                                                                       \
    static void depthwise_##WIDTH##s##STRIDE(const ec_window *w, const float *x, const float *weights, float *out,        \
                                             size_t first, size_t last, size_t n, const ec_activation *a) {               \
        size_t many = w->out_width % 8 && w->out_width % 7 == 0 ? 7 : 8;                                                  \
        for (size_t y = first; y < last; y++, out += w->out_row) {                                                        \
            ptrdiff_t top = (ptrdiff_t)(y * w->stride_height) - (ptrdiff_t)w->pad_top;                                    \
            size_t row_from, row_to, c = 0;                                                                               \
            taps_inside(top, w->kernel_height, 1, w->height, &row_from, &row_to);                                         \
            while (c < w->out_width) {                                                                                    \
                ptrdiff_t left = (ptrdiff_t)(c * STRIDE) - (ptrdiff_t)w->pad_left;                                        \
                size_t rest = w->out_width - c;                                                                           \
                float *to = out + c * w->out_pixel;                                                                       \
                if (rest >= 8 && many == 8 && n == LANES && left >= 0 && left + 7 * STRIDE + WIDTH <= (ptrdiff_t)w->width) \
                    depthwise_columns(8, WIDTH, STRIDE, 1, w, x, weights, top, left, row_from, row_to, to, LANES, a), c += 8; \
                else if (rest >= 8 && many == 8 && n == LANES)                                                            \
                    depthwise_columns(8, WIDTH, STRIDE, 0, w, x, weights, top, left, row_from, row_to, to, LANES, a), c += 8; \
                else if (rest >= 7 && many == 7 && n == LANES)                                                            \
                    depthwise_columns(7, WIDTH, STRIDE, 0, w, x, weights, top, left, row_from, row_to, to, LANES, a), c += 7; \
                else if (rest >= 4 && n == LANES)                                                                         \
                    depthwise_columns(4, WIDTH, STRIDE, 0, w, x, weights, top, left, row_from, row_to, to, LANES, a), c += 4; \
                else if (rest >= 4)                                                                                       \
                    depthwise_columns(4, WIDTH, STRIDE, 0, w, x, weights, top, left, row_from, row_to, to, n, a), c += 4; \
                else                                                                                                      \
                    depthwise_columns(1, WIDTH, STRIDE, 0, w, x, weights, top, left, row_from, row_to, to, n, a), c += 1; \
            }                                                                                                             \
        }                                                                                                                 \
    }
EC_DEPTHWISE(3, 1)
EC_DEPTHWISE(3, 2)
EC_DEPTHWISE(5, 1)
EC_DEPTHWISE(5, 2)

static void depthwise_any(const ec_window *w, const float *x, const float *weights, float *out, size_t first, size_t last,
                          size_t n, const ec_activation *a) {
    for (size_t y = first; y < last; y++, out += w->out_row) {
        ptrdiff_t top = (ptrdiff_t)(y * w->stride_height) - (ptrdiff_t)w->pad_top;
        size_t row_from, row_to;
        taps_inside(top, w->kernel_height, w->dilation_height, w->height, &row_from, &row_to);
        for (size_t c = 0; c < w->out_width; c++) {
            ptrdiff_t left = (ptrdiff_t)(c * w->stride_width) - (ptrdiff_t)w->pad_left;
            vfloat sum = depthwise_one(w, x, weights, top, left, row_from, row_to, n);
            depthwise_store(out + c * w->out_pixel, sum, n, a);
        }
    }
}

static void depthwise_f32(const ec_window *w, const float *x, const float *weights, float *out, size_t first, size_t last,
                          size_t channel, size_t count, const ec_activation *a) {
    size_t block = LANES * (1 + w->kernel_height * w->kernel_width);
    void (*rows)(const ec_window *, const float *, const float *, float *, size_t, size_t, size_t, const ec_activation *) =
        depthwise_any;
    if (w->dilation_height == 1 && w->dilation_width == 1) {
        if (w->kernel_width == 3 && w->stride_width == 1) rows = depthwise_3s1;
        if (w->kernel_width == 3 && w->stride_width == 2) rows = depthwise_3s2;
        if (w->kernel_width == 5 && w->stride_width == 1) rows = depthwise_5s1;
        if (w->kernel_width == 5 && w->stride_width == 2) rows = depthwise_5s2;
    }
    out += first * w->out_row;
    for (size_t c = channel; c < channel + count; c += LANES)
        rows(w, x + c, weights + c / LANES * block, out + c, first, last, smaller(LANES, channel + count - c), a);
}

#define EC_POOL(NAME, START, REDUCE, SCALE)                                                                              \
    static void NAME(const ec_window *w, const float *x, float *out, size_t first, size_t last) {                        \
        for (size_t y = first; y < last; y++) {                                                                          \
            ptrdiff_t top = (ptrdiff_t)(y * w->stride_height) - (ptrdiff_t)w->pad_top;                                   \
            size_t row_from, row_to, column_from, column_to;                                                             \
            taps_inside(top, w->kernel_height, 1, w->height, &row_from, &row_to);                                        \
            for (size_t c = 0; c < w->out_width; c++) {                                                                  \
                ptrdiff_t left = (ptrdiff_t)(c * w->stride_width) - (ptrdiff_t)w->pad_left;                              \
                taps_inside(left, w->kernel_width, 1, w->width, &column_from, &column_to);                               \
                const float *corner = x + (top + (ptrdiff_t)row_from) * (ptrdiff_t)w->row +                              \
                                      (left + (ptrdiff_t)column_from) * (ptrdiff_t)w->pixel;                             \
                float *to = out + y * w->out_row + c * w->out_pixel;                                                     \
                size_t columns = column_to - column_from, rows = row_to - row_from;                                      \
                memcpy(to, corner, w->channels * sizeof(float));                                                         \
                for (size_t i = 0; i < rows; i++)                                                                        \
                    REDUCE(corner + i * w->row + (i ? 0 : w->pixel), w->pixel, columns - (i ? 0 : 1), to, w->channels);  \
                SCALE                                                                                                    \
            }                                                                                                            \
        }                                                                                                                \
    }
EC_POOL(max_pool_f32, , reduce_max_f32, )
EC_POOL(average_pool_f32, , reduce_add_f32, multiply_scalar_f32(to, 1.0f / (float)(w->divisor ? w->divisor : rows * columns), to, w->channels);)
