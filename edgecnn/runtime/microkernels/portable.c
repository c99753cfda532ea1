/* Every CPU: vectors of four floats, which the compiler makes of SSE2 on x86-64, of NEON on 64-bit ARM, and of plain floats
   where there is nothing (ARMv6; ARMv7 without VFPv4).
   6 x 8: 12 sums + 2 weights + 1 broadcast + 1 product (no fused multiply-add) = 16 registers. */
#define EC_ISA portable
#define EC_VECTOR_BYTES 16
#define EC_ROWS_1 EC_UP_TO_8
#define EC_ROWS_2 EC_UP_TO_6
#define EC_TALLEST {8, 6, 0, 0}
#define EC_BLOCK_ROWS_1 EC_UP_TO_8
#define EC_BLOCK_ROWS_2 EC_UP_TO_6
#define EC_BLOCK_TALLEST {8, 6}
#define EC_SPARSE_BEST 8
#define EC_DEPTHWISE_ROWS 1
#include "isa.h"
