"""The meaning of every operator, in plain NumPy: what kernels, passes and backends are held against.

Written to be obviously right, not fast. It computes in float64 unless told otherwise, so that its own rounding is far below
a float32 kernel's. NaN and infinities go through as numbers do: a NaN wins every maximum that it takes part in.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from edgecnn.graph.graph import Constant, Graph, Node
from edgecnn.graph.operators import effective_kernel, ints, resolve_pads

Array = np.ndarray[Any, Any]

_erf = np.vectorize(math.erf, otypes=[np.float64])


def _relu(x: Array, negative_slope: float, max_value: float, threshold: float) -> Array:
    below = np.zeros_like(x) if negative_slope == 0 else negative_slope * (x - threshold)
    return np.minimum(np.where(x <= threshold, below, x), max_value)


def _elu(x: Array, alpha: float) -> Array:
    return np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0)))


def _softplus(x: Array) -> Array:
    return np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))


def _gelu_tanh(x: Array) -> Array:
    return np.asarray(0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))))


def _sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


# SELU's constants: Klambauer et al. 2017, section 2.
_SELU_ALPHA, _SELU_SCALE = 1.6732632423543772, 1.0507009873554805

_FUNCTIONS: Mapping[str, Callable[..., Array]] = {
    "linear": lambda x: x,
    "relu": _relu,
    "elu": _elu,
    "selu": lambda x: _SELU_SCALE * _elu(x, _SELU_ALPHA),
    "sigmoid": _sigmoid,
    "hard_sigmoid": lambda x, slope, offset: np.clip(slope * x + offset, 0, 1),
    "tanh": np.tanh,
    "softplus": _softplus,
    "softsign": lambda x: x / (1 + np.abs(x)),
    "swish": lambda x: x * _sigmoid(x),
    "hard_swish": lambda x: x * np.clip(x + 3, 0, 6) / 6,
    "gelu": lambda x: 0.5 * x * (1 + _erf(x / math.sqrt(2))),
    "gelu_tanh": _gelu_tanh,
    "exponential": np.exp,
}


def activate(function: str, parameters: Sequence[float], x: Array) -> Array:
    """An activation function of `operators.ACTIVATIONS`, element by element."""
    with np.errstate(all="ignore"):
        return _FUNCTIONS[function](x, *parameters)


def _activated(node: Node, x: Array) -> Array:
    return activate(str(node.attributes["activation"]), node.attributes["activation_parameters"], x)  # type: ignore[arg-type]


def _frame(x: Array, pads: Sequence[int], value: float) -> Array:
    top, bottom, left, right = pads
    return np.pad(x, ((0, 0), (top, bottom), (left, right), (0, 0)), constant_values=value)


def _taps(node: Node, x: Array, kernel: Sequence[int], dilations: Sequence[int], value: float) -> list[list[Array]]:
    """For each tap (i, j) of a window the input values that it meets: arrays of the output's height and width."""
    spans = effective_kernel(kernel, dilations)
    pads = resolve_pads(node.attributes, x.shape[1:3], spans)
    framed = _frame(x, pads, value)
    strides = ints(node.attributes, "strides")
    height, width = ((framed.shape[1 + a] - spans[a]) // strides[a] + 1 for a in (0, 1))
    return [
        [
            framed[
                :,
                i * dilations[0] : i * dilations[0] + (height - 1) * strides[0] + 1 : strides[0],
                j * dilations[1] : j * dilations[1] + (width - 1) * strides[1] + 1 : strides[1],
            ]
            for j in range(kernel[1])
        ]
        for i in range(kernel[0])
    ]


def _conv2d(node: Node, x: Array, weights: Array, bias: Array | None, residual: Array | None) -> Array:
    rows, columns, depth, filters = weights.shape
    groups = int(node.attributes["groups"])  # type: ignore[arg-type]
    taps = _taps(node, x, (rows, columns), ints(node.attributes, "dilations"), 0.0)
    each = filters // groups
    y = np.zeros((*taps[0][0].shape[:3], filters), x.dtype)
    for i in range(rows):
        for j in range(columns):
            for g in range(groups):
                given = taps[i][j][..., g * depth : (g + 1) * depth]
                y[..., g * each : (g + 1) * each] += given @ weights[i, j, :, g * each : (g + 1) * each]
    return _finish(node, y, bias, residual)


def _depthwise_conv2d(node: Node, x: Array, weights: Array, bias: Array | None) -> Array:
    rows, columns, channels, multiplier = weights.shape
    taps = _taps(node, x, (rows, columns), ints(node.attributes, "dilations"), 0.0)
    y = np.zeros((*taps[0][0].shape[:3], channels, multiplier), x.dtype)
    for i in range(rows):
        for j in range(columns):
            y += taps[i][j][..., None] * weights[i, j]
    return _finish(node, y.reshape(*y.shape[:3], channels * multiplier), bias, None)


def _dense(node: Node, x: Array, weights: Array, bias: Array | None, residual: Array | None) -> Array:
    return _finish(node, x @ weights, bias, residual)


def _finish(node: Node, y: Array, bias: Array | None, residual: Array | None) -> Array:
    if bias is not None:
        y = y + bias
    if residual is not None:
        y = y + residual
    return _activated(node, y)


def _batch_normalization(node: Node, x: Array, gamma: Array, beta: Array, mean: Array, variance: Array) -> Array:
    epsilon = float(node.attributes["epsilon"])  # type: ignore[arg-type]
    return _activated(node, (x - mean) / np.sqrt(variance + epsilon) * gamma + beta)


def _max_pool2d(node: Node, x: Array) -> Array:
    taps = _taps(node, x, ints(node.attributes, "pool_size"), (1, 1), -math.inf)
    y = np.full_like(taps[0][0], -math.inf)
    for line in taps:
        for tap in line:
            y = np.maximum(y, tap)  # gives NaN if either is
    return y


def _average_pool2d(node: Node, x: Array) -> Array:
    kernel = ints(node.attributes, "pool_size")
    ones = np.ones((1, *x.shape[1:3], 1), x.dtype)
    total = sum(tap for line in _taps(node, x, kernel, (1, 1), 0.0) for tap in line)
    count = sum(tap for line in _taps(node, ones, kernel, (1, 1), 0.0) for tap in line)
    return np.asarray(total / count)


def _global_pool2d(node: Node, x: Array) -> Array:
    keep = bool(node.attributes["keepdims"])
    if node.operator == "global_average_pool2d":
        return np.asarray(x.mean(axis=(1, 2), keepdims=keep))
    return np.asarray(x.max(axis=(1, 2), keepdims=keep))


def _softmax(node: Node, x: Array) -> Array:
    axis = int(node.attributes["axis"])  # type: ignore[arg-type]
    e = np.exp(x - x.max(axis=axis, keepdims=True))
    return np.asarray(e / e.sum(axis=axis, keepdims=True))


_OPERATORS: Mapping[str, Callable[..., Array]] = {
    "conv2d": _conv2d,
    "depthwise_conv2d": _depthwise_conv2d,
    "dense": _dense,
    "batch_normalization": _batch_normalization,
    "activation": _activated,
    "softmax": _softmax,
    "max_pool2d": _max_pool2d,
    "average_pool2d": _average_pool2d,
    "global_average_pool2d": _global_pool2d,
    "global_max_pool2d": _global_pool2d,
    "add": lambda node, x, y: _activated(node, x + y),
    "multiply": lambda node, x, y: _activated(node, x * y),
    "concatenate": lambda node, *xs: np.concatenate(xs, axis=node.attributes["axis"]),
    "reshape": lambda node, x: x.reshape(len(x), *ints(node.attributes, "shape")),
    "zero_padding2d": lambda node, x: _frame(x, ints(node.attributes, "pads"), 0.0),
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
    """The outputs by public name; see `run_all`."""
    values = run_all(graph, inputs, dtype=dtype)
    return {port.name: values[port.tensor] for port in graph.outputs}
