"""The records by which packed weights without their zeros are found, as NumPy's arrays of int64 hold them."""

cdef enum:
    MOST_SLICE = 256        # K of a slice of single weights: places within it are told by a byte


# Of packing.pack_blocks.
ctypedef struct block_slice:
    long long weights, row, run, runs

ctypedef struct block_panel:
    long long start, column, columns, slice, slices


# Of packing.pack_single.
ctypedef struct single_slice:
    long long row, weight, weights

ctypedef struct single_part:
    long long column, columns, bias
