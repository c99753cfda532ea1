/* NEON of 32-bit ARM with fused multiply-adds (VFPv4: Cortex-A7 and A15; A53 and A72 under a 32-bit system): sixteen
   registers of four floats. These multiply-adds take no lane, but a load can fill a register with one float.
   6 x 8: 12 sums + 2 weights + 1 broadcast = 15 registers.

   NEON has no subnormal numbers here: it reads and gives zero in their place. */
#define EC_ISA neon
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
