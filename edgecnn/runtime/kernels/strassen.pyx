"""Convolution of one pixel's window by Strassen's algorithm: seven products of halves in place of eight.

The pixels of a block, the channels and the filters are halved: A = [A11 A12; A21 A22] are the block's values, B the
weights. In Winograd's form (Strassen 1969; Winograd 1971; as in Higham 2002, section 23.1):

    S1 = A21 + A22    S2 = S1 - A11    S3 = A11 - A21    S4 = A12 - S2
    T1 = B12 - B11    T2 = B22 - T1    T3 = B22 - B12    T4 = B21 - T2
    U2 = A11 B11 + S2 T2    U3 = U2 + S3 T3    P5 = S1 T1
    C11 = A11 B11 + A12 B21    C12 = U2 + P5 + S4 B22    C21 = U3 + A22 T4    C22 = U3 + P5

The sums of weights are made at load; sums of products are started from one another in the register tiles, so that
only P5 is added by itself, as is the residual where there is one: it may lie where the output will, so that each
quarter of it is read before that quarter of the output is written. One level is enough for the sizes of networks. The
blocks depend on the number of pixels alone: a pixel's bits depend on the half that it falls into.
"""

from functools import partial

import numpy as np

from libc.math cimport INFINITY
from libc.stdlib cimport free

from edgecnn.format.arrays cimport values_of
from edgecnn.runtime.cpu cimport InstructionSet
from edgecnn.runtime.executor cimport Step, as_view
from edgecnn.runtime.kernels.activations cimport as_activation
from edgecnn.runtime.kernels.filling cimport Filling
from edgecnn.runtime.kernels.panels cimport as_panels, divide_up, look_ahead, packed_panel
from edgecnn.runtime.microkernels cimport EC_BINARY_add, EC_BINARY_subtract, ec_activation, ec_panel, ec_table
from edgecnn.runtime.step cimport ec_at, ec_context, ec_share, ec_step, ec_stopped, ec_view

from edgecnn.runtime.kernels.packing import Panel, count_panels, split_filters

# Longer sums are cut into slices, as in convolution.pyx.
cdef size_t SLICE = 256
# Pixels of a block, at most: its values and four sums of halves stay in the second-level cache.
BLOCK = 112
cdef enum:
    PRODUCTS = 7


ctypedef struct strassen_arguments:
    ec_view x
    ec_view out
    ec_view residual
    bint has_residual
    size_t blocks
    size_t most               # pixels of half a block
    size_t depth, filters     # of a half
    size_t slice_depth
    size_t width              # of the widest panel
    size_t panels             # of half the filters
    const packed_panel *panel
    const float *bias         # two rows a panel, for either half of the filters, `width` floats each; zeros behind them
    const float *zeros
    ec_activation activation
    const ec_table *table


cdef class StrassenStep(Step):
    cdef strassen_arguments arguments
    cdef packed_panel *panel

    def __dealloc__(self):
        free(self.panel)


cdef void multiply(const strassen_arguments *a, const packed_panel *packed, size_t product, size_t count,
                   const float **rows, size_t skip, float **out, size_t column, const float *start,
                   const float **first, bint ends) noexcept nogil:
    """out = start + first + rows * product's weights; start NULL: added to what `out` holds; first NULL: nothing.

    Args:
        skip: channels to leave out at the start of each row.
        column: where in `out` the panel's columns begin.
        ends: whether the sum is complete, and clamped.
        rows: NULL for none: out = start + first.
    """
    cdef ec_panel panel
    cdef size_t width = packed.vectors * a.table.lanes, tallest = a.table.gemm_rows[packed.vectors - 1]
    cdef size_t tiles = divide_up(count, tallest), short = count // tiles, longer = count - short * tiles
    cdef size_t tile, at, rows_here, k = 0, depth = a.depth if rows != NULL else 0
    cdef bint last = False
    panel.pitch = count
    panel.columns = packed.columns
    panel.taps = 1 if rows != NULL else 0
    while not last:
        panel.depth = min(a.slice_depth, depth - k)
        last = k + panel.depth == depth
        panel.start = start if k == 0 else NULL
        panel.weights = packed.weights + (product * a.depth + k) * width
        panel.skip = skip + k
        panel.low = a.activation.low if ends and last else -INFINITY
        panel.high = a.activation.high if ends and last else INFINITY
        at = 0
        for tile in range(tiles):
            rows_here = short + (1 if tile < longer else 0)
            look_ahead(&panel, width, tile, tiles)
            # `first` has rows of the panel's width; the tile looks for them from `column` on, as for `out`.
            a.table.gemm[packed.vectors - 1][rows_here - 1](
                &panel, rows + at if rows != NULL else NULL, out + at,
                first + at if first != NULL and panel.start != NULL else NULL, column,
            )
            at += rows_here
        k += panel.depth


