"""What batch normalisations, products and sums with constants have in common: y = x * scale + shift for each channel,
and how a convolution before or after takes that in. Computed in float64, rounded once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from edgecnn.graph import Constant, Graph, Node
from edgecnn.graph.operators import effective_kernel, resolve_pads
from edgecnn.graph.rewrite import Patch, merged_layers, only_reader

Array = np.ndarray[Any, Any]
PRODUCTS = ("conv2d", "depthwise_conv2d", "dense")

Affine = Callable[[Graph, Node], tuple[str, Array | None, Array | None] | None]
"""From a node to (input tensor, scale or None for ones, shift or None for zeros), float64 of shape (C,); None if it is not
of the kind."""


def fold_affine(graph: Graph, affine: Affine) -> Iterator[Patch]:
    """Patches that move affine nodes into the product before them, or else into the one after."""
    for node in graph.nodes:
        found = affine(graph, node)
        if found is None:
            continue
        x, scale, shift = found
        before = graph.producers.get(x)
        if before is not None and _takes_after(graph, before):
            yield _into_producer(graph, before, node, scale, shift)
            continue
        after = only_reader(graph, node.output)
        if after is not None and _takes_before(graph, node, after, shift):
            yield _into_reader(graph, node, after, x, scale, shift)


def _linear(node: Node) -> bool:
    return node.attributes["activation"] == "linear"


def _takes_after(graph: Graph, node: Node) -> bool:
    """Whether a node can take in a scale and shift of its output."""
    return (
        node.operator in PRODUCTS
        and _linear(node)
        and only_reader(graph, node.output) is not None
        and not (node.operator != "depthwise_conv2d" and node.input("residual"))
        and graph.constants[node.input("weights")].quantization is None
    )


def _takes_before(graph: Graph, node: Node, after: Node, shift: Array | None) -> bool:
    """Whether a product can take in a scale and shift of its input, x. Padding is zero after the shift, so that only a
    pure scale may pass where there is any."""
    if after.operator not in PRODUCTS or after.inputs[0] != node.output or not _linear(node):
        return False
    if graph.constants[after.input("weights")].quantization is not None or node.output in after.inputs[1:]:
        return False
    if shift is None or after.operator == "dense":
        return True
    rows, columns = graph.shape(after.input("weights"))[:2]
    kernel = effective_kernel((rows or 1, columns or 1), after.attributes["dilations"])  # type: ignore[arg-type]
    size = graph.shape(node.output)[1:3]
    if None in size:
        return after.attributes["padding"] == "explicit" and after.attributes["pads"] == (0, 0, 0, 0)
    return not any(resolve_pads(after.attributes, size, kernel))  # type: ignore[arg-type]


def _into_producer(graph: Graph, before: Node, node: Node, scale: Array | None, shift: Array | None) -> Patch:
    """product -> affine  =>  product with w' = w * scale, b' = b * scale + shift, ending in the affine node's activation."""
    weights = graph.constants[before.input("weights")]
    bias = before.input("bias")
    inputs, constants = list(before.inputs), []
    offset: Array = np.zeros(graph.shape(before.output)[-1] or 0)
    if bias:
        offset = graph.constants[bias].array.astype(np.float64)
    if scale is not None:
        offset = offset * scale
        last = scale.reshape(weights.shape[2:]) if before.operator == "depthwise_conv2d" else scale
        constants.append(_constant(f"{node.name}/folded weights", weights.array.astype(np.float64) * last, weights))
        inputs[1] = constants[-1].name
    if shift is not None:
        offset = offset + shift
    if bias or shift is not None:
        constants.append(_constant(f"{node.name}/folded bias", offset, weights))
        inputs[2] = constants[-1].name
    activation = {key: node.attributes[key] for key in ("activation", "activation_parameters")}
    merged = replace(
        before,
        inputs=tuple(inputs),
        outputs=node.outputs,
        attributes={**before.attributes, **activation},
        layers=merged_layers(before, node),
    )
    return Patch((before.name, node.name), (merged,), constants=tuple(constants))


def _into_reader(graph: Graph, node: Node, after: Node, x: str, scale: Array | None, shift: Array | None) -> Patch:
    """affine -> product  =>  product with w' = scale * w, b' = b + sum of shift * w."""
    weights = graph.constants[after.input("weights")]
    values = weights.array.astype(np.float64)
    inputs, constants = list(after.inputs), []
    if shift is not None:
        bias = after.input("bias")
        offset: Array = np.zeros(graph.shape(after.output)[-1] or 0)
        if bias:
            offset = graph.constants[bias].array.astype(np.float64)
        constants.append(_constant(f"{node.name}/folded bias", offset + _response(after, values, shift), weights))
        inputs[2] = constants[-1].name
    if scale is not None:
        constants.append(_constant(f"{node.name}/folded weights", values * _over_inputs(after, values, scale), weights))
        inputs[1] = constants[-1].name
    inputs[0] = x
    merged = replace(after, inputs=tuple(inputs), layers=merged_layers(node, after))
    return Patch((node.name, after.name), (merged,), constants=tuple(constants))


def _over_inputs(node: Node, weights: Array, vector: Array) -> Array:
    """A vector over input channels in a shape that multiplies the weights."""
    if node.operator == "dense":
        return vector[:, None]
    if node.operator == "depthwise_conv2d":
        return vector[:, None]
    groups = int(node.attributes["groups"])  # type: ignore[call-overload]
    depth, filters = weights.shape[2:]
    # Filter f belongs to group f * groups // filters, which sees its own `depth` channels.
    return np.repeat(vector.reshape(groups, depth).T, filters // groups, axis=1)


def _response(node: Node, weights: Array, shift: Array) -> Array:
    """What the product gives for an input that is `shift` everywhere."""
    product = weights * _over_inputs(node, weights, shift)
    if node.operator == "depthwise_conv2d":
        return product.sum(axis=(0, 1)).reshape(-1)
    return product.sum(axis=tuple(range(product.ndim - 1)))


def _constant(name: str, values: Array, like: Constant) -> Constant:
    return Constant(name, np.ascontiguousarray(values, np.float32), like.encoding)
