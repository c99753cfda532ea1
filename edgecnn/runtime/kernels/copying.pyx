"""What moves values and computes nothing: concatenation, padding with zeros, copies."""

import math
from dataclasses import replace

from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memset

from edgecnn.runtime.executor cimport Step, as_view
from edgecnn.runtime.step cimport ec_at, ec_context, ec_share, ec_step, ec_view


ctypedef struct copy_pair:
    ec_view x
    ec_view out              # the same height, width and channels


ctypedef struct copy_arguments:
    size_t count
    const copy_pair *pairs


ctypedef struct padding_arguments:
    ec_view x
    ec_view out
    size_t top, left


cdef class CopyStep(Step):
    cdef copy_arguments arguments
    cdef copy_pair *pairs

    def __dealloc__(self):
        free(self.pairs)


cdef class PaddingStep(Step):
    cdef padding_arguments arguments


cdef void run_copy(const ec_step *step, const ec_context *context, int thread, int threads) noexcept nogil:
    # Pixels [first, last) of every pair belong to this thread alone.
    cdef const copy_arguments *a = <const copy_arguments *>step.arguments
    cdef const copy_pair *p
    cdef const float *x
    cdef float *out
    cdef size_t i, first, last, pixel, row, column
    for i in range(a.count):
        p = a.pairs + i
        x = ec_at(context, &p.x)
        out = ec_at(context, &p.out)
        ec_share(p.x.height * p.x.width, thread, threads, &first, &last)
        for pixel in range(first, last):
            row = pixel // p.x.width
            column = pixel - row * p.x.width
            memcpy(out + row * p.out.row + column * p.out.pixel, x + row * p.x.row + column * p.x.pixel,
                   p.x.channels * sizeof(float))


cdef void run_padding(const ec_step *step, const ec_context *context, int thread, int threads) noexcept nogil:
    # Output rows [first, last) belong to this thread alone.
    cdef const padding_arguments *a = <const padding_arguments *>step.arguments
    cdef const float *x = ec_at(context, &a.x)
    cdef float *out = ec_at(context, &a.out)
    cdef float *to
    cdef size_t first, last, row, column, bytes = a.x.channels * sizeof(float)
    ec_share(a.out.height, thread, threads, &first, &last)
    for row in range(first, last):
        for column in range(a.out.width):
            to = out + row * a.out.row + column * a.out.pixel
            if a.top <= row < a.top + a.x.height and a.left <= column < a.left + a.x.width:
                memcpy(to, x + (row - a.top) * a.x.row + (column - a.left) * a.x.pixel, bytes)
            else:
                memset(to, 0, bytes)


cdef CopyStep copy_step(list pairs, placed):
    cdef CopyStep step = CopyStep.__new__(CopyStep)
    cdef size_t i
    step.pairs = <copy_pair *>malloc(len(pairs) * sizeof(copy_pair))
    if step.pairs == NULL:
        raise MemoryError("no memory for a copy")
    for i in range(<size_t>len(pairs)):
        x, out = pairs[i]
        step.pairs[i].x, step.pairs[i].out = as_view(x), as_view(out)
    step.arguments.count, step.arguments.pairs = len(pairs), step.pairs
    step.step.run = run_copy
    step.step.arguments = &step.arguments
    step.step.serial = placed.serial
    step.kernel = "copy"
    return step


def prepare_copy(placed):
    """Prepare an `identity` node, or a `reshape` that could not share its input's storage."""
    x, out = placed.views[0], placed.out
    if placed.node.operator == "reshape":
        # Both are contiguous: the output in the input's shape.
        out = replace(out, height=x.height, width=x.width, channels=x.channels, row=x.row, pixel=x.pixel)
    return copy_step([(x, out)], placed)


def prepare_concatenate(placed):
    """Prepare a `concatenate` node: copies the inputs that were not written in their place. None if all were."""
    out, axis = placed.out, placed.node.attributes["axis"] - 1
    rank = len(placed.out_shape)
    pairs, start = [], 0
    for view, shape in zip(placed.views, placed.shapes):
        if axis == rank - 1:
            pairs.append((view, replace(out, offset=out.offset + start, channels=view.channels)))
        elif axis == rank - 2:
            pairs.append((view, replace(out, offset=out.offset + start * out.pixel, width=view.width)))
        else:
            # Leading sizes are rows: an outer index, then this axis and those between it and the width.
            inner = math.prod(placed.out_shape[axis + 1 : -2])
            rows, out_rows = shape[axis] * inner, placed.out_shape[axis] * inner
            for outer in range(math.prod(placed.out_shape[:axis])):
                offset = out.offset + (outer * out_rows + start * inner) * out.row
                pairs.append(
                    (replace(view, offset=view.offset + outer * rows * view.row, height=rows),
                     replace(out, offset=offset, height=rows))
                )
        start += shape[axis]
    pairs = [(x, to) for x, to in pairs if x != to]
    return copy_step(pairs, placed) if pairs else None


def prepare_zero_padding2d(placed):
    """Prepare a `zero_padding2d` node that no window took in."""
    cdef PaddingStep step = PaddingStep.__new__(PaddingStep)
    step.arguments.x, step.arguments.out = as_view(placed.view("x")), as_view(placed.out)
    top, _, left, _ = placed.node.attributes["pads"]
    step.arguments.top, step.arguments.left = top, left
    step.step.run = run_padding
    step.step.arguments = &step.arguments
    step.step.serial = placed.serial
    step.kernel = "copy into zeros"
    return step
