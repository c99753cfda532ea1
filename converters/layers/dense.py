"""Dense, and products of tensors."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from edgecnn.converters.builder import Builder, known
from edgecnn.converters.layers.activation import function_of
from edgecnn.converters.layers.reading import Unsupported
from edgecnn.converters.layers.registry import Layer, axis_of, layer, only
from edgecnn.graph import Tensor


@layer("Dense")
def convert_dense(layer: Layer, build: Builder, inputs: Sequence[Tensor]) -> Tensor:
    """Dense, over the last axis of a tensor of any rank: weights [C, units]."""
    x = only(inputs)
    function = function_of(layer.config.get("activation"), layer.keras, len(x.shape))
    names = ("kernel", "bias") if layer.get("use_bias", True) else ("kernel",)
    kernel, *bias = layer.weights(names)
    layer.expect(units=kernel.shape[-1])
    return function.after(build, build("dense", x, kernel, *bias, **function.attributes))


@layer("Dot")
def convert_dot(layer: Layer, build: Builder, inputs: Sequence[Tensor]) -> Tensor:
    """Dot: sums of products along an axis of each of two tensors, image by image."""
    if len(inputs) != 2:
        raise Unsupported(f"it is applied to {len(inputs)} tensors", "apply it to two")
    given = layer.config["axes"]
    axes = list(given) if isinstance(given, list | tuple) else [given, given]
    x, y = inputs
    pair = [axis_of(axis, len(z.shape), "it sums") for axis, z in zip(axes, (x, y), strict=True)]
    if layer.get("normalize", False):
        epsilon = None if layer.keras[0] < 3 else 1e-7
        x, y = (unit(build, z, (axis,), epsilon) for z, axis in zip((x, y), pair, strict=True))
    if not known(x.shape) or not known(y.shape):
        raise Unsupported("a size of its inputs is unknown", "give the model's input a fixed size")
    kept = [[a for a in range(1, len(z.shape)) if a != axis] for z, axis in zip((x, y), pair, strict=True)]
    outer = [[z.shape[a] or 1 for a in axes] for z, axes in zip((x, y), kept, strict=True)]
    x = build.reshape(build.transpose(x, *kept[0], pair[0]), math.prod(outer[0]), -1)
    y = build.reshape(build.transpose(y, pair[1], *kept[1]), -1, math.prod(outer[1]))
    return build.reshape(build("matmul", x, y), *(outer[0] + outer[1] or [1]))


def unit(build: Builder, x: Tensor, axes: Sequence[int], epsilon: float | None) -> Tensor:
    """x over its Euclidean norm along axes.

    Args:
        epsilon: what the norm counts as at least (Keras 3); None: its square counts as 1e-12 at least (Keras 1 and 2).
    """
    total = build.reduce(build.activation(x, "square"), "sum", axes, keepdims=True)
    if epsilon is not None:
        inverse = build.activation(total, "rsqrt")
        return build("multiply", x, build("minimum", inverse, np.full(1, 1 / epsilon)))
    return build("multiply", x, build.activation(build("maximum", total, np.full(1, 1e-12)), "rsqrt"))
