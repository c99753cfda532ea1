/* Depthwise convolution and pooling: windows that slide over the pixels of each channel alone.

   Vectors run over channels. Eight neighbouring outputs of a row, and where there are 32 registers of two rows, are computed together: they share the pixels
   that they have in common (3 x 3, stride 1, two rows: 40 loads of input for 144 multiply-adds) and hide the latency of each
   other's chains of dependent additions. Wide images with many channels come from the second-level cache, since pixels of
   512 channels lie a power of two apart and fall into few sets of the first: what counts is how often each is loaded. */
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
}

/* Row i of the pixels that ROWS x COLUMNS neighbouring outputs meet, added to their sums. Each pixel is loaded once for all
   outputs that it is part of; those outside the image are left out. */
EC_INLINE void depthwise_line(const int ROWS, const int COLUMNS, const int SIDE, const int STRIDE, const int WHOLE,
                              const ec_window *w, const float *row, const float *weights, ptrdiff_t left, const int i,
                              size_t n, vfloat (*sum)[8]) {
    vfloat weight[EC_DEPTHWISE_ROWS][7];
    EC_UNROLL for (int r = 0; r < ROWS; r++) {
        const int tap_row = i - r * STRIDE;
        if (tap_row < 0 || tap_row >= SIDE) continue;
        EC_UNROLL for (int j = 0; j < SIDE; j++) weight[r][j] = vload(weights + LANES * (1 + tap_row * SIDE + j));
    }
    EC_UNROLL for (int column = 0; column < (COLUMNS - 1) * STRIDE + SIDE; column++) {
        if (!WHOLE && (size_t)(left + column) >= w->width) continue; /* negative ones are huge as size_t */
        const float *p = row + column * (ptrdiff_t)w->pixel;
        vfloat y = n == LANES ? vload(p) : vload_first(p, n);
        EC_UNROLL for (int r = 0; r < ROWS; r++) {
            const int tap_row = i - r * STRIDE;
            EC_UNROLL for (int c = 0; c < COLUMNS; c++) {
                const int tap = column - c * STRIDE;
                if (tap_row >= 0 && tap_row < SIDE && tap >= 0 && tap < SIDE) sum[r][c] += y * weight[r][tap];
            }
        }
    }
}

/* ROWS x COLUMNS outputs, for square windows of SIDE taps without dilation. n < LANES: the last channels. */
EC_INLINE void depthwise_tile(const int ROWS, const int COLUMNS, const int SIDE, const int STRIDE, const int WHOLE,
                              const ec_window *w, const float *x, const float *weights, ptrdiff_t top, ptrdiff_t left,
                              float *out, size_t n, const ec_activation *a) {
    vfloat sum[EC_DEPTHWISE_ROWS][8];
    vfloat bias = vload(weights);
    EC_UNROLL for (int r = 0; r < ROWS; r++) {
        EC_UNROLL for (int c = 0; c < COLUMNS; c++) sum[r][c] = bias;
    }
    const float *row = x + top * (ptrdiff_t)w->row + left * (ptrdiff_t)w->pixel;
    if (ROWS == 1) {
        size_t from, to;
        taps_inside(top, SIDE, 1, w->height, &from, &to);
        for (size_t i = from; i < to; i++)
            depthwise_line(1, COLUMNS, SIDE, STRIDE, WHOLE, w, row + i * w->row, weights + LANES * i * SIDE, left, 0, n, sum);
    } else {
        EC_UNROLL for (int i = 0; i < (ROWS - 1) * STRIDE + SIDE; i++) {
            if ((size_t)(top + i) < w->height)
                depthwise_line(ROWS, COLUMNS, SIDE, STRIDE, WHOLE, w, row + i * w->row, weights, left, i, n, sum);
        }
    }
    EC_UNROLL for (int r = 0; r < ROWS; r++) {
        EC_UNROLL for (int c = 0; c < COLUMNS; c++)
            depthwise_store(out + r * w->out_row + c * w->out_pixel, sum[r][c], n, a);
    }
}

