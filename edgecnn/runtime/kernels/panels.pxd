from libc.stdint cimport int64_t
from libc.stdlib cimport malloc

from edgecnn.format.arrays cimport values_of
from edgecnn.runtime.microkernels cimport ec_panel


ctypedef struct packed_panel:
    const float *weights
    const float *start      # its biases
    size_t vectors
    size_t column
    size_t columns


cdef inline size_t divide_up(size_t a, size_t b) noexcept nogil:
    return (a + b - 1) // b


cdef inline packed_panel *as_panels(packed, panels) except NULL:
    """The C form of an array of `packing.Panel`s, for the caller to free."""
    cdef size_t count = len(panels), i
    cdef packed_panel *result = <packed_panel *>malloc(max(count, 1) * sizeof(packed_panel))
    cdef const float *values = <const float *>values_of(packed)
    cdef const int64_t *panel = <const int64_t *>values_of(panels)
    if result == NULL:
        raise MemoryError("no memory for a convolution's panels")
    for i in range(count):
        result[i].vectors, result[i].column, result[i].columns = <size_t>panel[0], <size_t>panel[1], <size_t>panel[2]
        result[i].weights, result[i].start = values + panel[3], values + panel[4]
        panel += 5
    return result


cdef inline void look_ahead(ec_panel *panel, size_t width, size_t tile, size_t tiles) noexcept nogil:
    """Has tile number `tile` of a block's `tiles` fetch its part of the weights that follow in memory, as evenly as
    one or two lines for each k allow, while the slice in use stays near."""
    cdef size_t count = panel.taps * panel.depth, lines = divide_up(width, 16), streams = 1 if tiles >= lines else 2
    cdef size_t part = streams * tile
    cdef const char *here = <const char *>panel.weights
    cdef const char *next = here + (count * width + part * count * 16) * sizeof(float)
    panel.ahead[0] = next if part < lines else here
    panel.ahead[1] = next + count * 64 if streams == 2 and part + 1 < lines else here
