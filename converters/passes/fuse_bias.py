"""A constant added for each channel goes into a neighbouring product's bias.

conv -> add(x, c)  =>  conv with bias
add(x, c) -> conv  =>  conv with bias, where no zero padding comes between
"""

from __future__ import annotations

from collections.abc import Iterator

from edgecnn.converters.passes.affine import constant_shift, fold_affine
from edgecnn.graph import Graph
from edgecnn.graph.rewrite import Patch


def fuse_bias(graph: Graph) -> Iterator[Patch]:
    """See the module."""
    return fold_affine(graph, constant_shift)
