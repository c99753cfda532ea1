"""Maximum and average pooling over windows of one to three spatial axes."""

import math

from libc.math cimport INFINITY
from libc.stddef cimport ptrdiff_t

from edgecnn.runtime.cpu cimport InstructionSet
from edgecnn.runtime.executor cimport Step, as_view
from edgecnn.runtime.microkernels cimport EC_BINARY_multiply, ec_pool, ec_table, ec_window
from edgecnn.runtime.step cimport ec_at, ec_context, ec_share, ec_step, ec_view

from edgecnn.graph.operators import resolve_pads


ctypedef struct pool_arguments:
    ec_view x
    ec_view out
    ec_window window
    ec_pool pool


ctypedef struct volume_pool_arguments:
    ec_view x
    ec_view out
    ec_window window          # of one plane
    size_t depth, out_depth, kernel, stride, pad
    bint average
    const ec_table *table


cdef class PoolStep(Step):
    cdef pool_arguments arguments


cdef class VolumePoolStep(Step):
    cdef volume_pool_arguments arguments


cdef void run_pool(const ec_step *step, const ec_context *context, int thread, int threads) noexcept nogil:
    # Output rows [first, last) belong to this thread alone.
    cdef const pool_arguments *a = <const pool_arguments *>step.arguments
    cdef size_t first, last
    ec_share(a.window.out_height, thread, threads, &first, &last)
    a.pool(&a.window, ec_at(context, &a.x), ec_at(context, &a.out), first, last)


cdef void run_pool_rows(const ec_step *step, const ec_context *context, const float *x, float *out, size_t first,
                        size_t last) noexcept nogil:
    cdef const pool_arguments *a = <const pool_arguments *>step.arguments
    a.pool(&a.window, x, out, first, last)


cdef inline void inside(ptrdiff_t start, size_t kernel, size_t length, size_t *first, size_t *last) noexcept nogil:
    """The places [first, last) of a window that starts at `start` which lie inside the image."""
    first[0] = <size_t>max(start, <ptrdiff_t>0)
    last[0] = <size_t>min(start + <ptrdiff_t>kernel, <ptrdiff_t>length)


cdef void run_volume_pool(const ec_step *step, const ec_context *context, int thread, int threads) noexcept nogil:
    # Output rows [first, last) of all planes belong to this thread alone.
    cdef const volume_pool_arguments *a = <const volume_pool_arguments *>step.arguments
    cdef const ec_window *w = &a.window
    cdef const float *x = ec_at(context, &a.x)
    cdef float *out = ec_at(context, &a.out)
    cdef float *to
    cdef size_t first, last, row, column, plane, y, z, c
    cdef size_t top, bottom, left, right, front, back
    ec_share(a.out_depth * w.out_height, thread, threads, &first, &last)
    for row in range(first, last):
        plane = row // w.out_height
        y = row - plane * w.out_height
        inside(<ptrdiff_t>(plane * a.stride) - <ptrdiff_t>a.pad, a.kernel, a.depth, &front, &back)
        inside(<ptrdiff_t>(y * w.stride_height) - <ptrdiff_t>w.pad_top, w.kernel_height, w.height, &top, &bottom)
        for column in range(w.out_width):
            inside(<ptrdiff_t>(column * w.stride_width) - <ptrdiff_t>w.pad_left, w.kernel_width, w.width, &left, &right)
            to = out + row * w.out_row + column * w.out_pixel
            for c in range(w.channels):
                to[c] = 0.0 if a.average else -INFINITY
            for z in range(front, back):
                for y in range(top, bottom):
                    if a.average:
                        a.table.reduce_add(x + (z * w.height + y) * w.row + left * w.pixel, w.pixel, right - left, to,
                                           w.channels)
                    else:
                        a.table.reduce_max(x + (z * w.height + y) * w.row + left * w.pixel, w.pixel, right - left, to,
                                           w.channels)
            if a.average:
                c = w.divisor if w.divisor else (back - front) * (bottom - top) * (right - left)
                a.table.binary_scalar[EC_BINARY_multiply](to, 1.0 / <float>c, to, w.channels)


cdef void fill_window(ec_window *w, placed) except *:
    """The window of the last two spatial axes; of one axis an image of height 1."""
    attributes, x, out = placed.node.attributes, placed.view("x"), placed.out
    size, out_size = placed.shapes[0][:-1], placed.out_shape[:-1]
    pads = resolve_pads(attributes, size, attributes["pool_size"])
    w.height, w.width = ((1,) + size)[-2:]
    w.out_height, w.out_width = ((1,) + out_size)[-2:]
    w.channels = x.channels
    w.row, w.pixel = x.row, x.pixel
    w.out_row, w.out_pixel = out.row, out.pixel
    w.kernel_height, w.kernel_width = ((1,) + attributes["pool_size"])[-2:]
    w.stride_height, w.stride_width = ((1,) + attributes["strides"])[-2:]
    w.dilation_height = w.dilation_width = 1
    w.pad_top, w.pad_left = ((0,) + pads[::2])[-2:]
    w.divisor = math.prod(attributes["pool_size"]) if attributes.get("count_padding") else 0


def prepare_pool(placed):
    """Prepare a `max_pool` or `average_pool` node."""
    if len(placed.shapes[0]) == 4:
        return prepare_volume_pool(placed)
    cdef PoolStep step = PoolStep.__new__(PoolStep)
    cdef pool_arguments *a = &step.arguments
    cdef InstructionSet instruction_set = placed.instruction_set
    a.x, a.out = as_view(placed.view("x")), as_view(placed.out)
    fill_window(&a.window, placed)
    maximum = placed.node.operator == "max_pool"
    a.pool = instruction_set.table.max_pool if maximum else instruction_set.table.average_pool
    step.step.run, step.step.rows = run_pool, run_pool_rows
    step.span = (a.window.kernel_height, a.window.stride_height, <ptrdiff_t>a.window.pad_top)
    step.step.arguments = a
    step.step.serial = placed.serial
    step.kernel = f"{'maximum' if maximum else 'average'} {instruction_set.name}"
    return step


def prepare_volume_pool(placed):
    """Prepare a pooling over three spatial axes."""
    cdef VolumePoolStep step = VolumePoolStep.__new__(VolumePoolStep)
    cdef volume_pool_arguments *a = &step.arguments
    cdef InstructionSet instruction_set = placed.instruction_set
    attributes = placed.node.attributes
    a.x, a.out = as_view(placed.view("x")), as_view(placed.out)
    fill_window(&a.window, placed)
    a.depth, a.out_depth = placed.shapes[0][0], placed.out_shape[0]
    a.kernel, a.stride = attributes["pool_size"][0], attributes["strides"][0]
    a.pad = resolve_pads(attributes, placed.shapes[0][:-1], attributes["pool_size"])[0]
    a.average = placed.node.operator == "average_pool"
    a.table = instruction_set.table
    step.step.run = run_volume_pool
    step.step.arguments = a
    step.step.serial = placed.serial
    step.kernel = f"{'average' if a.average else 'maximum'} of volumes {instruction_set.name}"
    return step
