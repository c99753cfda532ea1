"""Functions of TensorFlow that stand for a layer of Keras, or for a few operators, in functional models of Keras 2."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from edgecnn.converters.builder import Builder
from edgecnn.converters.layers.operations import axes_of, given, tensor
from edgecnn.converters.layers.reading import Unsupported
from edgecnn.converters.layers.registry import Layer, Output, from_channels_last, layer, sizes_of, to_channels_last
from edgecnn.converters.layers.sizes import known_numbers
from edgecnn.graph import Tensor
from edgecnn.graph.operators import LIMIT


def _with_format(layer: Layer) -> tuple[Layer, bool]:
    """The layer with Keras' word for where its channels are, and whether they come first."""
    first = str(given(layer, None, "data_format", default="NHWC")).startswith("NC")
    return layer.changed(data_format="channels_first" if first else "channels_last"), first


def _spatial(layer: Layer, name: str, axes: int, first: bool) -> tuple[int, ...]:
    """A number for each spatial axis, from one, from `axes`, or from one for each axis of the tensor."""
    value = given(layer, None, name, default=None)
    value = [1] if value is None else list(value) if isinstance(value, list | tuple) else [value]
    if len(value) == axes + 2:
        if value[0] != 1 or value[1 if first else -1] != 1:
            raise Unsupported(f"its {name} {value} work along the batch or the channels", "work along images only")
        value = value[2:] if first else value[1:-1]
    return sizes_of(value, axes)


def _padding(layer: Layer, axes: int, first: bool) -> dict[str, Any]:
    value = given(layer, None, "padding", default="VALID")
    if isinstance(value, list):
        pairs = value[2:] if first else value[1:-1]
        return {"pads": tuple(int(n) for pair in pairs for n in pair)}
    if value not in ("SAME", "VALID"):
        raise Unsupported(f"padding is {value!r}", "use 'SAME' or 'VALID'")
    return {"padding": "same" if value == "SAME" else "explicit"}


@layer("tf.nn.max_pool2d", "tf.compat.v1.nn.max_pool", "tf.nn.avg_pool", "tf.nn.avg_pool2d", "tf.compat.v1.nn.avg_pool")  # fmt: skip
def convert_pool_function(layer: Layer, build: Builder, inputs: Sequence[Tensor]) -> Tensor:
    """Pooling over windows."""
    placed, first = _with_format(layer)
    x = to_channels_last(placed, build, tensor(layer))
    axes = len(x.shape) - 2
    window = {"strides": _spatial(layer, "strides", axes, first), **_padding(layer, axes, first)}
    operator = "max_pool" if "max" in layer.class_name else "average_pool"
    pool_size = _spatial(layer, "ksize", axes, first)
    return from_channels_last(placed, build, build(operator, x, pool_size=pool_size, **window))


@layer("tf.compat.v1.nn.conv2d", "tf.compat.v1.nn.depthwise_conv2d")
def convert_conv_function(layer: Layer, build: Builder, inputs: Sequence[Tensor]) -> Tensor:
    """A convolution by a constant kernel, such as a blur."""
    kernel = given(layer, 1, "filter", "filters")
    if len(inputs) != 1:
        raise Unsupported("its kernel is computed", "use a Conv layer")
    weights = np.asarray(kernel, np.float32)
    placed, first = _with_format(layer)
    x = to_channels_last(placed, build, tensor(layer))
    dilations = _spatial(layer, "rate" if "depthwise" in layer.class_name else "dilations", 2, first)
    window = {"strides": _spatial(layer, "strides", 2, first), "dilations": dilations, **_padding(layer, 2, first)}
    if "depthwise" in layer.class_name:
        return from_channels_last(placed, build, build("depthwise_conv", x, weights, **window))
    groups = (x.shape[-1] or 1) // weights.shape[-2]
    return from_channels_last(placed, build, build("conv", x, weights, groups=groups, **window))


@layer("tf.nn.local_response_normalization")
def convert_local_response_normalization(layer: Layer, build: Builder, inputs: Sequence[Tensor]) -> Tensor:
    """Local response normalisation over neighbouring channels."""
    size = 2 * int(given(layer, 1, "depth_radius", default=5)) + 1
    numbers = {
        name: float(given(layer, None, name, default=plain))
        for name, plain in (("bias", 1), ("alpha", 1), ("beta", 0.5))
    }
    return build("local_response_normalization", tensor(layer), size=size, **numbers)


@layer("tf.keras.backend.batch_flatten")
def convert_batch_flatten(layer: Layer, build: Builder, inputs: Sequence[Tensor]) -> Tensor:
    """Each image in one row."""
    return build.reshape(tensor(layer), -1)


@layer("tf.image.flip_left_right", "tf.image.flip_up_down")
def convert_image_flip(layer: Layer, build: Builder, inputs: Sequence[Tensor]) -> Tensor:
    """Images mirrored."""
    return build.slice(tensor(layer), 2 if layer.class_name.endswith("right") else 1, LIMIT, LIMIT, -1)


@layer("tf.slice")
def convert_slice(layer: Layer, build: Builder, inputs: Sequence[Tensor]) -> Tensor:
    """A part that begins somewhere and has a size; -1: all that follows."""
    x = tensor(layer)
    begins, sizes = known_numbers(given(layer, 1, "begin"), "begin"), known_numbers(given(layer, 2, "size"), "size")
    if begins[0] != 0 or sizes[0] != -1:
        raise Unsupported("it takes a part of the batch", "begin with 0, of size -1")
    for axis, (begin, size) in enumerate(zip(begins, sizes, strict=True)):
        if axis and (begin, size) != (0, -1):
            x = build.slice(x, axis, begin, LIMIT if size == -1 else begin + size)
    return x


@layer("tf.math.log_sigmoid")
def convert_log_sigmoid(layer: Layer, build: Builder, inputs: Sequence[Tensor]) -> Tensor:
    """log(sigmoid(x))."""
    return build.activation(tensor(layer), "log_sigmoid")


@layer("tf.compat.v1.nn.crelu")
def convert_crelu(layer: Layer, build: Builder, inputs: Sequence[Tensor]) -> Tensor:
    """The positive parts of x and of -x, joined."""
    x = tensor(layer)
    (axis,) = axes_of(layer, x, 2)
    parts = (build.activation(y, "relu") for y in (x, build("multiply", x, np.full(1, -1.0))))
    return build("concatenate", *parts, axis=axis)


@layer("tf.linalg.normalize")
def convert_linalg_normalize(layer: Layer, build: Builder, inputs: Sequence[Tensor]) -> Output:
    """Vectors over their length, and the lengths."""
    x = tensor(layer)
    if given(layer, 1, "ord", default="euclidean") not in ("euclidean", 2):
        raise Unsupported("its norm is not the Euclidean one", "use ord='euclidean'")
    total = build.reduce(build.activation(x, "square"), "sum", axes_of(layer, x, 2), keepdims=True)
    length = build.activation(total, "sqrt")
    return [build("divide", x, length), length]
