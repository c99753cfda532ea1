"""Convolutions whose weights are mostly zero, in two ways; both leave out what is zero.

Blocks: of a panel of one or two vectors of neighbouring filters only the rows k are kept that are not all zero. The
register tiles are those of convolution.pyx, but walk a list of these k.

Single weights: a panel of pixels is turned over, so that the lanes are pixels; each weight that is there is multiplied
by whole vectors of them. The sums of a panel are turned back when they are complete. K is cut into slices whose values
stay in the first-level cache, the filters into parts whose sums stay in the second-level cache.

What a weight of zero would have been multiplied by is not read: an infinite value or NaN there does not reach the
answer. Source of the second way: Elsen et al. 2019, "Fast Sparse ConvNets" (arXiv 1911.09723), section 3; here from
images with channels last.
"""

from functools import partial

from libc.math cimport INFINITY
from libc.stddef cimport size_t

from edgecnn.format.arrays cimport values_of
from edgecnn.runtime.cpu cimport InstructionSet
from edgecnn.runtime.executor cimport Step
from edgecnn.runtime.kernels.convolution cimport (
    convolution_arguments,
    describe,
    point_at_pixels,
    point_at_taps,
    set_functions,
)
from edgecnn.runtime.kernels.panels cimport divide_up
from edgecnn.runtime.kernels.zeros cimport MOST_SLICE, block_panel, block_slice, single_part, single_slice
from edgecnn.runtime.microkernels cimport ec_block_panel, ec_block_run, ec_sparse_row
from edgecnn.runtime.step cimport ec_at, ec_context, ec_share, ec_step, ec_stopped

from edgecnn.runtime.kernels.convolution import block_of, product_of
from edgecnn.runtime.kernels.packing import pack_blocks, pack_single

# Of a slice's values of a panel of pixels: they stay in the first-level cache beside the weights that pass through it.
cdef size_t SLICE_BYTES = 30720


ctypedef struct blocks_arguments:
    convolution_arguments c
    size_t vectors
    size_t block              # most pixels in a block
    size_t panels             # of all groups
    bint heavy                # see convolution.pyx
    const float *values
    const unsigned int *channels
    const ec_block_run *runs
    const block_slice *slices
    const block_panel *panel


ctypedef struct single_arguments:
    convolution_arguments c
    size_t vectors            # most of a panel of pixels
    size_t depth, slice, slices
    size_t parts
    const float *values
    const unsigned char *places
    const ec_sparse_row *rows
    const float *bias
    const single_slice *slice_of_part
    const single_part *part


cdef class BlocksStep(Step):
    cdef blocks_arguments arguments


cdef class SingleStep(Step):
    cdef single_arguments arguments


cdef inline size_t in_lines(size_t bytes) noexcept nogil:
    return divide_up(bytes, 64) * 64


cdef void multiply_panel(const blocks_arguments *a, const block_panel *packed, size_t count, const float **table,
                         float **out, const float **residual) noexcept nogil:
    """One panel of filters times the `count` pixels of a block."""
    cdef ec_block_panel panel
    cdef const block_slice *piece
    cdef size_t tallest = a.c.table.block_rows[a.vectors - 1], tiles = divide_up(count, tallest)
    cdef size_t short = count // tiles, longer = count - short * tiles, tile, first, rows
    cdef long long s
    cdef bint last
    panel.pitch = count
    panel.columns = packed.columns
    panel.start = a.values + packed.start
    for s in range(packed.slices):
        piece = a.slices + packed.slice + s
        last = s + 1 == packed.slices
        panel.weights = a.values + piece.weights
        panel.channels = a.channels + piece.row
        panel.runs, panel.run_count = a.runs + piece.run, piece.runs
        panel.low = a.c.activation.low if last else -INFINITY
        panel.high = a.c.activation.high if last else INFINITY
        first = 0
        for tile in range(tiles):
            rows = short + (1 if tile < longer else 0)
            a.c.table.block[a.vectors - 1][rows - 1](
                &panel, table + first, out + first,
                residual + first if residual != NULL and panel.start != NULL else NULL, packed.column,
            )
            if last and a.c.activation.function != NULL:
                a.c.activation.function(out + first, rows, packed.column, packed.columns, a.c.activation.parameters)
            first += rows
        panel.start = NULL


cdef void multiply_blocks(const blocks_arguments *a, const ec_context *context, const float *x, float *out,
                          size_t origin, size_t pixels, size_t blocks, size_t index, size_t end) noexcept nogil:
    """Pairs [index, end) of (block, panel), where the pixels from `origin` on are cut into `blocks`."""
    cdef const convolution_arguments *c = &a.c
    cdef size_t most = divide_up(pixels, blocks), block, built = blocks, first = 0, last = 0
    cdef const float **table = <const float **>context.scratch
    cdef float **out_table = <float **>(table + c.taps * most)
    cdef const float **residual_table = <const float **>(out_table + most) if c.has_residual else NULL
    while index < end and not ec_stopped(context):
        block = index // a.panels
        if block != built:
            built = block
            first = origin + pixels * block // blocks
            last = origin + pixels * (block + 1) // blocks
            point(c, context, x, out, first, last, table, out_table, residual_table)
        multiply_panel(a, a.panel + (index - block * a.panels), last - first, table, out_table, residual_table)
        index += 1