cdef void run(const ec_step *step, const ec_context *context, int thread, int threads) noexcept nogil:
    # Pairs of (block, panel) are shared; each writes outputs of its own. A thread makes the sums of every block it
    # meets.
    cdef const strassen_arguments *a = <const strassen_arguments *>step.arguments
    cdef const float *x = ec_at(context, &a.x)
    cdef float *out = ec_at(context, &a.out)
    cdef const float *residual = ec_at(context, &a.residual) if a.has_residual else NULL
    cdef size_t pixels = a.x.height * a.x.width, index, end, block, built = a.blocks, panel, m, half = 0, rest = 0
    cdef size_t first, last, column, second, i
    cdef const packed_panel *packed
    cdef const float *bias
    cdef float **u2
    cdef float **u3
    cdef float **p5
    cdef float **c11
    # Pointers to rows: both halves of the input, of the output and of the residual, four sums, three products, these
    # also shifted so that the tiles find them behind the column of an output.
    cdef const float **upper = <const float **>context.scratch
    cdef const float **lower = upper + a.most
    cdef const float **s = lower + a.most
    cdef float **above = <float **>(s + 4 * a.most)
    cdef float **below = above + a.most
    cdef float **p = below + a.most
    cdef const float **shifted = <const float **>(p + 3 * a.most)
    cdef const float **added_above = shifted + a.most
    cdef const float **added_below = added_above + a.most
    cdef float *sums = <float *>(context.scratch + pointer_bytes(a))
    cdef float *products = sums + divide_up(4 * a.most * a.depth, 16) * 16
    cdef float *sink = products + 3 * a.most * a.width
    for m in range(a.most):
        for i in range(4):
            s[i * a.most + m] = sums + (i * a.most + m) * a.depth
        for i in range(3):
            p[i * a.most + m] = products + (i * a.most + m) * a.width
    ec_share(a.blocks * a.panels, thread, threads, &index, &end)
    while index < end and not ec_stopped(context):
        block = index // a.panels
        panel = index - block * a.panels
        if block != built:
            built = block
            first, last = pixels * block // a.blocks, pixels * (block + 1) // a.blocks
            half = divide_up(last - first, 2)
            rest = last - first - half
            for m in range(half):
                upper[m] = pixel_at(&a.x, x, first + m)
                above[m] = pixel_at(&a.out, out, first + m)
                # An odd pixel has none to go with: zeros, and a place where nobody looks.
                lower[m] = pixel_at(&a.x, x, first + half + m) if m < rest else context.zeros
                below[m] = pixel_at(&a.out, out, first + half + m) if m < rest else sink
                if a.has_residual:
                    added_above[m] = pixel_at(&a.residual, residual, first + m)
                    added_below[m] = (
                        pixel_at(&a.residual, residual, first + half + m) if m < rest else context.zeros
                    )
                add_halves(a, upper[m], lower[m], sums + m * a.depth, a.most * a.depth)
        packed = a.panel + panel
        bias = a.bias + 2 * panel * a.width
        column = packed.column
        second = a.filters + column
        u2, u3, p5 = p, p + a.most, p + 2 * a.most
        multiply(a, packed, 0, half, upper, 0, u2, 0, a.zeros, NULL, False)  # A11 B11
        c11 = u2
        if a.has_residual:
            c11 = u3  # not in use yet
            add_rows(a, u2, added_above, column, c11, half, packed.columns)
        finish(a, packed, 1, half, upper, a.depth, above, column, bias, c11, shifted)
        multiply(a, packed, 2, half, s + a.most, 0, u2, 0, NULL, NULL, False)
        multiply(a, packed, 3, half, s + 2 * a.most, 0, u3, 0, a.zeros, <const float **>u2, False)
        multiply(a, packed, 4, half, s, 0, p5, 0, a.zeros, NULL, False)
        # Rows of products lie one behind the other: all are added at once.
        a.table.binary[EC_BINARY_add](u2[0], p5[0], u2[0], half * a.width)
        if a.has_residual:
            add_rows(a, u2, added_above, second, u2, half, packed.columns)
        finish(a, packed, 5, half, s + 3 * a.most, 0, above, second, bias + a.width, u2, shifted)
        a.table.binary[EC_BINARY_add](u3[0], p5[0], u2[0], half * a.width)
        if a.has_residual:
            add_rows(a, u2, added_below, second, u2, half, packed.columns)
            add_rows(a, u3, added_below, column, u3, half, packed.columns)
        finish(a, packed, PRODUCTS, half, NULL, 0, below, second, bias + a.width, u2, shifted)
        finish(a, packed, 6, half, lower, a.depth, below, column, bias, u3, shifted)
        index += 1


