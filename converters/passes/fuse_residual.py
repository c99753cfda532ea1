"""A sum of a convolution's output and another tensor becomes part of the convolution.

    conv(x) -> add(., r) -> activation  =>  conv(x, residual r) ending in the activation     (dense likewise)

Where both operands are such convolutions, the one that runs last takes the other's output as its residual. The merged node
stands where the sum stood, when both operands are there. A sum that broadcasts, or that doubles one tensor, stays.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from edgecnn.graph import Graph, Node
from edgecnn.graph.rewrite import Patch, merged_layers, only_reader


def fuse_residual(graph: Graph) -> Iterator[Patch]:
    """See the module."""
    position = {node.name: index for index, node in enumerate(graph.nodes)}
    for node in graph.nodes:
        if node.operator != "add":
            continue
        if graph.shape(node.inputs[0]) != graph.shape(node.inputs[1]):
            continue
        found: list[tuple[int, Node, str]] = []
        for name, other in (node.inputs, node.inputs[::-1]):
            before = graph.producers.get(name)
            if before is not None and other in graph.tensors and _takes(graph, before):
                found.append((position[before.name], before, other))
        if not found:
            continue
        _, before, residual = max(found, key=lambda entry: entry[0])
        merged = replace(
            before,
            inputs=(*before.inputs[:3], residual),
            outputs=node.outputs,
            attributes={**before.attributes, **node.attributes},
            layers=merged_layers(before, node),
        )
        yield Patch((before.name, node.name), (merged,))


def _takes(graph: Graph, node: Node) -> bool:
    return (
        node.operator in ("conv", "dense")
        and node.attributes["activation"] == "linear"
        and not node.input("residual")
        and only_reader(graph, node.output) is not None
    )
