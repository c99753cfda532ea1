"""A transposition before a flattening and a dense layer becomes an order of that layer's weights.

transpose -> reshape to one axis -> dense  =>  reshape to one axis -> dense with its rows in the order before
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from edgecnn.converters.builder import known
from edgecnn.graph import Graph
from edgecnn.graph.operators import ints
from edgecnn.graph.rewrite import Patch, fresh_name, merged_layers, only_reader


def absorb_transpose(graph: Graph) -> Iterator[Patch]:
    """See the module."""
    for node in graph.nodes:
        if node.operator != "transpose" or not known(graph.shape(node.output)):
            continue
        flat = only_reader(graph, node.output)
        if flat is None or flat.operator != "reshape" or len(graph.shape(flat.output)) != 2:
            continue
        dense = only_reader(graph, flat.output)
        if dense is None or dense.operator != "dense" or dense.inputs[0] != flat.output:
            continue
        weights = graph.constants[dense.input("weights")]
        if weights.quantization is not None and weights.quantization.axis == 0:
            continue
        sizes = [size or 1 for size in graph.shape(node.inputs[0])[1:]]
        # places[k]: where, before the transposition, the value lies that row k multiplies.
        places = np.arange(weights.shape[0]).reshape(sizes)
        places = places.transpose([axis - 1 for axis in ints(node.attributes, "permutation")]).reshape(-1)
        values = np.empty_like(weights.array)
        values[places] = weights.array
        moved = replace(weights, name=fresh_name(graph, f"{dense.name}/reordered weights"), array=values)
        merged = replace(dense, inputs=(dense.inputs[0], moved.name, *dense.inputs[2:]))
        straight = replace(flat, inputs=node.inputs, layers=merged_layers(node, flat))
        yield Patch((node.name, flat.name, dense.name), (straight, merged), constants=(moved,))
