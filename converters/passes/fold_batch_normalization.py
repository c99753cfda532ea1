"""Batch normalisation at inference is a scale and a shift, which a neighbouring product takes in.

    conv -> batch_normalization   =>  conv     w' = w * g / sqrt(v + eps),  b' = (b - m) * g / sqrt(v + eps) + beta
    batch_normalization -> conv   =>  conv     where no zero padding comes between, and there is nothing to fold into before

The activation after the normalisation moves along. Source: Ioffe & Szegedy 2015, Algorithm 2.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from edgecnn.converters.passes.affine import fold_affine
from edgecnn.graph import Graph, Node
from edgecnn.graph.rewrite import Patch


def fold_batch_normalization(graph: Graph) -> Iterator[Patch]:
    """See the module."""
    return fold_affine(graph, _scale_and_shift)


def _scale_and_shift(graph: Graph, node: Node) -> tuple[str, np.ndarray[Any, Any], np.ndarray[Any, Any]] | None:
    if node.operator != "batch_normalization":
        return None
    gamma, beta, mean, variance = (graph.constants[name].array.astype(np.float64) for name in node.inputs[1:])
    scale = gamma / np.sqrt(variance + float(node.attributes["epsilon"]))  # type: ignore[arg-type]
    return node.inputs[0], scale, beta - mean * scale
