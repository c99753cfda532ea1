"""Two scales and shifts in a row become one: batch normalisations, products and sums with a constant for each channel.

    multiply(x, a) -> add(., b)                          =>  batch_normalization with gamma a, beta b, mean 0, variance 1
    batch_normalization s1, t1 -> batch_normalization s2, t2  =>  batch_normalization with gamma s1 s2, beta t1 s2 + t2

The second one's activation stays; one in between, a second reader or a public output keep the two apart.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from edgecnn.converters.passes.affine import (
    Affine,
    are_finite,
    batch_normalization,
    constant_scale,
    constant_shift,
    linear,
    rounded,
)
from edgecnn.graph import Graph, Node
from edgecnn.graph.rewrite import Patch, merged_layers, only_reader


def merge_scale_and_shift(graph: Graph) -> Iterator[Patch]:
    """See the module."""
    for first in graph.nodes:
        one = _affine(graph, first)
        second = only_reader(graph, first.output) if one is not None and linear(first) else None
        other = None if second is None else _affine(graph, second)
        if one is not None and second is not None and other is not None:
            patch = _merge(graph, first, one, second, other)
            if are_finite(patch.constants):
                yield patch


def _affine(graph: Graph, node: Node) -> Affine | None:
    found = (recognise(graph, node) for recognise in (batch_normalization, constant_scale, constant_shift))
    return next((affine for affine in found if affine is not None), None)


def _merge(graph: Graph, first: Node, one: Affine, second: Node, other: Affine) -> Patch:
    channels = graph.shape(second.output)[-1] or 0
    ones, zeros = np.ones(channels), np.zeros(channels)
    s1, s2 = (ones if affine.scale is None else affine.scale for affine in (one, other))
    t1, t2 = (zeros if affine.shift is None else affine.shift for affine in (one, other))
    with np.errstate(all="ignore"):
        values = {"gamma": s1 * s2, "beta": t1 * s2 + t2, "mean": zeros, "variance": ones}
    constants = tuple(rounded(graph, f"{second.name}/merged {role}", value) for role, value in values.items())
    merged = Node(
        "batch_normalization",
        second.name,
        (one.x, *(constant.name for constant in constants)),
        second.outputs,
        {key: second.attributes[key] for key in ("activation", "activation_parameters")} | {"epsilon": 0.0},
        merged_layers(first, second),
    )
    return Patch((first.name, second.name), (merged,), constants=constants)
