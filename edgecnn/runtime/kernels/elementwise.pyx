"""Functions of one value and of two, element by element, with broadcasting."""

from functools import lru_cache
import math

import numpy as np

from libc.string cimport memcpy, memset

from edgecnn.format.arrays cimport values_of
from edgecnn.runtime.cpu cimport InstructionSet
from edgecnn.runtime.executor cimport Step, as_view
from edgecnn.runtime.kernels.activations cimport apply_activation, as_activation
from edgecnn.runtime.microkernels cimport EC_BINARIES, ec_activation, ec_binary, ec_binary_names, ec_scalar, ec_table
from edgecnn.runtime.step cimport ec_at, ec_context, ec_share, ec_step, ec_view

from edgecnn.runtime.memory import View

# Values of neighbouring pixels that one call combines with a pixel, at most.
RUN = 768
RUNS = np.arange(4096, 255, -1, dtype=np.int64)

# Values of a line that one call combines: more are cut, so that threads can share them.
SHORTEST, LONGEST = 1024, 4096
BINARIES = {ec_binary_names[i].decode(): i for i in range(EC_BINARIES)}


# Seven of a tensor without its batch, and the parts of a line (graph.MOST_RANK).
cdef enum:
    MOST_AXES = 8


ctypedef struct operand:
    ec_view view
    const float *constant    # NULL: a tensor
    bint scalar              # one value for all of a line


ctypedef struct elementwise_arguments:
    operand x
    operand y                # of functions of two values
    ec_view out
    # A line of the output is one that both operands walk with one stride, 1 or 0. Around it lie `axes`: the size of
    # each, and the floats from one index to the next, 0 where an operand is broadcast. The last one counts the parts
    # into which a long line is cut.
    size_t axes, lines, length, rest   # `rest` values in the last part of a line
    size_t sizes[MOST_AXES]
    size_t x_strides[MOST_AXES]
    size_t y_strides[MOST_AXES]
    size_t out_strides[MOST_AXES]
    ec_binary binary
    ec_scalar by_scalar, of_scalar   # y, or x, is one value
    ec_activation activation
    const ec_table *table
    size_t x_row, x_pixel, out_row, out_pixel, width, channels   # of an activation's image as it is
    size_t together          # pixels that one call combines with as many copies of `y`, which is one pixel


cdef class ElementwiseStep(Step):
    cdef elementwise_arguments arguments


cdef inline const float *at(const operand *o, const ec_context *context) noexcept nogil:
    return o.constant if o.constant != NULL else ec_at(context, &o.view)


cdef void run_activation(const ec_step *step, const ec_context *context, int thread, int threads) noexcept nogil:
    # Pixels [first, last) belong to this thread alone; `out` may be `x`.
    cdef const elementwise_arguments *a = <const elementwise_arguments *>step.arguments
    cdef const ec_view *v = &a.x.view
    cdef const float *x = ec_at(context, v)
    cdef float *out = ec_at(context, &a.out)
    cdef const float *source
    cdef float *to
    cdef size_t first, last, pixel, row, column
    ec_share(v.height * v.width, thread, threads, &first, &last)
    for pixel in range(first, last):
        row = pixel // v.width
        column = pixel - row * v.width
        source = x + row * v.row + column * v.pixel
        to = out + row * a.out.row + column * a.out.pixel
        if source != to:
            memcpy(to, source, v.channels * sizeof(float))
        apply_activation(&a.activation, a.table, to, v.channels)


cdef void run_activation_rows(const ec_step *step, const ec_context *context, const float *x, float *out, size_t first,
                              size_t last) noexcept nogil:
    cdef const elementwise_arguments *a = <const elementwise_arguments *>step.arguments
    cdef size_t together = a.width if a.x_pixel == a.channels and a.out_pixel == a.channels else 1
    cdef size_t y, column
    cdef float *to
    for y in range(first, last):
        column = 0
        while column < a.width:
            to = out + y * a.out_row + column * a.out_pixel
            memcpy(to, x + y * a.x_row + column * a.x_pixel, together * a.channels * sizeof(float))
            apply_activation(&a.activation, a.table, to, together * a.channels)
            column += together


