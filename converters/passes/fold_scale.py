"""A product with a constant for each channel (Rescaling) goes into a neighbouring convolution or dense layer.

conv -> multiply(x, c)  =>  conv with scaled weights and bias
multiply(x, c) -> conv  =>  conv with scaled weights; zero padding stays zero under a scale, so any padding will do
"""

from __future__ import annotations

from collections.abc import Iterator

from edgecnn.converters.passes.affine import constant_scale, fold_affine
from edgecnn.graph import Graph
from edgecnn.graph.rewrite import Patch


def fold_scale(graph: Graph) -> Iterator[Patch]:
    """See the module."""
    return fold_affine(graph, constant_scale)
