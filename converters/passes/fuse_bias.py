"""A constant added for each channel goes into a neighbouring product's bias.

conv -> add(x, c)  =>  conv with bias; also add(x, c) -> conv without padding
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from edgecnn.converters.passes.affine import fold_affine
from edgecnn.converters.passes.fold_scale import constant_operand
from edgecnn.graph import Graph, Node
from edgecnn.graph.rewrite import Patch


def fuse_bias(graph: Graph) -> Iterator[Patch]:
    """See the module."""
    return fold_affine(graph, _shift)


def _shift(graph: Graph, node: Node) -> tuple[str, None, np.ndarray[Any, Any]] | None:
    found = constant_operand(graph, node) if node.operator == "add" else None
    return None if found is None else (found[0], None, found[1])
