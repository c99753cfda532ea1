"""Convolution of stride 1 by Winograd's algorithm: fewer multiplications for more additions.

The output is cut into tiles, taken in blocks. For a block, the tiles of the input are transformed to their values at a
few points; at each point these are multiplied, as a matrix of tiles x channels, with the filters' values there,
transformed at load; the products of all points are transformed back to pixels. The products, by far the most work, are
those of the register tiles that all convolutions use.

Source: Lavin & Gray 2015 (arXiv 1509.09308), sections 4 and 5.
"""

from functools import partial

import numpy as np

from libc.math cimport INFINITY
from libc.stddef cimport ptrdiff_t
from libc.stdlib cimport free
from libc.string cimport memcpy, memset

from edgecnn.format.arrays cimport values_of
from edgecnn.runtime.cpu cimport InstructionSet
from edgecnn.runtime.executor cimport Step, as_view
from edgecnn.runtime.kernels.activations cimport as_activation
from edgecnn.runtime.kernels.filling cimport Filling
from edgecnn.runtime.kernels.panels cimport as_panels, divide_up, look_ahead, packed_panel
from edgecnn.runtime.microkernels cimport (
    EC_WINOGRADS,
    ec_activation,
    ec_panel,
    ec_table,
    ec_winograd,
    ec_winograd_end,
    ec_winograd_filter,
)
from edgecnn.runtime.step cimport ec_at, ec_context, ec_share, ec_step, ec_stopped, ec_view

from edgecnn.graph.operators import resolve_pads
from edgecnn.runtime.cpu import SECOND_LEVEL_BYTES
from edgecnn.runtime.kernels.packing import Panel, WinogradForm, count_panels, filter_transformation, split_filters

# What a block's tiles and the products of a panel may take of the second-level cache, the filters passing through the
# rest. Where that makes too few tiles to use the filters often, the products alone stay there, and the tiles are read
# again for each panel, which costs less than reading the filters again for each block.
cdef size_t BLOCK_BYTES = SECOND_LEVEL_BYTES * 7 // 16
cdef size_t LEAST_BLOCK = 24
# Longer sums are cut into slices, as in convolution.pyx.
cdef size_t SLICE = 256


ctypedef struct winograd_arguments:
    ec_view x
    ec_view out
    ec_view residual
    bint has_residual
    ptrdiff_t pad_top, pad_left
    size_t tile_rows, tile_columns   # tiles of the output
    size_t positions
    size_t groups, depth             # channels of a group
    size_t slice_depth
    size_t block                     # most tiles in a block
    size_t width                     # of the widest panel
    size_t panels                    # of all groups
    bint by_panels                   # few tiles: threads share the panels, and each transforms all tiles
    const packed_panel *panel
    const float *bias                # of each panel, one after the other, `width` floats apart
    const float *zeros
    ec_winograd form
    ec_activation activation
    const ec_table *table


cdef class WinogradStep(Step):
    cdef winograd_arguments arguments
    cdef packed_panel *panel

    def __dealloc__(self):
        free(self.panel)


cdef inline size_t odd_lines(size_t floats) noexcept nogil:
    """So many floats, or a few more, that what lies that far apart falls into different sets of a cache."""
    return (divide_up(floats, 16) | 1) * 16


cdef inline size_t in_lines(size_t bytes) noexcept nogil:
    return divide_up(bytes, 64) * 64


cdef void transform_tile(const winograd_arguments *a, const float *x, size_t tile, float *patch, float *v,
                         size_t position) noexcept nogil:
    """One tile of the input to its values at the points; what lies outside the image is zero."""
    cdef size_t ty = tile // a.tile_columns, tx = tile - ty * a.tile_columns
    cdef ptrdiff_t top = <ptrdiff_t>(ty * a.form.height_outputs) - a.pad_top
    cdef ptrdiff_t left = <ptrdiff_t>(tx * a.form.width_outputs) - a.pad_left
    cdef ptrdiff_t height = a.x.height, width = a.x.width, rows = a.form.height_points, columns = a.form.width_points
    cdef ptrdiff_t i, first, last
    cdef size_t channels = a.x.channels
    if top >= 0 and left >= 0 and top + rows <= height and left + columns <= width:
        x += top * <ptrdiff_t>a.x.row + left * <ptrdiff_t>a.x.pixel
        a.form.input(x, a.x.row, a.x.pixel, channels, v, position)
        return
    memset(patch, 0, rows * columns * channels * sizeof(float))
    first, last = max(<ptrdiff_t>0, -left), min(columns, width - left)
    for i in range(max(<ptrdiff_t>0, -top), min(rows, height - top)):
        copy_pixels(x + (top + i) * <ptrdiff_t>a.x.row + (left + first) * <ptrdiff_t>a.x.pixel, a.x.pixel, channels,
                    last - first, patch + (i * columns + first) * <ptrdiff_t>channels)
    a.form.input(patch, columns * channels, channels, channels, v, position)