/* The tile for each block of channels from `channel` on. Neighbouring blocks are neighbours in memory, so that every load of
   the tile runs through it line by line, as the CPU's prefetchers want it. */
EC_INLINE void depthwise_tiles(const int ROWS, const int COLUMNS, const int SIDE, const int STRIDE, const int WHOLE,
                               const ec_window *w, const float *x, const float *weights, ptrdiff_t top, ptrdiff_t left,
                               float *out, size_t channel, size_t end, const ec_activation *a) {
    for (size_t c = channel; c < end; c += LANES)
        depthwise_tile(ROWS, COLUMNS, SIDE, STRIDE, WHOLE, w, x + c, weights + c * (1 + SIDE * SIDE), top, left, out + c,
                       LANES, a);
}

/* ROWS rows of outputs. Eight columns at once, or seven where the width asks for it (7, 14, 28 and 56 are usual), then what
   is left. */
EC_INLINE void depthwise_rows(const int ROWS, const int SIDE, const int STRIDE, const ec_window *w, const float *x,
                              const float *weights, float *out, size_t y, size_t channel, size_t count,
                              const ec_activation *a) {
    size_t many = w->out_width % 8 && w->out_width % 7 == 0 ? 7 : 8, c = 0, end = channel + count / LANES * LANES;
    ptrdiff_t top = (ptrdiff_t)(y * w->stride_height) - (ptrdiff_t)w->pad_top;
    while (c < w->out_width && channel < end) {
        ptrdiff_t left = (ptrdiff_t)(c * STRIDE) - (ptrdiff_t)w->pad_left;
        size_t rest = w->out_width - c;
        float *to = out + c * w->out_pixel;
        if (rest >= many && left >= 0 && left + 7 * STRIDE + SIDE <= (ptrdiff_t)w->width && many == 8)
            depthwise_tiles(ROWS, 8, SIDE, STRIDE, 1, w, x, weights, top, left, to, channel, end, a), c += 8;
        else if (rest >= many && many == 8)
            depthwise_tiles(ROWS, 8, SIDE, STRIDE, 0, w, x, weights, top, left, to, channel, end, a), c += 8;
        else if (rest >= many)
            depthwise_tiles(ROWS, 7, SIDE, STRIDE, 0, w, x, weights, top, left, to, channel, end, a), c += 7;
        else if (rest >= 4)
            depthwise_tiles(ROWS, 4, SIDE, STRIDE, 0, w, x, weights, top, left, to, channel, end, a), c += 4;
        else
            depthwise_tiles(ROWS, 1, SIDE, STRIDE, 0, w, x, weights, top, left, to, channel, end, a), c += 1;
    }
    for (c = 0; c < w->out_width && count % LANES;) {
        ptrdiff_t left = (ptrdiff_t)(c * STRIDE) - (ptrdiff_t)w->pad_left;
        const float *rest = weights + end * (1 + SIDE * SIDE);
        float *to = out + c * w->out_pixel + end;
        if (w->out_width - c >= 8)
            depthwise_tile(ROWS, 8, SIDE, STRIDE, 0, w, x + end, rest, top, left, to, count % LANES, a), c += 8;
        else if (w->out_width - c >= 4)
            depthwise_tile(ROWS, 4, SIDE, STRIDE, 0, w, x + end, rest, top, left, to, count % LANES, a), c += 4;
        else depthwise_tile(ROWS, 1, SIDE, STRIDE, 0, w, x + end, rest, top, left, to, count % LANES, a), c += 1;
    }
}

/* Output rows [first, last), channels [channel, channel + count). */
#define EC_DEPTHWISE(SIDE, STRIDE, ROWS)                                                                                  \
    static void depthwise_##SIDE##s##STRIDE(const ec_window *w, const float *x, const float *weights, float *out,         \
                                            size_t first, size_t last, size_t channel, size_t count,                      \
                                            const ec_activation *a) {                                                     \
        size_t y = first;                                                                                                 \
        out += y * w->out_row;                                                                                            \
        for (; y + ROWS <= last; y += ROWS, out += ROWS * w->out_row)                                                     \
            depthwise_rows(ROWS, SIDE, STRIDE, w, x, weights, out, y, channel, count, a);                                 \
        for (; y < last; y++, out += w->out_row)                                                                          \
            depthwise_rows(1, SIDE, STRIDE, w, x, weights, out, y, channel, count, a);                                    \
    }
