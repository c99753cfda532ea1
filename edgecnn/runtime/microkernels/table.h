/* The list of micro-kernels: one table for each instruction set, filled by portable.c, avx2.c, avx512.c, neon.c.

   Micro-kernels are plain C without Python and without OpenMP. They compute on float32 in the layout [rows, columns, C]
   of one image: the C values of a pixel are contiguous, a pixel is `pixel` floats from the next, a row `row` floats from
   the next. No pointer needs an alignment but that of a float, except packed weights (64 bytes). Nothing outside the
   stated extents is read or written. */
#ifndef EC_TABLE_H
#define EC_TABLE_H

#include <stddef.h>
#include <stdint.h>

#define EC_GEMM_VECTORS 4 /* widest panel, in vectors */
#define EC_GEMM_ROWS 14   /* tallest tile, in pixels */
#define EC_BLOCK_VECTORS 2  /* widest panel of a matrix without its zero blocks */
#define EC_SPARSE_VECTORS 8 /* most vectors of pixels that single weights are multiplied by */
#define EC_MASKED_VECTORS 4 /* of columns that share a walk over the rows of a masked matrix */

/* Applies an activation function in place to rows[m][column .. column + n) for m < count. */
typedef void (*ec_activate)(float *const *rows, size_t count, size_t column, size_t n, const float *parameters);

/* What ends every kernel: clamp to [low, high] (NaN stays), then `function` if there is one. */
typedef struct {
    float low, high;
    ec_activate function; /* NULL: none */
    float parameters[3];
} ec_activation;

/* What the tiles of one panel of packed weights share. */
typedef struct {
    const float *weights; /* [taps * depth][vectors * lanes]: a row for each k */
    const float *start; /* [vectors * lanes]: the biases; NULL: the sum is added to what `out` holds */
    size_t taps, depth; /* k runs over taps x depth */
    size_t skip;        /* floats that every pointer of `a` is moved ahead */
    size_t pitch;       /* pointers in `a` from one tap to the next */
    size_t columns;     /* columns in use, 1 .. vectors * lanes: only these are stored */
    float low, high;    /* clamp; -inf and inf where the sum will go on */
    const char *ahead[2]; /* fetched into the second-level cache meanwhile: a line of each for each k. Need not exist */
} ec_panel;

/* One register tile: for each of its rows m and columns n
       out[m][column + n] = clamp(start[n] + residual[m][column + n] + sum over t, k of a[t * pitch + m][skip + k] * weights[t * depth + k][n])
   a: a pointer for each tap and row, to at least skip + depth floats; out: a pointer for each row; residual: the same, or
   NULL; it may be `out` itself. The sum runs in the order of k, whatever the tile, so that an output's bits do not depend on
   how pixels and filters are cut into tiles. */
typedef void (*ec_gemm)(const ec_panel *, const float *const *a, float *const *out, const float *const *residual, size_t column);

/* What the tiles of one panel of a matrix share, some of whose rows k are zero in all of the panel's columns and left out. */
typedef struct {
    uint32_t tap, count; /* so many of the rows that are there follow each other within one tap */
} ec_block_run;
typedef struct {
    const float *weights;     /* [rows that are there][vectors * lanes] */
    const float *start;       /* as in ec_panel */
    const uint32_t *channels; /* of each row that is there: floats from the pixel's pointer to its value */
    const ec_block_run *runs;
    size_t run_count;
    size_t pitch, columns; /* as in ec_panel */
    float low, high;
} ec_block_panel;
/* As ec_gemm. Values whose weights are left out are not read: not even infinity or NaN reach the sums through them. */
typedef void (*ec_block)(const ec_block_panel *, const float *const *a, float *const *out, const float *const *residual, size_t column);

/* The weights of one filter within a slice of at most 256 k. */
typedef struct {
    uint16_t filter, count;
} ec_sparse_row;
/* For each row: sums[filter][i] (+)= sum over its weights of weights[j] * x[places[j]][i], for `vectors` vectors i of pixels,
   in the order of the weights. weights and places: of all rows, one after the other; x, sums: [..][vectors * lanes];
   more: whether to add to what sums holds. */
typedef void (*ec_sparse)(const float *x, const ec_sparse_row *rows, size_t count, const float *weights, const uint8_t *places,
                          float *sums, int more);
/* out[k * pitch + m] = pixels[m][channel + k] for k < depth and m < count; m goes on to whole vectors with any values. */
typedef void (*ec_gather)(const float *const *pixels, size_t count, size_t channel, size_t depth, float *out, size_t pitch);
/* out[m][column + n] = clamp(sums[n * pitch + m] + bias[n] + residual[m][column + n]) for n < filters and m < count; bias is
   read to whole vectors. residual: NULL for none; it may be `out` itself. */
typedef void (*ec_scatter)(const float *sums, size_t pitch, size_t filters, const float *bias, const float *const *residual,
                           float *const *out, size_t column, size_t count, float low, float high);

