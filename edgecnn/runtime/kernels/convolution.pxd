from libc.stddef cimport ptrdiff_t

from edgecnn.runtime.executor cimport Step
from edgecnn.runtime.kernels.panels cimport packed_panel
from edgecnn.runtime.microkernels cimport ec_activation, ec_table, ec_window
from edgecnn.runtime.step cimport ec_rows, ec_run, ec_view


ctypedef struct volume:
    size_t depth
    size_t kernel, stride, dilation
    ptrdiff_t pad
    size_t x_plane, out_plane, residual_plane   # floats from one plane to the next
    size_t out_planes


ctypedef struct convolution_arguments:
    ec_view x
    ec_view out
    ec_view residual
    bint has_residual
    ec_window window          # of one plane
    volume planes
    size_t groups
    size_t depth          # channels of a group; of runs: those of a row of the window
    size_t taps           # of runs: rows of the window
    bint runs
    size_t block          # most pixels in a block
    size_t slice_taps, slice_depth
    size_t panels         # of all groups
    bint heavy            # few pixels, many weights: threads share the panels, so that each reads its weights only
    const packed_panel *panel
    ec_activation activation
    const ec_table *table


cdef void point_at_taps(const convolution_arguments *a, const float *x, const float *zeros, size_t first, size_t last,
                        const float **table) noexcept nogil
cdef void point_at_pixels(float *base, size_t plane, size_t row, size_t pixel, size_t height, size_t width,
                          size_t first, size_t last, float **table) noexcept nogil
cdef int describe(convolution_arguments *a, placed, product) except -1
cdef int set_functions(Step step, placed, product, ec_run run, ec_rows rows) except -1
