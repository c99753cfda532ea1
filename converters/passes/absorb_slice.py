"""Convolutions of single pixels step over the pixels that a slice would leave out.

    slice [::2, ::2] -> conv 1 x 1  =>  conv 1 x 1 of stride 2

Without padding, and from the first pixel on. What else reads the slice goes on reading it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from edgecnn.graph import Graph, Node
from edgecnn.graph.operators import LIMIT, ints
from edgecnn.graph.rewrite import Patch, merged_layers


def absorb_slice(graph: Graph) -> Iterator[Patch]:
    """See the module."""
    for node in graph.nodes:
        before = graph.producers.get(node.inputs[0]) if node.operator == "conv" else None
        if before is None or not _takes_steps(before) or not _reads_pixels(graph, node):
            continue
        steps = ints(before.attributes, "steps")[:-1]
        strides = tuple(a * b for a, b in zip(steps, ints(node.attributes, "strides"), strict=True))
        if max(strides) > LIMIT:
            continue
        attributes = {**node.attributes, "strides": strides}
        inputs = (before.inputs[0], *node.inputs[1:])
        layers = merged_layers(before, node)
        yield Patch((node.name,), (replace(node, inputs=inputs, attributes=attributes, layers=layers),))


def _takes_steps(node: Node) -> bool:
    """Whether a node takes every n-th pixel from the first to the last, and all channels."""
    if node.operator != "slice":
        return False
    starts, stops, steps = (ints(node.attributes, name) for name in ("starts", "stops", "steps"))
    return set(starts) == {0} and set(stops) == {LIMIT} and min(steps) >= 1 and steps[-1] == 1


def _reads_pixels(graph: Graph, node: Node) -> bool:
    """Whether a convolution's window is one pixel, which never is padding."""
    kernel = graph.constants[node.input("weights")].shape[:-2]
    padded = node.attributes["padding"] != "same" and any(ints(node.attributes, "pads"))
    return set(kernel) == {1} and not padded and node.inputs[0] not in node.inputs[1:]
