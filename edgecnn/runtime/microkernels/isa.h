/* Fills one instruction set's table from the templates. The file that includes this defines EC_ISA (its name),
   EC_VECTOR_BYTES, and for each panel width the tallest tile: EC_ROWS_1 .. EC_ROWS_4 (a list macro) and their counts;
   EC_BLOCK_ROWS_1 and _2 and EC_BLOCK_TALLEST, the same for matrices without their zero blocks; EC_SPARSE_BEST, the vectors of
   pixels for single weights; EC_DEPTHWISE_ROWS, the rows of outputs that a depthwise tile has; EC_BY_LANE, if multiply-adds
   can take one lane of a register. */
#include "gemm_f32.h"
#include "sparse_f32.h"
#include "window_f32.h"
#include "winograd_f32.h"

EC_ROWS_1(EC_GEMM_TILE, 1)
EC_ROWS_2(EC_GEMM_TILE, 2)
#ifdef EC_ROWS_3
EC_ROWS_3(EC_GEMM_TILE, 3)
#endif
#ifdef EC_ROWS_4
EC_ROWS_4(EC_GEMM_TILE, 4)
#endif

EC_BLOCK_ROWS_1(EC_BLOCK_TILE, 1)
EC_BLOCK_ROWS_2(EC_BLOCK_TILE, 2)

#define EC_JOIN(a, b) a##b
#define EC_TABLE_NAME(isa) EC_JOIN(ec_table_, isa)
#define EC_TEXT(x) #x
#define EC_STRING(x) EC_TEXT(x)
#define EC_ACTIVATE_ENTRY(NAME) activate_##NAME,
#define EC_BINARY_SLOT(NAME) NAME##_f32,
#define EC_BINARY_SCALAR_SLOT(NAME) NAME##_scalar_f32,
#define EC_SCALAR_BINARY_SLOT(NAME) scalar_##NAME##_f32,

const ec_table EC_TABLE_NAME(EC_ISA) = {
    .name = EC_STRING(EC_ISA),
    .lanes = LANES,
    .gemm_rows = EC_TALLEST,
    .gemm = {{EC_ROWS_1(EC_GEMM_ENTRY, 1)},
             {EC_ROWS_2(EC_GEMM_ENTRY, 2)},
#ifdef EC_ROWS_3
             {EC_ROWS_3(EC_GEMM_ENTRY, 3)},
#endif
#ifdef EC_ROWS_4
             {EC_ROWS_4(EC_GEMM_ENTRY, 4)},
#endif
    },
    .block_rows = EC_BLOCK_TALLEST,
    .block = {{EC_BLOCK_ROWS_1(EC_BLOCK_ENTRY, 1)}, {EC_BLOCK_ROWS_2(EC_BLOCK_ENTRY, 2)}},
    .sparse_vectors = EC_SPARSE_BEST,
    .sparse = {EC_SPARSE_LIST(EC_SPARSE_ENTRY)},
    .gather = gather_f32,
    .scatter = scatter_f32,
    .activate = {EC_FUNCTION_LIST(EC_ACTIVATE_ENTRY)},
    .winograd = {EC_WINOGRAD_LIST(EC_WINOGRAD_ENTRY)},
    .winograd_filters = winograd_filters_f32,
    .depthwise = depthwise_f32,
    .max_pool = max_pool_f32,
    .average_pool = average_pool_f32,
    .binary = {EC_BINARY_LIST(EC_BINARY_SLOT)},
    .binary_scalar = {EC_BINARY_LIST(EC_BINARY_SCALAR_SLOT)},
    .scalar_binary = {EC_BINARY_LIST(EC_SCALAR_BINARY_SLOT)},
    .scale_shift = scale_shift_f32,
    .reduce_add = reduce_add_f32,
    .reduce_max = reduce_max_f32,
    .reduce_min = reduce_min_f32,
    .reduce_squares = reduce_squares_f32,
    .normalize = normalize_f32,
    .weigh = weigh_f32,
    .add_rows = add_rows_f32,
    .add_masked = ADD_MASKED,
    .respond = respond_f32,
    .clamp = clamp_f32,
    .softmax = softmax_f32,
    .log_softmax = log_softmax_f32,
    .measure_peak = measure_peak_f32,
};
