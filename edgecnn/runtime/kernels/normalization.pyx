"""Normalisation: by stored statistics (a batch normalisation that no convolution took in) and by those of the input."""


from functools import partial

import numpy as np

from libc.math cimport sqrt
from libc.string cimport memcpy, memset

from edgecnn.format.arrays cimport values_of
from edgecnn.runtime.cpu cimport InstructionSet
from edgecnn.runtime.executor cimport Step, as_view
from edgecnn.runtime.kernels.activations cimport apply_activation, as_activation
from edgecnn.runtime.microkernels cimport ec_activation, ec_table
from edgecnn.runtime.step cimport ec_at, ec_context, ec_share, ec_step, ec_view


ctypedef struct normalization_arguments:
    ec_view x                 # pixels that follow each other without gaps are taken several at a time, as wider ones
    ec_view out
    size_t rest               # channels of the last pixel, which may be fewer
    size_t x_row, x_pixel, out_row, out_pixel, width, channels   # of the image as it is
    size_t many               # copies of scale and shift that follow each other
    const float *scale
    const float *shift
    ec_activation activation
    const ec_table *table


ctypedef struct statistics_arguments:
    ec_view x
    ec_view out
    const float *gamma
    const float *beta
    size_t groups
    double epsilon
    ec_activation activation
    const ec_table *table


ctypedef struct response_arguments:
    ec_view x
    ec_view out
    size_t size
    float bias, alpha, beta
    const ec_table *table


RUN = 768
"""Values of a contiguous tensor that are taken at once: a call for each pixel of three channels costs more than its
work."""
# For each value of a scale and a shift: in float64 and float32.
FOLD_BYTES = 32


cdef class StatisticsStep(Step):
    cdef statistics_arguments arguments


cdef class ResponseStep(Step):
    cdef response_arguments arguments


cdef class NormalizationStep(Step):
    cdef normalization_arguments arguments


cdef void run(const ec_step *step, const ec_context *context, int thread, int threads) noexcept nogil:
    # Pixels [first, last) belong to this thread alone; `out` may be `x`.
    cdef const normalization_arguments *a = <const normalization_arguments *>step.arguments
    cdef const float *x = ec_at(context, &a.x)
    cdef float *out = ec_at(context, &a.out)
    cdef float *to
    cdef size_t first, last, pixel, row, column, n, pixels = a.x.height * a.x.width
    ec_share(pixels, thread, threads, &first, &last)
    for pixel in range(first, last):
        row = pixel // a.x.width
        column = pixel - row * a.x.width
        n = a.rest if pixel + 1 == pixels else a.x.channels
        to = out + row * a.out.row + column * a.out.pixel
        a.table.scale_shift(x + row * a.x.row + column * a.x.pixel, a.scale, a.shift, to, n)
        apply_activation(&a.activation, a.table, to, n)


cdef void run_rows(const ec_step *step, const ec_context *context, const float *x, float *out, size_t first,
                   size_t last) noexcept nogil:
    cdef const normalization_arguments *a = <const normalization_arguments *>step.arguments
    cdef size_t together = a.many if a.x_pixel == a.channels and a.out_pixel == a.channels else 1
    cdef size_t y, column, n
    cdef float *to
    for y in range(first, last):
        column = 0
        while column < a.width:
            n = min(together, a.width - column)
            to = out + y * a.out_row + column * a.out_pixel
            a.table.scale_shift(x + y * a.x_row + column * a.x_pixel, a.scale, a.shift, to, n * a.channels)
            apply_activation(&a.activation, a.table, to, n * a.channels)
            column += n


cdef double sum_all(const float *values, size_t n) noexcept nogil:
    cdef double total = 0.0
    cdef size_t i
    for i in range(n):
        total += values[i]
    return total


cdef inline double no_less_than_zero(double x) noexcept nogil:
    """Where all values are alike the difference may round to less; NaN stays."""
    return 0.0 if x < 0.0 else x


