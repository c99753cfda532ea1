"""Normalisation: by stored statistics, by the input's own, and by given numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from edgecnn.converters.builder import Builder
from edgecnn.converters.layers.dense import unit
from edgecnn.converters.layers.reading import Unsupported
from edgecnn.converters.layers.registry import Array, Layer, axis_of, layer, only
from edgecnn.graph import Tensor


def _axes(layer: Layer, x: Tensor, default: int = -1) -> list[int]:
    given = layer.get("axis", default)
    axes = given if isinstance(given, list | tuple) else [given]
    return sorted({axis_of(axis, len(x.shape), "it normalises") for axis in axes})


def _to_end(build: Builder, x: Tensor, axes: Sequence[int]) -> tuple[Tensor, list[int]]:
    """The input with some axes moved behind the others, and the order that moves them back."""
    order = [a for a in range(1, len(x.shape)) if a not in axes] + list(axes)
    return build.transpose(x, *order), [order.index(a) + 1 for a in range(1, len(x.shape))]


def _scaled(layer: Layer, names: Sequence[str], present: Sequence[bool], like: int) -> list[Array]:
    """Weights of which some may be absent: a scale is then one, an offset zero."""
    read = iter(layer.weights([name for name, there in zip(names, present, strict=True) if there]))
    return [
        next(read).reshape(-1) if there else np.full(like, 1.0 if name == "gamma" else 0.0, np.float32)
        for name, there in zip(names, present, strict=True)
    ]


@layer("BatchNormalization", "SyncBatchNormalization")
def convert_batch_normalization(layer: Layer, build: Builder, inputs: Sequence[Tensor]) -> Tensor:
    """BatchNormalization with its moving statistics, over one axis; absent gamma is one, absent beta zero."""
    x = only(inputs)
    axes = _axes(layer, x)
    if len(axes) != 1:
        raise Unsupported(f"it normalises the axes {axes}", "normalise one axis")
    size = x.shape[axes[0]]
    if size is None:
        raise Unsupported(f"it normalises an axis of unknown size, of {x.shape}", "give the input that size")
    scale, center = bool(layer.get("scale", True)), bool(layer.get("center", True))
    names = ("gamma", "beta", "moving_mean", "moving_variance")
    gamma, beta, mean, variance = _scaled(layer, names, (scale, center, True, True), size)
    moved, back = _to_end(build, x, axes)
    epsilon = float(layer.get("epsilon", 1e-3))
    return build.transpose(build("batch_normalization", moved, gamma, beta, mean, variance, epsilon=epsilon), *back)


def _over_trailing_axes(
    build: Builder, x: Tensor, axes: Sequence[int]
) -> tuple[Tensor, int, tuple[int, ...], list[int]]:
    """The input with some axes moved to the end and made one: (tensor, its size, the moved shape, the order back)."""
    sizes = [x.shape[a] for a in axes]
    if None in sizes:
        raise Unsupported(f"it normalises axes of unknown size, of {x.shape}", "give the input these sizes")
    moved, back = _to_end(build, x, axes)
    count = math.prod(size or 1 for size in sizes)
    if len(axes) == 1:
        return moved, count, (), back
    shape = moved.shape[1:]
    outer = shape[: len(shape) - len(axes)]
    if outer.count(None) > 1:
        raise Unsupported(f"several sizes of its input {x.shape} are unknown", "give the input a fixed size")
    one = build.reshape(moved, *(-1 if size is None else size for size in outer), count)
    return one, count, tuple(-1 if size is None else size for size in shape), back


@layer("LayerNormalization")
def convert_layer_normalization(layer: Layer, build: Builder, inputs: Sequence[Tensor]) -> Tensor:
    """LayerNormalization over any axes."""
    x = only(inputs)
    axes, epsilon = _axes(layer, x), float(layer.get("epsilon", 1e-3))
    scale, center = bool(layer.get("scale", True)), bool(layer.get("center", True))
    if layer.get("rms_scaling", False):
        return _over_deviation(layer, build, x, axes, epsilon)
    flat, count, shape, back = _over_trailing_axes(build, x, axes)
    gamma, beta = _scaled(layer, ("gamma", "beta"), (scale, center), count)
    y = build("layer_normalization", flat, gamma, beta, epsilon=epsilon)
    return build.transpose(build.reshape(y, *shape) if shape else y, *back)


def _over_deviation(layer: Layer, build: Builder, x: Tensor, axes: Sequence[int], epsilon: float) -> Tensor:
    """Keras 3's rms_scaling: x over its deviation from the mean, which is not taken off; always a gamma, never a beta."""
    centred = build("subtract", x, build.reduce(x, "mean", axes, keepdims=True))
    variance = build.reduce(build.activation(centred, "square"), "mean", axes, keepdims=True)
    y = build("multiply", x, build.activation(build("add", variance, np.full(1, epsilon)), "rsqrt"))
    (gamma,) = layer.weights(["gamma"])
    sizes = [x.shape[axis] if axis in axes else 1 for axis in range(1, len(x.shape))]
    if None in sizes:
        raise Unsupported(f"it normalises axes of unknown size, of {x.shape}", "give the input these sizes")
    return build("multiply", y, gamma.reshape([size or 1 for size in sizes]))


