"""How far a float32 answer may lie from the exact one, by operator, with the reason."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from edgecnn.graph import Graph, Node, reference

EPSILON = float(np.finfo(np.float32).eps)

FUNCTION_ERRORS: dict[str, float] = {
    # Units in the last place of the result's scale; elementary functions are polynomials good to a few of them.
    "linear": 0.0,
    "relu": 1.0,
    "hard_sigmoid": 4.0,
    "hard_swish": 4.0,
    "softsign": 4.0,
    "selu": 8.0,
    "elu": 8.0,
    "exponential": 8.0,
    "sigmoid": 8.0,
    "swish": 8.0,
    "tanh": 8.0,
    "softplus": 8.0,
    "gelu": 16.0,
    "gelu_tanh": 16.0,
}


def _terms(graph: Graph, node: Node) -> int:
    """Additions behind one output value."""
    if node.operator in ("conv2d", "depthwise_conv2d"):
        rows, columns, depth, _ = graph.shape(node.inputs[1])
        return int(rows * columns * (depth if node.operator == "conv2d" else 1)) + 3
    if node.operator == "dense":
        return int(graph.shape(node.inputs[1])[0]) + 3
    if node.operator in ("average_pool2d", "global_average_pool2d"):
        height, width = graph.shape(node.inputs[0])[1:3]
        return int((height or 1) * (width or 1)) + 2
    if node.operator == "softmax":
        return int(graph.shape(node.inputs[0])[-1] or 1) + 8
    return 4


def bound(graph: Graph, node: Node, values: dict[str, np.ndarray]) -> np.ndarray:
    """Largest allowed |error| of each value of the node's output.

    A float32 sum of n products is off by at most n * eps * sum |a| |b| (Higham 2002, section 3.1); we take the sum from
    the reference itself, run on absolute values with a linear activation. Activations have a slope of at most about 1.13.

    Args:
        values: exact value of every tensor.
    """
    constants = {name: np.abs(c.array.astype(np.float64)) for name, c in graph.constants.items()}
    inputs = [None if not n else constants[n] if n in constants else np.abs(values[n]) for n in node.inputs]
    if node.operator in ("conv2d", "depthwise_conv2d", "dense"):
        linear = replace(node, attributes={**node.attributes, "activation": "linear", "activation_parameters": ()})
        (size,) = reference.evaluate(linear, inputs)
    elif node.operator == "batch_normalization":
        x, gamma, beta, mean, variance = inputs
        size = (x + mean) / np.sqrt(variance + node.attributes["epsilon"]) * gamma + beta
    elif node.operator in ("add", "multiply"):
        size = inputs[0] + inputs[1] if node.operator == "add" else inputs[0] * inputs[1]
    else:
        size = np.abs(values[node.output]) + max(float(np.max(x)) for x in inputs if x is not None)
    error = _terms(graph, node) * EPSILON * size
    function = str(node.attributes.get("activation", "linear"))
    scale = np.exp(np.minimum(size, 80.0)) if function == "exponential" else 1.13 + size
    return error * (scale if function != "linear" else 1.0) + FUNCTION_ERRORS[function] * EPSILON * (
        np.abs(values[node.output]) + size + 1.0
    )
