"""Hypothesis strategies: for every registered Keras class its arguments, over its whole configuration space, and inputs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from hypothesis import strategies as st

from edgecnn.converters.layers.core import AUGMENTATION
from edgecnn.converters.layers.resizing import METHODS

Arguments = tuple[str, dict[str, Any], list[tuple[int, ...]]]
"""Class name in Keras, keyword arguments, shapes of the inputs without the batch."""

FUNCTIONS = (
    "linear", "relu", "relu6", "leaky_relu", "elu", "selu", "sigmoid", "hard_sigmoid", "tanh", "softmax", "swish", "silu",
    "gelu", "softplus", "softsign", "exponential", "mish",
)  # fmt: skip
KERAS_3_FUNCTIONS = (
    "hard_swish", "hard_silu", "celu", "glu", "hard_shrink", "hard_tanh", "log_sigmoid", "log_softmax", "soft_shrink",
    "sparse_plus", "sparse_sigmoid", "sparsemax", "squareplus", "tanh_shrink",
)  # fmt: skip

FUNCTION = st.sampled_from([name for name in FUNCTIONS if name not in ("gelu", "mish")])
CHANNELS = st.integers(1, 9)
SIZE = st.integers(5, 11)
IMAGE = st.tuples(SIZE, SIZE, CHANNELS)
SEQUENCE = st.tuples(SIZE, CHANNELS)
VOLUME = st.tuples(st.integers(5, 7), st.integers(5, 7), st.integers(5, 7), st.integers(1, 4))
SHAPE = st.one_of(IMAGE, st.tuples(CHANNELS), st.tuples(SIZE, CHANNELS))
ANY_SHAPE = st.one_of(SHAPE, VOLUME)
PADDING = st.sampled_from(["valid", "same"])
OF_RANK = {1: SEQUENCE, 2: IMAGE, 3: VOLUME}


@st.composite
def _data_format(draw: st.DrawFn, shape: tuple[int, ...]) -> tuple[str, tuple[int, ...]]:
    """A data format, and the channels-last shape as it has it."""
    last = draw(st.booleans())
    return ("channels_last", shape) if last else ("channels_first", (shape[-1], *shape[:-1]))


@st.composite
def _window(draw: st.DrawFn, axes: int, equal_strides: bool = False, causal: bool = False) -> dict[str, Any]:
    """kernel_size, strides, padding and dilation_rate; Keras forbids strides and dilation together."""
    most = 4 if axes < 3 else 3
    kernel = draw(st.tuples(*[st.integers(1, most)] * axes))
    side = draw(st.integers(1, 3))
    strides = (side,) * axes if equal_strides else draw(st.tuples(*[st.integers(1, 3)] * axes))
    dilation = (1,) * axes
    if max(strides) == 1:
        dilation = (draw(st.integers(1, 2)),) * axes
    fits = (max(kernel) - 1) * dilation[0] + 1 <= 5
    padding = draw(st.sampled_from(["valid", "same", "causal"]) if causal else PADDING) if fits else "same"
    return {"kernel_size": kernel, "strides": strides, "padding": padding, "dilation_rate": dilation}


@st.composite
def _conv(draw: st.DrawFn, axes: int) -> Arguments:
    groups = draw(st.sampled_from([1, 1, 2]))
    *sizes, channels = draw(OF_RANK[axes])
    window = draw(_window(axes, causal=axes == 1))
    data_format, shape = draw(_data_format((*sizes, channels * groups)))
    if window["padding"] == "causal":
        data_format, shape = "channels_last", (*sizes, channels * groups)
    arguments = {
        **window,
        "filters": groups * draw(st.integers(1, 9)),
        "groups": groups,
        "use_bias": draw(st.booleans()),
        "activation": draw(FUNCTION),
        "data_format": data_format,
    }
    return f"Conv{axes}D", arguments, [shape]


@st.composite
def _depthwise(draw: st.DrawFn, axes: int) -> Arguments:
    data_format, shape = draw(_data_format(draw(OF_RANK[axes])))
    arguments = {
        **draw(_window(axes, equal_strides=True)),
        "depth_multiplier": draw(st.integers(1, 2)),
        "use_bias": draw(st.booleans()),
        "activation": draw(FUNCTION),
        "data_format": data_format,
    }
    return f"DepthwiseConv{axes}D", arguments, [shape]


@st.composite
def _separable(draw: st.DrawFn, axes: int) -> Arguments:
    data_format, shape = draw(_data_format(draw(OF_RANK[axes])))
    arguments = {
        **draw(_window(axes, equal_strides=True)),
        "filters": draw(st.integers(1, 9)),
        "depth_multiplier": draw(st.integers(1, 2)),
        "use_bias": draw(st.booleans()),
        "activation": draw(FUNCTION),
        "data_format": data_format,
    }
    return f"SeparableConv{axes}D", arguments, [shape]


@st.composite
def _conv_transpose(draw: st.DrawFn, axes: int) -> Arguments:
    *sizes, channels = draw(OF_RANK[axes])
    data_format, shape = draw(_data_format((*(size - 3 for size in sizes), channels)))
    kernel = draw(st.tuples(*[st.integers(1, 5 if axes < 3 else 3)] * axes))
    strides = draw(st.tuples(*[st.integers(1, 3)] * axes))
    extra = None
    padding = draw(PADDING)
    if axes < 3 and draw(st.booleans()):
        # As Keras asks: less than the stride; TensorFlow also wants the forward convolution to fit.
        extra = tuple(draw(st.integers(0, s - 1)) for s in strides)
        if padding == "same" and any(k % 2 == 0 for k in kernel):
            extra = None
    arguments = {
        "filters": draw(st.integers(1, 9)),
        "kernel_size": kernel,
        "strides": strides,
        "padding": padding,
        "dilation_rate": (1,) * axes,  # (TensorFlow computes no other on a CPU.)
        "output_padding": extra,
        "use_bias": draw(st.booleans()),
        "activation": draw(FUNCTION),
        "data_format": data_format,
    }
    return f"Conv{axes}DTranspose", arguments, [shape]


@st.composite
def _dense(draw: st.DrawFn) -> Arguments:
    arguments = {"units": draw(CHANNELS), "use_bias": draw(st.booleans()), "activation": draw(FUNCTION)}
    return "Dense", arguments, [draw(SHAPE)]


@st.composite
def _batch_normalization(draw: st.DrawFn) -> Arguments:
    shape = draw(SHAPE)
    arguments = {
        "axis": draw(st.sampled_from([-1, -1, *range(1, len(shape) + 1)])),
        "scale": draw(st.booleans()),
        "center": draw(st.booleans()),
        "epsilon": draw(st.sampled_from([1e-3, 1e-5, 0.1])),
    }
    return "BatchNormalization", arguments, [shape]


@st.composite
def _axes(draw: st.DrawFn, rank: int) -> Any:
    """One axis or several, from either end."""
    if draw(st.booleans()):
        return draw(st.sampled_from([-1, -1, *range(1, rank + 1)]))
    return sorted(draw(st.sets(st.integers(1, rank), min_size=1)))


@st.composite
def _layer_normalization(draw: st.DrawFn) -> Arguments:
    shape = draw(ANY_SHAPE)
    arguments = {
        "axis": draw(_axes(len(shape))),
        "scale": draw(st.booleans()),
        "center": draw(st.booleans()),
        "epsilon": draw(st.sampled_from([1e-3, 0.1])),
        "rms_scaling": draw(st.booleans()),
    }
    return "LayerNormalization", arguments, [shape]


@st.composite
def _rms_normalization(draw: st.DrawFn) -> Arguments:
    shape = draw(ANY_SHAPE)
    rank = len(shape)
    axis = draw(st.one_of(st.sampled_from([-1, rank]), st.integers(1, rank).map(lambda a: list(range(a, rank + 1)))))
    return "RMSNormalization", {"axis": axis, "epsilon": draw(st.sampled_from([1e-6, 0.1]))}, [shape]


@st.composite
def _group_normalization(draw: st.DrawFn) -> Arguments:
    groups = draw(st.sampled_from([1, 2, 3, -1]))
    *sizes, channels = draw(st.one_of(IMAGE, SEQUENCE, VOLUME))
    shape = [*sizes, channels * abs(groups)]
    axis = draw(st.sampled_from([-1, -1, 1]))
    if axis == 1:
        shape = [shape[-1], *shape[:-1]]
    arguments = {
        "groups": groups,
        "axis": axis,
        "scale": draw(st.booleans()),
        "center": draw(st.booleans()),
        "epsilon": draw(st.sampled_from([1e-3, 0.1])),
    }
    return "GroupNormalization", arguments, [tuple(shape)]


@st.composite
def _of_axes(draw: st.DrawFn, name: str, several: bool = True) -> Arguments:
    shape = draw(SHAPE)
    return name, {"axis": draw(_axes(len(shape))) if several else draw(st.sampled_from([-1, len(shape)]))}, [shape]


@st.composite
def _normalization(draw: st.DrawFn) -> Arguments:
    shape = draw(SHAPE)
    axis = draw(st.sampled_from([-1, None, len(shape)]))
    size = 1 if axis is None else shape[-1]
    value = st.lists(st.floats(0.5, 2, width=32), min_size=size, max_size=size)
    mean, variance = draw(value), draw(value)
    if axis is None:
        mean, variance = mean[0], variance[0]
    return "Normalization", {"axis": axis, "mean": mean, "variance": variance, "invert": draw(st.booleans())}, [shape]


@st.composite
def _pooling(draw: st.DrawFn, name: str, axes: int) -> Arguments:
    data_format, shape = draw(_data_format(draw(OF_RANK[axes])))
    arguments = {
        "pool_size": draw(st.tuples(*[st.integers(1, 4)] * axes)) if axes > 1 else draw(st.integers(1, 4)),
        "strides": draw(st.one_of(st.none(), st.integers(1, 3))),
        "padding": draw(PADDING),
        "data_format": data_format,
    }
    return f"{name}{axes}D", arguments, [shape]


@st.composite
def _global_pooling(draw: st.DrawFn, name: str, axes: int) -> Arguments:
    data_format, shape = draw(_data_format(draw(OF_RANK[axes])))
    return f"{name}{axes}D", {"keepdims": draw(st.booleans()), "data_format": data_format}, [shape]


@st.composite
def _adaptive_pooling(draw: st.DrawFn, name: str, axes: int) -> Arguments:
    sizes = draw(OF_RANK[axes])
    # To one pixel Keras 3.15's maximum takes TensorFlow down.
    wanted = tuple(draw(st.integers(2 if "Max" in name else 1, size)) for size in sizes[:-1])
    data_format, shape = draw(_data_format(sizes))
    return f"{name}{axes}D", {"output_size": wanted if axes > 1 else wanted[0], "data_format": data_format}, [shape]


@st.composite
def _merging(draw: st.DrawFn, name: str, pair: bool = False) -> Arguments:
    shape = draw(SHAPE)
    count = 2 if pair else draw(st.integers(2, 4))
    shapes = [shape]
    for _ in range(count - 1):
        narrow = tuple(size if draw(st.booleans()) else 1 for size in shape)
        shapes.append(draw(st.sampled_from([shape, shape, narrow])))
    return name, {}, shapes


@st.composite
def _concatenate(draw: st.DrawFn) -> Arguments:
    shape = list(draw(SHAPE))
    axis = draw(st.integers(0, len(shape) - 1))
    shapes = []
    for _ in range(draw(st.integers(1, 3)) + 1):
        shape[axis] = draw(st.integers(1, 6))
        shapes.append(tuple(shape))
    return "Concatenate", {"axis": draw(st.sampled_from([axis + 1, axis - len(shape)]))}, shapes


@st.composite
def _dot(draw: st.DrawFn) -> Arguments:
    size = draw(st.integers(1, 9))
    shapes, axes = [], []
    for _ in range(2):
        others = draw(st.lists(st.integers(1, 5), max_size=1))
        axis = draw(st.integers(0, len(others)))
        shapes.append((*others[:axis], size, *others[axis:]))
        axes.append(axis + 1)
    return "Dot", {"axes": axes, "normalize": draw(st.booleans())}, shapes


@st.composite
def _reshape(draw: st.DrawFn) -> Arguments:
    h, w, c = draw(IMAGE)
    target = draw(st.sampled_from([(h * w * c,), (-1, c), (w, h, c), (c, -1), (1, h, w, c), (h, w, c)]))
    return "Reshape", {"target_shape": target}, [(h, w, c)]


@st.composite
def _permute(draw: st.DrawFn) -> Arguments:
    shape = draw(ANY_SHAPE)
    return "Permute", {"dims": tuple(draw(st.permutations(range(1, len(shape) + 1))))}, [shape]


@st.composite
def _flatten(draw: st.DrawFn) -> Arguments:
    shape = draw(ANY_SHAPE)
    if len(shape) < 2:
        return "Flatten", {}, [shape]
    data_format, shape = draw(_data_format(shape))
    return "Flatten", {"data_format": data_format}, [shape]


@st.composite
def _framing(draw: st.DrawFn, name: str, axes: int) -> Arguments:
    side = st.integers(0, 2)
    pair = st.tuples(side, side)
    forms = [side, pair] if axes == 1 else [side, st.tuples(*[side] * axes), st.tuples(*[pair] * axes)]
    value = draw(st.one_of(*forms))
    shape = draw(OF_RANK[axes])
    arguments: dict[str, Any] = {"padding" if name.startswith("Zero") else "cropping": value}
    if axes > 1 or name == "ZeroPadding":
        arguments["data_format"], shape = draw(_data_format(shape))
    return f"{name}{axes}D", arguments, [shape]


@st.composite
def _up_sampling(draw: st.DrawFn, axes: int) -> Arguments:
    shape = draw(OF_RANK[axes])
    if axes == 1:
        return "UpSampling1D", {"size": draw(st.integers(1, 3))}, [shape]
    arguments: dict[str, Any] = {"size": draw(st.tuples(*[st.integers(1, 3)] * axes))}
    if axes == 2:
        arguments["interpolation"] = draw(st.sampled_from([m for m in METHODS if m in KERAS_3_INTERPOLATIONS]))
    arguments["data_format"], shape = draw(_data_format(shape))
    return f"UpSampling{axes}D", arguments, [shape]


KERAS_3_INTERPOLATIONS = ("nearest", "bilinear", "bicubic", "lanczos3", "lanczos5")


@st.composite
def _resizing(draw: st.DrawFn) -> Arguments:
    arguments = {
        "height": draw(st.integers(1, 17)),
        "width": draw(st.integers(1, 17)),
        "interpolation": draw(st.sampled_from(KERAS_3_INTERPOLATIONS)),
        "antialias": draw(st.booleans()),
    }
    if min(arguments["height"], arguments["width"]) > 2:  # (Keras 2 fails where it would crop to no pixel.)
        arguments |= draw(st.sampled_from([{}, {"crop_to_aspect_ratio": True}]))
    if "crop_to_aspect_ratio" not in arguments and draw(st.booleans()):
        arguments |= {
            "pad_to_aspect_ratio": True,
            "fill_mode": "constant",
            "fill_value": draw(st.sampled_from([0.0, 1.5])),
        }
    arguments["data_format"], shape = draw(_data_format(draw(IMAGE)))
    return "Resizing", arguments, [shape]


@st.composite
def _center_crop(draw: st.DrawFn) -> Arguments:
    # (Keras 2 fails where it would crop to no pixel.)
    arguments: dict[str, Any] = {"height": draw(st.integers(3, 14)), "width": draw(st.integers(3, 14))}
    arguments["data_format"], shape = draw(_data_format(draw(IMAGE)))
    return "CenterCrop", arguments, [shape]


@st.composite
def _random_crop(draw: st.DrawFn) -> Arguments:
    shape = draw(IMAGE)
    return "RandomCrop", {"height": shape[0], "width": shape[1]}, [shape]


@st.composite
def _rescaling(draw: st.DrawFn) -> Arguments:
    shape = draw(IMAGE)
    value = st.floats(-2, 2, width=32)
    vector = st.lists(value, min_size=shape[-1], max_size=shape[-1])
    return "Rescaling", {"scale": draw(value | vector), "offset": draw(value | vector)}, [shape]


@st.composite
def _prelu(draw: st.DrawFn) -> Arguments:
    shape = draw(SHAPE)
    shared = draw(st.sets(st.integers(1, len(shape))))
    return "PReLU", {"shared_axes": sorted(shared) or None}, [shape]


@st.composite
def _softmax(draw: st.DrawFn) -> Arguments:
    shape = draw(SHAPE)
    return "Softmax", {"axis": draw(st.sampled_from([-1, *range(1, len(shape) + 1)]))}, [shape]


def _alone(name: str, arguments: st.SearchStrategy[dict[str, Any]], shape: st.SearchStrategy[Any] = SHAPE) -> Any:
    return st.builds(lambda a, s: (name, a, [s]), arguments, shape)


NOTHING: st.SearchStrategy[dict[str, Any]] = st.just({})
RATE = st.fixed_dictionaries({"rate": st.sampled_from([0.1, 0.5])})

_RELU = st.fixed_dictionaries(
    {
        "max_value": st.sampled_from([None, 6.0, 0.5]),
        "negative_slope": st.sampled_from([0.0, 0.25]),
        "threshold": st.sampled_from([0.0, 0.3]),
    }
)


def _ranks(
    name: str, strategy: Callable[[int], Any], ranks: tuple[int, ...] = (1, 2, 3)
) -> dict[str, Callable[[], Any]]:
    return {name.format(rank): (lambda rank=rank: strategy(rank)) for rank in ranks}  # type: ignore[misc]


LAYERS: Mapping[str, Callable[[], Any]] = {
    **_ranks("Conv{}D", _conv),
    **_ranks("DepthwiseConv{}D", _depthwise, (1, 2)),
    **_ranks("SeparableConv{}D", _separable, (1, 2)),
    **_ranks("Conv{}DTranspose", _conv_transpose),
    "Dense": _dense,
    "Dot": _dot,
    "BatchNormalization": _batch_normalization,
    "LayerNormalization": _layer_normalization,
    "RMSNormalization": _rms_normalization,
    "GroupNormalization": _group_normalization,
    "UnitNormalization": lambda: _of_axes("UnitNormalization"),
    "Normalization": _normalization,
    **_ranks("MaxPooling{}D", lambda axes: _pooling("MaxPooling", axes)),
    **_ranks("AveragePooling{}D", lambda axes: _pooling("AveragePooling", axes)),
    **_ranks("GlobalMaxPooling{}D", lambda axes: _global_pooling("GlobalMaxPooling", axes)),
    **_ranks("GlobalAveragePooling{}D", lambda axes: _global_pooling("GlobalAveragePooling", axes)),
    **_ranks("AdaptiveMaxPooling{}D", lambda axes: _adaptive_pooling("AdaptiveMaxPooling", axes)),
    **_ranks("AdaptiveAveragePooling{}D", lambda axes: _adaptive_pooling("AdaptiveAveragePooling", axes)),
    "Add": lambda: _merging("Add"),
    "Subtract": lambda: _merging("Subtract", pair=True),
    "Multiply": lambda: _merging("Multiply"),
    "Average": lambda: _merging("Average"),
    "Maximum": lambda: _merging("Maximum"),
    "Minimum": lambda: _merging("Minimum"),
    "Concatenate": _concatenate,
    "Reshape": _reshape,
    "Permute": _permute,
    "RepeatVector": lambda: _alone(
        "RepeatVector", st.fixed_dictionaries({"n": st.integers(1, 5)}), st.tuples(CHANNELS)
    ),
    "Flatten": _flatten,
    **_ranks("ZeroPadding{}D", lambda axes: _framing("ZeroPadding", axes)),
    **_ranks("Cropping{}D", lambda axes: _framing("Cropping", axes)),
    **_ranks("UpSampling{}D", _up_sampling),
    "Resizing": _resizing,
    "CenterCrop": _center_crop,
    "RandomCrop": _random_crop,
    "Rescaling": _rescaling,
    "Activation": lambda: _alone("Activation", st.fixed_dictionaries({"activation": FUNCTION})),
    "ReLU": lambda: _alone("ReLU", _RELU),
    "LeakyReLU": lambda: _alone(
        "LeakyReLU", st.fixed_dictionaries({"negative_slope": st.sampled_from([0.3, 0.0, 0.7])})
    ),
    "PReLU": _prelu,
    "ELU": lambda: _alone("ELU", st.fixed_dictionaries({"alpha": st.sampled_from([0.5, 1.0, 2.0])})),
    "Softmax": _softmax,
    "Dropout": lambda: _alone("Dropout", RATE),
    "SpatialDropout1D": lambda: _alone("SpatialDropout1D", RATE, SEQUENCE),
    "SpatialDropout2D": lambda: _alone("SpatialDropout2D", RATE, IMAGE),
    "SpatialDropout3D": lambda: _alone("SpatialDropout3D", RATE, VOLUME),
    "GaussianDropout": lambda: _alone("GaussianDropout", RATE),
    "GaussianNoise": lambda: _alone("GaussianNoise", st.fixed_dictionaries({"stddev": st.just(0.5)})),
    "AlphaDropout": lambda: _alone("AlphaDropout", RATE),
    "ActivityRegularization": lambda: _alone("ActivityRegularization", NOTHING),
    "Identity": lambda: _alone("Identity", NOTHING),
}
"""A strategy for each registered class, by its name in Keras 3."""

KERAS_3_ARGUMENTS = {
    "LayerNormalization": ("rms_scaling",),
    "Resizing": ("antialias", "pad_to_aspect_ratio", "fill_mode", "fill_value"),
    "LeakyReLU": ("negative_slope",),
    "ZeroPadding1D": ("data_format",),
}
"""Arguments that Keras 2 does not have, or has under another name."""

_SHORT = {
    f"{short}{axes}D": f"{long}{axes}D"
    for axes in (1, 2, 3)
    for short, long in (
        ("Convolution", "Conv"),
        ("MaxPool", "MaxPooling"),
        ("AvgPool", "AveragePooling"),
        ("GlobalMaxPool", "GlobalMaxPooling"),
        ("GlobalAvgPool", "GlobalAveragePooling"),
    )
}
SYNONYMS = {
    **_SHORT,
    **{f"Convolution{axes}DTranspose": f"Conv{axes}DTranspose" for axes in (1, 2, 3)},
    **{f"SeparableConvolution{axes}D": f"SeparableConv{axes}D" for axes in (1, 2)},
    "Deconvolution2D": "Conv2DTranspose",
    "Deconvolution3D": "Conv3DTranspose",
    "SyncBatchNormalization": "BatchNormalization",
}
"""Other names under which the same classes appear in files."""

ELSEWHERE = {
    *AUGMENTATION,
    "StochasticDepth",
    "LayerScale",
    "CustomScaleLayer",
    "ThresholdedReLU",
    "TimeDistributed",
    "SpectralNormalization",
    "edgecnn>LocalResponseNormalization",
}
"""Classes with tests of their own: wrappers, layers of keras.applications and of Keras 2, augmentation."""
