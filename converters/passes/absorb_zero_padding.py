"""Zeros around an image become the padding of the window that reads it.

    zero_padding2d -> conv       =>  conv with explicit padding       (depthwise likewise)
    zero_padding2d -> max_pool   =>  max_pool with padding, where no value can be negative: a zero then never wins over
                                     a pixel, and every window holds one

An average pooling would count the zeros, so it keeps its padding node.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from edgecnn.graph import Graph, Node
from edgecnn.graph.operators import effective_kernel, ints, resolve_pads
from edgecnn.graph.rewrite import Patch, merged_layers, only_reader

_NEVER_NEGATIVE = ("sigmoid", "hard_sigmoid", "softplus", "exponential")
_PASS_ON = ("max_pool2d", "average_pool2d", "concatenate", "reshape", "zero_padding2d", "identity")


def absorb_zero_padding(graph: Graph) -> Iterator[Patch]:
    """See the module."""
    for node in graph.nodes:
        if node.operator != "zero_padding2d":
            continue
        after = only_reader(graph, node.output)
        if after is None:
            continue
        pads = _together(graph, node, after)
        if pads is None:
            continue
        merged = replace(
            after,
            inputs=(node.inputs[0], *after.inputs[1:]),
            attributes={**after.attributes, "padding": "explicit", "pads": pads},
            layers=merged_layers(node, after),
        )
        yield Patch((node.name, after.name), (merged,))


def _together(graph: Graph, node: Node, after: Node) -> tuple[int, ...] | None:
    """The reader's padding with the node's added; None if the reader cannot take it."""
    if after.operator in ("conv2d", "depthwise_conv2d"):
        rows, columns = graph.shape(after.input("weights"))[:2]
        kernel = effective_kernel((rows or 1, columns or 1), ints(after.attributes, "dilations"))
    elif after.operator == "max_pool2d" and _never_negative(graph, node.inputs[0]):
        kernel = ints(after.attributes, "pool_size")  # type: ignore[assignment]
    else:
        return None
    size = graph.shape(node.output)[1:3]
    if after.attributes["padding"] == "same" and None in size:
        return None
    own = resolve_pads(after.attributes, size, kernel)  # type: ignore[arg-type]
    pads = tuple(a + b for a, b in zip(own, ints(node.attributes, "pads"), strict=True))
    if after.operator == "max_pool2d" and (max(pads[:2]) >= kernel[0] or max(pads[2:]) >= kernel[1]):
        return None
    return pads


def _never_negative(graph: Graph, tensor: str) -> bool:
    """Whether a tensor's values are all >= 0 (or NaN), by what produces it."""
    node = graph.producers.get(tensor)
    if node is None:
        return False
    if node.operator in _PASS_ON:
        return all(_never_negative(graph, name) for name in node.inputs)
    if node.operator == "softmax":
        return True
    function = node.attributes.get("activation")
    if function == "relu":
        slope, most, threshold = node.attributes["activation_parameters"]  # type: ignore[misc]
        return slope == 0.0 and most >= 0.0 and threshold >= 0.0  # type: ignore[operator]
    return function in _NEVER_NEGATIVE
