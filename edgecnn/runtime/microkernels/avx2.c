/* AVX2 and FMA (Haswell 2013, Zen 2017, and later): sixteen registers of eight floats.
   6 x 16: 12 sums + 2 weights + 1 broadcast = 15 registers; 4 x 24: 12 + 3 + 1. */
#define EC_ISA avx2
#define EC_VECTOR_BYTES 32
#define EC_ROWS_1 EC_UP_TO_10
#define EC_ROWS_2 EC_UP_TO_6
#define EC_ROWS_3 EC_UP_TO_4
#define EC_TALLEST {10, 6, 4, 0}
#define EC_BLOCK_ROWS_1 EC_UP_TO_10
#define EC_BLOCK_ROWS_2 EC_UP_TO_6
#define EC_BLOCK_TALLEST {10, 6}
#define EC_SPARSE_BEST 8
#define EC_DEPTHWISE_ROWS 1
#include "isa.h"
