"""Conv2D, DepthwiseConv2D, SeparableConv2D."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from edgecnn.converters.layers.activation import finished, function_of
from edgecnn.converters.layers.registry import (
    PREVIOUS,
    Layer,
    Step,
    Unsupported,
    channels_last,
    layer,
    only,
    pair,
)
from edgecnn.graph import Tensor


def window_of(layer: Layer) -> dict[str, Any]:
    """Strides and padding as attributes of a window operator."""
    padding = layer.get("padding", "valid")
    if padding not in ("valid", "same"):
        raise Unsupported(f"padding is {padding!r}", "use 'valid' or 'same'")
    return {
        "strides": pair(layer.get("strides", 1)),
        "padding": "same" if padding == "same" else "explicit",
        "pads": (0, 0, 0, 0),
    }


@layer("Conv2D", "Convolution2D")
def convert_conv2d(layer: Layer, inputs: Sequence[Tensor]) -> Sequence[Step]:
    """Conv2D: weights [rows, columns, C / groups, filters]."""
    channels_last(layer)
    x = only(inputs, 4)
    function = function_of(layer.config.get("activation"), layer.keras, 4)
    use_bias = bool(layer.get("use_bias", True))
    weights = layer.weights(("kernel", "bias") if use_bias else ("kernel",))
    attributes = {
        **window_of(layer),
        "dilations": pair(layer.get("dilation_rate", 1)),
        "groups": int(layer.get("groups", 1)),
    }
    return finished("conv2d", (x, weights[0], weights[1] if use_bias else None, None), attributes, function)


@layer("DepthwiseConv2D")
def convert_depthwise_conv2d(layer: Layer, inputs: Sequence[Tensor]) -> Sequence[Step]:
    """DepthwiseConv2D: weights [rows, columns, C, multiplier]. Keras 2 calls them depthwise_kernel, Keras 3 kernel."""
    channels_last(layer)
    x = only(inputs, 4)
    function = function_of(layer.config.get("activation"), layer.keras, 4)
    use_bias = bool(layer.get("use_bias", True))
    kernel = "depthwise_kernel" if layer.keras[0] < 3 else "kernel"
    weights = layer.weights((kernel, "bias") if use_bias else (kernel,))
    attributes = {**window_of(layer), "dilations": pair(layer.get("dilation_rate", 1))}
    return finished("depthwise_conv2d", (x, weights[0], weights[1] if use_bias else None), attributes, function)


@layer("SeparableConv2D", "SeparableConvolution2D")
def convert_separable_conv2d(layer: Layer, inputs: Sequence[Tensor]) -> Sequence[Step]:
    """SeparableConv2D: a depthwise convolution, then one of 1 x 1 with the bias and the activation."""
    channels_last(layer)
    x = only(inputs, 4)
    function = function_of(layer.config.get("activation"), layer.keras, 4)
    names = ["depthwise_kernel", "pointwise_kernel"] + (["bias"] if layer.get("use_bias", True) else [])
    weights = layer.weights(names)
    depthwise = Step(
        "depthwise_conv2d",
        (x, weights[0], None),
        {**window_of(layer), "dilations": pair(layer.get("dilation_rate", 1))},
    )
    point = {"strides": (1, 1), "padding": "explicit", "pads": (0, 0, 0, 0), "dilations": (1, 1), "groups": 1}
    bias = weights[2] if len(weights) == 3 else None
    return [depthwise, *finished("conv2d", (PREVIOUS, weights[1], bias, None), point, function)]
