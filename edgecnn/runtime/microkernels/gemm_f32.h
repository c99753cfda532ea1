/* Register tiles of the matrix product behind convolution and dense layers: ROWS pixels x VECTORS vectors of filters.

   Names: rows m are pixels, columns n are filters, k runs over the window's taps and the input's channels. For each k the
   tile loads VECTORS vectors of weights, broadcasts one value of each row, and does ROWS x VECTORS multiply-adds; nothing
   else is in the loop. Tiles of every height up to the tallest exist, so that a driver can share pixels out evenly and
   never computes one twice. */
#include "tile.h"

EC_INLINE void gemm_tile(const int ROWS, const int VECTORS, const ec_panel *p, const float *const *a, float *const *out,
                         const float *const *residual, size_t column) {
    vfloat sum[EC_GEMM_ROWS][EC_GEMM_VECTORS];
    const size_t columns = p->columns;
    start_sums(ROWS, VECTORS, sum, p->start, residual, column, columns);
    const float *w = p->weights;
    const char *ahead = p->ahead[0], *further = p->ahead[1];
    for (size_t t = 0; t < p->taps; t++, a += p->pitch) {
        const float *row[EC_GEMM_ROWS];
        EC_UNROLL for (int m = 0; m < ROWS; m++) row[m] = a[m] + p->skip;
        for (size_t k = 0; k < p->depth; k++, w += VECTORS * LANES) {
            vfloat weights[EC_GEMM_VECTORS];
            __builtin_prefetch(ahead, 0, 2);
            __builtin_prefetch(further, 0, 2);
            ahead += 64, further += 64;
            EC_UNROLL for (int v = 0; v < VECTORS; v++) weights[v] = vload(w + v * LANES);
            EC_UNROLL for (int m = 0; m < ROWS; m++) {
                vfloat x = vsplat(row[m][k]);
                EC_UNROLL for (int v = 0; v < VECTORS; v++) sum[m][v] += x * weights[v];
            }
        }
    }
    end_sums(ROWS, VECTORS, sum, !p->start, out, column, columns, p->low, p->high);
}

#define EC_GEMM_TILE(ROWS, VECTORS)                                                                                      \
    static void gemm_f32_##ROWS##x##VECTORS(const ec_panel *p, const float *const *a, float *const *out,                 \
                                            const float *const *residual, size_t column) {                              \
        gemm_tile(ROWS, VECTORS, p, a, out, residual, column);                                                          \
    }
#define EC_GEMM_ENTRY(ROWS, VECTORS) [ROWS - 1] = gemm_f32_##ROWS##x##VECTORS,

#define EC_UP_TO_4(X, V) X(1, V) X(2, V) X(3, V) X(4, V)
#define EC_UP_TO_6(X, V) EC_UP_TO_4(X, V) X(5, V) X(6, V)
#define EC_UP_TO_8(X, V) EC_UP_TO_6(X, V) X(7, V) X(8, V)
#define EC_UP_TO_10(X, V) EC_UP_TO_8(X, V) X(9, V) X(10, V)
#define EC_UP_TO_12(X, V) EC_UP_TO_10(X, V) X(11, V) X(12, V)
#define EC_UP_TO_14(X, V) EC_UP_TO_12(X, V) X(13, V) X(14, V)
