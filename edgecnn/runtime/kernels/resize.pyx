"""Resizing of images: each output row is a weighted sum of input rows, each output pixel one of that row's pixels."""

import numpy as np

from libc.string cimport memcpy

from edgecnn.format.arrays cimport values_of
from edgecnn.runtime.cpu cimport InstructionSet
from edgecnn.runtime.executor cimport Step, as_view
from edgecnn.runtime.microkernels cimport ec_table
from edgecnn.runtime.step cimport ec_at, ec_context, ec_share, ec_step, ec_view

from edgecnn.graph.interpolation import ENTRY_BYTES, axis_table, table_entries


ctypedef struct resize_arguments:
    ec_view x                # pixels of a row are contiguous
    ec_view out
    size_t row_taps, column_taps
    const int *rows          # [out height][row_taps]
    const int *columns
    const float *row_weights
    const float *column_weights
    bint plain               # one tap of weight 1 along both axes
    const ec_table *table


cdef class ResizeStep(Step):
    cdef resize_arguments arguments


cdef void run(const ec_step *step, const ec_context *context, int thread, int threads) noexcept nogil:
    # Output rows [first, last) belong to this thread alone. Scratch: pointers, then one row of the input's width.
    cdef const resize_arguments *a = <const resize_arguments *>step.arguments
    cdef const float *x = ec_at(context, &a.x)
    cdef const float *line
    cdef float *out = ec_at(context, &a.out)
    cdef float *to
    cdef size_t most = max(a.row_taps, a.column_taps), n = a.x.channels
    cdef const float **sources = <const float **>context.scratch
    cdef float *mixed = <float *>(sources + most)
    cdef size_t first, last, row, column, tap
    ec_share(a.out.height, thread, threads, &first, &last)
    for row in range(first, last):
        if a.row_taps == 1 and a.row_weights[row] == 1.0:
            line = x + a.rows[row] * a.x.row
        else:
            for tap in range(a.row_taps):
                sources[tap] = x + a.rows[row * a.row_taps + tap] * a.x.row
            a.table.weigh(sources, a.row_weights + row * a.row_taps, a.row_taps, mixed, a.x.width * n)
            line = mixed
        to = out + row * a.out.row
        for column in range(a.out.width):
            if a.plain:
                memcpy(to, line + a.columns[column] * n, n * sizeof(float))
            else:
                for tap in range(a.column_taps):
                    sources[tap] = line + a.columns[column * a.column_taps + tap] * n
                a.table.weigh(sources, a.column_weights + column * a.column_taps, a.column_taps, to, n)
            to += a.out.pixel


def prepare_resize(placed):
    """Prepare a `resize` node."""
    cdef ResizeStep step = ResizeStep.__new__(ResizeStep)
    cdef resize_arguments *a = &step.arguments
    cdef InstructionSet instruction_set = placed.instruction_set
    x, out = placed.view("x"), placed.out
    for axis in (0, 1):
        entries = table_entries(placed.node.attributes, axis, placed.shapes[0][axis], placed.out_shape[axis])
        placed.hold(ENTRY_BYTES * entries, "the interpolation tables of")
    tables = [
        (np.ascontiguousarray(places, np.intc), np.ascontiguousarray(weights, np.float32))
        for places, weights in (
            axis_table(placed.node.attributes, axis, placed.shapes[0][axis], placed.out_shape[axis]) for axis in (0, 1)
        )
    ]
    step.keep = tables
    (rows, row_weights), (columns, column_weights) = tables
    a.x, a.out = as_view(x), as_view(out)
    a.rows, a.columns = <const int *>values_of(rows), <const int *>values_of(columns)
    a.row_weights = <const float *>values_of(row_weights)
    a.column_weights = <const float *>values_of(column_weights)
    a.row_taps, a.column_taps = rows.shape[1], columns.shape[1]
    a.plain = a.column_taps == 1 and bool((column_weights == 1).all())
    a.table = instruction_set.table
    step.scratch = 8 * max(a.row_taps, a.column_taps) + 4 * x.width * x.channels
    step.step.run = run
    step.step.arguments = a
    step.step.serial = placed.serial
    step.kernel = f"resize {a.row_taps}x{a.column_taps} {instruction_set.name}"
    return step
