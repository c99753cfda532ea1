"""Convolution and dense layers as matrix products of register tiles.

M: output pixels, N: filters, K: taps of the window x input channels. The pixels are cut into blocks; for each block a
table of pointers says where every (tap, pixel) of the input lies (a row of zeros for the padding), so that nothing is
copied. Inputs of few channels are gathered into rows of K values instead. For each panel of packed weights and each
slice of K the tiles walk the block's pixels.

Source of the pointer table: Dukhan 2019 (arXiv 1907.02129), section 3.
"""

from libc.math cimport INFINITY
from libc.stddef cimport ptrdiff_t
from libc.stdint cimport uintptr_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memset

from edgecnn.runtime.cpu cimport InstructionSet
from edgecnn.runtime.executor cimport Step, as_view
from edgecnn.runtime.kernels.activations cimport as_activation
from edgecnn.runtime.microkernels cimport ec_activation, ec_panel, ec_table, ec_window
from edgecnn.runtime.step cimport ec_at, ec_context, ec_share, ec_step, ec_view

from edgecnn.graph.operators import effective_kernel, resolve_pads
from edgecnn.runtime.kernels.packing import pack_panels

# Long sums are cut into slices that are summed alone and then added up: the error of a sum of n terms grows with the
# slice's length and the number of slices, not with n (Higham 2002, section 4.2). The weights of a slice (64 KiB for the
# widest panel) also stay in the second-level cache while the block's pixels pass.
cdef size_t SLICE = 256
cdef size_t BLOCK_BYTES = 96 * 1024
cdef size_t MAX_BLOCK = 512
# Below this many channels a tap is too short a run for the tile's loop.
cdef size_t GATHER_CHANNELS = 12


ctypedef struct packed_panel:
    const float *weights
    const float *start
    size_t vectors
    size_t column
    size_t columns


ctypedef struct convolution_arguments:
    ec_view x
    ec_view out
    ec_view residual
    bint has_residual
    ec_window window
    size_t groups
    size_t depth          # channels of a group; K where gathered
    size_t taps           # 1 where gathered
    bint gathered
    size_t pitch          # floats of a gathered row
    size_t block          # most pixels in a block
    size_t slice_taps, slice_depth
    size_t panels         # of all groups
    bint heavy            # few pixels, many weights: threads share the panels, so that each reads its weights only
    const packed_panel *panel
    ec_activation activation
    const ec_table *table


cdef class ConvolutionStep(Step):
    cdef convolution_arguments arguments
    cdef packed_panel *panel

    def __dealloc__(self):
        free(self.panel)


cdef inline size_t divide_up(size_t a, size_t b) noexcept nogil:
    return (a + b - 1) // b


cdef void point_at_taps(const convolution_arguments *a, const float *x, const float *zeros, size_t first, size_t last,
                        const float **table) noexcept nogil:
    """table[tap][i]: where the tap of output pixel first + i lies."""
    cdef const ec_window *w = &a.window
    cdef size_t i, j, pixel, row, column, end, count = last - first
    cdef ptrdiff_t y, left, low, high, c
    cdef const float *line
    cdef const float **entry
    for i in range(w.kernel_height):
        for j in range(w.kernel_width):
            entry = table + (i * w.kernel_width + j) * count
            left = <ptrdiff_t>(j * w.dilation_width) - <ptrdiff_t>w.pad_left
            # Output columns [low, high) meet the image at this tap.
            low = 0 if left >= 0 else <ptrdiff_t>divide_up(-left, w.stride_width)
            high = <ptrdiff_t>w.width - left
            high = 0 if high <= 0 else <ptrdiff_t>divide_up(high, w.stride_width)
            pixel = first
            while pixel < last:
                row = pixel // w.out_width
                column = pixel - row * w.out_width
                end = min(w.out_width, column + last - pixel)
                y = <ptrdiff_t>(row * w.stride_height + i * w.dilation_height) - <ptrdiff_t>w.pad_top
                c = column
                if 0 <= y < <ptrdiff_t>w.height:
                    while c < <ptrdiff_t>end and c < low:
                        entry[c - <ptrdiff_t>column] = zeros
                        c += 1
                    line = x + y * <ptrdiff_t>w.row + (c * <ptrdiff_t>w.stride_width + left) * <ptrdiff_t>w.pixel
                    while c < <ptrdiff_t>end and c < high:
                        entry[c - <ptrdiff_t>column] = line
                        line += w.stride_width * w.pixel
                        c += 1
                while c < <ptrdiff_t>end:
                    entry[c - <ptrdiff_t>column] = zeros
                    c += 1
                entry += end - column
                pixel += end - column