/* A window (convolution or pooling) over the rows and columns of one image. */
typedef struct {
    size_t height, width, channels;  /* of the input */
    size_t out_height, out_width;
    size_t kernel_height, kernel_width;
    size_t stride_height, stride_width;
    size_t dilation_height, dilation_width;
    size_t pad_top, pad_left;
    size_t row, pixel;               /* input: floats from one row, pixel to the next */
    size_t out_row, out_pixel;       /* output, the same */
    size_t divisor;                  /* of an average; 0: the number of pixels inside the image */
} ec_window;

/* Depthwise convolution, multiplier 1, of output rows [first, last) and channels [channel, channel + count).
   weights: [ceil(C / lanes)][1 + kernel_height * kernel_width][lanes]: for a block of channels its biases, then its taps;
   channel is a multiple of lanes. */
typedef void (*ec_depthwise)(const ec_window *, const float *x, const float *weights, float *out, size_t first, size_t last,
                             size_t channel, size_t count, const ec_activation *);

/* Winograd's transformations; see winograd_f32.h. X(name, points and outputs along the height, points and outputs along the
   width): a filter has points - outputs + 1 taps, so that 1, 1 leaves an axis alone. */
#define EC_WINOGRAD_LIST(X)                                                                                              \
    X(2x2_3x3, 4, 2, 4, 2) X(4x4_3x3, 6, 4, 6, 4) X(2x2_5x5, 6, 2, 6, 2)                                                 \
    X(1x4_1x3, 1, 1, 6, 4) X(4x1_3x1, 6, 4, 1, 1) X(1x2_1x7, 1, 1, 8, 2) X(2x1_7x1, 8, 2, 1, 1)
/* v[i * position + c]: the tile's value at point i; x: the tile's first pixel, all of whose points x points pixels exist. */
typedef void (*ec_winograd_input)(const float *x, size_t row, size_t pixel, size_t channels, float *v, size_t position);
typedef struct {
    size_t rows, columns;                /* how many of the tile's outputs lie inside the image */
    size_t out_row, out_pixel;           /* floats from one output to the next */
    size_t residual_row, residual_pixel;
    float low, high;                     /* clamp */
} ec_winograd_end;
/* The outputs of `columns` filters of one tile: products[i * position + n], which may be read to whole vectors, back to
   pixels, plus bias (whole vectors too) and residual (NULL: none), clamped. */
typedef void (*ec_winograd_output)(const float *products, size_t position, const ec_winograd_end *, const float *bias,
                                   const float *residual, float *out, size_t columns);
typedef struct {
    int height_points, height_outputs, width_points, width_outputs;
    ec_winograd_input input;
    ec_winograd_output output;
} ec_winograd;
/* One vector of `columns` filters at one channel to its values at points x points: out[(p * points + q) * position + n] =
   sum over i, j of height[p * height_taps + i] * width[q * width_taps + j] *
   weights[(i * width_taps + j) * tap + n], in double precision. */
typedef struct {
    size_t height_points, width_points, height_taps, width_taps;
    const double *height, *width;
} ec_winograd_filter;
typedef void (*ec_winograd_filters)(const ec_winograd_filter *, const float *weights, size_t tap, size_t columns, float *out,
                                    size_t position);
#define EC_WINOGRAD_COUNT(...) +1
enum { EC_WINOGRADS = 0 EC_WINOGRAD_LIST(EC_WINOGRAD_COUNT) };

/* Maximum or mean over the pixels of each window that lie inside the image, of output rows [first, last). */
typedef void (*ec_pool)(const ec_window *, const float *x, float *out, size_t first, size_t last);

typedef void (*ec_binary)(const float *x, const float *y, float *out, size_t n); /* out may be x or y */
typedef void (*ec_scalar)(const float *x, float y, float *out, size_t n);
typedef void (*ec_scale_shift)(const float *x, const float *scale, const float *shift, float *out, size_t n);
/* out[c] += x[i * pixel + c] for i < count; or the maximum, or the minimum. */
typedef void (*ec_reduce)(const float *x, size_t pixel, size_t count, float *out, size_t channels);
/* sums[c] += d and squares[c] += d^2 for each difference d = x[i * pixel + c] - mean, i < count. */
typedef void (*ec_reduce_squares)(const float *x, size_t pixel, size_t count, float mean, float *sums, float *squares,
                                  size_t channels);
/* out[i] = ((x[i] - mean) - rest) * (factor * gamma[i]) + beta[i]; mean + rest is the mean, more exactly than one float. */
typedef void (*ec_normalize)(const float *x, float mean, float rest, float factor, const float *gamma, const float *beta,
                             float *out, size_t n);
