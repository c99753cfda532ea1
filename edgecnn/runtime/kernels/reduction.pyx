"""Mean, sum, maximum and minimum over neighbouring axes."""

import math

from libc.math cimport INFINITY

from edgecnn.runtime.cpu cimport InstructionSet
from edgecnn.runtime.executor cimport Step, as_view
from edgecnn.runtime.microkernels cimport EC_BINARY_add, EC_BINARY_multiply, ec_reduce, ec_table
from edgecnn.runtime.step cimport ec_at, ec_context, ec_share, ec_step, ec_view


cdef size_t RUN = 128


ctypedef struct reduction_arguments:
    ec_view x
    ec_view out
    # Each of `outer` blocks is [height, width, channels]; height and width are reduced.
    size_t outer, block, height, width, row, pixel, channels
    bint sums
    float start, scale
    ec_reduce reduce
    const ec_table *table


cdef class ReductionStep(Step):
    cdef reduction_arguments arguments


cdef void run_channels(const ec_step *step, const ec_context *context, int thread, int threads) noexcept nogil:
    # Shares are blocks, or, of a single one, vectors of channels: each sum has one order, whatever the threads.
    cdef const reduction_arguments *a = <const reduction_arguments *>step.arguments
    cdef const float *x
    cdef float *out
    cdef float *partial = <float *>context.scratch
    cdef size_t first = 0, last = a.outer, block, row, c, i, n, low = 0, high = a.channels, lanes = a.table.lanes
    if a.outer == 1:
        ec_share((a.channels + lanes - 1) // lanes, thread, threads, &low, &high)
        low = low * lanes
        high = min(high * lanes, a.channels)
        if low >= high:
            return
    else:
        ec_share(a.outer, thread, threads, &first, &last)
    for block in range(first, last):
        x = ec_at(context, &a.x) + block * a.block
        out = ec_at(context, &a.out) + block * a.channels
        for c in range(low, high):
            out[c] = a.start
        for row in range(a.height):
            if not a.sums or a.height * a.width <= RUN:
                a.reduce(x + row * a.row + low, a.pixel, a.width, out + low, high - low)
                continue
            # A long sum in runs: its error grows with a run's length and their number, not with the product.
            i = 0
            while i < a.width:
                n = min(RUN, a.width - i)
                for c in range(high - low):
                    partial[c] = 0.0
                a.reduce(x + row * a.row + i * a.pixel + low, a.pixel, n, partial, high - low)
                a.table.binary[EC_BINARY_add](out + low, partial, out + low, high - low)
                i += n
        if a.scale != 1.0:
            a.table.binary_scalar[EC_BINARY_multiply](out + low, a.scale, out + low, high - low)


cdef void run_last_axis(const ec_step *step, const ec_context *context, int thread, int threads) noexcept nogil:
    # Blocks [first, last) of `width` neighbouring values belong to this thread alone: a vector of partial results each.
    cdef const reduction_arguments *a = <const reduction_arguments *>step.arguments
    cdef const float *x
    cdef float *out = ec_at(context, &a.out)
    cdef float partial[64]
    cdef float result
    cdef size_t first, last, block, i, lanes = a.table.lanes, whole = a.width // lanes
    ec_share(a.outer, thread, threads, &first, &last)
    for block in range(first, last):
        x = ec_at(context, &a.x) + block * a.block
        for i in range(lanes):
            partial[i] = a.start
        a.reduce(x, lanes, whole, partial, lanes)
        a.reduce(x + whole * lanes, lanes, 1, partial, a.width - whole * lanes)
        result = a.start
        a.reduce(partial, 1, lanes, &result, 1)
        out[block] = result * a.scale


def prepare_reduction(placed):
    """Prepare a node that reduces axes.

    All spatial axes of an image may leave gaps between their pixels; any other tensor is contiguous (see memory.py).
    """
    cdef ReductionStep step = ReductionStep.__new__(ReductionStep)
    cdef reduction_arguments *a = &step.arguments
    cdef InstructionSet instruction_set = placed.instruction_set
    axes, shape, x, operator = placed.node.attributes["axes"], placed.shapes[0], placed.view("x"), placed.node.operator
    first, last = axes[0] - 1, axes[-1]
    count = math.prod(shape[first:last])
    a.x, a.out = as_view(x), as_view(placed.out)
    a.channels = math.prod(shape[last:])
    if first == 0 and last == len(shape) - 1:
        a.outer, a.height, a.width, a.row, a.pixel = 1, x.height, x.width, x.row, x.pixel
    else:
        a.outer, a.height, a.width, a.pixel = math.prod(shape[:first]), 1, count, a.channels
        a.block = count * a.channels
    a.table = instruction_set.table
    a.scale = 1.0 / count if operator == "reduce_mean" else 1.0
    if operator == "reduce_max":
        a.reduce, a.start = a.table.reduce_max, -INFINITY
    elif operator == "reduce_min":
        a.reduce, a.start = a.table.reduce_min, INFINITY
    else:
        a.reduce, a.start, a.sums = a.table.reduce_add, 0.0, True
    step.step.run = run_last_axis if a.channels == 1 and last == len(shape) else run_channels
    step.step.arguments = a
    step.scratch = 4 * a.channels
    step.step.serial = placed.serial
    step.kernel = f"{operator} {instruction_set.name}"
    return step
