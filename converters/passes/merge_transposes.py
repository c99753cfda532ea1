"""Transpositions that undo each other, or that move nothing but axes of size 1, disappear; equal ones become one.

x -> transpose -> transpose          =>  x -> transpose by both
x -> transpose of axes of size 1     =>  x -> reshape
x -> transpose, x -> same transpose  =>  x -> transpose
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from edgecnn.graph import Graph, Node
from edgecnn.graph.operators import Shape, ints
from edgecnn.graph.rewrite import Patch, merged_layers


def merge_transposes(graph: Graph) -> Iterator[Patch]:
    """See the module."""
    seen: dict[tuple[str, tuple[int, ...]], Node] = {}
    for node in graph.nodes:
        if node.operator != "transpose":
            continue
        permutation = ints(node.attributes, "permutation")
        before = graph.producers.get(node.inputs[0])
        if before is not None and before.operator == "transpose":
            first = ints(before.attributes, "permutation")
            both = tuple(first[axis - 1] for axis in permutation)
            merged = replace(node, inputs=before.inputs, attributes={"permutation": both})
            yield Patch((node.name,), (replace(merged, layers=merged_layers(before, node)),))
            continue
        target = as_reshape(graph.shape(node.inputs[0]), permutation)
        if target is not None:
            yield Patch((node.name,), (replace(node, operator="reshape", attributes={"shape": target}),))
            continue
        twin = seen.setdefault((node.inputs[0], permutation), node)
        if twin is not node and node.output not in graph.output_tensors:
            yield Patch((node.name,), redirect={node.output: twin.output})


def as_reshape(shape: Shape, permutation: Sequence[int]) -> tuple[int, ...] | None:
    """The target of a reshape that does the same: where the axes longer than 1 stay in order; at most one is unknown."""
    moved = [shape[axis] for axis in permutation]
    long = [axis for axis in permutation if shape[axis] != 1]
    if long != sorted(long) or moved.count(None) > 1:
        return None
    return tuple(-1 if size is None else size for size in moved)
