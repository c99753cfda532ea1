"""Convolution, transposed convolution and dense layers as matrix products of register tiles.

M: output pixels, N: filters, K: taps of the window x input channels. The pixels are cut into blocks; for each block a
table of pointers says where every (tap, pixel) of the input lies (a row of zeros for the padding), so that nothing is
copied. Where channels are few, a whole row of the window is one tap: its pixels follow each other. For each panel of
packed weights and each slice of K the tiles walk the block's pixels.

Source of the pointer table: Dukhan 2019 (arXiv 1907.02129), section 3.

Images of one spatial axis are of height 1. Of three, the planes lie one below the other: a view of depth x height rows.
A transposed convolution of stride s is s x s ordinary ones (its phases), each with the taps that meet its outputs;
these lie s pixels apart.
"""

import itertools
import math
from functools import partial
from typing import NamedTuple

import numpy as np

from libc.math cimport INFINITY
from libc.stddef cimport ptrdiff_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memset

from edgecnn.runtime.cpu cimport InstructionSet
from edgecnn.runtime.executor cimport Step, as_view
from edgecnn.runtime.kernels.activations cimport as_activation
from edgecnn.runtime.kernels.panels cimport as_panels, divide_up, look_ahead, packed_panel
from edgecnn.runtime.microkernels cimport ec_panel, ec_window
from edgecnn.runtime.step cimport ec_at, ec_context, ec_rows, ec_run, ec_share, ec_step, ec_stopped

from edgecnn.graph.operators import effective_kernel, resolve_pads
from edgecnn.runtime.cpu import SECOND_LEVEL_BYTES
from edgecnn.runtime.kernels.packing import pack_panels, unpack_panels
from edgecnn.runtime.memory import View

# Long sums are cut into slices that are summed alone and then added up: the error of a sum of n terms grows with the
# slice's length and the number of slices, not with n (Higham 2002, section 4.2). The weights of a slice (64 KiB for the
# widest panel) also stay in the second-level cache while the block's pixels pass.
cdef size_t SLICE = 256
# What a block's pixels may take of the second-level cache, while the weights pass through the rest.
cdef size_t BLOCK_BYTES = SECOND_LEVEL_BYTES * 3 // 8
cdef size_t MAX_BLOCK = 512
# With fewer channels a tap is too short a run for the tile's loop, and rows of the window are taken for taps.
cdef size_t RUN_CHANNELS = 12


ctypedef struct phases_arguments:
    size_t count
    const ec_step **phases


cdef class ConvolutionStep(Step):
    cdef convolution_arguments arguments
    cdef packed_panel *panel

    def __dealloc__(self):
        free(self.panel)


cdef class PhasesStep(Step):
    cdef phases_arguments arguments
    cdef const ec_step **phases

    def __dealloc__(self):
        free(self.phases)


cdef inline void point_evenly(const float **entry, const float *x, ptrdiff_t step, ptrdiff_t count) noexcept nogil:
    cdef ptrdiff_t i
    for i in range(count):
        entry[i] = x
        x += step


cdef void point_at_taps(const convolution_arguments *a, const float *x, const float *zeros, size_t first, size_t last,
                        const float **table) noexcept nogil:
    """table[tap][i]: where the tap of output pixel first + i lies."""
    cdef const ec_window *w = &a.window
    cdef const volume *v = &a.planes
    cdef size_t d, i, j, pixel, row, column, end, plane
    cdef ptrdiff_t z, y, left, low, high, c
    cdef const float *line
    cdef const float **entry = table
    for d in range(v.kernel):
        for i in range(w.kernel_height):
            for j in range(w.kernel_width):
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
                    plane = row // w.out_height
                    row -= plane * w.out_height
                    z = <ptrdiff_t>(plane * v.stride + d * v.dilation) - v.pad
                    y = <ptrdiff_t>(row * w.stride_height + i * w.dilation_height) - <ptrdiff_t>w.pad_top
                    c = column
                    if 0 <= y < <ptrdiff_t>w.height and 0 <= z < <ptrdiff_t>v.depth:
                        while c < <ptrdiff_t>end and c < low:
                            entry[c - <ptrdiff_t>column] = zeros
                            c += 1
                        line = x + z * <ptrdiff_t>v.x_plane + y * <ptrdiff_t>w.row
                        line += (c * <ptrdiff_t>w.stride_width + left) * <ptrdiff_t>w.pixel
                        point_evenly(entry + (c - <ptrdiff_t>column), line, <ptrdiff_t>(w.stride_width * w.pixel),
                                     min(<ptrdiff_t>end, high) - c)
                        c = max(c, min(<ptrdiff_t>end, high))
                    while c < <ptrdiff_t>end:
                        entry[c - <ptrdiff_t>column] = zeros
                        c += 1
                    entry += end - column
                    pixel += end - column


