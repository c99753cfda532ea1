/* How a register tile of pixels (rows m) by filters (columns n) starts and ends, whatever is summed up in between. */
#ifndef EC_TILE_H
#define EC_TILE_H

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

/* The sums begin with the biases and the residual; where there are no biases the tile goes on with what `out` holds, which
   `end_sums` adds. */
EC_INLINE void start_sums(const int ROWS, const int VECTORS, vfloat sum[EC_GEMM_ROWS][EC_GEMM_VECTORS], const float *start,
                          const float *const *residual, size_t column, size_t columns) {
    if (start) {
        EC_UNROLL for (int v = 0; v < VECTORS; v++) {
            vfloat bias = vload(start + v * LANES);
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
}

EC_INLINE void end_sums(const int ROWS, const int VECTORS, vfloat sum[EC_GEMM_ROWS][EC_GEMM_VECTORS], int more,
                        float *const *out, size_t column, size_t columns, float low, float high) {
    if (more) {
        EC_UNROLL for (int m = 0; m < ROWS; m++) {
            EC_UNROLL for (int v = 0; v < VECTORS; v++) sum[m][v] += load_columns(out[m] + column, v, columns);
        }
    }
    vfloat lowest = vsplat(low), highest = vsplat(high);
    EC_UNROLL for (int m = 0; m < ROWS; m++) {
        EC_UNROLL for (int v = 0; v < VECTORS; v++)
            store_columns(out[m] + column, v, columns, vmin(highest, vmax(lowest, sum[m][v])));
    }
}
#endif
