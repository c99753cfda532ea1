"""A matrix times one vector: a dense layer of one image, or a convolution of one pixel.

Each weight is used once, so that the time is that of reading them. They are read where they lie, in the mapped file as
a rule: packing them would cost as much as several calls, and as much memory again.
"""

import numpy as np

from libc.stdint cimport uintptr_t
from libc.string cimport memmove, memset

from edgecnn.runtime.cpu cimport InstructionSet
from edgecnn.runtime.executor cimport Step, as_view
from edgecnn.runtime.kernels.activations cimport apply_activation, as_activation
from edgecnn.runtime.microkernels cimport EC_BINARY_add, ec_activation, ec_table
from edgecnn.runtime.step cimport ec_at, ec_context, ec_share, ec_step, ec_view

from edgecnn.runtime.kernels.convolution import prepare_dense_product

# Longer sums are cut into slices, as in convolution.pyx.
cdef size_t SLICE = 256
# Columns at a time: their sums stay in the first-level cache; shorter rows would break the streams from memory more
# often.
cdef size_t COLUMNS = 4096
# Columns that threads share out whole: four lines.
cdef size_t UNIT = 64


ctypedef struct vector_arguments:
    ec_view x
    ec_view out
    ec_view residual
    bint has_residual
    size_t depth, columns
    const float *weights      # (depth, columns)
    const float *bias         # NULL: none
    ec_activation activation
    const ec_table *table


cdef class VectorStep(Step):
    cdef vector_arguments arguments


cdef void run(const ec_step *step, const ec_context *context, int thread, int threads) noexcept nogil:
    # Columns [first, last) belong to this thread alone.
    cdef const vector_arguments *a = <const vector_arguments *>step.arguments
    cdef const float *x = ec_at(context, &a.x)
    cdef float *out = ec_at(context, &a.out)
    cdef float *partial = <float *>context.scratch
    cdef size_t first, last, k, n
    ec_share((a.columns + UNIT - 1) // UNIT, thread, threads, &first, &last)
    first, last = first * UNIT, min(last * UNIT, a.columns)
    while first < last:
        n = min(COLUMNS, last - first)
        if a.has_residual:  # which may be `out` itself
            memmove(out + first, ec_at(context, &a.residual) + first, n * sizeof(float))
        else:
            memset(out + first, 0, n * sizeof(float))
        if a.bias != NULL:
            a.table.binary[EC_BINARY_add](out + first, a.bias + first, out + first, n)
        if a.depth <= SLICE:
            a.table.add_rows(x, a.weights + first, a.columns, a.depth, out + first, n)
        else:
            k = 0
            while k < a.depth:
                memset(partial, 0, n * sizeof(float))
                a.table.add_rows(x + k, a.weights + k * a.columns + first, a.columns, min(SLICE, a.depth - k), partial,
                                 n)
                a.table.binary[EC_BINARY_add](out + first, partial, out + first, n)
                k += SLICE
        apply_activation(&a.activation, a.table, out + first, n)
        first += n


def prepare_vector(placed, weights):
    """Prepare a node that multiplies the values of one pixel by a matrix.

    Args:
        weights: float32 (depth, columns).
    """
    cdef VectorStep step = VectorStep.__new__(VectorStep)
    cdef vector_arguments *a = &step.arguments
    cdef InstructionSet instruction_set = placed.instruction_set
    residual, bias = placed.view("residual"), placed.constant("bias")
    weights = np.ascontiguousarray(weights, np.float32)
    bias = None if bias is None else np.ascontiguousarray(bias, np.float32)
    step.keep = (weights, bias)
    a.x, a.out = as_view(placed.view("x")), as_view(placed.out)
    a.has_residual = residual is not None
    if residual is not None:
        a.residual = as_view(residual)
    a.depth, a.columns = weights.shape
    a.weights = <const float *><uintptr_t>weights.ctypes.data
    a.bias = NULL if bias is None else <const float *><uintptr_t>bias.ctypes.data
    a.activation = as_activation(placed.node.attributes, instruction_set)
    a.table = instruction_set.table
    step.scratch = COLUMNS * sizeof(float)
    step.step.run = run
    step.step.arguments = a
    step.step.serial = placed.serial
    step.kernel = f"vector by matrix {instruction_set.name}"
    return step


def prepare_dense(placed):
    """Prepare a `dense` node: over one position, or as a product over all of them."""
    x = placed.view("x")
    if x.height * x.width == 1:
        return prepare_vector(placed, placed.constant("weights"))
    return prepare_dense_product(placed)
