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
    alike: dict[object, list[Constant]] = {}
    for constant in graph.constants.values():
        alike.setdefault(_outline(constant), []).append(constant)
    kept: dict[str, str] = {}
    for group in alike.values():
        first: dict[bytes, str] = {}
        for constant in group if len(group) > 1 else ():
            digest = hashlib.sha256(constant.array.data).digest()
            kept[constant.name] = first.setdefault(digest, constant.name)
    for node in graph.nodes:
        inputs = tuple(kept.get(name, name) for name in node.inputs)
        if inputs != node.inputs:
            yield Patch((node.name,), (replace(node, inputs=inputs),))


def _outline(constant: Constant) -> object:
    """What equal constants have in common for certain, found without reading all of them: there may be 100 MB."""
    quantization = constant.quantization
    scales = None
    if quantization is not None:
        scales = (quantization.scales.tobytes(), quantization.zero_points.tobytes(), quantization.axis)
    beginning = constant.array.reshape(-1)[:64].tobytes()
    return beginning, constant.shape, str(constant.array.dtype), constant.encoding, scales
