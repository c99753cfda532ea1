"""Batch normalisation at inference is a scale and a shift, which a neighbouring product takes in.

    conv -> batch_normalization   =>  conv     w' = w * g / sqrt(v + eps),  b' = (b - m) * g / sqrt(v + eps) + beta
    batch_normalization -> conv   =>  conv     where no zero padding comes between, and there is nothing to fold into before

Likewise for depthwise convolutions and dense layers. The activation after the normalisation moves along; one before it, a
second reader or a public output in between keep it. Source: Ioffe & Szegedy 2015, Algorithm 2.
"""

from __future__ import annotations

from collections.abc import Iterator

from edgecnn.converters.passes.affine import batch_normalization, fold_affine
from edgecnn.graph import Graph
from edgecnn.graph.rewrite import Patch


def fold_batch_normalization(graph: Graph) -> Iterator[Patch]:
    """See the module."""
    return fold_affine(graph, batch_normalization)