cdef inline void add_rows(const strassen_arguments *a, float **x, const float **y, size_t column, float **out,
                          size_t count, size_t columns) noexcept nogil:
    """out = x + y, for rows of a panel; y: in all of its columns, from `column` on."""
    cdef size_t m
    for m in range(count):
        a.table.binary[EC_BINARY_add](x[m], y[m] + column, out[m], columns)


cdef inline void finish(const strassen_arguments *a, const packed_panel *packed, size_t product, size_t count,
                        const float **rows, size_t skip, float **out, size_t column, const float *bias, float **sums,
                        const float **shifted) noexcept nogil:
    """out = activation(bias + sums + rows * product's weights); without rows: of what there is."""
    shift(sums, count, column, shifted)
    multiply(a, packed, product, count, rows, skip, out, column, bias, shifted, True)
    if a.activation.function != NULL:
        a.activation.function(out, count, column, packed.columns, a.activation.parameters)


cdef inline size_t pointer_bytes(const strassen_arguments *a) noexcept nogil:
    """Of all the tables of pointers in scratch memory."""
    return divide_up(14 * a.most * sizeof(void *), 64) * 64


cdef inline const float *pixel_at(const ec_view *view, const float *base, size_t pixel) noexcept nogil:
    cdef size_t row = pixel // view.width
    return base + row * view.row + (pixel - row * view.width) * view.pixel


cdef inline void shift(float **rows, size_t count, size_t column, const float **shifted) noexcept nogil:
    cdef size_t m
    for m in range(count):
        shifted[m] = rows[m] - column


cdef void add_halves(const strassen_arguments *a, const float *upper, const float *lower, float *sums,
                     size_t step) noexcept nogil:
    """S1, S2, S3 and S4 of one row, `step` floats apart."""
    a.table.binary[EC_BINARY_add](lower, lower + a.depth, sums, a.depth)
    a.table.binary[EC_BINARY_subtract](sums, upper, sums + step, a.depth)
    a.table.binary[EC_BINARY_subtract](upper, lower, sums + 2 * step, a.depth)
    a.table.binary[EC_BINARY_subtract](upper + a.depth, sums + step, sums + 3 * step, a.depth)


cdef class HalvesFilling(Filling):
    """The seven matrices that Strassen's algorithm multiplies by: see `pack_halves`."""

    cdef const float *source
    cdef packed_panel *panels
    cdef size_t depth, filters, lanes     # depth, filters: of a half

    def __cinit__(self, weights, packed, panels, size_t lanes):
        self.kept = (weights, packed)
        self.source = <const float *>values_of(weights)
        self.panels, self.parts = as_panels(packed, panels), len(panels)
        self.depth, self.filters, self.lanes = weights.shape[0] // 2, weights.shape[1] // 2, lanes

    def __dealloc__(self):
        free(self.panels)

    cdef void fill(self, size_t part) noexcept nogil:
        cdef size_t j, k, width, step, across = 2 * self.filters
        cdef const packed_panel *panel
        cdef const float *b11
        cdef const float *b12
        cdef const float *b21
        cdef const float *b22
        cdef float *m
        cdef float t1, t2
        panel = self.panels + part
        width = panel.vectors * self.lanes
        step = self.depth * width
        for k in range(self.depth):
            b11 = self.source + k * across + panel.column
            b12, b21 = b11 + self.filters, b11 + self.depth * across
            b22 = b21 + self.filters
            m = <float *>panel.weights + k * width
            for j in range(panel.columns):
                t1 = b12[j] - b11[j]
                t2 = b22[j] - t1
                m[j] = b11[j]
                m[j + step] = b21[j]
                m[j + 2 * step] = t2
                m[j + 3 * step] = b22[j] - b12[j]
                m[j + 4 * step] = t1
                m[j + 5 * step] = b22[j]
                m[j + 6 * step] = b21[j] - t2