/* out[i] = sum over k < count of weights[k] * rows[k][i]. */
typedef void (*ec_weigh)(const float *const *rows, const float *weights, size_t count, float *out, size_t n);
/* out[i] += sum over k < count of x[k] * rows[k * stride + i], in the order of k. */
typedef void (*ec_add_rows)(const float *x, const float *rows, size_t stride, size_t count, float *out, size_t n);
/* As ec_add_rows for EC_MASKED_VECTORS vectors of columns, of rows whose zeros are not stored: `masks` tells for each row and
   vector which lanes are there, bit 0 the first (two bytes for sixteen lanes, else one); `values` holds those, one after the
   other, and is read up to LANES floats beyond the last. Gives the end of the values. */
typedef const float *(*ec_add_masked)(const float *x, const uint8_t *masks, const float *values, size_t count, float *out);
/* out[i] = x[i + before] * (bias + alpha * sum of x[i .. i + size - 1]^2) ^ -beta. */
typedef void (*ec_respond)(const float *x, size_t before, size_t size, float bias, float alpha, float beta, float *out, size_t n);
typedef void (*ec_clamp)(float *x, size_t n, float low, float high);
/* out[i] = exp(x[i] - max) / sum, or its logarithm; out may be x. */
typedef void (*ec_softmax)(const float *x, float *out, size_t n);
/* Multiply-accumulates in registers only; gives the number of them done. */
typedef double (*ec_measure)(long rounds);

/* Element-wise functions, by the names that the graph gives them; "linear" has no kernel. */
#define EC_FUNCTION_LIST(X)                                                                                              \
    X(relu) X(clip) X(elu) X(celu) X(selu) X(sigmoid) X(hard_sigmoid) X(sparse_sigmoid) X(log_sigmoid) X(tanh)           \
    X(tanh_shrink) X(softplus) X(sparse_plus) X(squareplus) X(softsign) X(hard_shrink) X(soft_shrink) X(threshold)       \
    X(swish) X(hard_swish) X(mish) X(gelu) X(gelu_tanh) X(exponential) X(expm1) X(log) X(log1p) X(sqrt) X(rsqrt)         \
    X(reciprocal) X(square) X(abs) X(sign) X(floor) X(ceil) X(round) X(sin) X(cos) X(erf)
/* Functions of two values, likewise. */
#define EC_BINARY_LIST(X) X(add) X(subtract) X(multiply) X(divide) X(maximum) X(minimum) X(power) X(prelu) \
    X(equal) X(less) X(keep)

#define EC_FUNCTION_ENTRY(NAME) EC_FUNCTION_##NAME,
#define EC_BINARY_ENTRY(NAME) EC_BINARY_##NAME,
enum { EC_FUNCTION_LIST(EC_FUNCTION_ENTRY) EC_FUNCTIONS };
enum { EC_BINARY_LIST(EC_BINARY_ENTRY) EC_BINARIES };

typedef struct {
    const char *name;
    int lanes;                                        /* floats in a vector */
    int gemm_rows[EC_GEMM_VECTORS];                   /* tallest tile for a panel of 1 + index vectors, 0: no such panel */
    ec_gemm gemm[EC_GEMM_VECTORS][EC_GEMM_ROWS];      /* [vectors - 1][rows - 1] */
    int block_rows[EC_BLOCK_VECTORS];                 /* the same without zero blocks */
    ec_block block[EC_BLOCK_VECTORS][EC_GEMM_ROWS];
    int sparse_vectors;                               /* how many are fastest, at most EC_SPARSE_VECTORS */
    ec_sparse sparse[EC_SPARSE_VECTORS];              /* [vectors - 1] */
    ec_gather gather;
    ec_scatter scatter;
    ec_activate activate[EC_FUNCTIONS];
    ec_winograd winograd[EC_WINOGRADS];
    ec_winograd_filters winograd_filters;
    ec_depthwise depthwise;
    ec_pool max_pool, average_pool;
    ec_binary binary[EC_BINARIES];
    ec_scalar binary_scalar[EC_BINARIES];  /* y is one value for all */
    ec_scalar scalar_binary[EC_BINARIES];  /* x is; it comes second in the call all the same */
    ec_scale_shift scale_shift;
    ec_reduce reduce_add, reduce_max, reduce_min;
    ec_reduce_squares reduce_squares;
    ec_normalize normalize;
    ec_weigh weigh;
    ec_add_rows add_rows;
    ec_add_masked add_masked; /* NULL: the set has no way to spread values over lanes that is worth it */
    ec_respond respond;
    ec_clamp clamp;
    ec_softmax softmax, log_softmax;
    ec_measure measure_peak;
} ec_table;

#define EC_NAME_ENTRY(NAME) #NAME,
static const char *const ec_function_names[] __attribute__((unused)) = {EC_FUNCTION_LIST(EC_NAME_ENTRY)};
static const char *const ec_binary_names[] __attribute__((unused)) = {EC_BINARY_LIST(EC_NAME_ENTRY)};

extern const ec_table ec_table_portable, ec_table_avx2, ec_table_avx512, ec_table_neon;

#endif
