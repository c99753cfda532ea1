"""Convolution of one to three spatial axes: ordinary, depthwise, separable, transposed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from edgecnn.converters.builder import Builder
from edgecnn.converters.layers.activation import function_of
from edgecnn.converters.layers.reading import Unsupported
from edgecnn.converters.layers.registry import (
    Layer,
    from_channels_last,
    is_channels_first,
    layer,
    only,
    sizes_of,
    to_channels_last,
)
from edgecnn.graph import Tensor


def axes_of(layer: Layer) -> int:
    """Spatial axes, from the class's name: 2 of a Conv2D."""
    return next(int(c) for c in layer.class_name if c.isdigit())


def window_of(layer: Layer, kernel: Sequence[int], dilations: Sequence[int]) -> dict[str, Any]:
    """Strides and padding as attributes of a window operator."""
    axes, padding = axes_of(layer), layer.get("padding", "valid")
    explicit: tuple[int, ...]
    if padding == "causal" and axes == 1:
        explicit = (dilations[0] * (kernel[0] - 1), 0)
    elif padding in ("valid", "same"):
        explicit = (0,) * (2 * axes)
    else:
        raise Unsupported(f"padding is {padding!r}", "use 'valid' or 'same' (or 'causal', of one axis)")
    return {
        "strides": sizes_of(layer.get("strides", 1), axes),
        "padding": "same" if padding == "same" else "explicit",
        "pads": explicit,
    }


def _prepared(layer: Layer, build: Builder, inputs: Sequence[Tensor]) -> tuple[Tensor, tuple[int, ...]]:
    """The input, channels last, and the dilations."""
    axes = axes_of(layer)
    x = to_channels_last(layer, build, only(inputs, axes + 2))
    return x, sizes_of(layer.get("dilation_rate", 1), axes)


def _finished(layer: Layer, build: Builder, operator: str, *operands: Any, **attributes: Any) -> Tensor:
    """An operator that ends in the layer's activation, channels back where they were."""
    rank = len(operands[0].shape)
    function = function_of(layer.config.get("activation"), layer.keras, rank)
    y = build(operator, *operands, **attributes, **function.attributes)
    _check_bias(layer, y, operands[2])
    if function.is_separate:  # along the last axis of what Keras sees
        return function.apply(build, from_channels_last(layer, build, y))
    return from_channels_last(layer, build, y)


def _check_bias(layer: Layer, y: Tensor, bias: Any) -> None:
    """Refuses channels first with as many filters as the image is wide: TensorFlow-backed Keras adds the bias along the width
    then, other backends along the channels (keras/src/backend/tensorflow/numpy.py, add).

    Args:
        y: the output, channels last.
    """
    if bias is None or not is_channels_first(layer) or layer.keras[0] < 3 or y.shape[-2] != bias.size:
        return
    if np.ptp(bias):
        raise Unsupported(
            f"its output is as wide as it has filters ({bias.size}), channels first: Keras adds its bias along the width on "
            f"TensorFlow, along the channels elsewhere",
            "use data_format='channels_last', use_bias=False, or images of another width",
        )


def _weights(layer: Layer, *names: str) -> list[Any]:
    """The named weights, and the bias or None."""
    if layer.get("use_bias", True):
        return layer.weights([*names, "bias"])
    return [*layer.weights(names), None]


@layer("Conv1D", "Conv2D", "Conv3D", "Convolution1D", "Convolution2D", "Convolution3D")
def convert_conv(layer: Layer, build: Builder, inputs: Sequence[Tensor]) -> Tensor:
    """Conv1D, Conv2D and Conv3D: weights [*kernel, C / groups, filters]."""
    x, dilations = _prepared(layer, build, inputs)
    kernel, bias = _weights(layer, "kernel")
    layer.expect(kernel_size=kernel.shape[:-2], filters=kernel.shape[-1])
    window = window_of(layer, kernel.shape, dilations)
    groups = int(layer.get("groups", 1))
    return _finished(layer, build, "conv", x, kernel, bias, **window, dilations=dilations, groups=groups)


