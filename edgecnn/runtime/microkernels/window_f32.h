/* Depthwise convolution and pooling: windows that slide over the pixels of each channel alone.

   Vectors run over channels. A depthwise convolution takes one block of channels through all its rows before the next, so
   that the rows above stay in the first-level cache; four neighbouring outputs of a row are computed together and share
   the columns that they have in common (3 x 3, stride 1: 18 loads of input for 36 multiply-adds). */
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

/* Outputs [*from, *to) whose whole window lies inside [0, length). */
EC_INLINE void windows_inside(size_t outputs, size_t pad, size_t span, size_t stride, size_t length, size_t *from, size_t *to) {
    size_t first = smaller(outputs, (pad + stride - 1) / stride);
    size_t last = length + pad >= span ? smaller(outputs, (length + pad - span) / stride + 1) : 0;
    *from = first;
    *to = last < first ? first : last;
}

/* Bits do not depend on the path: for every output the sum starts with the bias and takes the taps row by row. */
EC_INLINE vfloat depthwise_one(const ec_window *w, const float *x, const float *weights, ptrdiff_t top, ptrdiff_t left,
                               size_t row_from, size_t row_to, size_t column_from, size_t column_to, size_t n) {
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

/* COLUMNS neighbouring outputs of a row, windows of [row_from, row_to) x WIDTH taps, no dilation, all inside. */
EC_INLINE void depthwise_columns(const int COLUMNS, const int WIDTH, const int STRIDE, const ec_window *w, const float *corner,
                                 const float *weights, size_t row_from, size_t row_to, vfloat *sum) {
    vfloat bias = vload(weights);
    EC_UNROLL for (int c = 0; c < COLUMNS; c++) sum[c] = bias;
    for (size_t i = row_from; i < row_to; i++) {
        const float *row = corner + i * w->row;
        const float *tap = weights + LANES * (1 + i * WIDTH);
        vfloat weight[8];
        EC_UNROLL for (int j = 0; j < WIDTH; j++) weight[j] = vload(tap + j * LANES);
        EC_UNROLL for (int column = 0; column < (COLUMNS - 1) * STRIDE + WIDTH; column++) {
            vfloat x = vload(row + column * w->pixel);
            EC_UNROLL for (int c = 0; c < COLUMNS; c++) {
                int j = column - c * STRIDE;
                if (j >= 0 && j < WIDTH) sum[c] += x * weight[j];
            }
        }
    }
}

EC_INLINE void depthwise_store(float *out, vfloat y, size_t n, const ec_activation *a) {
    y = vmin(vsplat(a->high), vmax(vsplat(a->low), y));
    if (n == LANES) vstore(out, y);
    else vstore_first(out, y, n);
    if (a->function) a->function(out, n, a->parameters);
}

EC_INLINE void depthwise_block(const int WIDTH, const int STRIDE, const ec_window *w, const float *x, const float *weights,
                               float *out, size_t first, size_t last, size_t n, const ec_activation *a) {
    size_t inside_from, inside_to;
    windows_inside(w->out_width, w->pad_left, (w->kernel_width - 1) * w->dilation_width + 1, w->stride_width, w->width,
                   &inside_from, &inside_to);
    for (size_t y = first; y < last; y++, out += w->out_row) {
        ptrdiff_t top = (ptrdiff_t)(y * w->stride_height) - (ptrdiff_t)w->pad_top;
        size_t row_from, row_to;
        taps_inside(top, w->kernel_height, w->dilation_height, w->height, &row_from, &row_to);
        size_t c = 0;
        while (c < w->out_width) {
            ptrdiff_t left = (ptrdiff_t)(c * w->stride_width) - (ptrdiff_t)w->pad_left;
            if (WIDTH && n == LANES && c >= inside_from && c + 4 <= inside_to) {
                vfloat sum[4];
                depthwise_columns(4, WIDTH, STRIDE, w, x + top * (ptrdiff_t)w->row + left * (ptrdiff_t)w->pixel, weights,
                                  row_from, row_to, sum);
                EC_UNROLL for (int i = 0; i < 4; i++) depthwise_store(out + (c + i) * w->out_pixel, sum[i], n, a);
                c += 4;
            } else {
                size_t column_from, column_to;
                taps_inside(left, w->kernel_width, w->dilation_width, w->width, &column_from, &column_to);
                vfloat sum = depthwise_one(w, x, weights, top, left, row_from, row_to, column_from, column_to, n);
                depthwise_store(out + c * w->out_pixel, sum, n, a);
                c++;
            }
        }
    }
}

static void depthwise_f32(const ec_window *w, const float *x, const float *weights, float *out, size_t first, size_t last,
                          size_t channel, size_t count, const ec_activation *a) {
    size_t block = LANES * (1 + w->kernel_height * w->kernel_width);
    int plain = w->dilation_height == 1 && w->dilation_width == 1;
    out += first * w->out_row;
    for (size_t c = channel; c < channel + count; c += LANES) {
        size_t n = smaller(LANES, channel + count - c);
        const float *in = x + c, *packed = weights + c / LANES * block;
        if (plain && w->kernel_width == 3 && w->stride_width == 1)
            depthwise_block(3, 1, w, in, packed, out + c, first, last, n, a);
        else if (plain && w->kernel_width == 3 && w->stride_width == 2)
            depthwise_block(3, 2, w, in, packed, out + c, first, last, n, a);
        else if (plain && w->kernel_width == 5 && w->stride_width == 1)
            depthwise_block(5, 1, w, in, packed, out + c, first, last, n, a);
        else if (plain && w->kernel_width == 5 && w->stride_width == 2)
            depthwise_block(5, 2, w, in, packed, out + c, first, last, n, a);
        else depthwise_block(0, 0, w, in, packed, out + c, first, last, n, a);
    }
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
EC_POOL(average_pool_f32, , reduce_add_f32, multiply_scalar_f32(to, 1.0f / (float)(rows * columns), to, w->channels);)
