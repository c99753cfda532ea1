/* NEON of 64-bit ARM (ARMv8.0 and later: Cortex-A53 and A72, Raspberry Pi 3 and 4; A76, Pi 5; Apple's): 32 registers of four
   floats, and multiply-adds that take their second factor from any lane of a register. So four k of a row are one load.
   7 x 12: 21 sums + 7 rows + 3 weights = 31 registers, 19 loads for 84 multiply-adds; 9 x 8: 18 + 9 + 2 = 29, 17 for 72.
   7 divides 112, 56, 28, 14 and 7, so that tiles are whole on most networks. 16 filters across (5 x 16: 21 for 80) and
   10 x 8 (18 for 80, but all 32 registers, and GCC 12 spills) gain nothing. */
#define EC_ISA neon
#define EC_VECTOR_BYTES 16
#define EC_BY_LANE
#define EC_ROWS_1 EC_UP_TO_12
#define EC_ROWS_2 EC_UP_TO_9
#define EC_ROWS_3 EC_UP_TO_7
#define EC_TALLEST {12, 9, 7, 0}
#define EC_BLOCK_ROWS_1 EC_UP_TO_10
#define EC_BLOCK_ROWS_2 EC_UP_TO_8
#define EC_BLOCK_TALLEST {10, 8}
#define EC_SPARSE_BEST 8
#define EC_DEPTHWISE_ROWS 2
#include "isa.h"