cdef void run_layer(const ec_step *step, const ec_context *context, int thread, int threads) noexcept nogil:
    # Pixels [first, last) belong to this thread alone; `out` may be `x`. Sums are kept in a vector and added up last.
    # The mean is a float and what the differences from it add up to: one float is not enough where it is large beside
    # the deviation.
    cdef const statistics_arguments *a = <const statistics_arguments *>step.arguments
    cdef const float *x = ec_at(context, &a.x)
    cdef const float *source
    cdef float *out = ec_at(context, &a.out)
    cdef float *to
    cdef float sums[64]
    cdef float squares[64]
    cdef float mean
    cdef size_t first, last, pixel, row, column, n = a.x.channels, lanes = a.table.lanes, whole = n // lanes
    cdef double rest, variance
    ec_share(a.x.height * a.x.width, thread, threads, &first, &last)
    for pixel in range(first, last):
        row = pixel // a.x.width
        column = pixel - row * a.x.width
        source = x + row * a.x.row + column * a.x.pixel
        to = out + row * a.out.row + column * a.out.pixel
        memset(sums, 0, sizeof(sums))
        a.table.reduce_add(source, lanes, whole, sums, lanes)
        a.table.reduce_add(source + whole * lanes, lanes, 1, sums, n - whole * lanes)
        mean = <float>(sum_all(sums, lanes) / <double>n)
        memset(sums, 0, sizeof(sums))
        memset(squares, 0, sizeof(squares))
        a.table.reduce_squares(source, lanes, whole, mean, sums, squares, lanes)
        a.table.reduce_squares(source + whole * lanes, lanes, 1, mean, sums, squares, n - whole * lanes)
        rest = sum_all(sums, lanes) / <double>n
        variance = no_less_than_zero(sum_all(squares, lanes) / <double>n - rest * rest)
        a.table.normalize(source, mean, <float>rest, <float>(1.0 / sqrt(variance + a.epsilon)), a.gamma, a.beta, to, n)
        apply_activation(&a.activation, a.table, to, n)


cdef void run_groups(const ec_step *step, const ec_context *context, int thread, int threads) noexcept nogil:
    # Groups [first, last) belong to this thread alone; `out` may be `x`.
    cdef const statistics_arguments *a = <const statistics_arguments *>step.arguments
    cdef const float *x = ec_at(context, &a.x)
    cdef float *out = ec_at(context, &a.out)
    cdef float *to
    cdef float *sums = <float *>context.scratch
    cdef float *squares = sums + a.x.channels
    cdef float mean, factor
    cdef size_t first, last, group, start, row, column, n = a.x.channels // a.groups
    cdef double total, rest, variance, count = <double>n * <double>a.x.height * <double>a.x.width
    ec_share(a.groups, thread, threads, &first, &last)
    for group in range(first, last):
        start = group * n
        total = 0.0
        for row in range(a.x.height):
            memset(sums, 0, n * sizeof(float))
            a.table.reduce_add(x + row * a.x.row + start, a.x.pixel, a.x.width, sums, n)
            total += sum_all(sums, n)
        mean = <float>(total / count)
        rest = 0.0
        variance = 0.0
        for row in range(a.x.height):
            memset(sums, 0, n * sizeof(float))
            memset(squares, 0, n * sizeof(float))
            a.table.reduce_squares(x + row * a.x.row + start, a.x.pixel, a.x.width, mean, sums, squares, n)
            rest += sum_all(sums, n)
            variance += sum_all(squares, n)
        rest /= count
        variance = no_less_than_zero(variance / count - rest * rest)
        factor = <float>(1.0 / sqrt(variance + a.epsilon))
        for row in range(a.x.height):
            for column in range(a.x.width):
                to = out + row * a.out.row + column * a.out.pixel + start
                a.table.normalize(x + row * a.x.row + column * a.x.pixel + start, mean, <float>rest, factor,
                                  a.gamma + start, a.beta + start, to, n)
                apply_activation(&a.activation, a.table, to, n)


cdef void run_response(const ec_step *step, const ec_context *context, int thread, int threads) noexcept nogil:
    # Pixels [first, last) belong to this thread alone; `out` may be `x`. Scratch holds one of them, with zeros around.
    cdef const response_arguments *a = <const response_arguments *>step.arguments
    cdef const float *x = ec_at(context, &a.x)
    cdef float *out = ec_at(context, &a.out)
    cdef float *values = <float *>context.scratch
    cdef size_t first, last, pixel, row, column, before = (a.size - 1) // 2
    memset(values, 0, (a.x.channels + a.size) * sizeof(float))
    ec_share(a.x.height * a.x.width, thread, threads, &first, &last)
    for pixel in range(first, last):
        row = pixel // a.x.width
        column = pixel - row * a.x.width
        memcpy(values + before, x + row * a.x.row + column * a.x.pixel, a.x.channels * sizeof(float))
        a.table.respond(values, before, a.size, a.bias, a.alpha, a.beta,
                        out + row * a.out.row + column * a.out.pixel, a.x.channels)


