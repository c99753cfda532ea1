"""Pooling over windows, over whole images, and to a given size."""

from __future__ import annotations

from collections.abc import Sequence

from edgecnn.converters.builder import Builder
from edgecnn.converters.layers.convolution import axes_of, window_of
from edgecnn.converters.layers.reading import Unsupported
from edgecnn.converters.layers.registry import Layer, from_channels_last, layer, only, sizes_of, to_channels_last
from edgecnn.graph import Tensor

_AXES = ("1D", "2D", "3D")


def _names(*families: str) -> list[str]:
    return [family + axes for family in families for axes in _AXES]


@layer(*_names("MaxPooling", "MaxPool", "AveragePooling", "AvgPool"))
def convert_pooling(layer: Layer, build: Builder, inputs: Sequence[Tensor]) -> Tensor:
    """MaxPooling and AveragePooling, 1D to 3D; strides are the window's size unless given."""
    axes = axes_of(layer)
    x = to_channels_last(layer, build, only(inputs, axes + 2))
    pool_size = sizes_of(layer.get("pool_size", layer.get("pool_length", 2)), axes)
    window = window_of(layer, pool_size, (1,) * axes)
    window["strides"] = sizes_of(layer.get("strides", list(pool_size)), axes)
    operator = "max_pool" if layer.class_name.startswith("Max") else "average_pool"
    return from_channels_last(layer, build, build(operator, x, **window, pool_size=pool_size))


@layer(*_names("GlobalMaxPooling", "GlobalMaxPool", "GlobalAveragePooling", "GlobalAvgPool"))
def convert_global_pooling(layer: Layer, build: Builder, inputs: Sequence[Tensor]) -> Tensor:
    """GlobalMaxPooling and GlobalAveragePooling, 1D to 3D."""
    axes = axes_of(layer)
    x = to_channels_last(layer, build, only(inputs, axes + 2))
    keepdims = bool(layer.get("keepdims", False))
    kind = "max" if "Max" in layer.class_name else "mean"
    y = build.reduce(x, kind, range(1, axes + 1), keepdims)
    return from_channels_last(layer, build, y) if keepdims else y


@layer(*_names("AdaptiveAveragePooling", "AdaptiveMaxPooling"))
def convert_adaptive_pooling(layer: Layer, build: Builder, inputs: Sequence[Tensor]) -> Tensor:
    """AdaptiveAveragePooling and AdaptiveMaxPooling: output i of n sees the pixels from floor(i * size / n) to
    ceil((i + 1) * size / n). Equal windows are an ordinary pooling; others are cut out axis by axis."""
    axes = axes_of(layer)
    x = to_channels_last(layer, build, only(inputs, axes + 2))
    sizes = [size or 0 for size in x.shape[1:-1]]
    wanted = sizes_of(layer.config["output_size"], axes)
    average = "Average" in layer.class_name
    if min(sizes) < 1:
        if not average or axes != 2:
            raise Unsupported(f"the size of its input {x.shape} is unknown", "give the model's input a fixed size")
        y = build("resize", x, sizes=wanted, method="area", rounding="tensorflow")  # the same windows, of any image
        return from_channels_last(layer, build, y)
    if all(size % n == 0 for size, n in zip(sizes, wanted, strict=True)):
        pool_size = tuple(size // n for size, n in zip(sizes, wanted, strict=True))
        y = build("average_pool" if average else "max_pool", x, pool_size=pool_size, strides=pool_size)
        return from_channels_last(layer, build, y)
    for axis, (size, n) in enumerate(zip(sizes, wanted, strict=True), 1):
        parts = [
            build.reduce(
                build.slice(x, axis, i * size // n, -(-(i + 1) * size // n)),
                "mean" if average else "max",
                (axis,),
                True,
            )
            for i in range(n)
        ]
        x = build("concatenate", *parts, axis=axis) if n > 1 else parts[0]
    return from_channels_last(layer, build, x)
