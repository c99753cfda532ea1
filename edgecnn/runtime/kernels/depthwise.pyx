"""Depthwise convolution."""

from functools import partial

from edgecnn.format.arrays cimport values_of
from edgecnn.runtime.cpu cimport InstructionSet
from edgecnn.runtime.executor cimport Step, as_view
from edgecnn.runtime.kernels.activations cimport as_activation
from edgecnn.runtime.microkernels cimport ec_activation, ec_depthwise, ec_window
from edgecnn.runtime.step cimport ec_at, ec_context, ec_share, ec_step, ec_view

from edgecnn.graph.operators import effective_kernel, resolve_pads
from edgecnn.runtime.kernels.convolution import prepare_multiplied_depthwise
from edgecnn.runtime.kernels.packing import pack_depthwise, unpack_depthwise


ctypedef struct depthwise_arguments:
    ec_view x
    ec_view out
    ec_window window
    size_t lanes
    const float *weights
    ec_activation activation
    ec_depthwise depthwise


cdef class DepthwiseStep(Step):
    cdef depthwise_arguments arguments


cdef void run(const ec_step *step, const ec_context *context, int thread, int threads) noexcept nogil:
    # Threads share the output's rows, as the neighbouring layers do; where rows are few, they share blocks of channels.
    cdef const depthwise_arguments *a = <const depthwise_arguments *>step.arguments
    cdef const float *x = ec_at(context, &a.x)
    cdef float *out = ec_at(context, &a.out)
    cdef size_t first, last, channel = 0, count = a.window.channels
    if a.window.out_height >= <size_t>(4 * threads):
        ec_share(a.window.out_height, thread, threads, &first, &last)
    else:
        ec_share((count + a.lanes - 1) // a.lanes, thread, threads, &first, &last)
        channel = first * a.lanes
        count = min(last * a.lanes, count) - channel
        first, last = 0, a.window.out_height
        if last == 0 or count == 0:
            return
    a.depthwise(&a.window, x, a.weights, out, first, last, channel, count, &a.activation)


cdef void run_rows(const ec_step *step, const ec_context *context, const float *x, float *out, size_t first,
                   size_t last) noexcept nogil:
    cdef const depthwise_arguments *a = <const depthwise_arguments *>step.arguments
    a.depthwise(&a.window, x, a.weights, out, first, last, 0, a.window.channels, &a.activation)


def in_two(values, filler):
    """One value an axis, for height and width."""
    return (filler,) * (2 - len(values)) + tuple(values)


def prepare_depthwise_conv(placed):
    """Prepare a `depthwise_conv` node; one spatial axis is an image of height 1."""
    cdef DepthwiseStep step = DepthwiseStep.__new__(DepthwiseStep)
    cdef depthwise_arguments *a = &step.arguments
    cdef InstructionSet instruction_set = placed.instruction_set
    weights = placed.constant("weights")
    *kernel, channels, multiplier = weights.shape
    if multiplier != 1:
        return prepare_multiplied_depthwise(placed)
    attributes, x, out = placed.node.attributes, placed.view("x"), placed.out
    dilations = attributes["dilations"]
    pads = resolve_pads(attributes, placed.shapes[0][:-1], effective_kernel(kernel, dilations))
    rows, columns = in_two(kernel, 1)
    filters, bias = weights.reshape(rows, columns, channels), placed.constant("bias")
    packed = placed.packed(
        "depthwise", partial(pack_depthwise, filters, bias, instruction_set.lanes), unpack_depthwise
    )
    step.keep = packed
    a.weights = <const float *>values_of(packed)
    a.x, a.out = as_view(x), as_view(out)
    a.window.height, a.window.width, a.window.channels = x.height, x.width, x.channels
    a.window.row, a.window.pixel = x.row, x.pixel
    a.window.out_height, a.window.out_width = out.height, out.width
    a.window.out_row, a.window.out_pixel = out.row, out.pixel
    a.window.kernel_height, a.window.kernel_width = rows, columns
    a.window.stride_height, a.window.stride_width = in_two(attributes["strides"], 1)
    a.window.dilation_height, a.window.dilation_width = in_two(dilations, 1)
    a.window.pad_top, a.window.pad_left = in_two(pads[::2], 0)
    a.lanes = instruction_set.lanes
    a.activation = as_activation(attributes, instruction_set)
    a.depthwise = instruction_set.table.depthwise
    step.step.run, step.step.rows = run, run_rows
    step.span = (in_two(effective_kernel(kernel, dilations), 1)[0], a.window.stride_height, in_two(pads[::2], 0)[0])
    step.step.arguments = a
    step.step.serial = placed.serial
    step.kernel = f"depthwise {rows}x{columns} {instruction_set.name}"
    return step
