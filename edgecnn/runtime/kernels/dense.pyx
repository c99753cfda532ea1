"""A matrix times one vector: a dense layer of one image, or a convolution of one pixel.

Each weight is used once, so that the time is that of reading them. They are read where they lie, in the mapped file as
a rule: packing them would cost as much as several calls, and as much memory again. Of a matrix that is mostly zero only
the other weights are kept, and a mask that tells where they belong: there is less to read.
"""

from functools import partial

import numpy as np

from libc.string cimport memcpy, memmove, memset

from edgecnn.format.arrays cimport values_of
from edgecnn.runtime.cpu cimport InstructionSet
from edgecnn.runtime.executor cimport Step, as_view
from edgecnn.runtime.kernels.activations cimport apply_activation, as_activation
from edgecnn.runtime.microkernels cimport EC_BINARY_add, EC_MASKED_VECTORS, ec_activation, ec_table
from edgecnn.runtime.step cimport ec_at, ec_context, ec_share, ec_step, ec_view

from edgecnn.runtime.kernels.packing import pack_masked

# Longer sums are cut into slices, as in convolution.pyx.
cdef size_t SLICE = 256
# Columns at a time: their sums stay in the first-level cache; shorter rows would break the streams from memory more
# often.
cdef size_t COLUMNS = 4096
# Columns that threads share out whole: four lines.
cdef size_t UNIT = 64
# Of rows as short as these threads share out slices, not columns: each reads whole rows, one after the other.
cdef size_t SHORT = 512
# Of the slices' sums, which then wait for each other; in bytes.
cdef size_t MOST_SUMS = 2**18


ctypedef struct vector_arguments:
    ec_view x
    ec_view out
    ec_view residual
    bint has_residual
    size_t depth, columns
    bint finished             # whether the step has `finish`
    const float *weights      # (depth, columns)
    const float *bias         # NULL: none
    ec_activation activation
    const ec_table *table


cdef class VectorStep(Step):
    cdef vector_arguments arguments


ctypedef struct masked_arguments:
    vector_arguments a        # its weights are values that are there, panel by panel
    size_t width              # columns of a panel
    size_t row                # bytes of masks for a row of a panel
    const unsigned char *masks  # (panels, depth, row)
    const long long *first    # of each panel's values


cdef class MaskedStep(Step):
    cdef masked_arguments arguments


cdef inline void start(const vector_arguments *a, const ec_context *context, float *sums, size_t first,
                       size_t n) noexcept nogil:
    """Residual and bias of columns [first, first + n)."""
    if a.has_residual:  # which may be where the sums are
        memmove(sums, ec_at(context, &a.residual) + first, n * sizeof(float))
    else:
        memset(sums, 0, n * sizeof(float))
    if a.bias != NULL:
        a.table.binary[EC_BINARY_add](sums, a.bias + first, sums, n)


cdef inline size_t slices_of(const vector_arguments *a) noexcept nogil:
    return (a.depth + SLICE - 1) // SLICE


cdef inline bint by_slices(const vector_arguments *a, int threads) noexcept nogil:
    """Whether threads share out the slices."""
    return a.finished and slices_of(a) >= <size_t>(2 * threads)


cdef void sum_slice(const vector_arguments *a, const float *x, size_t k, size_t first, size_t n,
                    float *sums) noexcept nogil:
    """Columns [first, first + n) of one slice of K."""
    memset(sums, 0, n * sizeof(float))
    a.table.add_rows(x + k, a.weights + k * a.columns + first, a.columns, min(SLICE, a.depth - k), sums, n)


cdef void finish(const ec_step *step, const ec_context *context, int threads) noexcept nogil:
    # The slices' sums are added up in the order in which one thread would have added them.
    cdef const vector_arguments *a = <const vector_arguments *>step.arguments
    cdef float *out = ec_at(context, &a.out)
    cdef const float *sums
    cdef size_t s, last
    cdef int thread
    if not by_slices(a, threads):
        return  # for more threads than slices can keep busy; they have waited in vain
    start(a, context, out, 0, a.columns)
    for thread in range(threads):
        ec_share(slices_of(a), thread, threads, &s, &last)
        sums = <const float *>(context.scratch if threads == 1 else context.team[thread].scratch)
        while s < last:
            a.table.binary[EC_BINARY_add](out, sums, out, a.columns)
            sums += a.columns
            s += 1
    apply_activation(&a.activation, a.table, out, a.columns)


