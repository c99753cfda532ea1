from libc.stddef cimport size_t


cdef extern from "table.h" nogil:
    enum:
        EC_GEMM_VECTORS
        EC_GEMM_ROWS
        EC_FUNCTIONS
        EC_BINARIES
        EC_BINARY_add
        EC_BINARY_multiply
        EC_BINARY_subtract
        EC_WINOGRADS

    ctypedef void (*ec_activate)(float * const *, size_t, size_t, size_t, const float *) noexcept nogil

    ctypedef struct ec_activation:
        float low, high
        ec_activate function
        float parameters[3]

    enum:
        EC_MASKED_VECTORS

    ctypedef struct ec_panel:
        const float *weights
        const float *start
        size_t taps, depth, skip, pitch, columns
        float low, high
        const char *ahead[2]

    ctypedef void (*ec_gemm)(const ec_panel *, const float **, float **, const float **, size_t) noexcept nogil

    ctypedef struct ec_block_run:
        unsigned int tap, count

    ctypedef struct ec_block_panel:
        const float *weights
        const float *start
        const unsigned int *channels
        const ec_block_run *runs
        size_t run_count, pitch, columns
        float low, high

    ctypedef void (*ec_block)(const ec_block_panel *, const float **, float **, const float **, size_t) noexcept nogil

    ctypedef struct ec_sparse_row:
        unsigned short filter, count

    ctypedef void (*ec_sparse)(const float *, const ec_sparse_row *, size_t, const float *, const unsigned char *,
                               float *, int) noexcept nogil
    ctypedef void (*ec_gather)(const float **, size_t, size_t, size_t, float *, size_t) noexcept nogil
    ctypedef void (*ec_scatter)(const float *, size_t, size_t, const float *, const float **, float **, size_t, size_t,
                                float, float) noexcept nogil

    ctypedef struct ec_window:
        size_t height, width, channels
        size_t out_height, out_width
        size_t kernel_height, kernel_width
        size_t stride_height, stride_width
        size_t dilation_height, dilation_width
        size_t pad_top, pad_left
        size_t row, pixel
        size_t out_row, out_pixel
        size_t divisor

    ctypedef void (*ec_depthwise)(const ec_window *, const float *, const float *, float *, size_t, size_t, size_t,
                                  size_t, const ec_activation *) noexcept nogil
    ctypedef void (*ec_winograd_input)(const float *, size_t, size_t, size_t, float *, size_t) noexcept nogil

    ctypedef struct ec_winograd_end:
        size_t rows, columns
        size_t out_row, out_pixel
        size_t residual_row, residual_pixel
        float low, high

    ctypedef void (*ec_winograd_output)(const float *, size_t, const ec_winograd_end *, const float *, const float *,
                                        float *, size_t) noexcept nogil

    ctypedef struct ec_winograd:
        int height_points, height_outputs, width_points, width_outputs
        ec_winograd_input input
        ec_winograd_output output

    ctypedef struct ec_winograd_filter:
        size_t height_points, width_points, height_taps, width_taps
        const double *height
        const double *width

    ctypedef void (*ec_winograd_filters)(const ec_winograd_filter *, const float *, size_t, size_t, float *,
                                         size_t) noexcept nogil

    ctypedef void (*ec_pool)(const ec_window *, const float *, float *, size_t, size_t) noexcept nogil
    ctypedef void (*ec_binary)(const float *, const float *, float *, size_t) noexcept nogil
    ctypedef void (*ec_scalar)(const float *, float, float *, size_t) noexcept nogil
    ctypedef void (*ec_scale_shift)(const float *, const float *, const float *, float *, size_t) noexcept nogil
    ctypedef void (*ec_reduce)(const float *, size_t, size_t, float *, size_t) noexcept nogil
    ctypedef void (*ec_reduce_squares)(const float *, size_t, size_t, float, float *, float *, size_t) noexcept nogil
    ctypedef void (*ec_normalize)(const float *, float, float, float, const float *, const float *, float *,
                                  size_t) noexcept nogil
    ctypedef void (*ec_weigh)(const float **, const float *, size_t, float *, size_t) noexcept nogil
    ctypedef void (*ec_add_rows)(const float *, const float *, size_t, size_t, float *, size_t) noexcept nogil
    ctypedef const float *(*ec_add_masked)(const float *, const unsigned char *, const float *, size_t,
                                           float *) noexcept nogil
    ctypedef void (*ec_respond)(const float *, size_t, size_t, float, float, float, float *, size_t) noexcept nogil
    ctypedef void (*ec_clamp)(float *, size_t, float, float) noexcept nogil
    ctypedef void (*ec_softmax)(const float *, float *, size_t) noexcept nogil
    ctypedef double (*ec_measure)(long) noexcept nogil

    const char *ec_function_names[39]
    const char *ec_binary_names[8]

    ctypedef struct ec_table:
        const char *name
        int lanes
        int gemm_rows[4]
        ec_gemm gemm[4][14]
        int block_rows[2]
        ec_block block[2][14]
        int sparse_vectors
        ec_sparse sparse[8]
        ec_gather gather
        ec_scatter scatter
        ec_activate activate[39]
        ec_winograd winograd[7]
        ec_winograd_filters winograd_filters
        ec_depthwise depthwise
        ec_pool max_pool, average_pool
        ec_binary binary[8]
        ec_scalar binary_scalar[8]
        ec_scalar scalar_binary[8]
        ec_scale_shift scale_shift
        ec_reduce reduce_add, reduce_max, reduce_min
        ec_reduce_squares reduce_squares
        ec_normalize normalize
        ec_weigh weigh
        ec_add_rows add_rows
        ec_add_masked add_masked
        ec_respond respond
        ec_clamp clamp
        ec_softmax softmax, log_softmax
        ec_measure measure_peak