EC_DEPTHWISE(3, 1, EC_DEPTHWISE_ROWS)
EC_DEPTHWISE(3, 2, EC_DEPTHWISE_ROWS)
EC_DEPTHWISE(5, 1, EC_DEPTHWISE_ROWS)
EC_DEPTHWISE(5, 2, EC_DEPTHWISE_ROWS)
EC_DEPTHWISE(7, 1, 1)
EC_DEPTHWISE(7, 2, 1)

static void depthwise_any(const ec_window *w, const float *x, const float *weights, float *out, size_t first, size_t last,
                          size_t channel, size_t count, const ec_activation *a) {
    size_t block = 1 + w->kernel_height * w->kernel_width;
    for (size_t y = first; y < last; y++) {
        ptrdiff_t top = (ptrdiff_t)(y * w->stride_height) - (ptrdiff_t)w->pad_top;
        size_t row_from, row_to;
        taps_inside(top, w->kernel_height, w->dilation_height, w->height, &row_from, &row_to);
        for (size_t column = 0; column < w->out_width; column++) {
            ptrdiff_t left = (ptrdiff_t)(column * w->stride_width) - (ptrdiff_t)w->pad_left;
            for (size_t c = channel; c < channel + count; c += LANES) {
                size_t n = smaller(LANES, channel + count - c);
                vfloat sum = depthwise_one(w, x + c, weights + c * block, top, left, row_from, row_to, n);
                depthwise_store(out + y * w->out_row + column * w->out_pixel + c, sum, n, a);
            }
        }
    }
}

/* Values of the output that are computed before a function is applied to them, so that they are still near. */
#define EC_BAND (32 * 1024)
/* Values of weights that are used for all pixels before the next: about half of a first-level cache. */
#define EC_WEIGHTS (5 * 1024)

static void depthwise_f32(const ec_window *w, const float *x, const float *weights, float *out, size_t first, size_t last,
                          size_t channel, size_t count, const ec_activation *a) {
    size_t step = last - first, chunk = EC_WEIGHTS / (1 + w->kernel_height * w->kernel_width) / LANES * LANES;
    void (*rows)(const ec_window *, const float *, const float *, float *, size_t, size_t, size_t, size_t,
                 const ec_activation *) = depthwise_any;
    if (w->dilation_height == 1 && w->dilation_width == 1 && w->stride_height == w->stride_width &&
        w->kernel_height == w->kernel_width) {
        if (w->kernel_width == 3 && w->stride_width == 1) rows = depthwise_3s1;
        if (w->kernel_width == 3 && w->stride_width == 2) rows = depthwise_3s2;
        if (w->kernel_width == 5 && w->stride_width == 1) rows = depthwise_5s1;
        if (w->kernel_width == 5 && w->stride_width == 2) rows = depthwise_5s2;
        if (w->kernel_width == 7 && w->stride_width == 1) rows = depthwise_7s1;
        if (w->kernel_width == 7 && w->stride_width == 2) rows = depthwise_7s2;
    }
    if (a->function) step = EC_BAND / (w->out_width * count) / EC_DEPTHWISE_ROWS * EC_DEPTHWISE_ROWS;
    if (step == 0) step = EC_DEPTHWISE_ROWS;
    if (chunk == 0) chunk = LANES;
    for (size_t y = first; y < last; y += step) {
        size_t end = smaller(last, y + step);
        for (size_t c = 0; c < count; c += chunk)
            rows(w, x, weights, out, y, end, channel + c, smaller(chunk, count - c), a);
        if (!a->function) continue;
        for (size_t r = y; r < end; r++) {
            float *line = out + r * w->out_row + channel;
            if (count == w->out_pixel) a->function(&line, 1, 0, count * w->out_width, a->parameters);
            else
                for (size_t c = 0; c < w->out_width; c++, line += w->out_pixel) a->function(&line, 1, 0, count, a->parameters);
        }
    }
}