cdef float *copy_run(const ec_window *w, const float *line, ptrdiff_t left, float *out) noexcept nogil:
    """A row of the window that begins `left` pixels into the image's line, zeros outside; gives the end of the copy."""
    cdef ptrdiff_t taps = w.kernel_width, channels = w.channels
    cdef ptrdiff_t from_tap = max(<ptrdiff_t>0, -left), to_tap = min(taps, <ptrdiff_t>w.width - left)
    memset(out, 0, taps * channels * sizeof(float))
    if from_tap < to_tap:
        memcpy(out + from_tap * channels, line + (left + from_tap) * channels,
               <size_t>((to_tap - from_tap) * channels) * sizeof(float))
    return out + taps * channels


cdef void point_at_runs(const convolution_arguments *a, const float *x, size_t first, size_t last, const float **table,
                        float *spare) noexcept nogil:
    """table[tap][i], where a tap is a row of the window, whose pixels follow each other: where that of output pixel
    first + i begins. What hangs over the image's edge is copied to `spare`, which begins with the zeros that stand for
    whole rows."""
    cdef const ec_window *w = &a.window
    cdef const float *zeros = spare
    cdef const float *line
    cdef const float **entry = table
    cdef ptrdiff_t width = w.width, taps = w.kernel_width, stride = w.stride_width, pad = w.pad_left
    cdef ptrdiff_t step = stride * <ptrdiff_t>w.channels, y, c, end, row, column
    # Output columns [low, high) have their whole window inside.
    cdef ptrdiff_t low = divide_up(pad, stride), high = 0 if width + pad < taps else (width + pad - taps) // stride + 1
    cdef size_t i, pixel
    spare = copy_run(w, x, width, spare)
    for i in range(w.kernel_height):
        pixel = first
        while pixel < last:
            row = pixel // w.out_width
            column = pixel - row * w.out_width
            end = min(w.out_width, column + last - pixel)
            y = row * <ptrdiff_t>w.stride_height + <ptrdiff_t>(i * w.dilation_height) - <ptrdiff_t>w.pad_top
            c = column
            if y < 0 or y >= <ptrdiff_t>w.height:
                for c in range(column, end):
                    entry[c - column] = zeros
            else:
                line = x + y * <ptrdiff_t>w.row
                while c < end and c < low:
                    entry[c - column] = spare
                    spare = copy_run(w, line, c * stride - pad, spare)
                    c += 1
                point_evenly(entry + (c - column), line + c * step - pad * <ptrdiff_t>w.channels, step,
                             min(end, high) - c)
                c = max(c, min(end, high))
                while c < end:
                    entry[c - column] = spare
                    spare = copy_run(w, line, c * stride - pad, spare)
                    c += 1
            entry += end - column
            pixel += end - column


cdef void point_at_pixels(float *base, size_t plane, size_t row, size_t pixel, size_t height, size_t width,
                          size_t first, size_t last, float **table) noexcept nogil:
    """table[i]: where pixel first + i of planes of height x width pixels lies; plane, row, pixel: floats between."""
    cdef size_t y = first // width, column = first - y * width, z = y // height, count
    y -= z * height
    while first < last:
        count = min(width - column, last - first)
        point_evenly(<const float **>table, base + z * plane + y * row + column * pixel, pixel, count)
        table += count
        first += count
        column = 0
        y += 1
        if y == height:
            y = 0
            z += 1


