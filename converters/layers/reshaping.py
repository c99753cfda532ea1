"""What moves values: Flatten, Reshape, Permute, RepeatVector, padding, cropping."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edgecnn.converters.builder import Builder
from edgecnn.converters.layers.convolution import axes_of
from edgecnn.converters.layers.registry import (
    Layer,
    from_channels_last,
    is_channels_first,
    layer,
    only,
    pairs_of,
    to_channels_last,
)
from edgecnn.graph import Tensor


@layer("Flatten")
def convert_flatten(layer: Layer, build: Builder, inputs: Sequence[Tensor]) -> Tensor:
    """Flatten; channels_first means that its input is so, and the output as if it were not."""
    x = only(inputs)
    channels_first = is_channels_first(layer)
    return build.reshape(to_channels_last(layer, build, x) if channels_first and len(x.shape) > 2 else x, -1)


@layer("Reshape")
def convert_reshape(layer: Layer, build: Builder, inputs: Sequence[Tensor]) -> Tensor:
    """Reshape; one size may be -1."""
    return build.reshape(only(inputs), *(int(size) for size in layer.config["target_shape"]))


@layer("Permute")
def convert_permute(layer: Layer, build: Builder, inputs: Sequence[Tensor]) -> Tensor:
    """Permute: axes counted from 1, the batch left out."""
    return build.transpose(only(inputs), *(int(axis) for axis in layer.config["dims"]))


@layer("RepeatVector")
def convert_repeat_vector(layer: Layer, build: Builder, inputs: Sequence[Tensor]) -> Tensor:
    """RepeatVector: (N, C) to (N, n, C)."""
    x = only(inputs, 2)
    row = build.reshape(x, 1, x.shape[1] or -1)
    return build("multiply", row, np.ones((int(layer.config["n"]), 1)))


@layer("ZeroPadding1D", "ZeroPadding2D", "ZeroPadding3D")
def convert_zero_padding(layer: Layer, build: Builder, inputs: Sequence[Tensor]) -> Tensor:
    """ZeroPadding1D, 2D and 3D: one number, one for each axis, or (before, after) for each."""
    axes = axes_of(layer)
    x = to_channels_last(layer, build, only(inputs, axes + 2))
    return from_channels_last(layer, build, build.pad(x, (*pairs_of(layer.get("padding", 1), axes), (0, 0))))


@layer("Cropping1D", "Cropping2D", "Cropping3D")
def convert_cropping(layer: Layer, build: Builder, inputs: Sequence[Tensor]) -> Tensor:
    """Cropping1D, 2D and 3D, given as for ZeroPadding."""
    axes = axes_of(layer)
    x = to_channels_last(layer, build, only(inputs, axes + 2))
    for axis, (before, after) in enumerate(pairs_of(layer.get("cropping", 1), axes), 1):
        if after:
            x = build.slice(x, axis, before, -after)
        elif before:
            x = build.slice(x, axis, before)
    return from_channels_last(layer, build, x)
