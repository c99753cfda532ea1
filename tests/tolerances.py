"""How far a float32 answer may lie from the exact one, by operator, with the reason."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from edgecnn.graph import Graph, Node, reference

EPSILON = float(np.finfo(np.float32).eps)

FUNCTION_ERRORS: dict[str, float] = {
    # Units in the last place of the result's scale; elementary functions are polynomials good to a few of them.
    **dict.fromkeys(("linear", "abs", "sign", "floor", "ceil", "round", "hard_shrink", "threshold", "clip"), 0.0),
    **dict.fromkeys(("relu", "soft_shrink", "square", "sqrt", "reciprocal"), 1.0),
    **dict.fromkeys(("hard_sigmoid", "sparse_sigmoid", "hard_swish", "softsign", "squareplus", "sparse_plus"), 4.0),
    **dict.fromkeys(("rsqrt", "sin", "cos"), 4.0),
    **dict.fromkeys(("selu", "elu", "celu", "exponential", "expm1", "log", "log1p", "sigmoid", "swish", "tanh"), 8.0),
    **dict.fromkeys(("softplus", "log_sigmoid", "tanh_shrink", "erf"), 8.0),
    **dict.fromkeys(("gelu", "gelu_tanh", "mish"), 16.0),
}


def _terms(graph: Graph, node: Node) -> int:
    """Roundings behind one output value."""
    shape = [size or 1 for size in graph.shape(node.inputs[0])[1:]]
    if node.operator in ("conv", "conv_transpose"):
        *taps, a, b = graph.shape(node.inputs[1])
        return int(np.prod(taps) * (a if node.operator == "conv" else b)) + 3
    if node.operator == "depthwise_conv":
        return int(np.prod(graph.shape(node.inputs[1])[:-2])) + 3
    if node.operator == "dense":
        return int(graph.shape(node.inputs[1])[0]) + 3
    if node.operator == "average_pool":
        sizes = node.attributes["pool_size"]
        return int(np.prod(sizes) if len(sizes) > 2 else np.sum(sizes)) + 2  # rows are summed alone
    if node.operator == "resize":
        return 4 * sum(shape[:2]) + 8
    if node.operator == "local_response_normalization":
        return int(node.attributes["size"]) + 16
    if node.operator == "matmul":
        return shape[-1] + 2
    if node.operator.startswith("reduce_") or node.operator in ("softmax", "sparsemax"):
        return int(np.prod(shape)) + 8
    if node.operator in ("layer_normalization", "group_normalization"):
        return int(np.prod(shape)) + 16
    return 4


TRANSFORMED = 24.0
"""Winograd's and Strassen's algorithms: the error of a tile's or block's outputs, in units in the last place of the largest
sum of |a| |b| among them. Strassen's error is 3 times that of a direct sum at one level (Higham 2002, section 23.2.2).
With the points of winograd_f32.h it is 4 times that of a direct sum in the mean, over 128 channels; the rest is for the
largest of many values, and for short sums."""


def bound(graph: Graph, node: Node, values: dict[str, np.ndarray], algorithm: str = "direct") -> np.ndarray:
    """Largest allowed |error| of each value of the node's output.

    A float32 sum of n products is off by at most n * eps * sum |a| |b| (Higham 2002, section 3.1); we take the sum from
    the reference itself, run on absolute values with a linear activation. Activations have a slope of at most about 1.13,
    those that grow faster than their argument of about twice that argument.

    Args:
        values: exact value of every tensor.
        algorithm: what computes it.
    """
    constants = {name: np.abs(c.array.astype(np.float64)) for name, c in graph.constants.items()}
    inputs = [None if not n else constants[n] if n in constants else np.abs(values[n]) for n in node.inputs]
    if node.operator in ("conv", "conv_transpose", "depthwise_conv", "dense"):
        linear = replace(node, attributes={**node.attributes, "activation": "linear", "activation_parameters": ()})
        (size,) = reference.evaluate(linear, inputs)
    elif node.operator == "matmul" or node.operator.startswith("reduce_"):
        (size,) = reference.evaluate(node, inputs)
    elif node.operator == "batch_normalization":
        x, gamma, beta, mean, variance = inputs
        size = (x + mean) / np.sqrt(variance + node.attributes["epsilon"]) * gamma + beta
    elif node.operator in ("layer_normalization", "group_normalization"):
        x, gamma, beta = inputs
        size = 2 * np.max(x) / np.sqrt(node.attributes["epsilon"]) * gamma + beta
    elif node.operator == "resize":
        size = 4 * float(np.max(inputs[0]))  # cubic weights add up to less than two an axis, signs left out
    elif node.operator in ("add", "subtract"):
        size = inputs[0] + inputs[1]
    elif node.operator in ("multiply", "divide"):
        size = inputs[0] * inputs[1] if node.operator == "multiply" else inputs[0] / inputs[1]
    elif node.operator == "power":
        size = np.abs(np.power(inputs[0], inputs[1]))
    else:
        size = np.abs(values[node.output]) + max(float(np.max(x)) for x in inputs if x is not None)
    error = _terms(graph, node) * EPSILON * size
    if algorithm.startswith(("winograd", "strassen")):
        size = np.full_like(size, np.max(size))
        error = error + TRANSFORMED * EPSILON * size
    function = str(node.attributes.get("activation", "linear"))
    scale = np.exp(np.minimum(size, 80.0)) if function in ("exponential", "expm1") else 1.13 + 2 * size
    return error * (scale if function != "linear" else 1.0) + FUNCTION_ERRORS[function] * EPSILON * (
        np.abs(values[node.output]) + size + 1.0
    )
