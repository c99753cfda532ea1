"""Zeros around an image become the padding of the windows that read it.

    zero_padding2d -> conv            =>  conv with explicit padding       (depthwise likewise)
    zero_padding2d -> max_pool        =>  max_pool with padding, where no value can be negative: a zero then never wins
                                          over a pixel, and every window holds one
    zero_padding2d -> zero_padding2d  =>  zero_padding2d

All readers must be able to take the zeros, else the node stays for all. An average pooling would count the zeros, so it
keeps its padding node.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from edgecnn.graph import Graph, Node
from edgecnn.graph.operators import AttributeValue, effective_kernel, ints, resolve_pads
from edgecnn.graph.rewrite import Patch, merged_layers

_NEVER_NEGATIVE = ("sigmoid", "hard_sigmoid", "softplus", "exponential")
_PASS_ON = (
    "max_pool2d",
    "average_pool2d",
    "global_max_pool2d",
    "global_average_pool2d",
    "concatenate",
    "reshape",
    "zero_padding2d",
    "identity",
)


def absorb_zero_padding(graph: Graph) -> Iterator[Patch]:
    """See the module."""
    never_negative = _never_negative(graph)
    for node in graph.nodes:
        if node.operator != "zero_padding2d" or node.output in graph.output_tensors:
            continue
        merged = [_merge(graph, node, after, never_negative) for after in graph.readers[node.output]]
        if not merged:
            yield Patch((node.name,))
        taken = [after for after in merged if after is not None]
        if len(taken) == len(merged):
            yield from (Patch((after.name,), (after,)) for after in taken)


def _merge(graph: Graph, node: Node, after: Node, never_negative: frozenset[str]) -> Node | None:
    """The reader with the node's zeros as its own padding; None if it cannot take them."""
    if node.output in after.inputs[1:]:
        return None
    own = _own_pads(graph, node, after)
    if own is None:
        return None
    pads = tuple(a + b for a, b in zip(own, ints(node.attributes, "pads"), strict=True))
    if after.operator == "max_pool2d":
        rows, columns = _kernel(graph, after)
        if node.inputs[0] not in never_negative or max(pads[:2]) >= rows or max(pads[2:]) >= columns:
            return None
    explicit: dict[str, AttributeValue] = {} if after.operator == "zero_padding2d" else {"padding": "explicit"}
    inputs = (node.inputs[0], *after.inputs[1:])
    attributes = {**after.attributes, **explicit, "pads": pads}
    return replace(after, inputs=inputs, attributes=attributes, layers=merged_layers(node, after))


def _own_pads(graph: Graph, node: Node, after: Node) -> tuple[int, ...] | None:
    """A reader's padding as pads; None if it has none to speak of, or it depends on a size that is not known yet."""
    if after.operator not in ("zero_padding2d", "conv2d", "depthwise_conv2d", "max_pool2d"):
        return None
    if after.attributes.get("padding") != "same":
        return ints(after.attributes, "pads")
    height, width = graph.shape(node.output)[1:3]
    if height is None or width is None:
        return None
    return resolve_pads(after.attributes, (height, width), _kernel(graph, after))


def _kernel(graph: Graph, node: Node) -> tuple[int, int]:
    """Rows and columns that a window spans."""
    if node.operator == "max_pool2d":
        rows, columns = ints(node.attributes, "pool_size")
        return rows, columns
    return effective_kernel(graph.constants[node.input("weights")].shape[:2], ints(node.attributes, "dilations"))


def _never_negative(graph: Graph) -> frozenset[str]:
    """Tensors whose values are all >= 0 (or NaN), by what produces them."""
    found: set[str] = set()
    for node in graph.nodes:
        if node.operator in _PASS_ON:
            if found.issuperset(node.inputs):
                found.update(node.outputs)
        elif node.operator == "softmax" or _ends_above_zero(node):
            found.update(node.outputs)
    return frozenset(found)


def _ends_above_zero(node: Node) -> bool:
    function = node.attributes.get("activation")
    if function == "relu":
        slope, most, threshold = node.attributes["activation_parameters"]  # type: ignore[misc,str-unpack]
        return slope == 0.0 and most >= 0.0 and threshold >= 0.0  # type: ignore[operator]
    return function in _NEVER_NEGATIVE