cdef inline void point(const convolution_arguments *c, const ec_context *context, const float *x, float *out,
                       size_t first, size_t last, const float **table, float **out_table,
                       const float **residual_table) noexcept nogil:
    """Where the taps, outputs and residuals of pixels [first, last) lie."""
    point_at_taps(c, x, context.zeros, first, last, table)
    point_at_pixels(out, c.planes.out_plane, c.window.out_row, c.window.out_pixel, c.window.out_height,
                    c.window.out_width, first, last, out_table)
    if residual_table != NULL:
        point_at_pixels(ec_at(context, &c.residual), c.planes.residual_plane, c.residual.row, c.residual.pixel,
                        c.window.out_height, c.window.out_width, first, last, <float **>residual_table)


cdef inline size_t pixels_of(const convolution_arguments *c) noexcept nogil:
    return c.planes.out_planes * c.window.out_height * c.window.out_width


cdef void run_blocks(const ec_step *step, const ec_context *context, int thread, int threads) noexcept nogil:
    # Work is (block of pixels) x (panel), cut into equal shares of neighbouring pairs; each writes outputs of its own.
    cdef const blocks_arguments *a = <const blocks_arguments *>step.arguments
    cdef size_t pixels = pixels_of(&a.c), blocks = divide_up(pixels, a.block), index, end
    if blocks % threads and pixels >= <size_t>(16 * threads) and not a.heavy:
        blocks = divide_up(blocks, threads) * threads
    ec_share(blocks * a.panels, thread, threads, &index, &end)
    multiply_blocks(a, context, ec_at(context, &a.c.x), ec_at(context, &a.c.out), 0, pixels, blocks, index, end)


cdef void run_block_rows(const ec_step *step, const ec_context *context, const float *x, float *out, size_t first,
                         size_t last) noexcept nogil:
    cdef const blocks_arguments *a = <const blocks_arguments *>step.arguments
    cdef size_t pixels = (last - first) * a.c.window.out_width, blocks = divide_up(pixels, a.block)
    multiply_blocks(a, context, x, out, first * a.c.window.out_width, pixels, blocks, 0, blocks * a.panels)


cdef void gather(const single_arguments *a, size_t k, size_t end, const float **table, size_t count, float *values,
                 size_t pitch) noexcept nogil:
    """Values [k, end) of each pixel's window, turned over."""
    cdef size_t tap, channel, depth
    while k < end:
        tap = k // a.c.depth
        channel = k - tap * a.c.depth
        depth = min(a.c.depth - channel, end - k)
        a.c.table.gather(table + tap * count, count, channel, depth, values, pitch)
        values += depth * pitch
        k += depth


cdef void multiply_single(const single_arguments *a, const ec_context *context, const float *x, float *out,
                          size_t origin, size_t pixels, size_t panels, size_t index, size_t end) noexcept nogil:
    """Pairs [index, end) of (panel of pixels, part of the filters); pixels from `origin` on are cut into `panels`."""
    cdef const convolution_arguments *c = &a.c
    cdef size_t lanes = c.table.lanes, all = divide_up(pixels, lanes), most = a.vectors * lanes
    cdef const float **table = <const float **>context.scratch
    cdef float **out_table = <float **>(table + c.taps * most)
    cdef const float **residual_table = <const float **>(out_table + most) if c.has_residual else NULL
    cdef float *values = <float *>(context.scratch + in_lines((c.taps + 2) * most * sizeof(void *)))
    cdef float *sums = values + a.slice * most
    cdef size_t panel, built = panels, part, first = 0, last = 0, vectors = 0, pitch = 0, s
    cdef const single_part *filters
    cdef const single_slice *piece
    while index < end and not ec_stopped(context):
        panel = index // a.parts
        part = index - panel * a.parts
        if panel != built:
            built = panel
            first = all * panel // panels
            last = all * (panel + 1) // panels
            vectors = last - first
            pitch = vectors * lanes
            first, last = origin + first * lanes, origin + min(last * lanes, pixels)
            point(c, context, x, out, first, last, table, out_table, residual_table)
        filters = a.part + part
        for s in range(a.slices):
            gather(a, s * a.slice, min((s + 1) * a.slice, a.depth), table, last - first, values, pitch)
            piece = a.slice_of_part + part * a.slices + s
            c.table.sparse[vectors - 1](values, a.rows + piece.row, filters.columns, a.values + piece.weight,
                                        a.places + piece.weight, sums, s > 0)
        c.table.scatter(sums, pitch, filters.columns, a.bias + filters.bias, residual_table, out_table, filters.column,
                        last - first, c.activation.low, c.activation.high)
        if c.activation.function != NULL:
            c.activation.function(out_table, last - first, filters.column, filters.columns, c.activation.parameters)
        index += 1