cdef void gather_taps(const convolution_arguments *a, const float *x, size_t first, size_t last,
                      float *out) noexcept nogil:
    """out[i][K]: the window of output pixel first + i, zeros for the padding. Pixels of the input are contiguous."""
    cdef const ec_window *w = &a.window
    cdef size_t segment = w.kernel_width * w.channels, step = w.stride_width * w.pixel
    cdef size_t pixel = first, row, column, end, count, top, bottom, i
    cdef ptrdiff_t y, left, from_column, to_column
    cdef const float *rows[64]
    while pixel < last:
        row = pixel // w.out_width
        column = pixel - row * w.out_width
        end = min(w.out_width, column + last - pixel)
        y = <ptrdiff_t>(row * w.stride_height) - <ptrdiff_t>w.pad_top
        top = 0
        while top < w.kernel_height and y + <ptrdiff_t>(top * w.dilation_height) < 0:
            top += 1
        bottom = top
        while bottom < w.kernel_height and y + <ptrdiff_t>(bottom * w.dilation_height) < <ptrdiff_t>w.height:
            bottom += 1
        while column < end:
            left = <ptrdiff_t>(column * w.stride_width) - <ptrdiff_t>w.pad_left
            if left >= 0 and left + <ptrdiff_t>w.kernel_width <= <ptrdiff_t>w.width:
                count = min(end - column, (<size_t>(<ptrdiff_t>w.width - left) - w.kernel_width) // w.stride_width + 1)
                for i in range(top, bottom):
                    rows[i] = x + (y + <ptrdiff_t>(i * w.dilation_height)) * <ptrdiff_t>w.row
                    rows[i] += left * <ptrdiff_t>w.pixel
                if bottom - top < w.kernel_height:
                    memset(out, 0, count * a.pitch * sizeof(float))
                a.table.gather(rows + top, bottom - top, segment, step, count, out + top * segment, a.pitch)
            else:
                count = 1
                memset(out, 0, a.pitch * sizeof(float))
                from_column = max(<ptrdiff_t>0, -left)
                to_column = min(<ptrdiff_t>w.kernel_width, <ptrdiff_t>w.width - left)
                if to_column > from_column:
                    for i in range(top, bottom):
                        memcpy(
                            out + i * segment + from_column * <ptrdiff_t>w.channels,
                            x + (y + <ptrdiff_t>(i * w.dilation_height)) * <ptrdiff_t>w.row
                            + (left + from_column) * <ptrdiff_t>w.pixel,
                            <size_t>(to_column - from_column) * w.channels * sizeof(float),
                        )
            out += count * a.pitch
            column += count
            pixel += count


cdef void point_at_pixels(const ec_view *view, float *base, size_t first, size_t last, float **table) noexcept nogil:
    cdef size_t pixel, row = first // view.width, column = first - row * view.width
    for pixel in range(last - first):
        table[pixel] = base + row * view.row + column * view.pixel
        column += 1
        if column == view.width:
            column = 0
            row += 1


cdef void multiply_panel(const convolution_arguments *a, const packed_panel *packed, size_t skip, size_t count,
                         const float **table, float **out, const float **residual) noexcept nogil:
    """One panel times the `count` pixels of a block."""
    cdef ec_panel panel
    cdef size_t width = packed.vectors * a.table.lanes, tallest = a.table.gemm_rows[packed.vectors - 1]
    cdef size_t tiles = divide_up(count, tallest), tile, first, rows, m
    cdef size_t tap = 0, k, taps, depth
    cdef bint last
    panel.pitch = count
    panel.columns = packed.columns
    panel.start = packed.start
    while tap < a.taps:
        taps = min(a.slice_taps, a.taps - tap)
        k = 0
        while k < a.depth:
            depth = min(a.slice_depth, a.depth - k)
            last = tap + taps == a.taps and k + depth == a.depth
            panel.weights = packed.weights + (tap * a.depth + k) * width
            panel.taps = taps
            panel.depth = depth
            panel.skip = skip + k
            panel.low = a.activation.low if last else -INFINITY
            panel.high = a.activation.high if last else INFINITY
            for tile in range(tiles):
                first = count * tile // tiles
                rows = count * (tile + 1) // tiles - first
                a.table.gemm[packed.vectors - 1][rows - 1](
                    &panel, table + tap * count + first, out + first,
                    residual + first if residual != NULL and panel.start != NULL else NULL, packed.column,
                )
                if last and a.activation.function != NULL:
                    for m in range(first, first + rows):
                        a.activation.function(out[m] + packed.column, packed.columns, a.activation.parameters)
            panel.start = NULL
            k += depth
        tap += taps


cdef void run(const ec_step *step, const ec_context *context, int thread, int threads) noexcept nogil:
    # Work is (block of pixels) x (panel), cut into equal shares of neighbouring pairs; each writes outputs of its own.
    cdef const convolution_arguments *a = <const convolution_arguments *>step.arguments
    cdef const float *x = ec_at(context, &a.x)
    cdef float *out = ec_at(context, &a.out)
    cdef size_t pixels = a.window.out_height * a.window.out_width
    cdef size_t blocks = divide_up(pixels, a.block), most, index, end, block, built, panel, first = 0, last = 0, i
    cdef const float **table
    cdef float **out_table
    cdef const float **residual_table = NULL
    cdef float *gathered
    if blocks % threads and pixels >= <size_t>(16 * threads) and not a.heavy:
        blocks = divide_up(blocks, threads) * threads
    most = divide_up(pixels, blocks)
    table = <const float **>context.scratch
    out_table = <float **>(table + a.taps * most)
    if a.has_residual:
        residual_table = <const float **>(out_table + most)
    gathered = <float *>(context.scratch + divide_up((a.taps + 2) * most * sizeof(void *), 64) * 64)
    built = blocks
    ec_share(blocks * a.panels, thread, threads, &index, &end)
    while index < end:
        block = index // a.panels
        panel = index - block * a.panels
        if block != built:
            built = block
            first = pixels * block // blocks
            last = pixels * (block + 1) // blocks
            if a.gathered:
                gather_taps(a, x, first, last, gathered)
                for i in range(last - first):
                    table[i] = gathered + i * a.pitch
            else:
                point_at_taps(a, x, context.zeros, first, last, table)
            point_at_pixels(&a.out, out, first, last, out_table)
            if a.has_residual:
                point_at_pixels(&a.residual, ec_at(context, &a.residual), first, last, <float **>residual_table)
        multiply_panel(
            a, a.panel + panel, 0 if a.groups == 1 else panel // (a.panels // a.groups) * a.depth, last - first,
            table, out_table, residual_table,
        )
        index += 1


cdef ConvolutionStep prepare_product(placed, weights, tuple kernel, tuple strides, tuple dilations, pads,
                                     size_t groups):
    """The step for weights (K, filters), K over rows, columns, channels of a group."""
    cdef ConvolutionStep step = ConvolutionStep.__new__(ConvolutionStep)
    cdef convolution_arguments *a = &step.arguments
    cdef InstructionSet instruction_set = placed.instruction_set
    cdef const float *values
    cdef size_t i, k, width, most
    x, out, residual = placed.view("x"), placed.out, placed.view("residual")
    a.table = instruction_set.table
    a.x, a.out = as_view(x), as_view(out)
    a.has_residual = residual is not None
    if residual is not None:
        a.residual = as_view(residual)
    a.window.height, a.window.width, a.window.channels = x.height, x.width, x.channels
    a.window.row, a.window.pixel = x.row, x.pixel
    a.window.out_height, a.window.out_width = out.height, out.width
    a.window.out_row, a.window.out_pixel = out.row, out.pixel
    a.window.kernel_height, a.window.kernel_width = kernel
    a.window.stride_height, a.window.stride_width = strides
    a.window.dilation_height, a.window.dilation_width = dilations
    a.window.pad_top, a.window.pad_left = pads[0], pads[2]
    a.groups = groups
    k = weights.shape[0]
    a.taps = kernel[0] * kernel[1]
    a.depth = k // a.taps
    a.gathered = (
        a.taps > 1 and a.depth < GATHER_CHANNELS and groups == 1 and x.pixel == x.channels and dilations[1] == 1
        and kernel[0] <= 64
    )
    if a.gathered:
        a.taps, a.depth = 1, k
        a.pitch = divide_up(k, 16) * 16
    a.activation = as_activation(placed.node.attributes, instruction_set)

    rows = [instruction_set.table.gemm_rows[i] for i in range(4)]
    packed, panels = placed.packed(
        "panels", lambda: pack_panels(weights, placed.constant("bias"), groups, instruction_set.lanes, rows)
    )
    step.keep = packed
    step.panel = <packed_panel *>malloc(len(panels) * sizeof(packed_panel))
    if step.panel == NULL:
        raise MemoryError("no memory for a convolution's panels")
    values = <const float *><uintptr_t>packed.ctypes.data
    for i, panel in enumerate(panels):
        step.panel[i].weights = values + <size_t>panel.weights
        step.panel[i].start = values + <size_t>panel.start
        step.panel[i].vectors, step.panel[i].column, step.panel[i].columns = panel.vectors, panel.column, panel.columns
    a.panel, a.panels = step.panel, len(panels)

    widest = max(panel.vectors for panel in panels)
    width = widest * instruction_set.lanes
    # Slices of about equal length: none is left over.
    a.slice_taps = divide_up(a.taps, divide_up(a.taps * a.depth, SLICE)) if a.depth <= SLICE else 1
    a.slice_depth = divide_up(a.depth, divide_up(a.depth, SLICE))
    # Neighbouring pixels share most of their windows: what a block touches grows with the kernel's rows, not its taps.
    most = BLOCK_BYTES // (4 * (a.pitch if a.gathered else a.depth * min(<size_t>kernel[0], a.taps)))
    a.heavy = a.panels >= 8 and packed.nbytes > 4 * a.window.out_height * a.window.out_width * k
    a.block = min(max(most, <size_t>(4 * rows[widest - 1])), MAX_BLOCK)
    most = min(a.block, a.window.out_height * a.window.out_width)
    step.scratch = divide_up((a.taps + 2) * most * sizeof(void *), 64) * 64 + (most * a.pitch * 4 if a.gathered else 0)
    step.step.run = run
    step.step.arguments = a
    step.step.serial = placed.serial
    kind = "gathered product" if a.gathered else "product"
    step.kernel = f"{kind} {rows[widest - 1]}x{width} {instruction_set.name}"
    return step


cdef ConvolutionStep prepare_window(placed, size_t groups):
    """The step for weights (rows, columns, ...): what follows is, row-major, channels of a group and all filters."""
    attributes, x = placed.node.attributes, placed.view("x")
    weights = placed.constant("weights")
    kernel, dilations = weights.shape[:2], attributes["dilations"]
    pads = resolve_pads(attributes, (x.height, x.width), effective_kernel(kernel, dilations))
    matrix = weights.reshape(-1, placed.out_shape[2])
    return prepare_product(placed, matrix, kernel, attributes["strides"], dilations, pads, groups)


def prepare_conv2d(placed):
    """Prepare a `conv2d` node."""
    return prepare_window(placed, placed.node.attributes["groups"])


def prepare_multiplied_depthwise(placed):
    """Prepare a `depthwise_conv2d` node whose multiplier is not 1: a convolution with one group for each channel."""
    return prepare_window(placed, placed.view("x").channels)


def prepare_dense(placed):
    """Prepare a `dense` node: a convolution of one pixel's size over all leading positions."""
    return prepare_product(placed, placed.constant("weights"), (1, 1), (1, 1), (1, 1), (0, 0, 0, 0), 1)