cdef void multiply_panel(const convolution_arguments *a, const packed_panel *packed, size_t skip, size_t count,
                         const float **table, float **out, const float **residual) noexcept nogil:
    """One panel times the `count` pixels of a block."""
    cdef ec_panel panel
    cdef size_t width = packed.vectors * a.table.lanes, tallest = a.table.gemm_rows[packed.vectors - 1]
    cdef size_t tiles = divide_up(count, tallest), short = count // tiles, longer = count - short * tiles
    cdef size_t tile, first, rows
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
            first = 0
            for tile in range(tiles):
                rows = short + (1 if tile < longer else 0)
                look_ahead(&panel, width, tile, tiles)
                a.table.gemm[packed.vectors - 1][rows - 1](
                    &panel, table + tap * count + first, out + first,
                    residual + first if residual != NULL and panel.start != NULL else NULL, packed.column,
                )
                if last and a.activation.function != NULL:
                    a.activation.function(out + first, rows, packed.column, packed.columns, a.activation.parameters)
                first += rows
            panel.start = NULL
            k += depth
        tap += taps


cdef void multiply(const convolution_arguments *a, const ec_context *context, const float *x, float *out, size_t origin,
                   size_t pixels, size_t blocks, size_t index, size_t end) noexcept nogil:
    """Pairs [index, end) of (block, panel), where the pixels from `origin` on are cut into `blocks`."""
    cdef const ec_window *w = &a.window
    cdef size_t most = divide_up(pixels, blocks), block, built = blocks, panel, first = 0, last = 0
    cdef const float **table = <const float **>context.scratch
    cdef float **out_table = <float **>(table + a.taps * most)
    cdef const float **residual_table = NULL
    cdef float *spare = <float *>(context.scratch + divide_up((a.taps + 2) * most * sizeof(void *), 64) * 64)
    if a.has_residual:
        residual_table = <const float **>(out_table + most)
    while index < end and not ec_stopped(context):
        block = index // a.panels
        panel = index - block * a.panels
        if block != built:
            built = block
            first = origin + pixels * block // blocks
            last = origin + pixels * (block + 1) // blocks
            if a.runs:
                point_at_runs(a, x, first, last, table, spare)
            else:
                point_at_taps(a, x, context.zeros, first, last, table)
            point_at_pixels(out, a.planes.out_plane, w.out_row, w.out_pixel, w.out_height, w.out_width, first, last,
                            out_table)
            if a.has_residual:
                point_at_pixels(ec_at(context, &a.residual), a.planes.residual_plane, a.residual.row, a.residual.pixel,
                                w.out_height, w.out_width, first, last, <float **>residual_table)
        multiply_panel(
            a, a.panel + panel, 0 if a.groups == 1 else panel // (a.panels // a.groups) * a.depth, last - first,
            table, out_table, residual_table,
        )
        index += 1


cdef void run(const ec_step *step, const ec_context *context, int thread, int threads) noexcept nogil:
    # Work is (block of pixels) x (panel), cut into equal shares of neighbouring pairs; each writes outputs of its own.
    cdef const convolution_arguments *a = <const convolution_arguments *>step.arguments
    cdef size_t pixels = a.planes.out_planes * a.window.out_height * a.window.out_width
    cdef size_t blocks = divide_up(pixels, a.block), index, end
    if blocks % threads and pixels >= <size_t>(16 * threads) and not a.heavy:
        blocks = divide_up(blocks, threads) * threads
    ec_share(blocks * a.panels, thread, threads, &index, &end)
    multiply(a, context, ec_at(context, &a.x), ec_at(context, &a.out), 0, pixels, blocks, index, end)


cdef void run_rows(const ec_step *step, const ec_context *context, const float *x, float *out, size_t first,
                   size_t last) noexcept nogil:
    cdef const convolution_arguments *a = <const convolution_arguments *>step.arguments
    cdef size_t pixels = (last - first) * a.window.out_width, blocks = divide_up(pixels, a.block)
    multiply(a, context, x, out, first * a.window.out_width, pixels, blocks, 0, blocks * a.panels)


cdef void run_phases(const ec_step *step, const ec_context *context, int thread, int threads) noexcept nogil:
    # The phases write outputs of their own, so that no thread waits between them.
    cdef const phases_arguments *a = <const phases_arguments *>step.arguments
    cdef size_t i
    for i in range(a.count):
        a.phases[i].run(a.phases[i], context, thread, threads)