cdef void run_binary(const ec_step *step, const ec_context *context, int thread, int threads) noexcept nogil:
    # Lines [first, last) belong to this thread alone; `out` may be an operand of the output's shape.
    cdef const elementwise_arguments *a = <const elementwise_arguments *>step.arguments
    cdef const float *x = at(&a.x, context)
    cdef const float *y = at(&a.y, context)
    cdef float *out = ec_at(context, &a.out)
    cdef size_t index[MOST_AXES]
    cdef size_t first, last, _line, rest, axis, n
    ec_share(a.lines, thread, threads, &first, &last)
    rest = first
    axis = a.axes
    while axis > 0:
        axis -= 1
        index[axis] = rest % a.sizes[axis]
        rest = rest // a.sizes[axis]
        x += index[axis] * a.x_strides[axis]
        y += index[axis] * a.y_strides[axis]
        out += index[axis] * a.out_strides[axis]
    for _line in range(first, last):
        n = a.rest if index[a.axes - 1] + 1 == a.sizes[a.axes - 1] else a.length
        if a.x.scalar:
            a.of_scalar(y, x[0], out, n)
        elif a.y.scalar:
            a.by_scalar(x, y[0], out, n)
        else:
            a.binary(x, y, out, n)
        apply_activation(&a.activation, a.table, out, n)
        axis = a.axes
        while axis > 0:
            axis -= 1
            index[axis] += 1
            x += a.x_strides[axis]
            y += a.y_strides[axis]
            out += a.out_strides[axis]
            if index[axis] < a.sizes[axis]:
                break
            index[axis] = 0
            x -= a.sizes[axis] * a.x_strides[axis]
            y -= a.sizes[axis] * a.y_strides[axis]
            out -= a.sizes[axis] * a.out_strides[axis]


cdef const float *copies(const elementwise_arguments *a, const ec_context *context) noexcept nogil:
    """As many copies of `y` as pixels are combined together: pixels alone would be too short for a call each."""
    cdef const float *y = at(&a.y, context)
    cdef float *result = <float *>context.scratch
    cdef size_t i
    if a.together == 1:
        return y
    for i in range(a.together):
        memcpy(result + i * a.channels, y, a.channels * sizeof(float))
    return result


cdef void combine(const elementwise_arguments *a, const float *x, const float *y, float *out, size_t pixel,
                  size_t last) noexcept nogil:
    """Pixels [pixel, last) with the copies of `y`."""
    cdef const float *source
    cdef float *to
    cdef size_t row, column, n
    while pixel < last:
        row = pixel // a.width
        column = pixel - row * a.width
        n = min(last - pixel, a.together)
        if a.x_row != a.width * a.channels or a.out_row != a.width * a.channels:
            n = min(n, a.width - column)
        source = x + row * a.x_row + column * a.x_pixel
        to = out + row * a.out_row + column * a.out_pixel
        a.binary(source, y, to, n * a.channels)
        apply_activation(&a.activation, a.table, to, n * a.channels)
        pixel += n


cdef void run_by_pixel(const ec_step *step, const ec_context *context, int thread, int threads) noexcept nogil:
    # Pixels [first, last) belong to this thread alone; `out` may be `x`.
    cdef const elementwise_arguments *a = <const elementwise_arguments *>step.arguments
    cdef size_t first, last
    ec_share(a.out.height * a.out.width, thread, threads, &first, &last)
    if first == last:
        return  # others may write over `y` already
    combine(a, ec_at(context, &a.x.view), copies(a, context), ec_at(context, &a.out), first, last)


cdef operand as_operand(view, constant) except *:
    cdef operand result
    memset(&result, 0, sizeof(result))
    if constant is None:
        result.view = as_view(view)
    else:
        result.constant = <const float *>values_of(constant)
    return result


def strides_over(shape, view, out_shape):
    """Floats from one index of the output to the next along each of its axes: 0 where an operand is broadcast.

    Args:
        view: of a tensor, None for a constant. Both are contiguous but for a tensor's rows and pixels.
    """
    missing = len(out_shape) - len(shape)
    strides, step = [], 1
    for axis in range(len(shape) - 1, -1, -1):
        if view is not None:
            step = view.pixel if axis == len(shape) - 2 else view.row if axis == len(shape) - 3 else step
        strides.append(0 if shape[axis] == 1 else step)
        step *= shape[axis]
    return [0] * missing + strides[::-1]


def merged(sizes, strides):
    """Axes of an output merged with their neighbours where every operand walks both with one stride.

    Args:
        strides: for the output and each operand, one number an axis.

    Returns:
        The axes as (size, strides). Those of the last, the line, are 1, or 0 for an operand with one value for it.
    """
    axes = []
    for size, *steps in zip(sizes, *strides):
        if size == 1:
            continue
        if axes and all(outer == step * size for outer, step in zip(axes[-1][1], steps)):
            axes[-1] = (axes[-1][0] * size, steps)
        else:
            axes.append((size, steps))
    if not axes or axes[-1][1][0] != 1 or any(step > 1 for step in axes[-1][1]):
        axes.append((1, [1] * len(strides)))  # the pixels of one channel may lie apart
    return axes


