"""What batch normalisations, products and sums with constants have in common: y = activation(x * scale + shift), channel by
channel, and how a convolution or dense layer before or after takes that in. Computed in float64, rounded to float32 once.

Where rounding would overflow, or a value is NaN or infinite from the start, the node stays as it is: the product of such a
weight with an input is not what the node would have given.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from edgecnn.graph import Constant, Graph, Node
from edgecnn.graph.operators import effective_kernel, ints, number, resolve_pads, spatial_sizes
from edgecnn.graph.reference import values_of
from edgecnn.graph.rewrite import Patch, fresh_name, merged_layers, only_reader

Array = np.ndarray[Any, Any]
PRODUCTS = ("conv", "conv_transpose", "depthwise_conv", "dense")


@dataclass(frozen=True, eq=False)
class Affine:
    """What a node does to its input before its activation.

    Attributes:
        x: the input tensor.
        scale, shift: float64, shape (C,); None for ones, and for zeros.
    """

    x: str
    scale: Array | None
    shift: Array | None


Recognise = Callable[[Graph, Node], Affine | None]
"""From a node to what it does; None if it is not of the kind sought."""


def batch_normalization(graph: Graph, node: Node) -> Affine | None:
    """A batch normalisation. Source: Ioffe & Szegedy 2015, Algorithm 2."""
    if node.operator != "batch_normalization":
        return None
    gamma, beta, mean, variance = (values_of(graph.constants[name]) for name in node.inputs[1:])
    with np.errstate(all="ignore"):
        scale = gamma / np.sqrt(variance + float(node.attributes["epsilon"]))  # type: ignore[arg-type]
        return Affine(node.inputs[0], scale, beta - mean * scale)


def constant_scale(graph: Graph, node: Node) -> Affine | None:
    """A product with a constant: one value for all, or one for each channel."""
    found = _constant_operand(graph, node) if node.operator == "multiply" else None
    return None if found is None else Affine(found[0], found[1], None)


def constant_shift(graph: Graph, node: Node) -> Affine | None:
    """A sum with a constant: one value for all, or one for each channel."""
    found = _constant_operand(graph, node) if node.operator == "add" else None
    return None if found is None else Affine(found[0], None, found[1])


def _constant_operand(graph: Graph, node: Node) -> tuple[str, Array] | None:
    """(tensor, constant of shape (C,)) of a sum or product with one value for all channels, or one for each."""
    for x, c in (node.inputs, node.inputs[::-1]):
        if c not in graph.constants or x in graph.constants:
            continue
        values, channels = values_of(graph.constants[c]), graph.shape(x)[-1]
        if channels is not None and (values.size == 1 or values.shape[-1] == values.size == channels):
            return x, np.broadcast_to(values.reshape(-1), (channels,))
    return None


def fold_affine(graph: Graph, recognise: Recognise) -> Iterator[Patch]:
    """Patches that move affine nodes into the product before them, or else into the one after."""
    for node in graph.nodes:
        affine = recognise(graph, node)
        if affine is None:
            continue
        patch = None
        before = graph.producers.get(affine.x)
        if before is not None and _takes_after(graph, before):
            patch = _into_producer(graph, before, node, affine)
        else:
            after = only_reader(graph, node.output)
            if after is not None and _takes_before(graph, node, after, affine):
                patch = _into_reader(graph, node, after, affine)
        if patch is not None and are_finite(patch.constants):
            yield patch


def linear(node: Node) -> bool:
    """Whether an operator that can end in an activation ends in none."""
    return node.attributes["activation"] == "linear"


def are_finite(constants: tuple[Constant, ...]) -> bool:
    """Whether no value is NaN or infinite."""
    return all(np.isfinite(constant.array).all() for constant in constants)


def rounded(graph: Graph, name: str, values: Array, encoding: str = "float32") -> Constant:
    """A new float32 constant; too large values become infinite."""
    with np.errstate(all="ignore"):
        return Constant(fresh_name(graph, name), np.ascontiguousarray(values, np.float32), encoding)


def _takes_after(graph: Graph, node: Node) -> bool:
    """Whether a node can take in a scale and shift of its output."""
    return (
        node.operator in PRODUCTS
        and linear(node)
        and only_reader(graph, node.output) is not None
        and not (node.operator in ("conv", "dense") and node.input("residual"))
        and graph.constants[node.input("weights")].quantization is None
    )


def _takes_before(graph: Graph, node: Node, after: Node, affine: Affine) -> bool:
    """Whether a product can take in a scale and shift of its input. Padding is zero after the shift, so that only a pure
    scale may pass where there is any."""
    if after.operator not in PRODUCTS or after.inputs[0] != node.output or not linear(node):
        return False
    if graph.constants[after.input("weights")].quantization is not None:
        return False
    if after.operator == "conv_transpose":
        return affine.shift is None  # outputs meet different numbers of taps
    if affine.shift is None or after.operator == "dense":
        return True
    kernel = effective_kernel(graph.constants[after.input("weights")].shape[:-2], ints(after.attributes, "dilations"))
    sizes = spatial_sizes(graph.shape(node.output))
    if sizes is None:
        return after.attributes["padding"] == "explicit" and not any(ints(after.attributes, "pads"))
    return not any(resolve_pads(after.attributes, sizes, kernel))


def _bias(graph: Graph, node: Node) -> tuple[Array, str]:
    """A product's bias, zeros if it has none, and how the file stores it."""
    name = node.input("bias")
    if name:
        return values_of(graph.constants[name]), graph.constants[name].encoding
    return np.zeros(graph.shape(node.output)[-1] or 0), "float32"


