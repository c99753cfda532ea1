"""Pooling, over windows and over whole images."""

from __future__ import annotations

from collections.abc import Sequence

from edgecnn.converters.layers.convolution import window_of
from edgecnn.converters.layers.registry import Layer, Step, channels_last, layer, only, pair
from edgecnn.graph import Tensor

_OPERATORS = {
    "MaxPooling2D": "max_pool2d",
    "MaxPool2D": "max_pool2d",
    "AveragePooling2D": "average_pool2d",
    "AvgPool2D": "average_pool2d",
    "GlobalMaxPooling2D": "global_max_pool2d",
    "GlobalMaxPool2D": "global_max_pool2d",
    "GlobalAveragePooling2D": "global_average_pool2d",
    "GlobalAvgPool2D": "global_average_pool2d",
}


@layer("MaxPooling2D", "MaxPool2D", "AveragePooling2D", "AvgPool2D")
def convert_pooling(layer: Layer, inputs: Sequence[Tensor]) -> Sequence[Step]:
    """MaxPooling2D and AveragePooling2D; strides are the window's size unless given."""
    channels_last(layer)
    x = only(inputs, 4)
    pool_size = pair(layer.get("pool_size", 2))
    attributes = {**window_of(layer), "strides": pair(layer.get("strides", list(pool_size))), "pool_size": pool_size}
    return [Step(_OPERATORS[layer.class_name], (x,), attributes)]


@layer("GlobalMaxPooling2D", "GlobalMaxPool2D", "GlobalAveragePooling2D", "GlobalAvgPool2D")
def convert_global_pooling(layer: Layer, inputs: Sequence[Tensor]) -> Sequence[Step]:
    """GlobalMaxPooling2D and GlobalAveragePooling2D."""
    channels_last(layer)
    x = only(inputs, 4)
    return [Step(_OPERATORS[layer.class_name], (x,), {"keepdims": int(bool(layer.get("keepdims", False)))})]
