"""Layers around another layer: TimeDistributed, SpectralNormalization."""

from __future__ import annotations

from collections.abc import Sequence

from edgecnn.converters.builder import Builder
from edgecnn.converters.layers.registry import (
    Layer,
    Output,
    Unsupported,
    find,
    is_channels_first,
    layer,
    only,
    sizes_of,
)
from edgecnn.graph import Tensor

_ANY_RANK = ("Dense", "Activation", "ReLU", "LeakyReLU", "ELU", "PReLU", "Softmax", "Dropout", "Rescaling", "Identity")
_LAST_AXIS = ("BatchNormalization", "LayerNormalization")
_WINDOWS = (
    "Conv",
    "MaxPooling",
    "AveragePooling",
    "GlobalMaxPooling",
    "GlobalAveragePooling",
    "ZeroPadding",
    "Cropping",
)


def _inner(layer: Layer) -> Layer:
    if layer.inner is None:
        raise ValueError("it wraps no layer")
    inner = layer.inner
    return Layer(layer.path, inner.class_name, inner.config, layer.keras, inner.weights)


@layer("SpectralNormalization")
def convert_spectral_normalization(layer: Layer, build: Builder, inputs: Sequence[Tensor]) -> Output:
    """SpectralNormalization: at inference the wrapped layer, whose stored kernel is normalised already."""
    inner = _inner(layer)
    function = find(inner.class_name)
    if function is None:
        raise Unsupported(f"it wraps a {inner.class_name}, which is not supported", "wrap a Conv or Dense layer")
    return function(inner, build, inputs)


@layer("TimeDistributed")
def convert_time_distributed(layer: Layer, build: Builder, inputs: Sequence[Tensor]) -> Output:
    """TimeDistributed: the wrapped layer for each step alone.

    A window over one or two axes becomes one over an axis more, whose window is 1; what works along the last axis does so in
    any rank.
    """
    inner, x = _inner(layer), only(inputs)
    name, rank = inner.class_name, len(x.shape)
    function = find(name)
    hint = "apply it to the whole tensor, or use Conv3D, MaxPooling3D and their like"
    if function is None:
        raise Unsupported(f"it wraps a {name}, which is not supported", hint)
    if name in _ANY_RANK:
        return function(inner, build, inputs)
    if name in _LAST_AXIS and inner.get("axis", -1) in (-1, [-1], rank - 2, [rank - 2]):
        config = {**inner.config, "axis": -1}
        return function(Layer(inner.path, name, config, inner.keras, inner.weights), build, inputs)
    if name == "Flatten" and x.shape[1] is not None and not is_channels_first(inner):
        return build.reshape(x, x.shape[1], -1)
    if name == "Reshape" and x.shape[1] is not None:
        return build.reshape(x, x.shape[1], *(int(size) for size in inner.config["target_shape"]))
    axes = next((int(c) for c in name if c.isdigit()), 0)
    if not name.startswith(_WINDOWS) or "Transpose" in name or axes not in (1, 2) or rank != axes + 3:
        raise Unsupported(f"it wraps a {name} over an input {x.shape}", hint)
    if is_channels_first(inner) or inner.get("padding") == "causal":
        raise Unsupported(f"it wraps a {name} with channels_first or causal padding", hint)
    if name.startswith("Global"):
        return build.reduce(
            x, "max" if "Max" in name else "mean", range(2, axes + 2), bool(inner.get("keepdims", False))
        )
    return function(_with_an_axis_more(inner, axes), build, inputs)


def _with_an_axis_more(inner: Layer, axes: int) -> Layer:
    """The layer of one more spatial axis, in front, in which it sees one step."""
    config = dict(inner.config)
    for name in ("kernel_size", "strides", "dilation_rate", "pool_size"):
        if config.get(name) is not None:
            config[name] = [1, *sizes_of(config[name], axes)]
    for name in ("padding", "cropping"):
        value = config.get(name)
        if isinstance(value, int | list | tuple):
            value = [value] * axes if isinstance(value, int) else list(value)
            if axes == 1:
                value = [value] if len(value) == 2 else [[value[0], value[0]]]
            pairs = [[v, v] if isinstance(v, int) else list(v) for v in value]
            config[name] = [[0, 0], *pairs]

    def weights(names: Sequence[str]) -> list[object]:
        # Kernels [*kernel, ...] of a convolution get the axis too; biases have one axis only.
        return [w[None] if w.ndim > 1 else w for w in inner.weights(names)]

    more = inner.class_name.replace(f"{axes}D", f"{axes + 1}D")
    return Layer(inner.path, more, config, inner.keras, weights)  # type: ignore[arg-type]