def _into_producer(graph: Graph, before: Node, node: Node, affine: Affine) -> Patch:
    """product -> affine  =>  product with w' = w * scale, b' = b * scale + shift, ending in the affine node's activation."""
    weights = graph.constants[before.input("weights")]
    bias, bias_encoding = _bias(graph, before)
    inputs, constants = list(before.inputs), []
    with np.errstate(all="ignore"):
        if affine.scale is not None:
            bias = bias * affine.scale
            values = _scaled(values_of(weights), _over_outputs(before, weights.shape, affine.scale))
            constants.append(rounded(graph, f"{node.name}/folded weights", values, weights.encoding))
            inputs[1] = constants[-1].name
        if affine.shift is not None:
            bias = bias + affine.shift
    if before.input("bias") or affine.shift is not None:
        constants.append(rounded(graph, f"{node.name}/folded bias", bias, bias_encoding))
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


def _into_reader(graph: Graph, node: Node, after: Node, affine: Affine) -> Patch:
    """affine -> product  =>  product with w' = scale * w, b' = b + sum of shift * w."""
    weights = graph.constants[after.input("weights")]
    values = values_of(weights)
    inputs, constants = [affine.x, *after.inputs[1:]], []
    with np.errstate(all="ignore"):
        if affine.shift is not None:
            bias, encoding = _bias(graph, after)
            bias = bias + _response(after, values, affine.shift)
            constants.append(rounded(graph, f"{node.name}/folded bias", bias, encoding))
            inputs[2] = constants[-1].name
        if affine.scale is not None:
            scaled = _scaled(values, _over_inputs(after, values, affine.scale))
            constants.append(rounded(graph, f"{node.name}/folded weights", scaled, weights.encoding))
            inputs[1] = constants[-1].name
    merged = replace(after, inputs=tuple(inputs), layers=merged_layers(node, after))
    return Patch((node.name, after.name), (merged,), constants=tuple(constants))


def _scaled(weights: Array, factors: Array) -> Array:
    """Their product, whose zeros are +0 whatever the factor's sign: the file leaves no others out."""
    return np.asarray(weights * factors + 0.0)


def _over_outputs(node: Node, shape: tuple[int, ...], vector: Array) -> Array:
    """A vector over output channels in a shape that multiplies the weights."""
    if node.operator == "depthwise_conv":
        return vector.reshape(shape[-2:])  # channel c * multiplier + m belongs to weights [..., c, m]
    if node.operator == "conv_transpose":
        # Filter f of group g belongs to weights [..., f, c] for the group's own channels c.
        filters, channels = shape[-2:]
        groups = number(node.attributes, "groups")
        return np.asarray(np.repeat(vector.reshape(groups, filters), channels // groups, axis=0).T)
    return vector


def _over_inputs(node: Node, weights: Array, vector: Array) -> Array:
    """A vector over input channels in a shape that multiplies the weights."""
    if node.operator in ("dense", "depthwise_conv"):
        return vector[:, None]
    if node.operator == "conv_transpose":
        return vector
    depth, filters = weights.shape[-2:]
    groups = len(vector) // depth
    # Filter f belongs to group f * groups // filters, which sees its own `depth` channels.
    return np.asarray(np.repeat(vector.reshape(groups, depth).T, filters // groups, axis=1))


def _response(node: Node, weights: Array, shift: Array) -> Array:
    """What the product gives for an input that is `shift` everywhere."""
    product = weights * _over_inputs(node, weights, shift)
    if node.operator == "depthwise_conv":
        return np.asarray(product.sum(axis=tuple(range(product.ndim - 2))).reshape(-1))
    return np.asarray(product.sum(axis=tuple(range(product.ndim - 1))))
