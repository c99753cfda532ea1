"""The meaning of every operator, in plain NumPy: what kernels, passes and backends are held against.

Written to be obviously right, not fast. It computes in float64 unless told otherwise, so that its own rounding is far below
a float32 kernel's. NaN and infinities go through as numbers do: a NaN wins every maximum that it takes part in.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from edgecnn.graph.graph import Constant, Graph, Node
from edgecnn.graph.interpolation import axis_table
from edgecnn.graph.operators import OPERATORS, effective_kernel, ints, number, resolve_pads, slice_range

Array = np.ndarray[Any, Any]

_erf = np.vectorize(math.erf, otypes=[np.float64])


def _relu(x: Array, negative_slope: float, max_value: float, threshold: float) -> Array:
    if negative_slope == 0:
        # As Keras: NaN stays where the threshold is 0, and becomes 0 where values are chosen by a threshold.
        kept = x > threshold if threshold != 0 else ~(x <= 0)
        return np.where(kept, np.minimum(x, max_value), np.minimum(0.0, max_value) if threshold == 0 else 0.0)
    return np.minimum(np.where(x <= threshold, negative_slope * (x - threshold), x), max_value)


def _elu(x: Array, alpha: float) -> Array:
    return np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0)))


def _softplus(x: Array) -> Array:
    return np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))


_erfc = np.vectorize(math.erfc, otypes=[np.float64])


def _gelu_tanh(x: Array) -> Array:
    # (1 + tanh(y)) / 2 is sigmoid(2 y), without its cancellation.
    return np.asarray(x * _sigmoid(2 * math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def _tanh_shrink(x: Array) -> Array:
    """x - tanh(x), near 0 by its series (Abramowitz & Stegun 4.5.64): the difference would lose what is left."""
    series: Any = 0.0
    for coefficient in (929569 / 638512875, -21844 / 6081075, 1382 / 155925, -62 / 2835, 17 / 315, -2 / 15, 1 / 3):
        series = series * x * x + coefficient
    return np.where(np.abs(x) < 0.1, series * x * x * x, x - np.tanh(x))


def _squareplus(x: Array, b: float) -> Array:
    root = np.hypot(x, math.sqrt(b))
    # Of -infinity Keras gives NaN, the difference of two infinities.
    return np.where(x < 0, b / 2 / (root - x) + (x - x), (x + root) / 2)


def _sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


# SELU's constants: Klambauer et al. 2017, section 2.
_SELU_ALPHA, _SELU_SCALE = 1.6732632423543772, 1.0507009873554805

_FUNCTIONS: Mapping[str, Callable[..., Array]] = {
    "linear": lambda x: x,
    "relu": _relu,
    "clip": lambda x, low, high: np.minimum(np.maximum(x, low), high),
    "elu": _elu,
    "celu": lambda x, alpha: np.maximum(x, 0) + alpha * np.expm1(np.minimum(x, 0) / alpha),
    "selu": lambda x: _SELU_SCALE * _elu(x, _SELU_ALPHA),
    "sigmoid": _sigmoid,
    "hard_sigmoid": lambda x, slope, offset: np.clip(slope * x + offset if slope else np.full_like(x, offset), 0, 1),
    "sparse_sigmoid": lambda x: np.clip(0.5 * (x + 1), 0, 1),
    "log_sigmoid": lambda x: -_softplus(-x),
    "tanh": np.tanh,
    "tanh_shrink": _tanh_shrink,
    "softplus": _softplus,
    "sparse_plus": lambda x: np.where(x <= -1, 0, np.where(x < 1, 0.25 * (x + 1) ** 2, x)),
    "squareplus": _squareplus,
    "softsign": lambda x: x / (1 + np.abs(x)),
    # Keras chooses in these three: NaN becomes zero, or the default.
    "hard_shrink": lambda x, threshold: np.where(np.abs(x) > threshold, x, 0),
    "soft_shrink": lambda x, threshold: np.where(np.abs(x) > threshold, x - np.copysign(threshold, x), 0),
    "threshold": lambda x, threshold, default: np.where(x > threshold, x, np.full_like(x, default)),
    "swish": lambda x: x * _sigmoid(x),
    "hard_swish": lambda x: x * np.clip(x + 3, 0, 6) / 6,
    "mish": lambda x: x * np.tanh(_softplus(x)),
    "gelu": lambda x: 0.5 * x * _erfc(-x / math.sqrt(2)),
    "gelu_tanh": _gelu_tanh,
    "exponential": np.exp,
    "expm1": np.expm1,
    "log": np.log,
    "log1p": np.log1p,
    "sqrt": np.sqrt,
    "rsqrt": lambda x: 1 / np.sqrt(x),
    "reciprocal": lambda x: 1 / x,
    "square": np.square,
    "abs": np.abs,
    "sign": np.sign,
    "floor": np.floor,
    "ceil": np.ceil,
    "round": np.rint,
    "sin": np.sin,
    "cos": np.cos,
    "erf": _erf,
}


def activate(function: str, parameters: Sequence[float], x: Array) -> Array:
    """An activation function of `operators.ACTIVATIONS`, element by element."""
    with np.errstate(all="ignore"):
        return _FUNCTIONS[function](x, *parameters)


def _activated(node: Node, x: Array) -> Array:
    return activate(str(node.attributes["activation"]), node.attributes["activation_parameters"], x)  # type: ignore[arg-type]


def _taps(
    node: Node, x: Array, kernel: Sequence[int], dilations: Sequence[int], value: float
) -> dict[tuple[int, ...], Array]:
    """For each tap (one index a spatial axis) the input values that it meets: arrays of the output's sizes."""
    spans = effective_kernel(kernel, dilations)
    pads = resolve_pads(node.attributes, x.shape[1:-1], spans)
    frame = [(0, 0), *zip(pads[::2], pads[1::2], strict=True), (0, 0)]
    framed = np.pad(x, frame, constant_values=value)
    strides = ints(node.attributes, "strides")
    sizes = [(framed.shape[1 + a] - spans[a]) // strides[a] + 1 for a in range(len(kernel))]
    found = {}
    for tap in itertools.product(*map(range, kernel)):
        starts = [index * dilation for index, dilation in zip(tap, dilations, strict=True)]
        cut = [slice(s, s + (n - 1) * t + 1, t) for s, n, t in zip(starts, sizes, strides, strict=True)]
        found[tap] = framed[(slice(None), *cut)]
    return found


def _conv(node: Node, x: Array, weights: Array, bias: Array | None, residual: Array | None) -> Array:
    *kernel, depth, filters = weights.shape
    groups = number(node.attributes, "groups")
    taps = _taps(node, x, kernel, ints(node.attributes, "dilations"), 0.0)
    each = filters // groups
    y = np.zeros((*next(iter(taps.values())).shape[:-1], filters), x.dtype)
    for tap, values in taps.items():
        for g in range(groups):
            given = values[..., g * depth : (g + 1) * depth]
            y[..., g * each : (g + 1) * each] += given @ weights[tap][:, g * each : (g + 1) * each]
    return _finish(node, y, bias, residual)


def _conv_transpose(node: Node, x: Array, weights: Array, bias: Array | None) -> Array:
    *kernel, filters, channels = weights.shape
    groups, strides = number(node.attributes, "groups"), ints(node.attributes, "strides")
    pads, more = ints(node.attributes, "pads"), ints(node.attributes, "output_padding")
    dilations = ints(node.attributes, "dilations")
    spans = effective_kernel(kernel, dilations)
    sizes = [(n - 1) * s + span + m for n, s, span, m in zip(x.shape[1:-1], strides, spans, more, strict=True)]
    y = np.zeros((len(x), *sizes, filters * groups), x.dtype)
    depth = channels // groups
    for tap in itertools.product(*map(range, kernel)):
        starts = [index * dilation for index, dilation in zip(tap, dilations, strict=True)]
        cut = [slice(a, a + (n - 1) * s + 1, s) for a, n, s in zip(starts, x.shape[1:-1], strides, strict=True)]
        for g in range(groups):
            given = x[..., g * depth : (g + 1) * depth] @ weights[tap][:, g * depth : (g + 1) * depth].T
            y[(slice(None), *cut, slice(g * filters, (g + 1) * filters))] += given
    kept = [slice(pads[2 * a], size - pads[2 * a + 1]) for a, size in enumerate(sizes)]
    return _finish(node, y[(slice(None), *kept)], bias, None)


def _depthwise_conv(node: Node, x: Array, weights: Array, bias: Array | None) -> Array:
    *kernel, channels, multiplier = weights.shape
    taps = _taps(node, x, kernel, ints(node.attributes, "dilations"), 0.0)
    y = np.sum([values[..., None] * weights[tap] for tap, values in taps.items()], axis=0)
    return _finish(node, y.reshape(*y.shape[:-2], channels * multiplier), bias, None)


def _dense(node: Node, x: Array, weights: Array, bias: Array | None, residual: Array | None) -> Array:
    return _finish(node, x @ weights, bias, residual)


def _finish(node: Node, y: Array, bias: Array | None, residual: Array | None) -> Array:
    if bias is not None:
        y = y + bias
    if residual is not None:
        y = y + residual
    return _activated(node, y)


def _normalized(node: Node, x: Array, mean: Array, variance: Array) -> Array:
    return np.asarray((x - mean) / np.sqrt(variance + float(node.attributes["epsilon"])))  # type: ignore[arg-type]


def _batch_normalization(node: Node, x: Array, gamma: Array, beta: Array, mean: Array, variance: Array) -> Array:
    return _activated(node, _normalized(node, x, mean, variance) * gamma + beta)


def _layer_normalization(node: Node, x: Array, gamma: Array, beta: Array) -> Array:
    mean, variance = x.mean(axis=-1, keepdims=True), x.var(axis=-1, keepdims=True)
    return _activated(node, _normalized(node, x, mean, variance) * gamma + beta)


def _group_normalization(node: Node, x: Array, gamma: Array, beta: Array) -> Array:
    groups = number(node.attributes, "groups")
    cut = x.reshape(len(x), -1, groups, x.shape[-1] // groups)
    mean, variance = cut.mean(axis=(1, 3), keepdims=True), cut.var(axis=(1, 3), keepdims=True)
    return _activated(node, _normalized(node, cut, mean, variance).reshape(x.shape) * gamma + beta)


def _local_response_normalization(node: Node, x: Array) -> Array:
    size, channels = number(node.attributes, "size"), x.shape[-1]
    bias, alpha, beta = (float(node.attributes[name]) for name in ("bias", "alpha", "beta"))  # type: ignore[arg-type]
    total = np.zeros_like(x)
    for channel in range(channels):
        # The even one of an even size comes after: TensorFlow's depth_radius gives odd sizes only, ONNX says so.
        first, last = max(0, channel - (size - 1) // 2), min(channels, channel + size // 2 + 1)
        total[..., channel] = np.square(x[..., first:last]).sum(axis=-1)
    return np.asarray(x / (bias + alpha * total) ** beta)


def _max_pool(node: Node, x: Array) -> Array:
    taps = _taps(node, x, kernel := ints(node.attributes, "pool_size"), (1,) * len(kernel), -math.inf)
    y = np.full_like(next(iter(taps.values())), -math.inf)
    for values in taps.values():
        y = np.maximum(y, values)  # gives NaN if either is
    return y


def _average_pool(node: Node, x: Array) -> Array:
    kernel = ints(node.attributes, "pool_size")
    total = sum(_taps(node, x, kernel, (1,) * len(kernel), 0.0).values())
    if node.attributes["count_padding"]:
        return np.asarray(total / math.prod(kernel))
    ones = np.ones((1, *x.shape[1:-1], 1), x.dtype)
    return np.asarray(total / sum(_taps(node, ones, kernel, (1,) * len(kernel), 0.0).values()))


def _reduce(node: Node, x: Array) -> Array:
    functions: Mapping[str, Callable[..., Any]] = {
        "reduce_mean": np.mean,
        "reduce_sum": np.sum,
        "reduce_max": np.max,
        "reduce_min": np.min,
    }
    return np.asarray(
        functions[node.operator](x, axis=ints(node.attributes, "axes"), keepdims=bool(node.attributes["keepdims"]))
    )


def _softmax(node: Node, x: Array) -> Array:
    axis = number(node.attributes, "axis")
    shifted = x - x.max(axis=axis, keepdims=True)
    total = np.exp(shifted).sum(axis=axis, keepdims=True)
    return np.asarray(shifted - np.log(total) if node.attributes["log"] else np.exp(shifted) / total)


def _sparsemax(node: Node, x: Array) -> Array:
    """As Keras computes it: Martins & Astudillo 2016, Algorithm 1, but for tau, which has there the last of the sums.

    Sums are of differences from the largest value, so that a 1 counts beside a large one. Where the largest is infinite nothing
    is in the support and tau is -infinity, as in Keras; NaN is sorted last and stays.
    """
    z = -np.sort(-x, axis=-1)
    count = np.arange(1, x.shape[-1] + 1)
    top = np.where(np.isfinite(z[..., :1]), z[..., :1], 0)
    sums = np.cumsum(z - top, axis=-1)
    # Of NaN a comparison is false; what comes after a value outside the support is outside, too.
    support = np.logical_and.accumulate(z - top - (sums - 1) / count > 0, axis=-1) & np.isfinite(z[..., :1])
    size = support.sum(axis=-1, keepdims=True)
    shift = (1 - np.where(support, sums, 0).sum(axis=-1, keepdims=True)) / size - top * (size - 1) / 2
    return np.asarray(np.maximum((x - top) + np.where(size == 0, np.inf, shift), 0))


def _slice(node: Node, x: Array) -> Array:
    for axis in range(1, x.ndim):
        x = np.take(x, list(slice_range(node.attributes, axis, x.shape[axis])), axis=axis)
    return x


def _pad(node: Node, x: Array) -> Array:
    pads, mode = ints(node.attributes, "pads"), str(node.attributes["mode"])
    frame = [(0, 0), *zip(pads[::2], pads[1::2], strict=True)]
    if mode == "constant":
        return np.pad(x, frame, constant_values=float(node.attributes["value"]))  # type: ignore[arg-type]
    return np.pad(x, frame, mode=mode)  # type: ignore[call-overload, no-any-return]


def _resize(node: Node, x: Array) -> Array:
    (shape,) = OPERATORS["resize"].shapes(node.attributes, [(None, *x.shape[1:])])
    for axis, size in enumerate(shape[1:3]):
        places, weights = axis_table(node.attributes, axis, x.shape[1 + axis], size or 0)
        matrix = np.zeros((size or 0, x.shape[1 + axis]))
        np.add.at(matrix, (np.arange(size or 0)[:, None], places), weights)
        x = np.moveaxis(np.tensordot(x, matrix.astype(x.dtype), (1 + axis, 1)), -1, 1 + axis)
    return x


_BINARY: Mapping[str, Callable[[Array, Array], Array]] = {
    "add": np.add,
    "subtract": np.subtract,
    "multiply": np.multiply,
    "divide": np.divide,
    "maximum": np.maximum,
    "minimum": np.minimum,
    "power": np.power,
    "prelu": lambda x, y: np.where(x > 0, x, x * y),
    "equal": lambda x, y: np.where(x == y, 1.0, 0.0),
    "less": lambda x, y: np.where(x < y, 1.0, 0.0),
    "keep": lambda x, y: np.where(y != 0, x, 0.0),
}

_OPERATORS: Mapping[str, Callable[..., Array]] = {
    "conv": _conv,
    "conv_transpose": _conv_transpose,
    "depthwise_conv": _depthwise_conv,
    "dense": _dense,
    "matmul": lambda node, x, y: x @ y,
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
    **dict.fromkeys(_BINARY, lambda node, x, y: _activated(node, _BINARY[node.operator](x, y))),
    "concatenate": lambda node, *xs: np.concatenate(xs, axis=node.attributes["axis"]),
    "reshape": lambda node, x: x.reshape(len(x), *ints(node.attributes, "shape")),
    "transpose": lambda node, x: x.transpose(0, *ints(node.attributes, "permutation")),
    "slice": _slice,
    "pad": _pad,
    "resize": _resize,
    "identity": lambda node, x: x,
}


def evaluate(node: Node, inputs: Sequence[Array | None]) -> list[Array]:
    """What a node gives.

    Args:
        inputs: arrays in the order of the node's inputs, tensors with the batch in front; None where one is absent.
    """
    with np.errstate(all="ignore"):
        return [_OPERATORS[node.operator](node, *inputs)]


def values_of(constant: Constant, dtype: Any = np.float64) -> Array:
    """A constant's real values, dequantised if need be."""
    values = constant.array.astype(dtype)
    if constant.quantization is None:
        return values
    scales, zero_points = constant.quantization.scales, constant.quantization.zero_points
    if constant.quantization.axis is not None:
        shape = [1] * values.ndim
        shape[constant.quantization.axis] = -1
        scales, zero_points = scales.reshape(shape), zero_points.reshape(shape)
    return np.asarray((values - zero_points.astype(dtype)) * scales.astype(dtype))


def run_all(graph: Graph, inputs: Mapping[str, Array], *, dtype: Any = np.float64) -> dict[str, Array]:
    """The value of every tensor.

    Args:
        inputs: (N, ...) by public input name.
        dtype: what to compute in.
    """
    values: dict[str, Array] = {port.tensor: np.asarray(inputs[port.name], dtype) for port in graph.inputs}
    constants = {name: values_of(constant, dtype) for name, constant in graph.constants.items()}
    for node in graph.nodes:
        given = [None if not n else constants[n] if n in constants else values[n] for n in node.inputs]
        values.update(zip(node.outputs, evaluate(node, given), strict=True))
    return values


def run(graph: Graph, inputs: Mapping[str, Array], *, dtype: Any = np.float64) -> dict[str, Array]:
    """The outputs by public name. What nobody reads any more is let go, so that no more than needed is held at once."""
    values: dict[str, Array] = {port.tensor: np.asarray(inputs[port.name], dtype) for port in graph.inputs}
    left = {name: len(readers) for name, readers in graph.readers.items()}
    for node in graph.nodes:
        given = [
            None if not n else values_of(graph.constants[n], dtype) if n in graph.constants else values[n]
            for n in node.inputs
        ]
        values.update(zip(node.outputs, evaluate(node, given), strict=True))
        for name in node.inputs:
            left[name or ""] = left.get(name, 0) - 1
            if name in values and left[name] == 0 and name not in graph.output_tensors:
                del values[name]
    return {port.name: values[port.tensor] for port in graph.outputs}
