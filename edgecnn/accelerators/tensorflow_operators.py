"""Each operator of the table in TensorFlow: channels last, on any device.

A function takes TensorFlow (so that importing this module does not load it), the node, and tensors in the order of the node's
roles, None where one is absent; every size but the batch is known. It gives what `graph/reference.py` gives, but for NaN in
`max_pool`, which TensorFlow's kernels drop. What TensorFlow's CPU kernels lack (dilations and groups in three dimensions, unequal
strides of a depthwise convolution, dilations of a transposed one) is put together from what they have.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from edgecnn.graph import Graph, Node
from edgecnn.graph.interpolation import axis_table
from edgecnn.graph.operators import OPERATORS, effective_kernel, ints, number, resolve_pads, slice_range

MOST_GATHERED = 4
"""Taps of a resize that are gathered and added up; more are a matrix product."""

SELU_ALPHA, SELU_SCALE = 1.6732632423543772, 1.0507009873554805


def _relu(tf: Any, x: Any, negative_slope: float, max_value: float, threshold: float) -> Any:
    if (negative_slope, threshold) == (0.0, 0.0):
        if max_value == 6.0:
            return tf.nn.relu6(x)
        y = tf.nn.relu(x)
    else:
        below = tf.zeros_like(x) if negative_slope == 0 else negative_slope * (x - threshold)
        y = tf.where(x > threshold, x, below)  # of NaN below
    return y if max_value == math.inf else tf.minimum(y, max_value)


def _clip(tf: Any, x: Any, low: float, high: float) -> Any:
    return tf.minimum(tf.maximum(x, low), high)


def _elu(tf: Any, x: Any, alpha: float) -> Any:
    return tf.where(x > 0, x, alpha * tf.math.expm1(tf.minimum(x, 0.0)))


def _squareplus(tf: Any, x: Any, b: float) -> Any:
    root = tf.maximum(tf.abs(x), tf.sqrt(tf.square(tf.minimum(tf.abs(x), 2.0**63)) + b))
    total = tf.abs(x) / 2 + root / 2
    return tf.where(x < 0, b / 4 / total + (x - x), total)


def _tanh_shrink(tf: Any, x: Any) -> Any:
    square = tf.square(x)
    # Up to 1.5 a quotient that errs by 3.6e-8: the difference would lose what is left of small x.
    near = x * square * (0.0145858172 * square + 0.333333321) / ((0.0155998299 * square + 0.443756808) * square + 1)
    return tf.where(tf.abs(x) < 1.5, near, x - tf.tanh(x))


def _sparse_plus(tf: Any, x: Any) -> Any:
    return tf.where(x <= -1, tf.zeros_like(x), tf.where(x < 1, 0.25 * tf.square(x + 1), x))


def _soft_shrink(tf: Any, x: Any, threshold: float) -> Any:
    return tf.where(tf.abs(x) > threshold, x - threshold * tf.sign(x), tf.zeros_like(x))


ACTIVATIONS: Mapping[str, Callable[..., Any]] = {
    "linear": lambda tf, x: x,
    "relu": _relu,
    "clip": _clip,
    "elu": _elu,
    "celu": lambda tf, x, alpha: tf.maximum(x, 0.0) + alpha * tf.math.expm1(tf.minimum(x, 0.0) / alpha),
    "selu": lambda tf, x: SELU_SCALE * _elu(tf, x, SELU_ALPHA),
    "sigmoid": lambda tf, x: tf.sigmoid(x),
    "hard_sigmoid": lambda tf, x, slope, offset: _clip(tf, slope * x + offset, 0.0, 1.0),
    "sparse_sigmoid": lambda tf, x: _clip(tf, 0.5 * (x + 1), 0.0, 1.0),
    "log_sigmoid": lambda tf, x: -tf.nn.softplus(-x),
    "tanh": lambda tf, x: tf.tanh(x),
    "tanh_shrink": _tanh_shrink,
    "softplus": lambda tf, x: tf.nn.softplus(x),
    "sparse_plus": _sparse_plus,
    "squareplus": _squareplus,
    "softsign": lambda tf, x: x / (1 + tf.abs(x)),
    "hard_shrink": lambda tf, x, threshold: tf.where(tf.abs(x) > threshold, x, tf.zeros_like(x)),
    "soft_shrink": _soft_shrink,
    "threshold": lambda tf, x, threshold, default: tf.where(
        x > threshold, x, tf.fill(tf.shape(x), tf.cast(default, x.dtype))
    ),
    "swish": lambda tf, x: x * tf.sigmoid(x),
    "hard_swish": lambda tf, x: x * _clip(tf, x + 3, 0.0, 6.0) / 6,
    "mish": lambda tf, x: x * tf.tanh(tf.nn.softplus(x)),
    "gelu": lambda tf, x: 0.5 * x * tf.math.erfc(-x / math.sqrt(2)),
    # (1 + tanh(y)) / 2 is sigmoid(2 y), without its cancellation.
    "gelu_tanh": lambda tf, x: x * tf.sigmoid(2 * math.sqrt(2 / math.pi) * (x + 0.044715 * x * x * x)),
    "exponential": lambda tf, x: tf.exp(x),
    "expm1": lambda tf, x: tf.math.expm1(x),
    "log": lambda tf, x: tf.math.log(x),
    "log1p": lambda tf, x: tf.math.log1p(x),
    "sqrt": lambda tf, x: tf.sqrt(x),
    "rsqrt": lambda tf, x: tf.math.rsqrt(x),
    "reciprocal": lambda tf, x: 1 / x,
    "square": lambda tf, x: tf.square(x),
    "abs": lambda tf, x: tf.abs(x),
    "sign": lambda tf, x: tf.sign(x),
    "floor": lambda tf, x: tf.floor(x),
    "ceil": lambda tf, x: tf.math.ceil(x),
    "round": lambda tf, x: tf.round(x),
    "sin": lambda tf, x: tf.sin(x),
    "cos": lambda tf, x: tf.cos(x),
    "erf": lambda tf, x: tf.math.erf(x),
}
"""Each element-wise function: (tf, x, *parameters)."""


def _activated(tf: Any, node: Node, x: Any) -> Any:
    parameters: Sequence[float] = node.attributes["activation_parameters"]  # type: ignore[assignment]
    return ACTIVATIONS[str(node.attributes["activation"])](tf, x, *parameters)


def _finished(tf: Any, node: Node, y: Any, bias: Any, residual: Any = None) -> Any:
    if bias is not None:
        # Of images the operator that TensorFlow fuses with the convolution before it and the activation behind it. On CPUs it
        # then refuses groups ("Fused conv implementation does not support grouped convolutions").
        fused = len(y.shape) == 4 and node.attributes.get("groups", 1) == 1
        y = tf.nn.bias_add(y, bias) if fused else y + bias
    return _activated(tf, node, y if residual is None else y + residual)


def _as_image(tf: Any, x: Any) -> Any:
    """A row of pixels as an image of height 1."""
    return tf.expand_dims(x, 1)


def _padded(tf: Any, x: Any, pads: Sequence[int], value: float = 0.0) -> Any:
    """x in a frame around its spatial axes."""
    if not any(pads):
        return x
    frame = [(0, 0), *zip(pads[::2], pads[1::2], strict=True), (0, 0)]
    return tf.pad(x, frame, constant_values=tf.cast(value, x.dtype))


def _windows(tf: Any, node: Node, x: Any, spans: Sequence[int]) -> tuple[Any, str]:
    """x and the padding ("SAME", "VALID") that TensorFlow's operator takes it with; explicit pads are put around x."""
    if node.attributes["padding"] == "same":
        return x, "SAME"
    return _padded(tf, x, ints(node.attributes, "pads")), "VALID"


