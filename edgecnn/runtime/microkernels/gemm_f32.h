/* Register tiles of the matrix product behind convolution and dense layers: ROWS pixels x VECTORS vectors of filters.

   Names: rows m are pixels, columns n are filters, k runs over the window's taps and the input's channels. For each k the
   tile loads VECTORS vectors of weights, broadcasts one value of each row, and does ROWS x VECTORS multiply-adds; nothing
   else is in the loop. Tiles of every height up to the tallest exist, so that a driver can share pixels out evenly and
   never computes one twice. */
#include "table.h"
#include "vector.h"

/* Vector v of a row of `columns` floats: whole, in part, or not there. */
EC_INLINE vfloat load_columns(const float *p, int v, size_t columns) {
    if (columns >= (size_t)(v + 1) * LANES) return vload(p + v * LANES);
    if (columns > (size_t)v * LANES) return vload_first(p + v * LANES, columns - v * LANES);
    return vsplat(0.0f);
}
EC_INLINE void store_columns(float *p, int v, size_t columns, vfloat y) {
    if (columns >= (size_t)(v + 1) * LANES) vstore(p + v * LANES, y);
    else if (columns > (size_t)v * LANES) vstore_first(p + v * LANES, y, columns - v * LANES);
}

EC_INLINE void gemm_tile(const int ROWS, const int VECTORS, const ec_panel *p, const float *const *a, float *const *out,
                         const float *const *residual, size_t column) {
    vfloat sum[EC_GEMM_ROWS][EC_GEMM_VECTORS];
    const size_t columns = p->columns;
    if (p->start) {
        EC_UNROLL for (int v = 0; v < VECTORS; v++) {
            vfloat bias = vload(p->start + v * LANES);
            EC_UNROLL for (int m = 0; m < ROWS; m++) sum[m][v] = bias;
        }
        if (residual) {
            EC_UNROLL for (int m = 0; m < ROWS; m++) {
                EC_UNROLL for (int v = 0; v < VECTORS; v++) sum[m][v] += load_columns(residual[m] + column, v, columns);
            }
        }
    } else {
        EC_UNROLL for (int m = 0; m < ROWS; m++) {
            EC_UNROLL for (int v = 0; v < VECTORS; v++) sum[m][v] = vsplat(0.0f);
        }
    }
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
    if (!p->start) {
        EC_UNROLL for (int m = 0; m < ROWS; m++) {
            EC_UNROLL for (int v = 0; v < VECTORS; v++) sum[m][v] += load_columns(out[m] + column, v, columns);
        }
    }
    vfloat low = vsplat(p->low), high = vsplat(p->high);
    EC_UNROLL for (int m = 0; m < ROWS; m++) {
        EC_UNROLL for (int v = 0; v < VECTORS; v++)
            store_columns(out[m] + column, v, columns, vmin(high, vmax(low, sum[m][v])));
    }
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