cdef void run(const ec_step *step, const ec_context *context, int thread, int threads) noexcept nogil:
    # Columns [first, last) belong to this thread alone, or slices of K. All slices, too, where there is but one thread:
    # those that the last call read last may still be in its cache, and are read first.
    cdef const vector_arguments *a = <const vector_arguments *>step.arguments
    cdef const float *x = ec_at(context, &a.x)
    cdef float *out = ec_at(context, &a.out)
    cdef float *sums = <float *>context.scratch
    cdef size_t first, last, k, n, i, s
    if by_slices(a, threads):
        ec_share(slices_of(a), thread, threads, &first, &last)
        for i in range(last - first):
            s = last - first - 1 - i if context.backwards else i
            sum_slice(a, x, (first + s) * SLICE, 0, a.columns, sums + s * a.columns)
        if threads == 1:
            finish(step, context, 1)
        return
    ec_share((a.columns + UNIT - 1) // UNIT, thread, threads, &first, &last)
    first, last = first * UNIT, min(last * UNIT, a.columns)
    while first < last:
        n = min(COLUMNS, last - first)
        start(a, context, out + first, first, n)
        if a.depth <= SLICE:
            a.table.add_rows(x, a.weights + first, a.columns, a.depth, out + first, n)
        else:
            k = 0
            while k < a.depth:
                sum_slice(a, x, k, first, n, sums)
                a.table.binary[EC_BINARY_add](out + first, sums, out + first, n)
                k += SLICE
        apply_activation(&a.activation, a.table, out + first, n)
        first += n


cdef void run_masked(const ec_step *step, const ec_context *context, int thread, int threads) noexcept nogil:
    # Panels [panel, last) belong to this thread alone.
    cdef const masked_arguments *m = <const masked_arguments *>step.arguments
    cdef const vector_arguments *a = &m.a
    cdef const float *x = ec_at(context, &a.x)
    cdef float *out = ec_at(context, &a.out)
    cdef float *sums = <float *>context.scratch
    cdef const unsigned char *masks
    cdef const float *values
    cdef size_t panel, last, first, n, k, count
    ec_share((a.columns + m.width - 1) // m.width, thread, threads, &panel, &last)
    while panel < last:
        first = panel * m.width
        n = min(m.width, a.columns - first)
        start(a, context, sums, first, n)
        masks = m.masks + panel * a.depth * m.row
        values = a.weights + m.first[panel]
        k = 0
        while k < a.depth:
            count = min(SLICE, a.depth - k)
            values = a.table.add_masked(x + k, masks, values, count, sums)
            masks += count * m.row
            k += count
        apply_activation(&a.activation, a.table, sums, n)
        memcpy(out + first, sums, n * sizeof(float))
        panel += 1


cdef int describe(vector_arguments *a, Step step, placed, size_t depth, size_t columns) except -1:
    """All of a node but its weights."""
    cdef InstructionSet instruction_set = placed.instruction_set
    residual, bias = placed.view("residual"), placed.constant("bias")
    bias = None if bias is None else np.ascontiguousarray(bias, np.float32)
    step.keep = bias
    a.x, a.out = as_view(placed.view("x")), as_view(placed.out)
    a.has_residual = residual is not None
    if residual is not None:
        a.residual = as_view(residual)
    a.depth, a.columns = depth, columns
    a.bias = NULL if bias is None else <const float *>values_of(bias)
    a.activation = as_activation(placed.node.attributes, instruction_set)
    a.table = instruction_set.table
    step.step.serial = placed.serial
    return 0


def prepare_vector(placed, weights):
    """Prepare a node that multiplies the values of one pixel by a matrix.

    Args:
        weights: float32 (depth, columns).
    """
    cdef VectorStep step = VectorStep.__new__(VectorStep)
    cdef vector_arguments *a = &step.arguments
    weights = np.ascontiguousarray(weights, np.float32)
    describe(a, step, placed, weights.shape[0], weights.shape[1])
    step.keep = (weights, step.keep)
    a.weights = <const float *>values_of(weights)
    sums = slices_of(a) * a.columns * sizeof(float)
    a.finished = a.columns <= SHORT and slices_of(a) >= 4 and sums <= MOST_SUMS
    step.scratch = COLUMNS * sizeof(float)
    if a.finished:
        step.scratch = max(step.scratch, sums)
        step.step.finish = finish
    step.step.run = run
    step.step.arguments = a
    step.kernel = f"vector by matrix {placed.instruction_set.name}"
    return step


def masks_fit(InstructionSet instruction_set):
    """Whether an instruction set computes with masked weights."""
    return instruction_set.table.add_masked != NULL


def prepare_masked_vector(placed, weights):
    """Prepare the same of weights that are mostly zero; those that are there are kept.

    Args:
        weights: float32 (depth, columns).
    """
    cdef MaskedStep step = MaskedStep.__new__(MaskedStep)
    cdef masked_arguments *m = &step.arguments
    cdef InstructionSet instruction_set = placed.instruction_set
    describe(&m.a, step, placed, weights.shape[0], weights.shape[1])
    packed = placed.packed(
        "masked", partial(pack_masked, weights, instruction_set.lanes, EC_MASKED_VECTORS)
    )
    values, masks, first = packed
    step.keep = (packed, step.keep)
    m.a.weights = <const float *>values_of(values)
    m.masks = <const unsigned char *>values_of(masks)
    m.first = <const long long *>values_of(first)
    m.width, m.row = EC_MASKED_VECTORS * instruction_set.lanes, masks.shape[-1]
    step.scratch = m.width * sizeof(float)
    step.step.run = run_masked
    step.step.arguments = m
    step.kernel = f"vector by masked matrix {instruction_set.name}"
    return step