def _conv(tf: Any, node: Node, x: Any, weights: Any, bias: Any, residual: Any) -> Any:
    kernel = weights.shape[:-2]
    strides, dilations = list(ints(node.attributes, "strides")), list(ints(node.attributes, "dilations"))
    if len(kernel) == 3 and (number(node.attributes, "groups") > 1 or max(dilations) > 1):
        return _finished(tf, node, _conv_by_taps(tf, node, x, weights), bias, residual)
    x, padding = _windows(tf, node, x, effective_kernel(kernel, dilations))
    if len(kernel) == 3:
        y = tf.nn.conv3d(x, weights, [1, *strides, 1], padding)
    elif len(kernel) == 2:
        y = tf.nn.conv2d(x, weights, strides, padding, dilations=dilations)
    else:
        y = tf.nn.conv2d(_as_image(tf, x), weights[None], [1, *strides], padding, dilations=[1, *dilations])
        y = tf.squeeze(y, 1)
    return _finished(tf, node, y, bias, residual)


def _conv_by_taps(tf: Any, node: Node, x: Any, weights: Any) -> Any:
    """The sum over the kernel's places of the pixels that each meets, times its weights; groups are matrices side by side."""
    *kernel, depth, filters = weights.shape
    groups, strides = number(node.attributes, "groups"), ints(node.attributes, "strides")
    dilations = ints(node.attributes, "dilations")
    spans = effective_kernel(kernel, dilations)
    framed = _padded(tf, x, resolve_pads(node.attributes, x.shape[1:-1], spans))
    sizes = [(n - span) // s + 1 for n, span, s in zip(framed.shape[1:-1], spans, strides, strict=True)]
    total = None
    for tap in itertools.product(*map(range, kernel)):
        starts = [place * dilation for place, dilation in zip(tap, dilations, strict=True)]
        cut = [slice(a, a + (n - 1) * s + 1, s) for a, n, s in zip(starts, sizes, strides, strict=True)]
        given = tf.reshape(framed[(slice(None), *cut)], [-1, *sizes, groups, depth])
        matrices = tf.reshape(weights[tap], [depth, groups, filters // groups])
        product = tf.einsum("...gd,dgf->...gf", given, matrices)
        total = product if total is None else total + product
    return tf.reshape(total, [-1, *sizes, filters])


def _conv_transpose(tf: Any, node: Node, x: Any, weights: Any, bias: Any) -> Any:
    *kernel, filters, _ = weights.shape
    strides, dilations = ints(node.attributes, "strides"), ints(node.attributes, "dilations")
    pads, more = ints(node.attributes, "pads"), ints(node.attributes, "output_padding")
    groups = number(node.attributes, "groups")
    weights = _dilated(tf, weights, dilations)
    if len(kernel) == 1:
        x, weights, strides = _as_image(tf, x), weights[None], (1, *strides)
    sizes = [(n - 1) * s + k for n, s, k in zip(x.shape[1:-1], strides, weights.shape[:-2], strict=True)]
    operator = tf.nn.conv3d_transpose if len(kernel) == 3 else tf.nn.conv2d_transpose
    shape = [tf.shape(x)[0], *sizes, filters]
    parts = [
        operator(given, part, shape, list(strides), "VALID")
        for given, part in zip(tf.split(x, groups, -1), tf.split(weights, groups, -1), strict=True)
    ]
    y = parts[0] if groups == 1 else tf.concat(parts, -1)
    y = tf.squeeze(y, 1) if len(kernel) == 1 else y
    y = _padded(tf, y, [pad for size in more for pad in (0, size)])
    kept = [slice(pads[2 * a], y.shape[1 + a] - pads[2 * a + 1]) for a in range(len(kernel))]
    return _finished(tf, node, y[(slice(None), *kept)], bias)


def _dilated(tf: Any, weights: Any, dilations: Sequence[int]) -> Any:
    """A kernel with zeros between its places."""
    for axis, dilation in enumerate(dilations):
        if dilation > 1:
            shape = list(weights.shape)
            apart = tf.expand_dims(weights, axis + 1)
            frame = [(0, dilation - 1 if a == axis + 1 else 0) for a in range(len(shape) + 1)]
            shape[axis] *= dilation
            cut = [slice(0, size - (dilation - 1) if a == axis else size) for a, size in enumerate(shape)]
            weights = tf.reshape(tf.pad(apart, frame), shape)[tuple(cut)]
    return weights


def _depthwise_conv(tf: Any, node: Node, x: Any, weights: Any, bias: Any) -> Any:
    kernel, channels = weights.shape[:-2], weights.shape[-2] * weights.shape[-1]
    strides, dilations = ints(node.attributes, "strides"), ints(node.attributes, "dilations")
    spans = effective_kernel(kernel, dilations)
    # TensorFlow's operator has one stride for both axes, and none beside dilations: what is between its outputs is left out.
    step = math.gcd(*strides) if max(dilations) == 1 else 1
    if all(stride == step for stride in strides):
        x, padding = _windows(tf, node, x, spans)
    else:
        x, padding = _padded(tf, x, resolve_pads(node.attributes, x.shape[1:-1], spans)), "VALID"
    if len(kernel) == 1:
        x, weights, dilations = _as_image(tf, x), weights[None], (1, *dilations)
    if weights.shape[0] == weights.shape[1] == 1:
        dilations = (1, 1)
    y = tf.nn.depthwise_conv2d(x, weights, [1, step, step, 1], padding, dilations=list(dilations))
    y = tf.squeeze(y, 1) if len(kernel) == 1 else y
    y = y[(slice(None), *(slice(None, None, stride // step) for stride in strides))]
    y.set_shape((*y.shape[:-1], channels))
    return _finished(tf, node, y, bias)


def _over_pixels(tf: Any, x: Any, weights: Any) -> Any:
    """x @ weights over the last axis, as one matrix product."""
    if len(x.shape) == 2:
        return tf.matmul(x, weights)
    product = tf.matmul(tf.reshape(x, [-1, x.shape[-1]]), weights)
    return tf.reshape(product, [-1, *x.shape[1:-1], weights.shape[-1]])


def _dense(tf: Any, node: Node, x: Any, weights: Any, bias: Any, residual: Any) -> Any:
    return _finished(tf, node, _over_pixels(tf, x, weights), bias, residual)


def _normalized(tf: Any, node: Node, x: Any, mean: Any, variance: Any) -> Any:
    epsilon: float = node.attributes["epsilon"]  # type: ignore[assignment]
    return (x - mean) / tf.sqrt(variance + epsilon)


def _batch_normalization(tf: Any, node: Node, x: Any, gamma: Any, beta: Any, mean: Any, variance: Any) -> Any:
    return _activated(tf, node, _normalized(tf, node, x, mean, variance) * gamma + beta)


def _layer_normalization(tf: Any, node: Node, x: Any, gamma: Any, beta: Any) -> Any:
    mean, variance = tf.nn.moments(x, [-1], keepdims=True)
    return _activated(tf, node, _normalized(tf, node, x, mean, variance) * gamma + beta)


def _group_normalization(tf: Any, node: Node, x: Any, gamma: Any, beta: Any) -> Any:
    groups, channels = number(node.attributes, "groups"), x.shape[-1]
    cut = tf.reshape(x, [-1, math.prod(x.shape[1:-1]), groups, channels // groups])
    mean, variance = tf.nn.moments(cut, [1, 3], keepdims=True)
    y = tf.reshape(_normalized(tf, node, cut, mean, variance), [-1, *x.shape[1:]])
    return _activated(tf, node, y * gamma + beta)


def _local_response_normalization(tf: Any, node: Node, x: Any) -> Any:
    size, channels = number(node.attributes, "size"), x.shape[-1]
    bias, alpha, beta = (float(node.attributes[name]) for name in ("bias", "alpha", "beta"))  # type: ignore[arg-type]
    before, after = min((size - 1) // 2, channels - 1), min(size // 2, channels - 1)
    squares = tf.pad(tf.square(x), [(0, 0)] * (len(x.shape) - 1) + [(before, after)])
    total = sum(squares[..., first : first + channels] for first in range(before + after + 1))
    return x / tf.pow(bias + alpha * total, beta)


def _pooled(tf: Any, kind: str, node: Node, x: Any, padding: str) -> Any:
    """One of TensorFlow's poolings, over 1 to 3 spatial axes."""
    kernel, strides = list(ints(node.attributes, "pool_size")), list(ints(node.attributes, "strides"))
    return getattr(tf.nn, f"{kind}_pool{len(kernel)}d")(x, kernel, strides, padding)


def _max_pool(tf: Any, node: Node, x: Any) -> Any:
    if len(x.shape) == 5 and x.dtype == tf.float16:  # CPUs have no kernel for these
        return tf.cast(_max_pool(tf, node, tf.cast(x, tf.float32)), x.dtype)
    if node.attributes["padding"] == "same":
        return _pooled(tf, "max", node, x, "SAME")
    return _pooled(tf, "max", node, _padded(tf, x, ints(node.attributes, "pads"), -math.inf), "VALID")


def _average_pool(tf: Any, node: Node, x: Any) -> Any:
    counted = bool(node.attributes["count_padding"])
    if node.attributes["padding"] == "same" and not counted:
        return _pooled(tf, "avg", node, x, "SAME")
    kernel, sizes = ints(node.attributes, "pool_size"), x.shape[1:-1]
    pads = resolve_pads(node.attributes, sizes, kernel)
    y = _pooled(tf, "avg", node, _padded(tf, x, pads), "VALID")
    if counted or not any(pads):
        return y
    # The window's size over the number of pixels that lie in it: along each axis alone.
    for axis, (length, k, s) in enumerate(zip(sizes, kernel, ints(node.attributes, "strides"), strict=True)):
        starts = np.arange(y.shape[1 + axis]) * s - pads[2 * axis]
        there = np.minimum(starts + k, length) - np.maximum(starts, 0)
        shape = [-1 if a == 1 + axis else 1 for a in range(len(y.shape))]
        y = y * tf.constant((k / there).reshape(shape), y.dtype)
    return y


def _reduce(tf: Any, node: Node, x: Any) -> Any:
    function = getattr(tf, node.operator)
    return function(x, axis=list(ints(node.attributes, "axes")), keepdims=bool(node.attributes["keepdims"]))


def _softmax(tf: Any, node: Node, x: Any) -> Any:
    function = tf.nn.log_softmax if node.attributes["log"] else tf.nn.softmax
    return function(x, axis=number(node.attributes, "axis"))


def _sparsemax(tf: Any, node: Node, x: Any) -> Any:
    z = tf.sort(x, direction="DESCENDING")
    sums = tf.cumsum(z, axis=-1)
    places = tf.range(1, x.shape[-1] + 1, dtype=x.dtype)
    support = z - (sums - 1) / places > 0
    count = tf.reduce_sum(tf.cast(support, x.dtype), axis=-1, keepdims=True)
    tau = (tf.reduce_sum(tf.where(support, sums, tf.zeros_like(sums)), axis=-1, keepdims=True) - 1) / count
    return tf.maximum(x - tau, 0.0)


def _slice(tf: Any, node: Node, x: Any) -> Any:
    cuts = [slice(None)]
    for axis, size in enumerate(x.shape[1:], start=1):
        taken = slice_range(node.attributes, axis, size)
        cuts.append(slice(taken.start, taken.stop if taken.stop >= 0 else None, taken.step))
    return x[tuple(cuts)]


def _pad(tf: Any, node: Node, x: Any) -> Any:
    pads, mode = ints(node.attributes, "pads"), str(node.attributes["mode"])
    frame = [(0, 0), *zip(pads[::2], pads[1::2], strict=True)]
    if mode == "constant":
        return tf.pad(x, frame, constant_values=tf.cast(node.attributes["value"], x.dtype))
    for axis, (before, after) in enumerate(frame):
        if before or after:
            places = np.pad(np.arange(x.shape[axis]), (before, after), mode=mode)  # type: ignore[call-overload]
            x = tf.gather(x, places, axis=axis)
    return x


def _resize(tf: Any, node: Node, x: Any) -> Any:
    (shape,) = OPERATORS["resize"].shapes(node.attributes, [(None, *x.shape[1:])])
    for axis, size in enumerate(shape[1:3], start=1):
        places, weights = axis_table(node.attributes, axis - 1, x.shape[axis], size or 0)
        if node.attributes["method"] == "nearest":
            if not np.array_equal(places[:, 0], np.arange(x.shape[axis])):
                x = tf.gather(x, places[:, 0], axis=axis)
        elif places.shape[1] <= MOST_GATHERED:
            along = [-1 if a == axis else 1 for a in range(4)]
            taps = range(places.shape[1])
            x = sum(
                tf.gather(x, places[:, tap], axis=axis) * tf.constant(weights[:, tap].reshape(along), x.dtype)
                for tap in taps
            )
        else:
            matrix = np.zeros((size or 0, x.shape[axis]))
            np.add.at(matrix, (np.arange(size or 0)[:, None], places), weights)
            x = tf.einsum("oh,nhwc->nowc" if axis == 1 else "ow,nhwc->nhoc", tf.constant(matrix, x.dtype), x)
    return x


BINARY: Mapping[str, Callable[..., Any]] = {
    "add": lambda tf, x, y: x + y,
    "subtract": lambda tf, x, y: x - y,
    "multiply": lambda tf, x, y: x * y,
    "divide": lambda tf, x, y: x / y,
    "maximum": lambda tf, x, y: tf.maximum(x, y),
    "minimum": lambda tf, x, y: tf.minimum(x, y),
    "power": lambda tf, x, y: tf.pow(x, y),
    "prelu": lambda tf, x, y: tf.where(x > 0, x, x * y),
    "equal": lambda tf, x, y: tf.cast(tf.equal(x, y), x.dtype),
    "less": lambda tf, x, y: tf.cast(x < y, x.dtype),
    "keep": lambda tf, x, y: tf.where(tf.not_equal(y, 0), x, tf.zeros_like(x)),
}

FUNCTIONS: Mapping[str, Callable[..., Any]] = {
    "conv": _conv,
    "conv_transpose": _conv_transpose,
    "depthwise_conv": _depthwise_conv,
    "dense": _dense,
    "matmul": lambda tf, node, x, y: tf.matmul(x, y),
    "batch_normalization": _batch_normalization,
    "layer_normalization": _layer_normalization,
    "group_normalization": _group_normalization,
    "local_response_normalization": _local_response_normalization,
    "activation": _activated,
    "softmax": _softmax,
    "sparsemax": _sparsemax,
    "max_pool": _max_pool,
    "average_pool": _average_pool,
    **dict.fromkeys(("reduce_mean", "reduce_sum", "reduce_max", "reduce_min"), _reduce),
    **dict.fromkeys(BINARY, lambda tf, node, x, y: _activated(tf, node, BINARY[node.operator](tf, x, y))),
    "concatenate": lambda tf, node, *xs: tf.concat(xs, axis=number(node.attributes, "axis")),
    "reshape": lambda tf, node, x: x,  # to the shape of its output, by `evaluate`
    "transpose": lambda tf, node, x: tf.transpose(x, [0, *ints(node.attributes, "permutation")]),
    "slice": _slice,
    "pad": _pad,
    "resize": _resize,
    "identity": lambda tf, node, x: x,
}
"""Each operator: (tf, node, *inputs)."""

FULL_PRECISION = frozenset(
    (
        *("batch_normalization", "layer_normalization", "group_normalization", "local_response_normalization"),
        *("softmax", "sparsemax", "reduce_mean", "reduce_sum"),
    )
)
"""Operators that compute in float32 whatever the precision of the others: sums and quotients that 11 bits do not bear."""


def dtype_of(node: Node, dtype: str) -> str:
    """What a node computes in, where a model computes in `dtype`."""
    return "float32" if node.operator in FULL_PRECISION else dtype


def evaluate(
    tf: Any,
    graph: Graph,
    shapes: Mapping[str, Sequence[int]],
    inputs: Sequence[Any],
    constant: Callable[[str, str], Any],
    dtype: str = "float32",
) -> list[Any]:
    """The graph's outputs, in order, as float32 tensors.

    Args:
        shapes: of every tensor, without the batch.
        inputs: float32 tensors (N, ...), in the order of the graph's inputs.
        constant: gives a constant's tensor by name and dtype.
        dtype: what convolutions and all that bears it compute in.
    """
    values = {port.tensor: x for port, x in zip(graph.inputs, inputs, strict=True)}
    for node in graph.nodes:
        own = dtype_of(node, dtype)
        given = [
            None if not n else constant(n, own) if n in graph.constants else tf.cast(values[n], own)
            for n in node.inputs
        ]
        shape = shapes[node.output]
        with tf.name_scope(_scope(node.name)):
            y = FUNCTIONS[node.operator](tf, node, *given)
            y = tf.reshape(y, [-1, *shape]) if node.operator == "reshape" else y
        y.set_shape((None, *shape))
        values[node.output] = tf.cast(y, dtype)
    return [tf.identity(tf.cast(values[port.tensor], "float32")) for port in graph.outputs]


def _scope(name: str) -> str:
    """A node's name as TensorFlow's profiler may show it: it allows letters, digits and a few signs."""
    kept = "".join(c if c.isascii() and (c.isalnum() or c in "_-./") else "_" for c in name)
    return kept if kept[:1].isalnum() else f"n{kept}"
