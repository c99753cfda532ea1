"""Images in another size: UpSampling, Resizing, CenterCrop."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from edgecnn.converters.builder import Builder, known
from edgecnn.converters.layers.reading import Unsupported
from edgecnn.converters.layers.registry import Layer, from_channels_last, layer, only, sizes_of, to_channels_last
from edgecnn.graph import Tensor

METHODS = {
    "nearest": "nearest",
    "bilinear": "linear",
    "bicubic": "cubic_table",
    "lanczos3": "lanczos3",
    "lanczos5": "lanczos5",
    "gaussian": "gaussian",
    "mitchellcubic": "mitchell",
    "area": "area",
}
"""Keras' names of interpolations. All take pixels as areas: their centres lie at half numbers."""


def interpolation(name: str) -> dict[str, Any]:
    """Attributes of `resize` for Keras' name of an interpolation."""
    if name not in METHODS:
        raise Unsupported(f"the interpolation {name!r} is not supported", f"use one of {', '.join(METHODS)}")
    return {"method": METHODS[name], "coordinates": "half_pixel", "rounding": "tensorflow", "exclude_outside": 1}


@layer("UpSampling1D")
def convert_up_sampling_1d(layer: Layer, build: Builder, inputs: Sequence[Tensor]) -> Tensor:
    """UpSampling1D: each step several times."""
    x = only(inputs, 3)
    length, channels = x.shape[1], x.shape[2] or -1
    column = build.reshape(x, length or -1, 1, channels)
    y = build("resize", column, scales=(float(layer.get("size", 2)), 1.0), **interpolation("nearest"))
    return build.reshape(y, y.shape[1] or -1, channels)


@layer("UpSampling2D")
def convert_up_sampling_2d(layer: Layer, build: Builder, inputs: Sequence[Tensor]) -> Tensor:
    """UpSampling2D: rows and columns times whole numbers, by any interpolation."""
    x = to_channels_last(layer, build, only(inputs, 4))
    scales = tuple(float(size) for size in sizes_of(layer.get("size", 2), 2))
    y = build("resize", x, scales=scales, **interpolation(layer.get("interpolation", "nearest")))
    return from_channels_last(layer, build, y)


@layer("UpSampling3D")
def convert_up_sampling_3d(layer: Layer, build: Builder, inputs: Sequence[Tensor]) -> Tensor:
    """UpSampling3D: planes, rows and columns several times each, one axis after the other."""
    x = to_channels_last(layer, build, only(inputs, 5))
    if not known(x.shape):
        raise Unsupported(f"the size of its input {x.shape} is unknown", "give the model's input a fixed size")
    sizes = [size or 1 for size in x.shape[1:]]
    for axis, factor in enumerate(sizes_of(layer.get("size", 2), 3)):
        if factor == 1:
            continue
        lines = build.reshape(x, math.prod(sizes[: axis + 1]), 1, math.prod(sizes[axis + 1 :]))
        sizes[axis] *= factor
        lines = build("resize", lines, scales=(float(factor), 1.0), **interpolation("nearest"))
        x = build.reshape(lines, *sizes)
    return from_channels_last(layer, build, x)


def cropped_to_aspect(size: tuple[int, int], wanted: tuple[int, int]) -> tuple[tuple[int, int], tuple[int, int]]:
    """(first, count) of the rows and columns of the largest part in the middle that has the wanted shape."""
    (height, width), (rows, columns) = size, wanted
    rows_kept = max(min(height, int(width * rows / columns)), 1)
    columns_kept = max(min(width, int(height * columns / rows)), 1)
    return (int((height - rows_kept) / 2), rows_kept), (int((width - columns_kept) / 2), columns_kept)


def smart_resize(build: Builder, x: Tensor, wanted: tuple[int, int], crop: bool, **attributes: Any) -> Tensor:
    """A resize, perhaps of the part in the middle that has the wanted shape."""
    if crop:
        for axis, (first, count) in enumerate(cropped_to_aspect(_sizes(x), wanted), 1):
            if count != x.shape[axis]:
                x = build.slice(x, axis, first, first + count)
    return x if x.shape[1:3] == wanted else build("resize", x, sizes=wanted, **attributes)


def _sizes(x: Tensor) -> tuple[int, int]:
    height, width = x.shape[1:3]
    if height is None or width is None:
        raise Unsupported(f"the size of its input {x.shape} is unknown", "give the model's input a fixed size")
    return height, width


@layer("Resizing")
def convert_resizing(layer: Layer, build: Builder, inputs: Sequence[Tensor]) -> Tensor:
    """Resizing to a height and width, the aspect ratio kept by cropping, by padding or not at all."""
    x = to_channels_last(layer, build, only(inputs, 4))
    wanted = (int(layer.config["height"]), int(layer.config["width"]))
    attributes = interpolation(str(layer.get("interpolation", "bilinear")).lower())
    if layer.get("antialias", False):
        attributes["antialias"] = 1
    mode, value = layer.get("fill_mode", "constant"), float(layer.get("fill_value", 0.0))
    if layer.get("pad_to_aspect_ratio", False):
        height, width = _sizes(x)
        rows, columns = max(height, int(width * wanted[0] / wanted[1])), max(width, int(height * wanted[1] / wanted[0]))
        top, left = int((rows - height) / 2), int((columns - width) / 2)
        if mode != "constant":
            raise Unsupported(f"it pads by {mode!r}", "use fill_mode='constant'")
        x = build.pad(x, ((top, top), (left, left), (0, 0)), value=value)
    crop = bool(layer.get("crop_to_aspect_ratio", False))
    return from_channels_last(layer, build, smart_resize(build, x, wanted, crop, **attributes))


@layer("CenterCrop")
def convert_center_crop(layer: Layer, build: Builder, inputs: Sequence[Tensor]) -> Tensor:
    """CenterCrop: the middle of a larger image; a smaller one is cropped to the aspect ratio and resized."""
    x = to_channels_last(layer, build, only(inputs, 4))
    wanted = (int(layer.config["height"]), int(layer.config["width"]))
    size = _sizes(x)
    if size[0] >= wanted[0] and size[1] >= wanted[1]:
        for axis in (0, 1):
            first = (size[axis] - wanted[axis]) // 2
            if size[axis] != wanted[axis]:
                x = build.slice(x, axis + 1, first, first + wanted[axis])
        return from_channels_last(layer, build, x)
    return from_channels_last(layer, build, smart_resize(build, x, wanted, True, **interpolation("bilinear")))
