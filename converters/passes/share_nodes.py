"""Nodes that compute the same from the same become one: the first.

    relu(x) -> a, relu(x) -> b  =>  relu(x) -> a and b

Networks that are put together of cells begin each of a cell's branches with an activation of the same tensor.
One that gives a public output stays: two outputs of one tensor would be a copy.
"""

from __future__ import annotations

from collections.abc import Iterator

from edgecnn.graph import Graph
from edgecnn.graph.rewrite import Patch


def share_nodes(graph: Graph) -> Iterator[Patch]:
    """See the module."""
    first: dict[object, tuple[str, ...]] = {}
    same_as: dict[str, str] = {}
    for node in graph.nodes:
        inputs = tuple(same_as.get(name, name) for name in node.inputs)
        # repr tells -0.0 from 0.0, and equal NaNs are equal.
        key = (node.operator, inputs, repr(sorted(node.attributes.items())))
        kept = first.setdefault(key, node.outputs)
        if kept is node.outputs or not graph.output_tensors.isdisjoint(node.outputs):
            continue
        found = dict(zip(node.outputs, kept, strict=True))
        same_as |= found
        yield Patch((node.name,), redirect=found)