class Product(NamedTuple):
    """A convolution as `prepare_product` takes it; tuples have an entry for depth, height and width.

    Attributes:
        weights: float32 (K, filters), K over taps (depth, rows, columns) and the channels of a group.
        kernel, strides, dilations: of the window.
        pads: zeros before the first pixel; negative where the window starts inside the image.
        size, out_size: of the image and of the output.
        groups: how many.
        out: view of the first output plane, whose height and width are `out_size`'s.
        out_plane: floats from one output plane to the next.
        purpose: tells packed weights of one node apart.
        whole: whether the weights are all that the node has, in their own order.
    """

    weights: np.ndarray
    kernel: tuple[int, int, int]
    strides: tuple[int, int, int]
    dilations: tuple[int, int, int]
    pads: tuple[int, int, int]
    size: tuple[int, int, int]
    out_size: tuple[int, int, int]
    groups: int
    out: View
    out_plane: int
    purpose: str = "panels"
    whole: bool = False


cdef int describe(convolution_arguments *a, placed, product) except -1:
    """The part of the arguments that does not depend on how the weights are packed."""
    cdef InstructionSet instruction_set = placed.instruction_set
    x, out, residual = placed.view("x"), product.out, placed.view("residual")
    a.table = instruction_set.table
    a.x, a.out = as_view(x), as_view(out)
    a.has_residual = residual is not None
    a.planes.depth, a.window.height, a.window.width = product.size
    a.planes.out_planes, a.window.out_height, a.window.out_width = product.out_size
    a.planes.x_plane, a.planes.out_plane = a.window.height * x.row, product.out_plane
    if residual is not None:
        a.residual = as_view(residual)
        a.planes.residual_plane = a.window.out_height * residual.row
    a.window.channels = x.channels
    a.window.row, a.window.pixel = x.row, x.pixel
    a.window.out_row, a.window.out_pixel = out.row, out.pixel
    a.planes.kernel, a.window.kernel_height, a.window.kernel_width = product.kernel
    a.planes.stride, a.window.stride_height, a.window.stride_width = product.strides
    a.planes.dilation, a.window.dilation_height, a.window.dilation_width = product.dilations
    front, top, left = product.pads
    a.planes.pad, a.window.pad_top, a.window.pad_left = front, <size_t><ptrdiff_t>top, <size_t><ptrdiff_t>left
    a.groups = product.groups
    a.taps = math.prod(product.kernel)
    a.depth = product.weights.shape[0] // a.taps
    a.activation = as_activation(placed.node.attributes, instruction_set)
    return 0


def block_of(product, depth, taps, tallest):
    """Most pixels in a block. Neighbouring pixels share most of their windows: what a block touches grows with the
    kernel's rows, not its taps.

    Args:
        depth, taps: of the sums.
        tallest: pixels of a tile.
    """
    most = BLOCK_BYTES // (4 * depth * min(product.kernel[0] * product.kernel[1], taps))
    return min(max(most, 4 * tallest), MAX_BLOCK)


cdef int set_functions(Step step, placed, product, ec_run run, ec_rows rows) except -1:
    """Give a step what computes it: whole images, and rows of the output alone where that is possible."""
    step.step.run, step.step.asks = run, 1
    step.step.serial = placed.serial
    if product.size[0] == product.out_size[0] == 1 and min(product.pads) >= 0:
        step.step.rows = rows
        step.span = (effective_kernel(product.kernel, product.dilations)[1], product.strides[1], product.pads[1])
    return 0


