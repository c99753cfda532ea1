"""Softmax along any axis, its logarithm, and sparsemax."""

import math

from libc.math cimport INFINITY
from libc.stdlib cimport qsort
from libc.string cimport memcpy

from edgecnn.runtime.cpu cimport InstructionSet
from edgecnn.runtime.executor cimport Step, as_view
from edgecnn.runtime.microkernels cimport ec_softmax
from edgecnn.runtime.step cimport ec_at, ec_context, ec_share, ec_step, ec_view


ctypedef struct softmax_arguments:
    ec_view x
    ec_view out
    size_t outer, length, inner   # along another axis than the last: of contiguous tensors
    ec_softmax softmax


cdef class SoftmaxStep(Step):
    cdef softmax_arguments arguments


cdef void run_channels(const ec_step *step, const ec_context *context, int thread, int threads) noexcept nogil:
    # Pixels [first, last) belong to this thread alone; `out` may be `x`.
    cdef const softmax_arguments *a = <const softmax_arguments *>step.arguments
    cdef const float *x = ec_at(context, &a.x)
    cdef float *out = ec_at(context, &a.out)
    cdef size_t first, last, pixel, row, column
    ec_share(a.x.height * a.x.width, thread, threads, &first, &last)
    for pixel in range(first, last):
        row = pixel // a.x.width
        column = pixel - row * a.x.width
        a.softmax(x + row * a.x.row + column * a.x.pixel, out + row * a.out.row + column * a.out.pixel, a.x.channels)


cdef void run_axis(const ec_step *step, const ec_context *context, int thread, int threads) noexcept nogil:
    # Lines [first, last) belong to this thread alone; each is gathered into its scratch. `out` may be `x`.
    cdef const softmax_arguments *a = <const softmax_arguments *>step.arguments
    cdef const float *x = ec_at(context, &a.x)
    cdef float *out = ec_at(context, &a.out)
    cdef float *line = <float *>context.scratch
    cdef size_t first, last, index, start, i
    ec_share(a.outer * a.inner, thread, threads, &first, &last)
    for index in range(first, last):
        start = index // a.inner * a.length * a.inner + index % a.inner
        for i in range(a.length):
            line[i] = x[start + i * a.inner]
        a.softmax(line, line, a.length)
        for i in range(a.length):
            out[start + i * a.inner] = line[i]


cdef int descending(const void *a, const void *b) noexcept nogil:
    """NaN comes last, as in TensorFlow's order."""
    cdef float x = (<const float *>a)[0], y = (<const float *>b)[0]
    if x != x or y != y:
        return (x != x) - (y != y)
    return (x < y) - (x > y)


cdef void run_sparsemax(const ec_step *step, const ec_context *context, int thread, int threads) noexcept nogil:
    # Pixels [first, last) belong to this thread alone; `out` may be `x`. Sums are of differences from the largest
    # value: beside a large one, the 1 that is subtracted would be lost. As in Keras, nothing is in the support where
    # the largest is infinite.
    cdef const softmax_arguments *a = <const softmax_arguments *>step.arguments
    cdef const float *x
    cdef float *out
    cdef float *sorted_values = <float *>context.scratch
    cdef size_t first, last, pixel, row, column, i, support, n = a.x.channels
    cdef double sum, sums, top, shift, value
    ec_share(a.x.height * a.x.width, thread, threads, &first, &last)
    for pixel in range(first, last):
        row = pixel // a.x.width
        column = pixel - row * a.x.width
        x = ec_at(context, &a.x) + row * a.x.row + column * a.x.pixel
        out = ec_at(context, &a.out) + row * a.out.row + column * a.out.pixel
        memcpy(sorted_values, x, n * sizeof(float))
        qsort(sorted_values, n, sizeof(float), descending)
        top = sorted_values[0]
        sum = 0.0
        sums = 0.0
        support = 0
        if top - top == 0.0:
            for i in range(n):
                sum += sorted_values[i] - top
                if not sorted_values[i] - top - (sum - 1.0) / <double>(i + 1) > 0.0:
                    break
                sums += sum
                support = i + 1
        if support == 0:
            top = 0.0
            shift = INFINITY
        else:
            # The cumulative sums are `sum` + top, 2 top, 3 top, ...
            shift = (1.0 - sums) / <double>support - top * (<double>support - 1.0) * 0.5
        for i in range(n):
            value = (x[i] - top) + shift
            out[i] = 0.0 if value <= 0.0 else <float>value


def prepare_sparsemax(placed):
    """Prepare a `sparsemax` node.

    Source: Keras 3.15, which adds up the cumulative sums where Algorithm 1 of Martins & Astudillo 2016
    (arXiv 1602.02068) takes the last one.
    """
    cdef SoftmaxStep step = SoftmaxStep.__new__(SoftmaxStep)
    step.arguments.x, step.arguments.out = as_view(placed.view("x")), as_view(placed.out)
    step.scratch = 4 * step.arguments.x.channels
    step.step.run = run_sparsemax
    step.step.arguments = &step.arguments
    step.step.serial = placed.serial
    step.kernel = "sparsemax"
    return step


def prepare_softmax(placed):
    """Prepare a `softmax` node."""
    cdef SoftmaxStep step = SoftmaxStep.__new__(SoftmaxStep)
    cdef InstructionSet instruction_set = placed.instruction_set
    shape, axis = placed.out_shape, placed.node.attributes["axis"] - 1
    step.arguments.x, step.arguments.out = as_view(placed.view("x")), as_view(placed.out)
    logarithm = placed.node.attributes["log"]
    step.arguments.softmax = instruction_set.table.log_softmax if logarithm else instruction_set.table.softmax
    step.step.run = run_channels if axis == len(shape) - 1 else run_axis
    step.arguments.outer = math.prod(shape[:axis])
    step.arguments.length = shape[axis]
    step.arguments.inner = math.prod(shape[axis + 1 :])
    step.scratch = shape[axis] * 4
    step.step.arguments = &step.arguments
    step.step.serial = placed.serial
    step.kernel = f"{'log_' if logarithm else ''}softmax {instruction_set.name}"
    return step
