"""Zeros around an image become the padding of the windows that read it.

    pad -> conv      =>  conv with explicit padding       (depthwise likewise)
    pad -> max_pool  =>  max_pool with padding, where no value can be negative: a zero then never wins over a pixel, and
                         every window holds one
    pad -> pad       =>  pad

All readers must be able to take the zeros, else the node stays for all. An average pooling would count the zeros, so it
keeps its padding node.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from edgecnn.graph import Graph, Node
from edgecnn.graph.operators import AttributeValue, effective_kernel, ints, resolve_pads, spatial_sizes
from edgecnn.graph.rewrite import Patch, merged_layers

_NEVER_NEGATIVE = (
    "sigmoid",
    "hard_sigmoid",
    "sparse_sigmoid",
    "softplus",
    "sparse_plus",
    "exponential",
    "square",
    "abs",
)
_PASS_ON = (
    "max_pool",
    "average_pool",
    "reduce_max",
    "reduce_mean",
    "reduce_min",
    "reduce_sum",
    "concatenate",
    "reshape",
    "transpose",
    "slice",
    "identity",
)
_WINDOWS = ("conv", "depthwise_conv", "max_pool")


def absorb_zero_padding(graph: Graph) -> Iterator[Patch]:
    """See the module."""
    never_negative = _never_negative(graph)
    for node in graph.nodes:
        if not _adds_zeros(node) or node.output in graph.output_tensors:
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
    pads = tuple(a + b for a, b in zip(own, _zeros(node, after), strict=True))
    if after.operator == "max_pool":
        kernel = _kernel(graph, after)
        fits = all(max(pads[2 * axis : 2 * axis + 2]) < size for axis, size in enumerate(kernel))
        if node.inputs[0] not in never_negative or not fits:
            return None
    explicit: dict[str, AttributeValue] = {} if after.operator == "pad" else {"padding": "explicit"}
    inputs = (node.inputs[0], *after.inputs[1:])
    attributes = {**after.attributes, **explicit, "pads": pads}
    return replace(after, inputs=inputs, attributes=attributes, layers=merged_layers(node, after))


def _adds_zeros(node: Node) -> bool:
    """Whether a node puts zeros around an image, and none beside its channels."""
    if node.operator != "pad" or node.attributes["mode"] != "constant" or node.attributes["value"] != 0.0:
        return False
    pads = ints(node.attributes, "pads")
    return len(pads) >= 4 and pads[-2:] == (0, 0)


def _zeros(node: Node, after: Node) -> tuple[int, ...]:
    """The node's pads as the reader counts them: a window's are of the spatial axes only."""
    pads = ints(node.attributes, "pads")
    return pads if after.operator == "pad" else pads[:-2]


def _own_pads(graph: Graph, node: Node, after: Node) -> tuple[int, ...] | None:
    """A reader's padding as pads; None if it has none to speak of, or it depends on a size that is not known yet."""
    if after.operator == "pad":
        return ints(after.attributes, "pads") if _adds_zeros(after) else None
    if after.operator not in _WINDOWS:
        return None
    if after.attributes["padding"] != "same":
        return ints(after.attributes, "pads")
    sizes = spatial_sizes(graph.shape(node.output))
    return None if sizes is None else resolve_pads(after.attributes, sizes, _kernel(graph, after))


def _kernel(graph: Graph, node: Node) -> tuple[int, ...]:
    """What a window spans along each spatial axis."""
    if node.operator == "max_pool":
        return ints(node.attributes, "pool_size")
    return effective_kernel(graph.constants[node.input("weights")].shape[:-2], ints(node.attributes, "dilations"))


def _never_negative(graph: Graph) -> frozenset[str]:
    """Tensors whose values are all >= 0 (or NaN), by what produces them."""
    found: set[str] = set()
    for node in graph.nodes:
        if node.operator in _PASS_ON or _adds_zeros(node):
            if found.issuperset(node.inputs):
                found.update(node.outputs)
        elif node.operator == "softmax" or _ends_above_zero(node):
            found.update(node.outputs)
    return frozenset(found)


def _ends_above_zero(node: Node) -> bool:
    function = node.attributes.get("activation")
    if function == "clip":
        return node.attributes["activation_parameters"][0] >= 0.0  # type: ignore[operator,index]
    if function == "relu":
        slope, most, threshold = node.attributes["activation_parameters"]  # type: ignore[misc,str-unpack]
        return slope == 0.0 and most >= 0.0 and threshold >= 0.0  # type: ignore[operator]
    return function in _NEVER_NEGATIVE