def pack_halves(weights, bias, InstructionSet instruction_set, shelf):
    """The seven matrices, panel by panel in the order of their use: B11, B21, T2, T3, T1, B22, T4.

    Args:
        weights: float32 (depth, filters), both even.
        bias: float32 (filters,) or None.
        shelf: where the arrays lie, the panels without their values at first.

    Returns:
        All panels in one aligned array, each [7][depth / 2][vectors * lanes]; where each lies; the biases, two rows a
        panel as wide as the widest, and a row of zeros.
    """
    depth, filters = weights.shape[0] // 2, weights.shape[1] // 2
    lanes = instruction_set.lanes
    shelf.expect_panels(count_panels(filters, lanes, [instruction_set.table.gemm_rows[i] for i in range(4)]))
    widths = split_filters(filters, lanes, [instruction_set.table.gemm_rows[i] for i in range(4)])
    packed = shelf.aligned(PRODUCTS * depth * sum(widths) * lanes)
    biases = shelf.aligned((2 * len(widths) + 1) * max(widths) * lanes).reshape(-1, max(widths) * lanes)
    panels, offset, column = [], 0, 0
    for index, vectors in enumerate(widths):
        width, columns = vectors * lanes, min(vectors * lanes, filters - column)
        if bias is not None:
            biases[2 * index, :columns] = bias[column : column + columns]
            biases[2 * index + 1, :columns] = bias[filters + column : filters + column + columns]
        panels.append(Panel(vectors, column, columns, offset, 0))
        offset += PRODUCTS * depth * width
        column += columns
    panels = np.array(panels, np.int64)
    shelf.fillings.append(HalvesFilling(np.ascontiguousarray(weights, np.float32), packed, panels, lanes))
    return packed, panels, biases


def prepare_strassen(placed):
    """Prepare a `conv` node of 1 x 1 windows and stride 1, channels and filters even."""
    cdef StrassenStep step = StrassenStep.__new__(StrassenStep)
    cdef strassen_arguments *a = &step.arguments
    cdef InstructionSet instruction_set = placed.instruction_set
    x, out, residual, weights = placed.view("x"), placed.out, placed.view("residual"), placed.constant("weights")
    weights = weights.reshape(weights.shape[-2:])
    packed, panels, bias = placed.packed(
        "strassen", partial(pack_halves, weights, placed.constant("bias"), instruction_set)
    )
    step.keep = (packed, bias)
    step.panel = as_panels(packed, panels)
    a.panel, a.panels, a.width = step.panel, len(panels), bias.shape[1]
    a.bias = <const float *>values_of(bias)
    a.zeros = a.bias + 2 * a.panels * a.width
    a.x, a.out, a.has_residual = as_view(x), as_view(out), residual is not None
    if residual is not None:
        a.residual = as_view(residual)
    a.depth, a.filters = weights.shape[0] // 2, weights.shape[1] // 2
    a.slice_depth = divide_up(a.depth, divide_up(a.depth, SLICE))
    pixels = x.height * x.width
    a.blocks = divide_up(divide_up(pixels, BLOCK), 2) * 2  # even: two threads share them out evenly
    a.blocks = min(a.blocks, <size_t>pixels)
    a.most = divide_up(divide_up(pixels, a.blocks), 2)
    a.activation = as_activation(placed.node.attributes, instruction_set)
    a.table = instruction_set.table
    step.scratch = pointer_bytes(a)
    step.scratch += 4 * (divide_up(4 * a.most * a.depth, 16) * 16 + 3 * a.most * a.width + 2 * a.filters)
    step.step.run, step.step.asks = run, 1
    step.step.arguments = a
    step.step.serial = placed.serial
    step.kernel = f"strassen {instruction_set.name}"
    return step
