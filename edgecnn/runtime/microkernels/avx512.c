/* AVX-512 F, BW, VL and DQ (Skylake-SP 2017, Zen 4 2022, and later): 32 registers of sixteen floats.
   6 x 64: 24 sums + 4 weights + 1 broadcast = 29 registers, 10 loads for 24 multiply-adds; 8 x 48: 24 + 3 + 1;
   14 x 32: 28 + 2 + 1. Narrower panels take taller tiles, to keep the loads under one for each multiply-add. */
#define EC_ISA avx512
#define EC_VECTOR_BYTES 64
#define EC_ROWS_1 EC_UP_TO_12
#define EC_ROWS_2 EC_UP_TO_14
#define EC_ROWS_3 EC_UP_TO_8
#define EC_ROWS_4 EC_UP_TO_6
#define EC_TALLEST {12, 14, 8, 6}
#define EC_BLOCK_ROWS_1 EC_UP_TO_10
#define EC_BLOCK_ROWS_2 EC_UP_TO_10
#define EC_BLOCK_TALLEST {10, 10}
#define EC_SPARSE_BEST 6
#define EC_DEPTHWISE_ROWS 2
#include "isa.h"
