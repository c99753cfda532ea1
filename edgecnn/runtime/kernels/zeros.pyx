"""Weights without their zeros: how many each block of a matrix holds, and packing those that are there.

Who chooses the algorithm and who lays packed arrays out look at counts alone, a byte for each block. The values are
copied later: see filling.pyx.
"""

from libc.stddef cimport size_t
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset

from edgecnn.format.arrays cimport values_of
from edgecnn.format.bits cimport ec_lowest
from edgecnn.runtime.kernels.filling cimport Filling
from edgecnn.runtime.kernels.panels cimport divide_up
from edgecnn.runtime.microkernels cimport ec_block_run, ec_sparse_row

import numpy as np

from edgecnn.errors import Error


cdef enum:
    MOST_PART = 512
    TOGETHER = 16           # filters that lie in a line of the cache

PART = MOST_PART
"""Filters whose sums of a panel of pixels stay in the second-level cache."""


cdef inline unsigned held(const float *weight) noexcept nogil:
    """1 if a weight is not zero, else 0: by its bits, since each thread has its own mind about subnormal numbers.

    The highest bit of a sum, not a comparison: GCC 12 for 64-bit ARM adds up eight of these with the wrong sign."""
    cdef uint32_t bits
    memcpy(&bits, weight, sizeof(bits))
    return ((bits & <uint32_t>0x7FFFFFFF) + <uint32_t>0x7FFFFFFF) >> 31


cdef inline unsigned count(const float *weights, size_t size) noexcept nogil:
    cdef unsigned found = 0
    cdef size_t i
    for i in range(size):
        found += held(weights + i)
    return found


cdef inline void count_row(const float *weights, size_t filters, size_t width, uint8_t *counts) noexcept nogil:
    cdef size_t i, whole = filters // width
    for i in range(whole):
        counts[i] = <uint8_t>count(weights + i * width, width)
    if filters > whole * width:
        counts[whole] = <uint8_t>count(weights + whole * width, filters - whole * width)


def block_counts(weights, size_t groups, size_t width):
    """How many weights of each block are not zero. A block: one k, and neighbouring filters of a group.

    Args:
        weights: float32 (K, filters), contiguous; the filters of a group are neighbours.
        width: filters of a block, at most 255.

    Returns:
        uint8 (K, groups * ceil(filters / groups / width)).
    """
    cdef size_t depth, filters
    if not 0 < width < 256:
        raise Error(f"blocks of {width} weights cannot be counted in bytes")
    depth, filters = weights.shape
    cdef size_t each = filters // groups, across = divide_up(each, width)
    counts = np.empty((depth, groups * across), np.uint8)
    cdef const float *source = <const float *>values_of(weights)
    cdef uint8_t *target = <uint8_t *>values_of(counts)
    with nogil:
        for _ in range(depth * groups):
            # Of the usual widths the compiler knows all about the loop.
            if width == 16:
                count_row(source, each, 16, target)
            elif width == 8:
                count_row(source, each, 8, target)
            else:
                count_row(source, each, width, target)
            source += each
            target += across
    return counts