/* VECTORS vectors of channels of one window; the sums stay in registers. Rows are summed alone and added up: the error over a
   whole image grows with its sides, not with its pixels. n < LANES: the last channels. */
#define EC_POOL(NAME, COMBINE, FACTOR)                                                                                   \
    EC_INLINE void NAME##_block(const int VECTORS, const float *x, size_t row, size_t pixel, size_t rows, size_t columns, \
                                float factor, float *out, size_t n) {                                                     \
        vfloat y[4];                                                                                                      \
        for (size_t i = 0; i < rows; i++, x += row) {                                                                     \
            vfloat line[4];                                                                                               \
            EC_UNROLL for (int v = 0; v < VECTORS; v++) line[v] = n == LANES ? vload(x + v * LANES) : vload_first(x, n);  \
            for (size_t j = 1; j < columns; j++) {                                                                        \
                const float *p = x + j * pixel;                                                                           \
                EC_UNROLL for (int v = 0; v < VECTORS; v++)                                                               \
                    line[v] = COMBINE(line[v], n == LANES ? vload(p + v * LANES) : vload_first(p, n));                    \
            }                                                                                                             \
            EC_UNROLL for (int v = 0; v < VECTORS; v++) y[v] = i ? COMBINE(y[v], line[v]) : line[v];                      \
        }                                                                                                                 \
        EC_UNROLL for (int v = 0; v < VECTORS; v++) {                                                                     \
            if (FACTOR) y[v] *= factor;                                                                                   \
            if (n == LANES) vstore(out + v * LANES, y[v]);                                                                \
            else vstore_first(out, y[v], n);                                                                              \
        }                                                                                                                 \
    }                                                                                                                     \
    static void NAME##_f32(const ec_window *w, const float *x, float *out, size_t first, size_t last) {                   \
        for (size_t y = first; y < last; y++) {                                                                           \
            ptrdiff_t top = (ptrdiff_t)(y * w->stride_height) - (ptrdiff_t)w->pad_top;                                    \
            size_t row_from, row_to, column_from, column_to;                                                              \
            taps_inside(top, w->kernel_height, 1, w->height, &row_from, &row_to);                                         \
            for (size_t column = 0; column < w->out_width; column++) {                                                    \
                ptrdiff_t left = (ptrdiff_t)(column * w->stride_width) - (ptrdiff_t)w->pad_left;                          \
                taps_inside(left, w->kernel_width, 1, w->width, &column_from, &column_to);                                \
                const float *corner = x + (top + (ptrdiff_t)row_from) * (ptrdiff_t)w->row +                               \
                                      (left + (ptrdiff_t)column_from) * (ptrdiff_t)w->pixel;                              \
                float *to = out + y * w->out_row + column * w->out_pixel;                                                 \
                size_t columns = column_to - column_from, rows = row_to - row_from, c = 0;                                \
                float factor = 1.0f / (float)(w->divisor ? w->divisor : rows * columns);                                  \
                if (rows == 2 && columns == 2) { /* the usual window, without loops */                                    \
                    for (; c + LANES <= w->channels; c += LANES)                                                          \
                        NAME##_block(1, corner + c, w->row, w->pixel, 2, 2, factor, to + c, LANES);                       \
                }                                                                                                         \
                for (; c + 4 * LANES <= w->channels; c += 4 * LANES)                                                      \
                    NAME##_block(4, corner + c, w->row, w->pixel, rows, columns, factor, to + c, LANES);                  \
                for (; c + LANES <= w->channels; c += LANES)                                                              \
                    NAME##_block(1, corner + c, w->row, w->pixel, rows, columns, factor, to + c, LANES);                  \
                if (c < w->channels)                                                                                      \
                    NAME##_block(1, corner + c, w->row, w->pixel, rows, columns, factor, to + c, w->channels - c);        \
            }                                                                                                             \
        }                                                                                                                 \
    }
EC_POOL(max_pool, vlarger, 0)
EC_POOL(average_pool, EC_PLUS, 1)
