"""Reshapes that follow each other become one, and those after a reduction become part of it.

x -> reshape -> reshape              =>  x -> reshape to the last shape
reduce_* [C] -> reshape [1, 1, C]    =>  reduce_* with keepdims
reduce_* [1, 1, C] -> reshape to [C] =>  reduce_* without keepdims
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from edgecnn.errors import GraphError
from edgecnn.graph import OPERATORS, Graph, Node
from edgecnn.graph.rewrite import Patch, merged_layers, only_reader

_REDUCTIONS = ("reduce_mean", "reduce_sum", "reduce_max", "reduce_min")


def merge_reshapes(graph: Graph) -> Iterator[Patch]:
    """See the module."""
    for node in graph.nodes:
        before = graph.producers.get(node.inputs[0]) if node.operator == "reshape" else None
        if before is None or only_reader(graph, before.output) is None:
            continue
        merged = None
        if before.operator == "reshape":
            merged = replace(node, inputs=before.inputs, layers=merged_layers(before, node))
        elif before.operator in _REDUCTIONS:
            keepdims = {"keepdims": 1 - int(before.attributes["keepdims"])}  # type: ignore[arg-type]
            merged = replace(
                before,
                outputs=node.outputs,
                attributes={**before.attributes, **keepdims},
                layers=merged_layers(before, node),
            )
        if merged is not None and _gives_the_same_shape(graph, merged):
            yield Patch((before.name, node.name), (merged,))


def _gives_the_same_shape(graph: Graph, node: Node) -> bool:
    """Whether a node's shape rule gives the shape of the tensor that it is to produce; unknown sizes may hide it."""
    try:
        shapes = OPERATORS[node.operator].shapes(node.attributes, [graph.shape(name) for name in node.inputs])
    except GraphError:
        return False
    return shapes == [graph.shape(node.output)]