cdef ConvolutionStep prepare_product(placed, product):
    """The step for a product."""
    cdef ConvolutionStep step = ConvolutionStep.__new__(ConvolutionStep)
    cdef convolution_arguments *a = &step.arguments
    cdef InstructionSet instruction_set = placed.instruction_set
    cdef size_t width, widest, i, most, groups = product.groups
    x = placed.view("x")
    describe(a, placed, product)
    k = product.weights.shape[0]
    a.runs = (
        a.window.kernel_width > 1 and a.depth < RUN_CHANNELS and groups == 1 and x.pixel == x.channels
        and a.window.dilation_width == 1 and a.planes.depth == 1 and a.planes.out_planes == 1 and a.planes.kernel == 1
        and min(product.pads) >= 0
    )
    if a.runs:
        a.taps, a.depth = a.window.kernel_height, a.window.kernel_width * a.depth

    rows = [instruction_set.table.gemm_rows[i] for i in range(4)]
    packed, panels = placed.packed(
        product.purpose,
        partial(
            pack_panels, product.weights, placed.constant("bias"), product.groups, instruction_set.lanes, rows
        ),
        unpack_product if product.whole else None,
    )
    step.keep = packed
    step.panel = as_panels(packed, panels)
    a.panel, a.panels = step.panel, len(panels)

    widest = 0
    for i in range(a.panels):
        widest = max(widest, step.panel[i].vectors)
    width = widest * instruction_set.lanes
    pixels = math.prod(product.out_size)
    # Slices of about equal length: none is left over.
    a.slice_taps = divide_up(a.taps, divide_up(a.taps * a.depth, SLICE)) if a.depth <= SLICE else 1
    a.slice_depth = divide_up(a.depth, divide_up(a.depth, SLICE))
    a.heavy = a.panels >= 8 and packed.nbytes > 4 * pixels * k
    a.block = block_of(product, a.depth, a.taps, rows[widest - 1])
    most = min(a.block, <size_t>pixels)
    step.scratch = divide_up((a.taps + 2) * most * sizeof(void *), 64) * 64
    if a.runs:
        step.scratch += (most * a.taps + 1) * a.depth * sizeof(float)
    set_functions(step, placed, product, run, run_rows)
    step.step.arguments = a
    kind = "product of rows" if a.runs else "product"
    step.kernel = f"{kind} {rows[widest - 1]}x{width} {instruction_set.name}"
    return step


def unpack_product(packed, shape):
    """A node's weights, from the panels of its product."""
    return unpack_panels(*packed, shape)


def in_three(values, filler):
    """One value an axis, for depth, height and width: axes that are not there are in front."""
    return (filler,) * (3 - len(values)) + tuple(values)


def product_of(placed, groups):
    """A node's product. Its weights are (*kernel, ...): there follow, row-major, a group's channels and all filters.

    A `dense` node is a convolution of one pixel's size over all leading positions.
    """
    attributes, weights = placed.node.attributes, placed.constant("weights")
    if placed.node.operator == "dense":
        x = placed.view("x")
        size, ones = (1, x.height, x.width), (1, 1, 1)
        return Product(weights, ones, ones, ones, (0, 0, 0), size, size, 1, placed.out, 0, whole=True)
    size, out_size = placed.shapes[0][:-1], placed.out_shape[:-1]
    kernel, dilations = weights.shape[: len(size)], attributes["dilations"]
    pads = resolve_pads(attributes, size, effective_kernel(kernel, dilations))
    sizes = in_three(out_size, 1)
    return Product(
        weights.reshape(-1, placed.out_shape[-1]),
        in_three(kernel, 1),
        in_three(attributes["strides"], 1),
        in_three(dilations, 1),
        in_three(pads[::2], 0),
        in_three(size, 1),
        sizes,
        groups,
        placed.out,
        sizes[1] * placed.out.row,
        whole=True,
    )


def prepare_direct_conv(placed):
    """Prepare a `conv` or `dense` node as a matrix product over all taps."""
    return prepare_product(placed, product_of(placed, placed.node.attributes.get("groups", 1)))


def prepare_multiplied_depthwise(placed):
    """Prepare a `depthwise_conv` node whose multiplier is not 1: a convolution with one group for each channel."""
    return prepare_product(placed, product_of(placed, placed.view("x").channels))


# Of a phase: units of work (see budget.py).
PHASE_WORK = 600


class Phase(NamedTuple):
    """The outputs of a transposed convolution that one set of taps meets, along one axis.

    Attributes:
        first, count: the first output, and how many, `stride` apart.
        taps: indices of the taps, in the order in which they meet the input.
        step: input pixels from one tap to the next.
        pad: input pixels by which the first tap of the first output lies before the image (negative: inside).
    """

    first: int
    count: int
    taps: tuple[int, ...]
    step: int
    pad: int


