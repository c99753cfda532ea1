"""A product with a constant for each channel (Rescaling) goes into a neighbouring convolution or dense layer.

multiply(x, c) -> conv  =>  conv with scaled weights; also conv -> multiply(x, c)
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from edgecnn.converters.passes.affine import fold_affine
from edgecnn.graph import Graph, Node
from edgecnn.graph.rewrite import Patch


def fold_scale(graph: Graph) -> Iterator[Patch]:
    """See the module."""
    return fold_affine(graph, _scale)


def _scale(graph: Graph, node: Node) -> tuple[str, np.ndarray[Any, Any], None] | None:
    found = constant_operand(graph, node) if node.operator == "multiply" else None
    return None if found is None else (found[0], found[1], None)


def constant_operand(graph: Graph, node: Node) -> tuple[str, np.ndarray[Any, Any]] | None:
    """(tensor, constant as float64 of shape (C,)) of a sum or product with one value for all, or one for each channel."""
    for x, c in (node.inputs, node.inputs[::-1]):
        if c not in graph.constants or x in graph.constants:
            continue
        values = graph.constants[c].array.astype(np.float64)
        channels = graph.shape(x)[-1]
        if channels is not None and graph.shape(x) == graph.shape(node.output) and values.size in (1, channels):
            if values.size == 1 or values.shape[-1] == channels:
                return x, np.broadcast_to(values.reshape(-1), (channels,))
    return None