@layer("RMSNormalization")
def convert_rms_normalization(layer: Layer, build: Builder, inputs: Sequence[Tensor]) -> Tensor:
    """RMSNormalization: x over the root of its mean square, times a scale (Zhang & Sennrich 2019, arXiv 1910.07467)."""
    x = only(inputs)
    axes = _axes(layer, x)
    given = layer.get("axis", -1)
    rank = len(x.shape)
    in_order = [axis % rank for axis in given] == axes if isinstance(given, list | tuple) else True
    if axes != list(range(rank - len(axes), rank)) or not in_order:
        raise Unsupported(
            f"it normalises the axes {given!r}, and Keras scales the last ones", "normalise the last axes, in order"
        )
    mean = build.reduce(build.activation(x, "square"), "mean", axes, keepdims=True)
    epsilon = np.full(1, float(layer.get("epsilon", 1e-6)))
    (scale,) = layer.weights(["scale"])
    return build("multiply", build("multiply", x, build.activation(build("add", mean, epsilon), "rsqrt")), scale)


@layer("GroupNormalization")
def convert_group_normalization(layer: Layer, build: Builder, inputs: Sequence[Tensor]) -> Tensor:
    """GroupNormalization; groups=-1 means one for each channel (instance normalisation)."""
    x = only(inputs)
    (axis,) = _axes(layer, x) or [0]
    channels = x.shape[axis]
    if channels is None:
        raise Unsupported(f"it normalises an axis of unknown size, of {x.shape}", "give the input that size")
    groups = int(layer.get("groups", 32))
    present = (bool(layer.get("scale", True)), bool(layer.get("center", True)))
    gamma, beta = _scaled(layer, ("gamma", "beta"), present, channels)
    moved, back = _to_end(build, x, [axis])
    attributes = {"groups": channels if groups == -1 else groups, "epsilon": float(layer.get("epsilon", 1e-3))}
    return build.transpose(build("group_normalization", moved, gamma, beta, **attributes), *back)


@layer("UnitNormalization")
def convert_unit_normalization(layer: Layer, build: Builder, inputs: Sequence[Tensor]) -> Tensor:
    """UnitNormalization: each vector along the axes over its length."""
    x = only(inputs)
    return unit(build, x, _axes(layer, x), None if layer.keras[0] < 3 else 1e-12)


@layer("LayerScale")
def convert_layer_scale(layer: Layer, build: Builder, inputs: Sequence[Tensor]) -> Tensor:
    """LayerScale of keras.applications' ConvNeXt: a factor for each channel."""
    (gamma,) = layer.weights(["gamma"])
    layer.expect(projection_dim=gamma.shape)
    return build("multiply", only(inputs), gamma)


@layer("edgecnn>LocalResponseNormalization")
def convert_local_response_normalization(layer: Layer, build: Builder, inputs: Sequence[Tensor]) -> Tensor:
    """LocalResponseNormalization of edgecnn.zoo."""
    numbers = {name: float(layer.config[name]) for name in ("bias", "alpha", "beta")}
    return build("local_response_normalization", only(inputs), size=int(layer.config["size"]), **numbers)


@layer("Rescaling")
def convert_rescaling(layer: Layer, build: Builder, inputs: Sequence[Tensor]) -> Tensor:
    """Rescaling: x * scale + offset; each a number, or one for each channel."""
    x = only(inputs)
    y = x
    for operator, name, neutral in (("multiply", "scale", 1.0), ("add", "offset", 0.0)):
        values = np.asarray(layer.get(name, neutral), np.float32)
        if (values != neutral).any():
            y = build(operator, y, _broadcastable(values, x))
    return y


def _broadcastable(values: Array, x: Tensor) -> Array:
    """A constant that a tensor's trailing axes take, axes of size 1 in front left out."""
    while values.ndim >= len(x.shape) and values.shape[:1] == (1,):
        values = values[0]
    if values.ndim >= len(x.shape) or any(
        a not in (1, b) for a, b in zip(values.shape[::-1], x.shape[::-1], strict=False)
    ):
        raise Unsupported(
            f"numbers of shape {values.shape} for an input {x.shape}", "give one, or one for each channel"
        )
    return values.reshape(-1) if values.ndim == 0 else values


@layer("Normalization")
def convert_normalization(layer: Layer, build: Builder, inputs: Sequence[Tensor]) -> Tensor:
    """Normalization: (x - mean) / max(sqrt(variance), 1e-7), or back from it (invert); statistics given or adapted."""
    x = only(inputs)
    given = layer.config.get("mean"), layer.config.get("variance")
    if given[0] is not None and given[1] is not None:
        mean, variance = (np.asarray(value, np.float64) for value in given)
    else:
        mean, variance, _ = (np.asarray(value, np.float64) for value in layer.weights(["mean", "variance", "count"]))
    axis = layer.config.get("axis", -1)
    kept = [] if axis is None else list(axis) if isinstance(axis, list | tuple) else [axis]
    rank = len(x.shape)
    kept = sorted(axis_of(a, rank, "it normalises") for a in kept)
    shape = [x.shape[a] if a in kept else 1 for a in range(rank)]
    if None in shape:
        raise Unsupported(f"it normalises an axis of unknown size, of {x.shape}", "give the input that size")
    mean, deviation = (
        np.broadcast_to(v.reshape(-1), math.prod(s or 1 for s in shape)).reshape([s or 1 for s in shape])
        for v in (mean, np.maximum(np.sqrt(variance), 1e-7))
    )
    if not layer.get("invert", False) and kept == [rank - 1]:
        ones, zeros = np.ones(mean.size), np.zeros(mean.size)
        numbers = (ones, zeros, mean.reshape(-1), deviation.reshape(-1) ** 2)
        return build("batch_normalization", x, *numbers, epsilon=0.0)
    if layer.get("invert", False):
        return build("add", build("multiply", x, deviation), mean)
    return build("divide", build("subtract", x, mean), deviation)