def prepare_activation(placed):
    """Prepare an `activation` node."""
    cdef ElementwiseStep step = ElementwiseStep.__new__(ElementwiseStep)
    cdef elementwise_arguments *a = &step.arguments
    cdef InstructionSet instruction_set = placed.instruction_set
    x, out = placed.view("x"), placed.out
    a.x_row, a.x_pixel, a.width, a.channels = x.row, x.pixel, x.width, x.channels
    a.out_row, a.out_pixel = out.row, out.pixel
    if x.contiguous and out.contiguous:
        x, out = as_runs(x), as_runs(out)
    a.x.view, a.out = as_view(x), as_view(out)
    a.activation = as_activation(placed.node.attributes, instruction_set)
    a.table = instruction_set.table
    step.step.run, step.step.rows = run_activation, run_activation_rows
    step.span = (1, 1, 0)
    step.step.arguments = a
    step.step.serial = placed.serial
    step.kernel = f"{placed.node.attributes['activation']} {instruction_set.name}"
    return step


@lru_cache(maxsize=1024)
def run_of(total):
    """The longest run, of 256 to 4096 values, that so many values can be cut into; 0 if there is none."""
    fitting = RUNS[total % RUNS == 0] if total >= RUNS[-1] else RUNS[:0]
    return int(fitting[0]) if len(fitting) else 0


def as_runs(view):
    """A contiguous view cut into long runs: pixels alone would be too short for a call each."""
    total = view.height * view.width * view.channels
    run = run_of(total)
    if run == 0:
        return view
    return View(view.buffer, view.offset, 1, total // run, run, total, run)


def is_pixel(shape, out_shape):
    """Whether a shape is one pixel with all channels."""
    return len(shape) > 0 and math.prod(shape) == shape[-1] == out_shape[-1]


def prepare_binary(placed):
    """Prepare a node of two operands."""
    cdef ElementwiseStep step = ElementwiseStep.__new__(ElementwiseStep)
    cdef elementwise_arguments *a = &step.arguments
    cdef InstructionSet instruction_set = placed.instruction_set
    cdef int index, i
    out, out_shape, views = placed.out, placed.out_shape, placed.views
    constants = [None if c is None else np.ascontiguousarray(c, np.float32) for c in placed.constants]
    # A constant's shape has the batch in front where its rank says so.
    shapes = [tuple(s[max(0, len(s) - len(out_shape)):]) for s in placed.shapes]
    step.keep = constants
    a.x, a.y, a.out = as_operand(views[0], constants[0]), as_operand(views[1], constants[1]), as_view(out)
    *outer, (line, (_, *steps)) = merged(
        out_shape,
        [strides_over(shape, view, out_shape) for shape, view in zip((out_shape, *shapes), (out, *views))],
    )
    a.x.scalar, a.y.scalar = [step_ == 0 and line > 1 for step_ in steps]
    # About eight parts for the threads, none so short that a call costs more than its work.
    a.length = min(line, LONGEST, max(SHORTEST, -(-line // 128) * 16))
    parts = -(-line // a.length)
    a.rest = line - (parts - 1) * a.length
    outer.append((parts, [a.length * step_ for step_ in (1, *steps)]))
    a.axes, a.lines = len(outer), math.prod(size for size, _ in outer)
    for i in range(a.axes):
        a.sizes[i] = outer[i][0]
        a.out_strides[i], a.x_strides[i], a.y_strides[i] = outer[i][1]
    table = instruction_set.table
    a.table = table
    is_image = views[0] is not None and shapes[0] == out_shape and len(out_shape) == 3
    by_pixel = is_image and is_pixel(shapes[1], out_shape)
    if by_pixel:
        # A pixel for all: the scale of squeeze and excite.
        x = views[0]
        a.x_row, a.x_pixel, a.width, a.channels = x.row, x.pixel, x.width, x.channels
        a.out_row, a.out_pixel = out.row, out.pixel
        a.together = max(RUN // x.channels, 1) if x.pixel == out.pixel == x.channels else 1
        step.scratch = a.together * a.channels * sizeof(float)
    index = BINARIES[placed.node.operator]
    a.binary, a.by_scalar, a.of_scalar = table.binary[index], table.binary_scalar[index], table.scalar_binary[index]
    a.activation = as_activation(placed.node.attributes, instruction_set)
    step.step.run = run_by_pixel if by_pixel else run_binary
    step.step.arguments = a
    step.step.serial = placed.serial
    step.kernel = f"{placed.node.operator} {instruction_set.name}"
    return step