@layer("DepthwiseConv1D", "DepthwiseConv2D")
def convert_depthwise_conv(layer: Layer, build: Builder, inputs: Sequence[Tensor]) -> Tensor:
    """DepthwiseConv1D and 2D: weights [*kernel, C, multiplier], in Keras 2 called depthwise_kernel, in Keras 3 kernel."""
    x, dilations = _prepared(layer, build, inputs)
    kernel, bias = _weights(layer, "depthwise_kernel" if layer.keras[0] < 3 else "kernel")
    layer.expect(kernel_size=kernel.shape[:-2], depth_multiplier=kernel.shape[-1], groups=1)
    window = window_of(layer, kernel.shape, dilations)
    return _finished(layer, build, "depthwise_conv", x, kernel, bias, **window, dilations=dilations)


@layer("SeparableConv1D", "SeparableConv2D", "SeparableConvolution1D", "SeparableConvolution2D")
def convert_separable_conv(layer: Layer, build: Builder, inputs: Sequence[Tensor]) -> Tensor:
    """SeparableConv1D and 2D: a depthwise convolution, then one of a single tap with the bias and the activation."""
    x, dilations = _prepared(layer, build, inputs)
    depthwise, pointwise, bias = _weights(layer, "depthwise_kernel", "pointwise_kernel")
    layer.expect(
        kernel_size=depthwise.shape[:-2], depth_multiplier=depthwise.shape[-1], filters=pointwise.shape[-1], groups=1
    )
    window = window_of(layer, depthwise.shape, dilations)
    y = build("depthwise_conv", x, depthwise, None, **window, dilations=dilations)
    return _finished(layer, build, "conv", y, pointwise, bias)


@layer(
    "Conv1DTranspose",
    "Conv2DTranspose",
    "Conv3DTranspose",
    "Convolution1DTranspose",
    "Convolution2DTranspose",
    "Convolution3DTranspose",
    "Deconvolution2D",
    "Deconvolution3D",
)
def convert_conv_transpose(layer: Layer, build: Builder, inputs: Sequence[Tensor]) -> Tensor:
    """Conv1DTranspose, Conv2DTranspose and Conv3DTranspose: weights [*kernel, filters, C]."""
    axes = axes_of(layer)
    x, dilations = _prepared(layer, build, inputs)
    kernel, bias = _weights(layer, "kernel")
    layer.expect(kernel_size=kernel.shape[:-2], filters=kernel.shape[-2], groups=1)
    strides = sizes_of(layer.get("strides", 1), axes)
    given = layer.config.get("output_padding")
    wanted = [None] * axes if given is None else list(sizes_of(given, axes))
    padding = layer.get("padding", "valid")
    if padding not in ("valid", "same"):
        raise Unsupported(f"padding is {padding!r}", "use 'valid' or 'same'")
    pads: list[int] = []
    more: list[int] = []
    for size, dilation, stride, extra in zip(kernel.shape, dilations, strides, wanted, strict=False):
        cut, ends = transposed_padding((size - 1) * dilation + 1, stride, padding == "same", extra)
        pads += [cut // 2, cut - cut // 2]
        more.append(ends)
    window = {"strides": strides, "dilations": dilations, "pads": tuple(pads), "output_padding": tuple(more)}
    y = _finished(layer, build, "conv_transpose", x, kernel, bias, **window)
    # Keras 1 asked for the shape; Keras 2 ignored it. It must be the one that follows from the rest.
    shape = layer.get("output_shape") or ()
    if any(size not in (None, own) for size, own in zip(tuple(shape)[1:], y.shape[1:], strict=False)):
        raise Unsupported(f"its output_shape is {shape}, where its other arguments give {y.shape}", "leave it out")
    return y


def transposed_padding(span: int, stride: int, same: bool, output_padding: int | None) -> tuple[int, int]:
    """What a transposed convolution's output loses in all (the smaller half in front) and what it gains at its end.

    The output is as long as Keras says: stride times the input ("same"), or that and what the window has beyond the stride
    ("valid"); with `output_padding`, (input - 1) * stride + span - 2 * padding + output_padding. TensorFlow centres the rest
    as the forward convolution's padding would.
    """
    if output_padding is None:
        return (max(span - stride, 0) if same else 0), max(stride - span, 0)
    beyond = output_padding - 2 * (span // 2 if same else 0)
    cut = max(-beyond, 0)
    return cut, beyond + cut
