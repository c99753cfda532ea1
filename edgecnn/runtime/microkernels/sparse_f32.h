/* Products with matrices that are mostly zero. Two ways, by how the zeros lie:

   Blocks: whole vectors of neighbouring filters are zero at a k. The tile is that of gemm_f32.h, but walks a list of the k
   that are there. The list costs one load for ROWS x VECTORS multiply-adds.

   Single weights: the zeros have no order. The lanes are pixels, which lie side by side in a copy that is turned over: for
   each weight that is there, one broadcast and VECTORS multiply-adds whose other factor comes from the first-level cache.

   One vector times a matrix has one pixel only: there the lanes are filters, and a mask tells which of them have a weight.
   Nothing is saved but reading, and reading is all that such a product costs. */
#include "tile.h"

EC_INLINE void block_tile(const int ROWS, const int VECTORS, const ec_block_panel *p, const float *const *a, float *const *out,
                          const float *const *residual, size_t column) {
    vfloat sum[EC_GEMM_ROWS][EC_GEMM_VECTORS];
    const size_t columns = p->columns;
    start_sums(ROWS, VECTORS, sum, p->start, residual, column, columns);
    const float *w = p->weights;
    const uint32_t *channel = p->channels;
    for (size_t r = 0; r < p->run_count; r++) {
        const float *const *tap = a + p->runs[r].tap * p->pitch;
        const uint32_t *end = channel + p->runs[r].count;
        const float *row[EC_GEMM_ROWS];
        EC_UNROLL for (int m = 0; m < ROWS; m++) row[m] = tap[m];
        for (; channel != end; channel++, w += VECTORS * LANES) {
            const size_t k = *channel;
            vfloat weights[EC_BLOCK_VECTORS];
            EC_UNROLL for (int v = 0; v < VECTORS; v++) weights[v] = vload(w + v * LANES);
            EC_UNROLL for (int m = 0; m < ROWS; m++) {
                vfloat x = vsplat(row[m][k]);
                EC_UNROLL for (int v = 0; v < VECTORS; v++) sum[m][v] += x * weights[v];
            }
        }
    }
    end_sums(ROWS, VECTORS, sum, !p->start, out, column, columns, p->low, p->high);
}

#define EC_BLOCK_TILE(ROWS, VECTORS)                                                                                     \
    static void block_f32_##ROWS##x##VECTORS(const ec_block_panel *p, const float *const *a, float *const *out,          \
                                             const float *const *residual, size_t column) {                             \
        block_tile(ROWS, VECTORS, p, a, out, residual, column);                                                         \
    }
#define EC_BLOCK_ENTRY(ROWS, VECTORS) [ROWS - 1] = block_f32_##ROWS##x##VECTORS,

EC_INLINE void sparse_rows(const int VECTORS, const float *x, const ec_sparse_row *rows, size_t count, const float *weights,
                           const uint8_t *places, float *sums, int more) {
    for (size_t r = 0; r < count; r++) {
        float *out = sums + (size_t)rows[r].filter * (VECTORS * LANES);
        const uint8_t *end = places + rows[r].count;
        vfloat sum[EC_SPARSE_VECTORS];
        EC_UNROLL for (int v = 0; v < VECTORS; v++) sum[v] = vsplat(0.0f);
        for (; places != end; places++, weights++) {
            const float *values = x + (size_t)*places * (VECTORS * LANES);
            vfloat weight = vsplat(*weights);
            EC_UNROLL for (int v = 0; v < VECTORS; v++) sum[v] += weight * vload(values + v * LANES);
        }
        if (more) {
            EC_UNROLL for (int v = 0; v < VECTORS; v++) sum[v] += vload(out + v * LANES);
        }
        EC_UNROLL for (int v = 0; v < VECTORS; v++) vstore(out + v * LANES, sum[v]);
    }
}
#define EC_SPARSE_ROWS(VECTORS)                                                                                          \
    static void sparse_rows_f32_##VECTORS(const float *x, const ec_sparse_row *rows, size_t count, const float *weights, \
                                          const uint8_t *places, float *sums, int more) {                               \
        sparse_rows(VECTORS, x, rows, count, weights, places, sums, more);                                              \
    }
#define EC_SPARSE_ENTRY(VECTORS) [VECTORS - 1] = sparse_rows_f32_##VECTORS,
#define EC_SPARSE_LIST(X) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8)
EC_SPARSE_LIST(EC_SPARSE_ROWS)

#if defined(__clang__) || __GNUC__ >= 12
#define EC_SHUFFLE(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define EC_SHUFFLE(a, b, ...) __builtin_shuffle(a, b, (vint){__VA_ARGS__})
#endif
/* The first and the second halves of two vectors, lane by lane in turn. */
#if EC_VECTOR_BYTES == 64
#define EC_FIRST_HALVES(a, b) \
    EC_SHUFFLE(a, b, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23)