def phases_of(kernel, stride, dilation, pad, out_size):
    """All phases along one axis.

    Output o takes tap k of input i where o + pad = i * stride + k * dilation. So outputs with the same remainder of
    (o + pad) by the stride meet the same taps; for them i = (o + pad) // stride - q with q = (k * dilation) // stride.
    """
    found = []
    for first in range(min(stride, out_size)):
        taps = [k for k in range(kernel) if k * dilation % stride == (first + pad) % stride]
        offsets = [k * dilation // stride for k in taps]
        step = offsets[1] - offsets[0] if len(taps) > 1 else 1
        before = offsets[-1] - (first + pad) // stride if taps else 0
        found.append(Phase(first, -(-(out_size - first) // stride), tuple(reversed(taps)), step, before))
    return found


def prepare_conv_transpose(placed):
    """Prepare a `conv_transpose` node.

    Source of the decomposition: Shi et al. 2016 (arXiv 1609.07009).
    """
    cdef PhasesStep step = PhasesStep.__new__(PhasesStep)
    cdef Step one
    cdef size_t i
    attributes, weights, out = placed.node.attributes, placed.constant("weights"), placed.out
    groups, size = attributes["groups"], in_three(placed.shapes[0][:-1], 1)
    *kernel, each, channels = weights.shape
    weights = weights.reshape(*in_three(kernel, 1), each, channels)
    strides, dilations = in_three(attributes["strides"], 1), in_three(attributes["dilations"], 1)
    pads, out_size = in_three(attributes["pads"][::2], 0), in_three(placed.out_shape[:-1], 1)
    placed.work(sum((k + 1) * s for k, s in zip(weights.shape[:3], strides)), "the phases of")
    axes = [
        phases_of(k, s, d, p, n) for k, s, d, p, n in zip(weights.shape[:3], strides, dilations, pads, out_size)
    ]
    plane = out_size[1] * out.row
    steps = []
    placed.work(PHASE_WORK * math.prod(map(len, axes)), "the phases of")
    for chosen in itertools.product(*axes):
        kept = weights
        for axis, phase in enumerate(chosen):
            kept = kept.take(np.array(phase.taps, np.intp), axis)
        if kept.size == 0:  # no tap meets these outputs: the bias alone, as a tap that lies before the image
            kept = np.zeros((1, 1, 1, each, channels), np.float32)
            chosen = [phase._replace(taps=(0,), step=1, pad=phase.count) for phase in chosen]
        # (taps, filters, groups, depth) to (taps, depth, groups, filters): filters of a group are neighbours.
        matrix = kept.reshape(-1, each, groups, channels // groups).transpose(0, 3, 2, 1)
        front, top, left = (phase.first for phase in chosen)
        steps.append(
            prepare_product(
                placed,
                Product(
                    np.ascontiguousarray(matrix).reshape(-1, groups * each),
                    kept.shape[:3],
                    (1, 1, 1),
                    tuple(phase.step for phase in chosen),
                    tuple(phase.pad for phase in chosen),
                    size,
                    tuple(phase.count for phase in chosen),
                    groups,
                    out._replace(
                        offset=out.offset + front * plane + top * out.row + left * out.pixel,
                        row=strides[1] * out.row,
                        pixel=strides[2] * out.pixel,
                    ),
                    strides[0] * plane,
                    f"phase {front} {top} {left}",
                ),
            )
        )
    step.phases = <const ec_step **>malloc(len(steps) * sizeof(ec_step *))
    if step.phases == NULL:
        raise MemoryError("no memory for a transposed convolution")
    for i in range(<size_t>len(steps)):
        one = steps[i]
        step.phases[i] = &one.step
    step.arguments.count, step.arguments.phases = len(steps), step.phases
    step.keep = steps
    step.scratch = max([part.scratch for part in steps])
    step.step.run, step.step.asks = run_phases, 1
    step.step.arguments = &step.arguments
    step.step.serial = placed.serial
    step.kernel = f"{len(steps)} phases, {steps[0].kernel}"
    return step