def lay_blocks(counts, size_t groups, size_t filters, size_t channels, size_t width, size_t cut):
    """Where the rows of panels that are not all zero shall lie: see `packing.pack_blocks`.

    Args:
        counts: of `block_counts`.
        channels: of a group.
        cut: slices of K.

    Returns:
        Floats of all panels; the channel of each row; runs; slices; panels.
    """
    cdef size_t depth, panels, p, s, k, tap, last, group, column, offset = 0, row = 0, run = 0
    depth, panels = counts.shape
    cdef size_t each = filters // groups, across = panels // groups
    kept = int(np.count_nonzero(counts != 0))
    row_channels = np.empty(kept, np.uint32)
    # Each row of each slice may be of another tap; not more than there are.
    runs = np.empty((min(kept, panels * (cut + depth // channels)), 2), np.uint32)
    slices = np.empty((panels * cut, 4), np.int64)
    places = np.empty((panels, 5), np.int64)
    cdef const uint8_t *there = <const uint8_t *>values_of(counts)
    cdef uint32_t *channel = <uint32_t *>values_of(row_channels)
    cdef ec_block_run *run_of = <ec_block_run *>values_of(runs)
    cdef block_slice *piece = <block_slice *>values_of(slices)
    cdef block_panel *panel = <block_panel *>values_of(places)
    with nogil:
        for p in range(panels):
            group = p // across
            column = (p - group * across) * width
            panel[p].start, panel[p].column = offset, group * each + column
            panel[p].columns = min(width, each - column)
            panel[p].slice, panel[p].slices = p * cut, cut
            offset += width
            for s in range(cut):
                piece.weights, piece.row, piece.run, piece.runs = offset, row, run, 0
                last = depth
                for k in range(<size_t>(<uint64_t>depth * s // cut), <size_t>(<uint64_t>depth * (s + 1) // cut)):
                    if there[k * panels + p]:
                        tap = k // channels
                        if tap != last:
                            run_of[run].tap, run_of[run].count = tap, 0
                            run += 1
                            piece.runs += 1
                            last = tap
                        run_of[run - 1].count += 1
                        channel[row] = k - tap * channels + group * channels
                        row += 1
                        offset += width
                piece += 1
    return offset, row_channels, runs[:run], slices, places


cdef class BlockFilling(Filling):
    """Copies the rows of panels that are not all zero, after the panels' biases."""

    cdef const float *source
    cdef const float *bias
    cdef const uint8_t *counts
    cdef const block_panel *panels
    cdef float *packed
    cdef size_t depth, filters, width

    def __cinit__(self, weights, bias, counts, packed, panels, size_t width):
        self.kept = (weights, bias, counts, packed, panels)
        self.source, self.packed = <const float *>values_of(weights), <float *>values_of(packed)
        self.bias = NULL if bias is None else <const float *>values_of(bias)
        self.counts = <const uint8_t *>values_of(counts)
        self.panels, self.parts = <const block_panel *>values_of(panels), len(panels)
        self.depth, self.filters = weights.shape
        self.width = width

    cdef void fill(self, size_t part) noexcept nogil:
        cdef const block_panel *panel = self.panels + part
        cdef const float *source = self.source + panel.column
        cdef float *target = self.packed + panel.start
        cdef size_t k, size = panel.columns * sizeof(float)
        if self.bias != NULL:
            memcpy(target, self.bias + panel.column, size)
        target += self.width
        for k in range(self.depth):
            if self.counts[k * self.parts + part]:
                memcpy(target, source + k * self.filters, size)
                target += self.width


cdef class SingleFilling(Filling):
    """Copies the weights of each slice of each part, filter by filter, those of the most weights first."""

    cdef const float *source
    cdef const single_slice *slices
    cdef const single_part *filters_of
    cdef float *values
    cdef uint8_t *places
    cdef ec_sparse_row *rows
    cdef size_t depth, filters, size, cut

    def __cinit__(self, weights, values, places, rows, slices, parts, size_t size):
        if not 0 < size <= MOST_SLICE or parts[:, 1].max() > MOST_PART or not slices.itemsize == parts.itemsize == 8:
            raise Error("these slices or parts do not fit single weights")
        self.kept = (weights, values, places, rows, slices, parts)
        self.source = <const float *>values_of(weights)
        self.values, self.places = <float *>values_of(values), <uint8_t *>values_of(places)
        self.rows = <ec_sparse_row *>values_of(rows)
        self.slices, self.filters_of = <const single_slice *>values_of(slices), <const single_part *>values_of(parts)
        self.parts = len(slices)
        self.depth, self.filters = weights.shape
        self.size, self.cut = size, divide_up(self.depth, size)

    cdef void fill(self, size_t part) noexcept nogil:
        cdef const single_part *filters = self.filters_of + part // self.cut
        cdef size_t low = part % self.cut * self.size, depth = min(self.size, self.depth - low)
        cdef size_t columns = filters.columns, column, k, i, end
        cdef const float *source = self.source + low * self.filters + filters.column
        cdef ec_sparse_row *rows = self.rows + self.slices[part].row
        cdef uint16_t counts[MOST_PART]
        cdef size_t start[MOST_PART]
        cdef size_t place[MOST_SLICE + 1]
        memset(counts, 0, sizeof(counts))
        for k in range(depth):
            for column in range(columns):
                counts[column] += held(source + k * self.filters + column)
        # The order of the filters: by their numbers of weights, the most first, equal ones as they come.
        memset(place, 0, sizeof(place))
        for column in range(columns):
            place[counts[column]] += 1
        end = 0
        for i in range(MOST_SLICE + 1):
            k = MOST_SLICE - i
            place[k], end = end, end + place[k]
        for column in range(columns):
            i = place[counts[column]]
            place[counts[column]] += 1
            rows[i].filter, rows[i].count = column, counts[column]
        end = self.slices[part].weight
        for i in range(columns):
            start[rows[i].filter] = end
            end += rows[i].count
        for i in range(divide_up(columns, TOGETHER)):
            column = i * TOGETHER
            self.compress(source + column, min(<size_t>TOGETHER, columns - column), depth, start + column)

    cdef void compress(self, const float *source, size_t columns, size_t depth, const size_t *start) noexcept nogil:
        """Copies what is there of a few neighbouring filters to where each starts."""
        cdef float turned[TOGETHER][MOST_SLICE]
        cdef float values[MOST_SLICE + 1]
        cdef uint8_t places[MOST_SLICE + 1]
        cdef size_t column, k, found
        for k in range(depth):
            for column in range(columns):
                turned[column][k] = source[k * self.filters + column]
        for column in range(columns):
            found = 0
            for k in range(depth):
                # What a zero writes the next one overwrites: no branch that nobody can foresee.
                values[found], places[found] = turned[column][k], <uint8_t>k
                found += held(&turned[column][k])
            memcpy(self.values + start[column], values, found * sizeof(float))
            memcpy(self.places + start[column], places, found)


cdef class MaskedFilling(Filling):
    """Copies the weights of each panel row by row, and tells by masks which those are: see `packing.pack_masked`."""

    cdef const float *source
    cdef const long long *first
    cdef float *values
    cdef uint8_t *masks
    cdef size_t depth, filters, lanes, vectors

    def __cinit__(self, weights, values, masks, first, size_t lanes, size_t vectors):
        self.kept = (weights, values, masks, first)
        self.source, self.values = <const float *>values_of(weights), <float *>values_of(values)
        self.masks, self.first = <uint8_t *>values_of(masks), <const long long *>values_of(first)
        self.parts = len(first)
        self.depth, self.filters = weights.shape
        self.lanes, self.vectors = lanes, vectors

    cdef void fill(self, size_t part) noexcept nogil:
        cdef size_t column, end, k, vector, byte, lane, width = self.lanes * self.vectors
        cdef size_t bytes = divide_up(self.lanes, 8)
        cdef uint8_t *mask = self.masks + part * self.depth * self.vectors * bytes
        cdef float *target = self.values + self.first[part]
        cdef const float *row
        cdef unsigned bits
        for k in range(self.depth):
            row = self.source + k * self.filters
            for vector in range(self.vectors):
                for byte in range(bytes):
                    column = part * width + vector * self.lanes + 8 * byte
                    end = min(min(column + 8, part * width + (vector + 1) * self.lanes), self.filters)
                    bits = 0
                    for lane in range(column, end):
                        bits |= held(row + lane) << (lane - column)
                    mask[0] = <uint8_t>bits
                    mask += 1
                    while bits:
                        target[0] = row[column + ec_lowest(bits)]
                        target += 1
                        bits &= bits - 1