#define EC_SECOND_HALVES(a, b) \
    EC_SHUFFLE(a, b, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31)
#elif EC_VECTOR_BYTES == 32
#define EC_FIRST_HALVES(a, b) EC_SHUFFLE(a, b, 0, 8, 1, 9, 2, 10, 3, 11)
#define EC_SECOND_HALVES(a, b) EC_SHUFFLE(a, b, 4, 12, 5, 13, 6, 14, 7, 15)
#else
#define EC_FIRST_HALVES(a, b) EC_SHUFFLE(a, b, 0, 4, 1, 5)
#define EC_SECOND_HALVES(a, b) EC_SHUFFLE(a, b, 2, 6, 3, 7)
#endif

/* Turns LANES x LANES values over. Each round rotates the bits of (row, lane) by one; as many rounds as a row's number has
   bits exchange the two. */
EC_INLINE void turn_over(vfloat rows[LANES]) {
    EC_UNROLL for (int round = 1; round < LANES; round *= 2) {
        vfloat next[LANES];
        EC_UNROLL for (int i = 0; i < LANES / 2; i++) {
            next[2 * i] = EC_FIRST_HALVES(rows[i], rows[i + LANES / 2]);
            next[2 * i + 1] = EC_SECOND_HALVES(rows[i], rows[i + LANES / 2]);
        }
        EC_UNROLL for (int i = 0; i < LANES; i++) rows[i] = next[i];
    }
}

static void gather_f32(const float *const *pixels, size_t count, size_t channel, size_t depth, float *out, size_t pitch) {
    for (size_t m = 0; m < count; m += LANES) {
        for (size_t k = 0; k < depth; k += LANES) {
            vfloat rows[LANES];
            const size_t left = depth - k;
            /* Pixels beyond the last repeat it: their sums are never stored. */
            if (left >= LANES) {
                EC_UNROLL for (int i = 0; i < LANES; i++)
                    rows[i] = vload(pixels[m + i < count ? m + i : count - 1] + channel + k);
            } else {
                EC_UNROLL for (int i = 0; i < LANES; i++)
                    rows[i] = vload_first(pixels[m + i < count ? m + i : count - 1] + channel + k, left);
            }
            turn_over(rows);
            if (left >= LANES) {
                EC_UNROLL for (int i = 0; i < LANES; i++) vstore(out + (k + i) * pitch + m, rows[i]);
            } else {
                EC_UNROLL for (int i = 0; i < LANES; i++) {
                    if ((size_t)i < left) vstore(out + (k + i) * pitch + m, rows[i]);
                }
            }
        }
    }
}

static void scatter_f32(const float *sums, size_t pitch, size_t filters, const float *bias, const float *const *residual,
                        float *const *out, size_t column, size_t count, float low, float high) {
    const vfloat lowest = vsplat(low), highest = vsplat(high);
    for (size_t n = 0; n < filters; n += LANES) {
        const size_t columns = filters - n < LANES ? filters - n : LANES;
        const vfloat start = vload(bias + n);
        for (size_t m = 0; m < count; m += LANES) {
            vfloat rows[LANES];
            EC_UNROLL for (int i = 0; i < LANES; i++)
                rows[i] = vload(sums + (n + ((size_t)i < columns ? (size_t)i : 0)) * pitch + m);
            turn_over(rows);
            EC_UNROLL for (int i = 0; i < LANES; i++) {
                if (m + i < count) {
                    vfloat y = rows[i] + start;
                    if (residual) y += load_columns(residual[m + i] + column + n, 0, columns);
                    store_columns(out[m + i] + column + n, 0, columns, vmin(highest, vmax(lowest, y)));
                }
            }
        }
    }
}

#ifdef EC_SPREAD
static const float *add_masked_f32(const float *x, const uint8_t *masks, const float *values, size_t count, float *out) {
    vfloat sum[EC_MASKED_VECTORS];
    EC_UNROLL for (int v = 0; v < EC_MASKED_VECTORS; v++) sum[v] = vsplat(0.0f);
    for (size_t k = 0; k < count; k++, masks += EC_MASKED_VECTORS * sizeof(vmask)) {
        vmask mask[EC_MASKED_VECTORS];
        memcpy(mask, masks, sizeof mask);
        const vfloat factor = vsplat(x[k]);
        EC_UNROLL for (int v = 0; v < EC_MASKED_VECTORS; v++) {
            sum[v] += factor * vspread(values, mask[v]);
            values += __builtin_popcount(mask[v]);
        }
    }
    EC_UNROLL for (int v = 0; v < EC_MASKED_VECTORS; v++) vstore(out + v * LANES, vload(out + v * LANES) + sum[v]);
    return values;
}
#define ADD_MASKED add_masked_f32
#else
#define ADD_MASKED NULL
#endif
