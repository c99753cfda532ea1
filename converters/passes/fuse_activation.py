"""An activation becomes the end of the node before it.

    conv -> activation(relu)  =>  conv ending in relu        (any operator that can end in an activation)

Not where somebody else reads the values before the activation.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from edgecnn.graph import OPERATORS, Graph
from edgecnn.graph.rewrite import Patch, merged_layers, only_reader


def fuse_activation(graph: Graph) -> Iterator[Patch]:
    """See the module."""
    for node in graph.nodes:
        if node.operator != "activation":
            continue
        before = graph.producers.get(node.inputs[0])
        if (
            before is not None
            and OPERATORS[before.operator].activated
            and before.attributes["activation"] == "linear"
            and only_reader(graph, before.output) is not None
        ):
            merged = replace(
                before,
                outputs=node.outputs,
                attributes={**before.attributes, **node.attributes},
                layers=merged_layers(before, node),
            )
            yield Patch((before.name, node.name), (merged,))