cdef inline void copy_pixels(const float *x, size_t pixel, size_t channels, ptrdiff_t count, float *out) noexcept nogil:
    cdef ptrdiff_t i
    if pixel == channels:
        memcpy(out, x, max(count, <ptrdiff_t>0) * channels * sizeof(float))
        return
    for i in range(count):
        memcpy(out + i * <ptrdiff_t>channels, x + i * <ptrdiff_t>pixel, channels * sizeof(float))


cdef void multiply_positions(const winograd_arguments *a, const packed_panel *packed, size_t skip, size_t count,
                             const float **table, size_t position, float **out, size_t out_position) noexcept nogil:
    """The products of a panel at every point."""
    cdef ec_panel panel
    cdef size_t width = packed.vectors * a.table.lanes, tallest = a.table.gemm_rows[packed.vectors - 1]
    cdef size_t tiles = divide_up(count, tallest), short = count // tiles, longer = count - short * tiles
    cdef size_t tile, first, rows, p, k
    panel.pitch = count
    panel.columns = width
    panel.taps = 1
    panel.low, panel.high = -INFINITY, INFINITY
    for p in range(a.positions):
        k = 0
        while k < a.depth:
            panel.start = a.zeros if k == 0 else NULL
            panel.weights = packed.weights + (p * a.depth + k) * width
            panel.depth = min(a.slice_depth, a.depth - k)
            panel.skip = p * position + skip + k
            first = 0
            for tile in range(tiles):
                rows = short + (1 if tile < longer else 0)
                look_ahead(&panel, width, tile, tiles)
                a.table.gemm[packed.vectors - 1][rows - 1](&panel, table + first, out + first, NULL, p * out_position)
                first += rows
            k += panel.depth


cdef void transform_back(const winograd_arguments *a, const packed_panel *packed, const float *bias, size_t tile,
                         const float *products, size_t position, float *out, const float *residual) noexcept nogil:
    cdef ec_winograd_end end
    cdef float *pixels[16]  # of the largest tile
    cdef size_t ty = tile // a.tile_columns, tx = tile - ty * a.tile_columns, i, j
    cdef size_t y = ty * a.form.height_outputs, x = tx * a.form.width_outputs
    end.rows = min(<size_t>a.form.height_outputs, a.out.height - y)
    end.columns = min(<size_t>a.form.width_outputs, a.out.width - x)
    end.out_row, end.out_pixel = a.out.row, a.out.pixel
    end.residual_row, end.residual_pixel = a.residual.row, a.residual.pixel
    end.low, end.high = a.activation.low, a.activation.high
    out += y * a.out.row + x * a.out.pixel + packed.column
    if residual != NULL:
        residual += y * a.residual.row + x * a.residual.pixel + packed.column
    a.form.output(products, position, &end, bias, residual, out, packed.columns)
    if a.activation.function != NULL:
        for i in range(end.rows):
            for j in range(end.columns):
                pixels[i * end.columns + j] = out + i * a.out.row + j * a.out.pixel
        a.activation.function(pixels, end.rows * end.columns, 0, packed.columns, a.activation.parameters)


