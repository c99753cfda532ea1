"""Nodes that give back their input disappear.

    x -> identity -> y  =>  x        (also a linear activation, a reshape to the same shape, an empty padding, ...)

One stays where it connects a public input to a public output: these are never the same tensor.
"""

from __future__ import annotations

from collections.abc import Iterator

from edgecnn.graph import Graph, Node
from edgecnn.graph.operators import LIMIT, ints
from edgecnn.graph.rewrite import Patch


def drop_identity(graph: Graph) -> Iterator[Patch]:
    """See the module."""
    given = {port.tensor for port in graph.inputs}
    same_as: dict[str, str] = {}
    for node in graph.nodes:
        if not _does_nothing(graph, node):
            continue
        x, y = node.inputs[0], node.output
        source = same_as.get(x, x)
        if source in given and y in graph.output_tensors:
            continue
        same_as[y] = source
        yield Patch((node.name,), redirect={y: x})


def _does_nothing(graph: Graph, node: Node) -> bool:
    if node.operator == "identity":
        return True
    if node.operator == "activation":
        return node.attributes["activation"] == "linear"
    if node.operator == "pad":
        return not any(ints(node.attributes, "pads"))
    if node.operator == "slice":
        whole = [node.attributes[name] for name in ("starts", "stops", "steps")]
        return all(part == (0, LIMIT, 1) for part in zip(*whole, strict=True))
    if node.operator == "transpose":
        permutation = ints(node.attributes, "permutation")
        return permutation == tuple(sorted(permutation))
    return node.operator == "reshape" and graph.shape(node.inputs[0]) == graph.shape(node.output)
