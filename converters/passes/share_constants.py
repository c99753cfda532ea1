"""Constants of the same bytes, shape and encoding become one: the first.

conv(x, w1), conv(y, w2) with w1 = w2  =>  conv(x, w1), conv(y, w1)
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import replace

from edgecnn.graph import Constant, Graph
from edgecnn.graph.rewrite import Patch


def share_constants(graph: Graph) -> Iterator[Patch]:
    """See the module."""
    first: dict[object, str] = {}
    kept: dict[str, str] = {}
    for name, constant in graph.constants.items():
        kept[name] = first.setdefault(_key(constant), name)
    for node in graph.nodes:
        inputs = tuple(kept.get(name, name) for name in node.inputs)
        if inputs != node.inputs:
            yield Patch((node.name,), (replace(node, inputs=inputs),))


def _key(constant: Constant) -> object:
    digest = hashlib.sha256(constant.array.data).digest()
    quantization = constant.quantization
    scales = None
    if quantization is not None:
        scales = (quantization.scales.tobytes(), quantization.zero_points.tobytes(), quantization.axis)
    return digest, constant.shape, str(constant.array.dtype), constant.encoding, scales
