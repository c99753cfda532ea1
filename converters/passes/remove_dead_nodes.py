"""Nodes that no public output needs disappear. Public inputs stay, even unread.

x -> a -> out,  x -> b (read by nobody)  =>  x -> a -> out
"""

from __future__ import annotations

from collections.abc import Iterator

from edgecnn.graph import Graph
from edgecnn.graph.rewrite import Patch


def remove_dead_nodes(graph: Graph) -> Iterator[Patch]:
    """See the module."""
    needed = set(graph.output_tensors)
    for node in reversed(graph.nodes):
        if needed.intersection(node.outputs):
            needed.update(node.inputs)
        else:
            yield Patch((node.name,))