cdef StatisticsStep statistics_step(placed):
    cdef StatisticsStep step = StatisticsStep.__new__(StatisticsStep)
    cdef statistics_arguments *a = &step.arguments
    cdef InstructionSet instruction_set = placed.instruction_set
    gamma, beta = (np.ascontiguousarray(placed.constant(role), np.float32) for role in ("gamma", "beta"))
    step.keep = (gamma, beta)
    a.gamma = <const float *>values_of(gamma)
    a.beta = <const float *>values_of(beta)
    a.x, a.out = as_view(placed.view("x")), as_view(placed.out)
    a.epsilon = placed.node.attributes["epsilon"]
    a.activation = as_activation(placed.node.attributes, instruction_set)
    a.table = instruction_set.table
    step.scratch = 2 * a.x.channels * sizeof(float)
    step.step.arguments = a
    step.step.serial = placed.serial
    step.kernel = f"{placed.node.operator} {instruction_set.name}"
    return step


def prepare_layer_normalization(placed):
    """Prepare a `layer_normalization` node.

    Source: Ba et al. 2016 (arXiv 1607.06450).
    """
    cdef StatisticsStep step = statistics_step(placed)
    step.step.run = run_layer
    return step


def prepare_group_normalization(placed):
    """Prepare a `group_normalization` node.

    Source: Wu & He 2018 (arXiv 1803.08494).
    """
    cdef StatisticsStep step = statistics_step(placed)
    step.arguments.groups = placed.node.attributes["groups"]
    step.step.run = run_groups
    return step


def prepare_local_response_normalization(placed):
    """Prepare a `local_response_normalization` node.

    Source: Krizhevsky et al. 2012, section 3.3.
    """
    cdef ResponseStep step = ResponseStep.__new__(ResponseStep)
    cdef response_arguments *a = &step.arguments
    cdef InstructionSet instruction_set = placed.instruction_set
    attributes = placed.node.attributes
    a.x, a.out = as_view(placed.view("x")), as_view(placed.out)
    # A window that reaches beyond both ends sees no more than one of twice the channels.
    a.size = min(attributes["size"], 2 * a.x.channels + 2 - attributes["size"] % 2)
    a.bias, a.alpha, a.beta = attributes["bias"], attributes["alpha"], attributes["beta"]
    a.table = instruction_set.table
    step.scratch = (a.x.channels + a.size) * sizeof(float)
    step.step.run = run_response
    step.step.arguments = a
    step.step.serial = placed.serial
    step.kernel = f"response {instruction_set.name}"
    return step


def fold(gamma, beta, mean, variance, epsilon):
    """Scale and shift of a batch normalisation, computed in float64.

    Source: Ioffe & Szegedy 2015, Algorithm 2.
    """
    gamma, beta, mean, variance = (np.asarray(v, np.float64) for v in (gamma, beta, mean, variance))
    scale = gamma / np.sqrt(variance + epsilon)
    return scale.astype(np.float32), (beta - mean * scale).astype(np.float32)


def _tiled(statistics, epsilon, many, _shelf):
    """Scale and shift of `many` pixels side by side."""
    scale, shift = fold(*statistics, epsilon)
    return np.tile(scale, many), np.tile(shift, many)


def prepare_batch_normalization(placed):
    """Prepare a `batch_normalization` node."""
    cdef NormalizationStep step = NormalizationStep.__new__(NormalizationStep)
    cdef normalization_arguments *a = &step.arguments
    cdef InstructionSet instruction_set = placed.instruction_set
    statistics = [placed.constant(role) for role in ("gamma", "beta", "mean", "variance")]
    epsilon = placed.node.attributes["epsilon"]
    x, out = placed.view("x"), placed.out
    many, rest = -(-RUN // x.channels), x.channels
    a.x_row, a.x_pixel, a.width, a.channels = x.row, x.pixel, x.width, x.channels
    a.out_row, a.out_pixel = out.row, out.pixel
    if x.contiguous and out.contiguous:
        values, wide = x.height * x.width * x.channels, many * x.channels
        runs = {"height": 1, "width": -(-values // wide), "channels": wide, "row": values, "pixel": wide}
        x, out = x._replace(**runs), out._replace(**runs)
        rest = values - (x.width - 1) * wide
    placed.hold(FOLD_BYTES * many * x.channels, "scale and shift of")
    scale, shift = placed.packed(f"scale and shift of {many}", partial(_tiled, statistics, epsilon, many))
    step.keep = (scale, shift)
    a.scale = <const float *>values_of(scale)
    a.shift = <const float *>values_of(shift)
    a.x, a.out, a.rest, a.many = as_view(x), as_view(out), rest, many
    a.activation = as_activation(placed.node.attributes, instruction_set)
    a.table = instruction_set.table
    step.step.run, step.step.rows = run, run_rows
    step.span = (1, 1, 0)
    step.step.arguments = a
    step.step.serial = placed.serial
    step.kernel = f"scale and shift {instruction_set.name}"
    return step
