/* Register tiles of the matrix product behind convolution and dense layers: ROWS pixels x VECTORS vectors of filters.

   Names: rows m are pixels, columns n are filters, k runs over the window's taps and the input's channels. For each k the
   tile loads VECTORS vectors of weights, broadcasts one value of each row, and does ROWS x VECTORS multiply-adds; nothing
   else is in the loop. Tiles of every height up to the tallest exist, so that a driver can share pixels out evenly and
   never computes one twice.

   Where multiply-adds can take a lane (EC_BY_LANE), a load of a row is as many k as there are lanes. Registers are filled for
   the next k as soon as they have been used for the last time: a CPU that executes in order (Cortex-A53) does not wait. The
   order in which a sum takes its k is the same. */
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
        size_t k = 0;
#ifdef EC_BY_LANE
        if (LANES <= p->depth) {
            vfloat x[EC_GEMM_ROWS], weights[EC_GEMM_VECTORS];
            EC_UNROLL for (int m = 0; m < ROWS; m++) x[m] = vload(row[m]);
            EC_UNROLL for (int v = 0; v < VECTORS; v++) weights[v] = vload(w + v * LANES);
            for (; k + LANES <= p->depth; k += LANES) {
                /* The last turn loads for the next what it has already: beyond it there may be nothing to read. */
                const int more = k + 2 * LANES <= p->depth;
                const float *next = more ? w + LANES * VECTORS * LANES : w;
                const size_t ahead_k = more ? k + LANES : k;
                EC_UNROLL for (int lane = 0; lane < LANES; lane++) {
                    const float *from = lane + 1 < LANES ? w + (lane + 1) * VECTORS * LANES : next;
                    EC_UNROLL for (int v = 0; v < VECTORS; v++) {
                        EC_UNROLL for (int m = 0; m < ROWS; m++) sum[m][v] += x[m][lane] * weights[v];
                        weights[v] = vload(from + v * LANES);
                    }
                }
                EC_UNROLL for (int m = 0; m < ROWS; m++) x[m] = vload(row[m] + ahead_k);
                EC_UNROLL for (int v = 0; v < VECTORS; v++) __builtin_prefetch(ahead + 64 * v, 0, 2);
                w += LANES * VECTORS * LANES;
                ahead += 64 * VECTORS;
            }
        }
#endif
        for (; k < p->depth; k++, w += VECTORS * LANES) {
            vfloat weights[EC_GEMM_VECTORS];
            __builtin_prefetch(ahead, 0, 2);
            if (VECTORS * LANES > 16) __builtin_prefetch(further, 0, 2); /* one stream is enough for a line of weights */
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
#define EC_UP_TO_7(X, V) EC_UP_TO_6(X, V) X(7, V)
#define EC_UP_TO_8(X, V) EC_UP_TO_7(X, V) X(8, V)
#define EC_UP_TO_9(X, V) EC_UP_TO_8(X, V) X(9, V)
#define EC_UP_TO_10(X, V) EC_UP_TO_9(X, V) X(10, V)
#define EC_UP_TO_12(X, V) EC_UP_TO_10(X, V) X(11, V) X(12, V)
#define EC_UP_TO_14(X, V) EC_UP_TO_12(X, V) X(13, V) X(14, V)