cdef void run_single(const ec_step *step, const ec_context *context, int thread, int threads) noexcept nogil:
    # Work is (panel of pixels) x (part of the filters), cut into equal shares of neighbouring pairs, as above.
    cdef const single_arguments *a = <const single_arguments *>step.arguments
    cdef size_t pixels = pixels_of(&a.c), vectors = divide_up(pixels, a.c.table.lanes), index, end
    cdef size_t panels = divide_up(vectors, a.vectors)
    if panels * a.parts % threads and vectors >= <size_t>threads:
        panels = min(divide_up(panels, threads) * threads, vectors)
    ec_share(panels * a.parts, thread, threads, &index, &end)
    multiply_single(a, context, ec_at(context, &a.c.x), ec_at(context, &a.c.out), 0, pixels, panels, index, end)


cdef void run_single_rows(const ec_step *step, const ec_context *context, const float *x, float *out, size_t first,
                          size_t last) noexcept nogil:
    cdef const single_arguments *a = <const single_arguments *>step.arguments
    cdef size_t pixels = (last - first) * a.c.window.out_width
    cdef size_t panels = divide_up(divide_up(pixels, a.c.table.lanes), a.vectors)
    multiply_single(a, context, x, out, first * a.c.window.out_width, pixels, panels, 0, panels * a.parts)


def prepare_blocks(placed, size_t vectors):
    """Prepare a `conv` or `dense` node without the rows that are zero in whole panels.

    Args:
        vectors: of a panel, 1 or 2.
    """
    cdef BlocksStep step = BlocksStep.__new__(BlocksStep)
    cdef blocks_arguments *a = &step.arguments
    cdef InstructionSet instruction_set = placed.instruction_set
    cdef size_t tallest = instruction_set.table.block_rows[vectors - 1]
    product = product_of(placed, placed.node.attributes.get("groups", 1))
    describe(&a.c, placed, product)
    width = vectors * instruction_set.lanes
    packed = placed.packed(
        f"blocks {vectors}",
        partial(pack_blocks, product.weights, placed.constant("bias"), product.groups, a.c.taps, width),
    )
    step.keep = packed
    values, channels, runs, slices, panels = packed
    a.values = <const float *>values_of(values)
    a.channels = <const unsigned int *>values_of(channels)
    a.runs = <const ec_block_run *>values_of(runs)
    a.slices = <const block_slice *>values_of(slices)
    a.panel, a.panels = <const block_panel *>values_of(panels), len(panels)
    a.vectors = vectors
    a.heavy = a.panels >= 8 and <size_t>values.nbytes > 4 * pixels_of(&a.c) * a.c.taps * a.c.depth
    a.block = block_of(product, a.c.depth, a.c.taps, tallest)
    step.scratch = in_lines((a.c.taps + 2) * min(a.block, pixels_of(&a.c)) * sizeof(void *))
    set_functions(step, placed, product, run_blocks, run_block_rows)
    step.step.arguments = a
    step.kernel = f"blocks {tallest}x{width} {instruction_set.name}"
    return step


def slice_of(InstructionSet instruction_set):
    """K of a slice of single weights."""
    cdef size_t width = instruction_set.table.sparse_vectors * instruction_set.lanes
    return min(<size_t>MOST_SLICE, SLICE_BYTES // (width * sizeof(float)))


def prepare_single(placed):
    """Prepare a `conv` node of one group, or a `dense` one, without the weights that are zero."""
    cdef SingleStep step = SingleStep.__new__(SingleStep)
    cdef single_arguments *a = &step.arguments
    cdef InstructionSet instruction_set = placed.instruction_set
    cdef size_t width
    product = product_of(placed, 1)
    describe(&a.c, placed, product)
    # No more than there are pixels: the table of taps grows with them.
    a.vectors = min(<size_t>instruction_set.table.sparse_vectors, divide_up(pixels_of(&a.c), instruction_set.lanes))
    a.slice = slice_of(instruction_set)
    a.depth = a.c.taps * a.c.depth
    a.slices = divide_up(a.depth, a.slice)
    packed = placed.packed(
        "single weights",
        partial(pack_single, product.weights, placed.constant("bias"), a.slice, instruction_set.lanes),
    )
    step.keep = packed
    values, places, rows, biases, slices, parts = packed
    a.values = <const float *>values_of(values)
    a.places = <const unsigned char *>values_of(places)
    a.rows = <const ec_sparse_row *>values_of(rows)
    a.bias = <const float *>values_of(biases)
    a.slice_of_part = <const single_slice *>values_of(slices)
    a.part, a.parts = <const single_part *>values_of(parts), len(parts)
    largest = max(columns for _, columns, _ in parts.tolist())
    width = a.vectors * instruction_set.lanes
    step.scratch = in_lines((a.c.taps + 2) * width * sizeof(void *))
    step.scratch += (a.slice + <size_t>largest) * width * sizeof(float)
    set_functions(step, placed, product, run_single, run_single_rows)
    step.step.arguments = a
    step.kernel = f"single weights {width} {instruction_set.name}"
    return step