cdef void run(const ec_step *step, const ec_context *context, int thread, int threads) noexcept nogil:
    # Threads share blocks of tiles, or panels of filters; each writes outputs of its own, from a scratch of its own. Of
    # a panel that falls to two threads each does some of the tiles.
    cdef const winograd_arguments *a = <const winograd_arguments *>step.arguments
    cdef const float *x = ec_at(context, &a.x)
    cdef float *out = ec_at(context, &a.out)
    cdef const float *residual = ec_at(context, &a.residual) if a.has_residual else NULL
    cdef size_t tiles = a.tile_rows * a.tile_columns, blocks = divide_up(tiles, a.block), most
    cdef size_t index = 0, end = blocks, from_part = 0, to_part = a.panels, parts = 1, first, last, i, panel, low, high
    cdef size_t position, out_position, channels = a.x.channels, count
    cdef const float **table
    cdef float **out_table
    cdef float *patch
    cdef float *v
    cdef float *products
    if a.by_panels and threads > 1:
        parts = threads
        ec_share(a.panels * parts, thread, threads, &from_part, &to_part)
    else:
        if blocks % threads and tiles >= <size_t>(4 * threads):
            blocks = divide_up(blocks, threads) * threads
        ec_share(blocks, thread, threads, &index, &end)
    most = divide_up(tiles, blocks)
    position, out_position = odd_lines(most * channels), odd_lines(most * a.width)
    table = <const float **>context.scratch
    out_table = <float **>(table + most)
    patch = <float *>(context.scratch + in_lines(2 * most * sizeof(void *)))
    v = patch + divide_up(a.positions * channels, 16) * 16
    products = v + a.positions * position
    for i in range(most):
        table[i] = v + i * channels
        out_table[i] = products + i * a.width
    while index < end and not ec_stopped(context):
        first, last = tiles * index // blocks, tiles * (index + 1) // blocks
        for i in range(first, last):
            transform_tile(a, x, i, patch, v + (i - first) * channels, position)
        for panel in range(from_part // parts, divide_up(to_part, parts)):
            count = last - first
            low = count * (max(from_part, panel * parts) - panel * parts) // parts
            high = count * (min(to_part, (panel + 1) * parts) - panel * parts) // parts
            if low == high:
                continue
            if ec_stopped(context):
                return
            multiply_positions(a, a.panel + panel, panel // (a.panels // a.groups) * a.depth, high - low, table + low,
                               position, out_table, out_position)
            for i in range(low, high):
                transform_back(a, a.panel + panel, a.bias + panel * a.width, first + i, out_table[i - low],
                               out_position, out, residual)
        index += 1


cdef const ec_winograd *find_form(InstructionSet instruction_set, form) except NULL:
    cdef size_t i
    cdef const ec_winograd *f
    for i in range(EC_WINOGRADS):
        f = &instruction_set.table.winograd[i]
        if form == (f.height_points, f.height_outputs, f.width_points, f.width_outputs):
            return f
    raise KeyError(form)


def forms(InstructionSet instruction_set):
    """Every form that there are transformations for, as `packing.WinogradForm`s."""
    cdef const ec_winograd *f
    result = []
    for i in range(EC_WINOGRADS):
        f = &instruction_set.table.winograd[i]
        result.append(WinogradForm(f.height_points, f.height_outputs, f.width_points, f.width_outputs))
    return tuple(result)


cdef class FilterFilling(Filling):
    """Transforms the filters of a convolution: see `pack_winograd`."""

    cdef const float *source
    cdef packed_panel *panels
    cdef size_t depth, filters
    cdef ec_winograd_filter filter
    cdef const ec_table *table

    def __cinit__(self, weights, packed, panels, form, InstructionSet instruction_set):
        points = form.height_points, form.width_points
        matrices = [filter_transformation(*size) for size in zip(points, form.taps)]
        self.filter.height_points, self.filter.width_points = points
        self.filter.height_taps, self.filter.width_taps = form.taps
        self.filter.height = <const double *>values_of(matrices[0])
        self.filter.width = <const double *>values_of(matrices[1])
        self.source = <const float *>values_of(weights)
        self.panels, self.parts = as_panels(packed, panels), len(panels)
        self.depth, self.filters = weights.shape[2:]
        self.table = instruction_set.table
        self.kept = (weights, packed, matrices)

    def __dealloc__(self):
        free(self.panels)

    cdef void fill(self, size_t part) noexcept nogil:
        cdef size_t k, v, width, lanes = self.table.lanes
        cdef const packed_panel *panel
        panel = self.panels + part
        width = panel.vectors * lanes
        for k in range(self.depth):
            v = 0
            while v < panel.columns:
                self.table.winograd_filters(
                    &self.filter, self.source + k * self.filters + panel.column + v, self.depth * self.filters,
                    min(lanes, panel.columns - v), <float *>panel.weights + k * width + v, self.depth * width,
                )
                v += lanes


def pack_winograd(weights, bias, size_t groups, form, InstructionSet instruction_set, shelf):
    """Transform and pack the filters of a convolution.

    Args:
        weights: float32 (rows, columns, channels of a group, filters).
        bias: float32 (filters,) or None.
        form: whose taps are the filters'.
        shelf: where the arrays lie, the panels without their values at first.

    Returns:
        All panels in one aligned array, each [positions][channels][vectors * lanes]; where each lies; the biases of a
        panel, as wide as the widest, and a row of zeros behind them.
    """
    depth, filters = weights.shape[2:]
    each, lanes = filters // groups, instruction_set.lanes
    shelf.expect_panels(groups * count_panels(each, lanes, [instruction_set.table.gemm_rows[i] for i in range(4)]))
    widths = split_filters(each, lanes, [instruction_set.table.gemm_rows[i] for i in range(4)])
    packed = shelf.aligned(groups * sum(widths) * lanes * form.positions * depth)
    biases = shelf.aligned((groups * len(widths) + 1) * max(widths) * lanes).reshape(-1, max(widths) * lanes)
    panels = []
    offset = 0
    for group in range(groups):
        column = 0
        for vectors in widths:
            first = group * each + column
            columns = min(vectors * lanes, each - column)
            if bias is not None:
                biases[len(panels), :columns] = bias[first : first + columns]
            panels.append(Panel(vectors, first, columns, offset, 0))
            offset += form.positions * depth * vectors * lanes
            column += columns
    source, panels = np.ascontiguousarray(weights, np.float32), np.array(panels, np.int64)
    shelf.fillings.append(FilterFilling(source, packed, panels, form, instruction_set))
    return packed, panels, biases


def prepare_winograd(placed, form):
    """Prepare a `conv` node of stride 1 and two axes (or one, as an image of height 1).

    Args:
        form: the `packing.WinogradForm` whose taps are the filters'.
    """
    cdef WinogradStep step = WinogradStep.__new__(WinogradStep)
    cdef winograd_arguments *a = &step.arguments
    cdef InstructionSet instruction_set = placed.instruction_set
    attributes, x, out, residual = placed.node.attributes, placed.view("x"), placed.out, placed.view("residual")
    weights = placed.constant("weights")
    if weights.ndim == 3:
        weights = weights[None]
    pads = resolve_pads(attributes, placed.shapes[0][:-1], form.taps[2 - len(placed.out_shape[:-1]):])
    a.table = instruction_set.table
    a.form = find_form(instruction_set, form)[0]
    a.x, a.out = as_view(x), as_view(out)
    a.has_residual = residual is not None
    if residual is not None:
        a.residual = as_view(residual)
    a.pad_top, a.pad_left = ((0,) + pads[::2])[-2:]
    a.tile_rows = divide_up(out.height, a.form.height_outputs)
    a.tile_columns = divide_up(out.width, a.form.width_outputs)
    a.positions = a.form.height_points * a.form.width_points
    a.groups, a.depth = attributes["groups"], weights.shape[2]
    a.slice_depth = divide_up(a.depth, divide_up(a.depth, SLICE))
    a.activation = as_activation(attributes, instruction_set)

    packed, panels, bias = placed.packed(
        f"winograd {form}",
        partial(pack_winograd, weights, placed.constant("bias"), a.groups, form, instruction_set),
    )
    step.keep = (packed, bias)
    step.panel = as_panels(packed, panels)
    a.panel, a.panels = step.panel, len(panels)
    a.width = bias.shape[1]
    a.bias = <const float *>values_of(bias)
    a.zeros = a.bias + a.panels * a.width

    tiles = a.tile_rows * a.tile_columns
    a.block = BLOCK_BYTES // (4 * a.positions * (x.channels + a.width))
    if a.block < LEAST_BLOCK:
        a.block = max(LEAST_BLOCK, BLOCK_BYTES // (4 * a.positions * a.width))
    a.block = min(<size_t>tiles, a.block)
    a.by_panels = tiles < 4 * a.block and a.panels >= 4
    step.scratch = (
        in_lines(2 * a.block * sizeof(void *)) + 4 * (divide_up(a.positions * x.channels, 16) * 16)
        + 4 * a.positions * (odd_lines(a.block * x.channels) + odd_lines(a.block * a.width))
    )
    step.step.run, step.step.asks = run, 1
    step.step.arguments = a
    step.step.serial = placed.serial
    step.kernel = f"winograd {form} {instruction_set.name}"
    return step
