"""Maximum and average pooling, over windows and over whole images."""

from libc.math cimport INFINITY
from libc.string cimport memset

from edgecnn.runtime.cpu cimport InstructionSet
from edgecnn.runtime.executor cimport Step, as_view
from edgecnn.runtime.microkernels cimport ec_pool, ec_table, ec_window
from edgecnn.runtime.step cimport ec_at, ec_context, ec_share, ec_step, ec_view

from edgecnn.graph.operators import resolve_pads


ctypedef struct pool_arguments:
    ec_view x
    ec_view out
    ec_window window
    ec_pool pool


ctypedef struct global_pool_arguments:
    ec_view x
    ec_view out
    bint average
    const ec_table *table


cdef class PoolStep(Step):
    cdef pool_arguments arguments


cdef class GlobalPoolStep(Step):
    cdef global_pool_arguments arguments


cdef void run_pool(const ec_step *step, const ec_context *context, int thread, int threads) noexcept nogil:
    # Output rows [first, last) belong to this thread alone.
    cdef const pool_arguments *a = <const pool_arguments *>step.arguments
    cdef size_t first, last
    ec_share(a.window.out_height, thread, threads, &first, &last)
    a.pool(&a.window, ec_at(context, &a.x), ec_at(context, &a.out), first, last)


cdef void run_global_pool(const ec_step *step, const ec_context *context, int thread, int threads) noexcept nogil:
    # Channels [first, last) belong to this thread alone: each sum has one order, whatever the number of threads.
    cdef const global_pool_arguments *a = <const global_pool_arguments *>step.arguments
    cdef const float *x = ec_at(context, &a.x)
    cdef float *out = ec_at(context, &a.out)
    cdef size_t first, last, row, channel, lanes = a.table.lanes
    cdef float scale
    ec_share((a.x.channels + lanes - 1) // lanes, thread, threads, &first, &last)
    first = first * lanes
    last = min(last * lanes, a.x.channels)
    if first >= last:
        return
    if a.average:
        memset(out + first, 0, (last - first) * sizeof(float))
        for row in range(a.x.height):
            a.table.reduce_add(x + row * a.x.row + first, a.x.pixel, a.x.width, out + first, last - first)
        scale = 1.0 / <float>(a.x.height * a.x.width)
        a.table.multiply_scalar(out + first, scale, out + first, last - first)
    else:
        for channel in range(first, last):
            out[channel] = -INFINITY
        for row in range(a.x.height):
            a.table.reduce_max(x + row * a.x.row + first, a.x.pixel, a.x.width, out + first, last - first)


def prepare_pool(placed):
    """Prepare a `max_pool2d` or `average_pool2d` node."""
    cdef PoolStep step = PoolStep.__new__(PoolStep)
    cdef pool_arguments *a = &step.arguments
    cdef InstructionSet instruction_set = placed.instruction_set
    attributes, x, out = placed.node.attributes, placed.view("x"), placed.out
    pads = resolve_pads(attributes, (x.height, x.width), attributes["pool_size"])
    a.x, a.out = as_view(x), as_view(out)
    a.window.height, a.window.width, a.window.channels = x.height, x.width, x.channels
    a.window.row, a.window.pixel = x.row, x.pixel
    a.window.out_height, a.window.out_width = out.height, out.width
    a.window.out_row, a.window.out_pixel = out.row, out.pixel
    a.window.kernel_height, a.window.kernel_width = attributes["pool_size"]
    a.window.stride_height, a.window.stride_width = attributes["strides"]
    a.window.dilation_height = a.window.dilation_width = 1
    a.window.pad_top, a.window.pad_left = pads[0], pads[2]
    maximum = placed.node.operator == "max_pool2d"
    a.pool = instruction_set.table.max_pool if maximum else instruction_set.table.average_pool
    step.step.run = run_pool
    step.step.arguments = a
    step.step.serial = placed.serial
    step.kernel = f"{'maximum' if maximum else 'average'} {instruction_set.name}"
    return step


def prepare_global_pool(placed):
    """Prepare a `global_average_pool2d` or `global_max_pool2d` node."""
    cdef GlobalPoolStep step = GlobalPoolStep.__new__(GlobalPoolStep)
    cdef global_pool_arguments *a = &step.arguments
    cdef InstructionSet instruction_set = placed.instruction_set
    x = placed.view("x")
    a.x, a.out = as_view(x), as_view(placed.out)
    a.average = placed.node.operator == "global_average_pool2d"
    a.table = instruction_set.table
    step.step.run = run_global_pool
    step.step.arguments = a
    step.step.serial = x.height * x.width * x.channels < 16384
    step.kernel = f"{'average' if a.average else 'maximum'} of all pixels {instruction_set.name}"
    return step
