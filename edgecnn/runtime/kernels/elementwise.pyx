"""Functions of one value and of two, element by element, with broadcasting."""

from functools import lru_cache

import numpy as np

from libc.string cimport memcpy, memset

from edgecnn.format.arrays cimport values_of
from edgecnn.runtime.cpu cimport InstructionSet
from edgecnn.runtime.executor cimport Step, as_view
from edgecnn.runtime.kernels.activations cimport apply_activation, as_activation
from edgecnn.runtime.microkernels cimport EC_BINARIES, ec_activation, ec_binary, ec_binary_names, ec_scalar, ec_table
from edgecnn.runtime.step cimport ec_at, ec_context, ec_share, ec_step, ec_view

from edgecnn.errors import GraphError
from edgecnn.runtime.memory import View

# Values of neighbouring pixels that one call combines with a pixel, at most.
RUN = 768
RUNS = np.arange(4096, 255, -1, dtype=np.int64)

BINARIES = {ec_binary_names[i].decode(): i for i in range(EC_BINARIES)}


ctypedef struct operand:
    ec_view view
    const float *constant    # NULL: a tensor
    # Floats from one index of the output to the next, 0 where the operand is broadcast.
    size_t outer, row, pixel
    bint scalar              # one value for all channels of a pixel


ctypedef struct elementwise_arguments:
    operand x
    operand y                # of functions of two values
    ec_view out
    size_t outer_height      # output rows are outer index * outer_height + row
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
    # Pixels [first, last) belong to this thread alone; `out` may be an operand of the output's shape.
    cdef const elementwise_arguments *a = <const elementwise_arguments *>step.arguments
    cdef const float *x = at(&a.x, context)
    cdef const float *y = at(&a.y, context)
    cdef float *out = ec_at(context, &a.out)
    cdef const float *left
    cdef const float *right
    cdef float *to
    cdef size_t first, last, pixel, row, column, outer, n = a.out.channels
    ec_share(a.out.height * a.out.width, thread, threads, &first, &last)
    for pixel in range(first, last):
        row = pixel // a.out.width
        column = pixel - row * a.out.width
        outer = row // a.outer_height
        to = out + row * a.out.row + column * a.out.pixel
        row = row - outer * a.outer_height
        left = x + outer * a.x.outer + row * a.x.row + column * a.x.pixel
        right = y + outer * a.y.outer + row * a.y.row + column * a.y.pixel
        if a.x.scalar:
            a.of_scalar(right, left[0], to, n)
        elif a.y.scalar:
            a.by_scalar(left, right[0], to, n)
        else:
            a.binary(left, right, to, n)
        apply_activation(&a.activation, a.table, to, n)


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


cdef operand as_operand(view, constant, shape, out_shape) except *:
    """An operand's strides over an output of rank 1 to 4 ([outer, height, width, channels], ones in front)."""
    cdef operand result
    memset(&result, 0, sizeof(result))
    sizes = [1] * (4 - len(shape)) + list(shape)
    wanted = [1] * (4 - len(out_shape)) + list(out_shape)
    if constant is None:
        result.constant = NULL
        result.view = as_view(view)
        pixel, row = view.pixel, view.row
    else:
        result.constant = <const float *>values_of(constant)
        pixel, row = sizes[3], sizes[2] * sizes[3]
    result.pixel = pixel if sizes[2] == wanted[2] else 0
    result.row = row if sizes[1] == wanted[1] else 0
    result.outer = row * sizes[1] if sizes[0] == wanted[0] else 0
    result.scalar = sizes[3] == 1 and wanted[3] != 1
    return result


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


def prepare_binary(placed):
    """Prepare a node of two operands."""
    cdef ElementwiseStep step = ElementwiseStep.__new__(ElementwiseStep)
    cdef elementwise_arguments *a = &step.arguments
    cdef InstructionSet instruction_set = placed.instruction_set
    cdef int index
    out, out_shape, views = placed.out, placed.out_shape, list(placed.views)
    constants = [None if c is None else np.ascontiguousarray(c, np.float32) for c in placed.constants]
    # A constant's shape has the batch in front where its rank says so.
    shapes = [
        tuple(s[len(s) - min(len(s), len(out_shape)):]) if c is not None else tuple(s)
        for s, c in zip(placed.shapes, constants)
    ]
    if all(v is not None and v.contiguous for v in (*views, out)) and shapes[0] == shapes[1] == out_shape:
        views, out = [as_runs(v) for v in views], as_runs(out)
        out_shape = (out.height, out.width, out.channels)
        shapes = [out_shape, out_shape]
    if len(out_shape) > 4:
        shapes, out_shape = merge_sizes(shapes, out_shape)
    step.keep = constants
    a.x = as_operand(views[0], constants[0], shapes[0], out_shape)
    a.y = as_operand(views[1], constants[1], shapes[1], out_shape)
    a.out = as_view(out)
    a.outer_height = out_shape[-3] if len(out_shape) > 2 else 1
    table = instruction_set.table
    a.table = table
    by_pixel = (
        views[0] is not None and shapes[0] == out_shape and len(out_shape) == 3 and shapes[1] == (1, 1, out_shape[2])
    )
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


def merge_sizes(shapes, out_shape):
    """Neighbouring sizes along which both operands go the same way, merged, until four are left."""
    padded = [[1] * (len(out_shape) - len(s)) + list(s) for s in shapes]
    wanted = list(out_shape)
    axis = 0
    while len(wanted) > 4 and axis + 1 < len(wanted) - 1:
        if all((s[axis] == wanted[axis]) == (s[axis + 1] == wanted[axis + 1]) for s in padded):
            for s in (*padded, wanted):
                s[axis : axis + 2] = [s[axis] * s[axis + 1]]
        else:
            axis += 1
    if len(wanted) > 4:
        raise GraphError(f"shapes {shapes} are broadcast along too many axes; at most four can differ")
    return padded, wanted
