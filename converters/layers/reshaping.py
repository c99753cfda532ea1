"""Flatten, Reshape, ZeroPadding2D."""

from __future__ import annotations

from collections.abc import Sequence

from edgecnn.converters.layers.registry import Layer, Step, Unsupported, channels_last, layer, only, pair
from edgecnn.graph import Tensor


@layer("Flatten")
def convert_flatten(layer: Layer, inputs: Sequence[Tensor]) -> Sequence[Step]:
    """Flatten."""
    channels_last(layer)
    x = only(inputs)
    return [Step("reshape", (x,), {"shape": (-1,)})]


@layer("Reshape")
def convert_reshape(layer: Layer, inputs: Sequence[Tensor]) -> Sequence[Step]:
    """Reshape; one size may be -1."""
    x = only(inputs)
    target = tuple(int(size) for size in layer.config["target_shape"])
    return [Step("reshape", (x,), {"shape": target})]


@layer("ZeroPadding2D")
def convert_zero_padding2d(layer: Layer, inputs: Sequence[Tensor]) -> Sequence[Step]:
    """ZeroPadding2D: one number, (rows, columns), or ((top, bottom), (left, right))."""
    channels_last(layer)
    x = only(inputs, 4)
    padding = layer.get("padding", 1)
    if isinstance(padding, list | tuple) and len(padding) == 2:
        (top, bottom), (left, right) = pair(padding[0]), pair(padding[1])
    else:
        (top, left) = pair(padding)
        bottom, right = top, left
    pads = (top, bottom, left, right)
    if min(pads) < 0:
        raise Unsupported(f"padding is {padding!r}", "pad with no negative numbers")
    return [Step("zero_padding2d", (x,), {"pads": pads})]
