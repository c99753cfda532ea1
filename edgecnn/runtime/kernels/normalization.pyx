"""Batch normalisation that no convolution took in: a scale and a shift for each channel."""

import numpy as np

from libc.stdint cimport uintptr_t

from edgecnn.runtime.cpu cimport InstructionSet
from edgecnn.runtime.executor cimport Step, as_view
from edgecnn.runtime.kernels.activations cimport apply_activation, as_activation
from edgecnn.runtime.microkernels cimport ec_activation, ec_table
from edgecnn.runtime.step cimport ec_at, ec_context, ec_share, ec_step, ec_view


ctypedef struct normalization_arguments:
    ec_view x
    ec_view out
    const float *scale
    const float *shift
    ec_activation activation
    const ec_table *table


cdef class NormalizationStep(Step):
    cdef normalization_arguments arguments


cdef void run(const ec_step *step, const ec_context *context, int thread, int threads) noexcept nogil:
    # Pixels [first, last) belong to this thread alone; `out` may be `x`.
    cdef const normalization_arguments *a = <const normalization_arguments *>step.arguments
    cdef const float *x = ec_at(context, &a.x)
    cdef float *out = ec_at(context, &a.out)
    cdef float *to
    cdef size_t first, last, pixel, row, column
    ec_share(a.x.height * a.x.width, thread, threads, &first, &last)
    for pixel in range(first, last):
        row = pixel // a.x.width
        column = pixel - row * a.x.width
        to = out + row * a.out.row + column * a.out.pixel
        a.table.scale_shift(x + row * a.x.row + column * a.x.pixel, a.scale, a.shift, to, a.x.channels)
        apply_activation(&a.activation, a.table, to, a.x.channels)


def fold(gamma, beta, mean, variance, epsilon):
    """Scale and shift of a batch normalisation, computed in float64.

    Source: Ioffe & Szegedy 2015, Algorithm 2.
    """
    gamma, beta, mean, variance = (np.asarray(v, np.float64) for v in (gamma, beta, mean, variance))
    scale = gamma / np.sqrt(variance + epsilon)
    return scale.astype(np.float32), (beta - mean * scale).astype(np.float32)


def prepare_batch_normalization(placed):
    """Prepare a `batch_normalization` node."""
    cdef NormalizationStep step = NormalizationStep.__new__(NormalizationStep)
    cdef normalization_arguments *a = &step.arguments
    cdef InstructionSet instruction_set = placed.instruction_set
    statistics = [placed.constant(role) for role in ("gamma", "beta", "mean", "variance")]
    epsilon = placed.node.attributes["epsilon"]
    scale, shift = placed.packed("scale and shift", lambda: fold(*statistics, epsilon))
    step.keep = (scale, shift)
    a.scale = <const float *><uintptr_t>scale.ctypes.data
    a.shift = <const float *><uintptr_t>shift.ctypes.data
    a.x, a.out = as_view(placed.view("x")), as_view(placed.out)
    a.activation = as_activation(placed.node.attributes, instruction_set)
    a.table = instruction_set.table
    step.step.run = run
    step.step.arguments = a
    step.step.serial = placed.serial
    step.kernel = f"scale and shift {instruction_set.name}"
    return step
